package storetest

import (
	"context"
	"fmt"
	"math"
	"testing"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Store is what the contract is about.
type Store interface {
	storage.AppendableV2
	storage.SampleAndChunkQueryable
	storage.ExemplarQueryable
}

// Opener opens the store in dir, which is empty at first, and takes samples up to
// half an hour out of order. closing ends the store as an orderly stop does.
type Opener func(t *testing.T, dir string) (st Store, closing func())

// Base is the time of the first sample of each case, in milliseconds.
const Base = int64(1_700_000_000_000)

// Sample is one sample as appended or read: of a histogram when H or FH is set.
type Sample struct {
	T  int64
	V  float64
	H  *histogram.Histogram
	FH *histogram.FloatHistogram
}

func (s Sample) histogram() *histogram.Histogram {
	if s.H == nil {
		return nil
	}
	return s.H.Copy()
}

func (s Sample) floatHistogram() *histogram.FloatHistogram {
	if s.FH == nil {
		return nil
	}
	return s.FH.Copy()
}

func (s Sample) stale() bool {
	switch {
	case s.H != nil:
		return value.IsStaleNaN(s.H.Sum)
	case s.FH != nil:
		return value.IsStaleNaN(s.FH.Sum)
	}
	return value.IsStaleNaN(s.V)
}

// String shows a value by its bits, which tells one NaN from another.
func (s Sample) String() string {
	switch {
	case s.H != nil:
		return fmt.Sprintf("%d: %s", s.T, s.H)
	case s.FH != nil:
		return fmt.Sprintf("%d: %s", s.T, s.FH)
	}
	return fmt.Sprintf("%d: %g (%#x)", s.T, s.V, bits(s.V))
}

// Run checks the store that open opens against every case of the contract, each in
// a directory of its own, before and after reopening.
func Run(t *testing.T, open Opener) {
	for name, samples := range cases() {
		t.Run(name, func(t *testing.T) { roundTrip(t, open, samples) })
	}
	t.Run("exemplars", func(t *testing.T) { exemplars(t, open) })
	t.Run("rollback", func(t *testing.T) { rollback(t, open) })
	t.Run("refused", func(t *testing.T) { refused(t, open) })
}

// cases are samples in the order of their arrival.
func cases() map[string][]Sample {
	stale, nan := math.Float64frombits(value.StaleNaN), math.Float64frombits(value.NormalNaN)
	payload := math.Float64frombits(0x7ff8_dead_beef_0001)
	minute := func(n int64) int64 { return Base + n*60_000 }
	c := map[string][]Sample{
		"floats": {{T: minute(0), V: 1}, {T: minute(1), V: -0.1}, {T: minute(2), V: math.Inf(1)}, {T: minute(3), V: math.Copysign(0, -1)}, {T: minute(4), V: math.MaxFloat64}, {T: minute(5), V: math.SmallestNonzeroFloat64}},
		"nans":   {{T: minute(0), V: nan}, {T: minute(1), V: stale}, {T: minute(2), V: payload}, {T: minute(3), V: stale}, {T: minute(4), V: 3}},
		"out of order": {{T: minute(20), V: 20}, {T: minute(1), V: 1}, {T: minute(21), V: 21}, {T: minute(3), V: stale},
			{T: minute(2), V: 2}, {T: minute(19), V: payload}},
		"integer histograms": {{T: minute(0), H: Integer(1)}, {T: minute(1), H: Integer(2)}, {T: minute(2), H: Stale()}, {T: minute(3), H: Integer(1)}},
		"float histograms":   {{T: minute(0), FH: Integer(1).ToFloat(nil)}, {T: minute(1), FH: Integer(3).ToFloat(nil)}, {T: minute(2), FH: &histogram.FloatHistogram{Sum: stale}}},
		"custom buckets":     {{T: minute(0), H: Custom(1)}, {T: minute(1), H: Custom(2)}, {T: minute(2), FH: Custom(3).ToFloat(nil)}},
		"histograms out of order": {{T: minute(20), H: Integer(5)}, {T: minute(1), H: Integer(1)},
			{T: minute(3), FH: Integer(2).ToFloat(nil)}, {T: minute(2), H: Custom(2)}},
		"types in turn": {{T: minute(0), V: 1}, {T: minute(1), H: Integer(1)}, {T: minute(2), V: 2}, {T: minute(3), FH: Integer(2).ToFloat(nil)}, {T: minute(4), V: stale}},
	}
	for i := range int64(1000) { // several chunks
		c["many"] = append(c["many"], Sample{T: Base + i*15_000, V: float64(i) / 3})
	}
	return c
}

// Integer returns a histogram with exponential buckets, more of them for larger n.
func Integer(n int64) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: 3, ZeroThreshold: 0.001, ZeroCount: uint64(n), Count: uint64(7*n + 3), Sum: float64(n) * 1.25,
		PositiveSpans: []histogram.Span{{Offset: -2, Length: 2}, {Offset: 3, Length: 1}}, PositiveBuckets: []int64{n, 1, -1},
		NegativeSpans: []histogram.Span{{Offset: 1, Length: 2}}, NegativeBuckets: []int64{n, n + 2},
	}
}

// Custom returns a histogram with custom buckets.
func Custom(n int64) *histogram.Histogram {
	return &histogram.Histogram{
		Schema: histogram.CustomBucketsSchema, Count: uint64(3*n + 1), Sum: float64(n),
		PositiveSpans: []histogram.Span{{Offset: 0, Length: 3}}, PositiveBuckets: []int64{n, 1, -1},
		CustomValues: []float64{0.1, 0.5, 2.5},
	}
}

// Stale returns the stale marker of integer histograms.
func Stale() *histogram.Histogram {
	return &histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
}

func roundTrip(t *testing.T, open Opener, samples []Sample) {
	dir, ls := t.TempDir(), labels.FromStrings(model.MetricNameLabel, "m", "ütf.8", "a b\nc")
	st, closing := open(t, dir)
	var ref storage.SeriesRef
	for i, s := range samples { // by labels first, by reference then, as ingest does
		app := st.AppenderV2(context.Background())
		got, err := app.Append(ref, ls, 0, s.T, s.V, s.histogram(), s.floatHistogram(), storage.AOptions{})
		if err != nil {
			t.Fatalf("append sample %d: %v", i, err)
		}
		if ref != 0 && got != ref {
			t.Fatalf("append sample %d: reference changed from %d to %d", i, ref, got)
		}
		ref = got
		if err := app.Commit(); err != nil {
			t.Fatalf("commit sample %d: %v", i, err)
		}
	}
	Expect(t, st, ls, samples)
	closing()
	st, closing = open(t, dir)
	defer closing()
	Expect(t, st, ls, samples)
}

func rollback(t *testing.T, open Opener) {
	st, closing := open(t, t.TempDir())
	defer closing()
	ls := labels.FromStrings(model.MetricNameLabel, "m")
	app := st.AppenderV2(context.Background())
	if _, err := app.Append(0, ls, 0, Base, 1, nil, nil, storage.AOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := app.Rollback(); err != nil {
		t.Fatal(err)
	}
	Expect(t, st, ls, nil)
}

func refused(t *testing.T, open Opener) {
	st, closing := open(t, t.TempDir())
	defer closing()
	ls := labels.FromStrings(model.MetricNameLabel, "m")
	app := st.AppenderV2(context.Background())
	for _, bad := range []labels.Labels{labels.EmptyLabels(), labels.New(labels.Label{Name: "a", Value: "1"}, labels.Label{Name: "a", Value: "2"})} {
		if _, err := app.Append(0, bad, 0, Base, 1, nil, nil, storage.AOptions{}); err == nil {
			t.Errorf("series %v was accepted", bad)
		}
	}
	broken := Integer(1)
	broken.Count = 1
	if _, err := app.Append(0, ls, 0, Base, 0, broken, nil, storage.AOptions{}); err == nil {
		t.Error("a histogram whose buckets hold more than its count was accepted")
	}
	if _, err := app.Append(0, ls, 0, Base, 7, nil, nil, storage.AOptions{}); err != nil { // the appender lives on
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	Expect(t, st, ls, []Sample{{T: Base, V: 7}})
}

func exemplars(t *testing.T, open Opener) {
	dir, ls := t.TempDir(), labels.FromStrings(model.MetricNameLabel, "m")
	want := exemplar.Exemplar{Labels: labels.FromStrings("trace_id", "abc"), Value: 0.5, Ts: Base, HasTs: true}
	st, closing := open(t, dir)
	app := st.AppenderV2(context.Background())
	if _, err := app.Append(0, ls, 0, Base, 1, nil, nil, storage.AOptions{Exemplars: []exemplar.Exemplar{want}}); err != nil {
		t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	find := func() {
		t.Helper()
		q, err := st.ExemplarQuerier(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		got, err := q.Select(Base, Base, []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, model.MetricNameLabel, "m")})
		if err != nil || len(got) != 1 || len(got[0].Exemplars) != 1 || !got[0].Exemplars[0].Equals(want) {
			t.Fatalf("exemplars %v, error %v, want %v", got, err, want)
		}
	}
	find()
	closing()
	st, closing = open(t, dir)
	defer closing()
	find()
}

// Expect fails the test unless st holds exactly these samples of the series, given
// in any order, by samples and by chunks.
func Expect(t *testing.T, st Store, ls labels.Labels, want []Sample) {
	t.Helper()
	byTime := make(map[int64]Sample, len(want))
	for _, s := range want {
		byTime[s.T] = s
	}
	check := func(kind string, got []Sample) {
		t.Helper()
		last := int64(math.MinInt64)
		for _, g := range got {
			w, ok := byTime[g.T]
			if !ok || g.T <= last {
				t.Fatalf("%s of %s: unexpected or repeated sample %s", kind, ls, g)
			}
			if !Same(g, w) {
				t.Fatalf("%s of %s: got %s, want %s", kind, ls, g, w)
			}
			last = g.T
		}
		if len(got) != len(byTime) {
			t.Fatalf("%s of %s: %d samples, want %d", kind, ls, len(got), len(byTime))
		}
	}
	check("samples", Read(t, st, ls))
	check("chunks", readChunks(t, st, ls))
}

func matchers(ls labels.Labels) (ms []*labels.Matcher) {
	ls.Range(func(l labels.Label) { ms = append(ms, labels.MustNewMatcher(labels.MatchEqual, l.Name, l.Value)) })
	return ms
}

// Read returns all samples of the series by Querier.
func Read(t *testing.T, st storage.Queryable, ls labels.Labels) (out []Sample) {
	t.Helper()
	q, err := st.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }() // it only reads
	set := q.Select(context.Background(), true, nil, matchers(ls)...)
	for set.Next() {
		if labels.Equal(set.At().Labels(), ls) {
			out = append(out, collect(t, set.At().Iterator(nil))...)
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return out
}

func readChunks(t *testing.T, st storage.ChunkQueryable, ls labels.Labels) (out []Sample) {
	t.Helper()
	q, err := st.ChunkQuerier(math.MinInt64, math.MaxInt64)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = q.Close() }() // it only reads
	set := q.Select(context.Background(), true, nil, matchers(ls)...)
	for set.Next() {
		if !labels.Equal(set.At().Labels(), ls) {
			continue
		}
		it := set.At().Iterator(nil)
		for it.Next() {
			out = append(out, collect(t, it.At().Chunk.Iterator(nil))...)
		}
		if it.Err() != nil {
			t.Fatal(it.Err())
		}
	}
	if set.Err() != nil {
		t.Fatal(set.Err())
	}
	return out
}

func collect(t *testing.T, it chunkenc.Iterator) (out []Sample) {
	t.Helper()
	for typ := it.Next(); typ != chunkenc.ValNone; typ = it.Next() {
		s := Sample{T: it.AtT()}
		switch typ {
		case chunkenc.ValHistogram:
			_, s.H = it.AtHistogram(nil)
		case chunkenc.ValFloatHistogram:
			_, s.FH = it.AtFloatHistogram(nil)
		default:
			_, s.V = it.At()
		}
		out = append(out, s)
	}
	if it.Err() != nil {
		t.Fatal(it.Err())
	}
	return out
}

// Same compares two samples bit by bit, but for counter reset hints, which a store
// may derive, and for the type of stale markers: a float marker that follows a
// histogram may be kept as a histogram's.
func Same(a, b Sample) bool {
	switch {
	case a.T == b.T && a.stale() && b.stale():
		return true
	case a.T != b.T || (a.H == nil) != (b.H == nil) || (a.FH == nil) != (b.FH == nil):
		return false
	case a.H != nil:
		x, y := a.H.Copy(), b.H.Copy()
		x.CounterResetHint, y.CounterResetHint = 0, 0
		return x.Equals(y)
	case a.FH != nil:
		x, y := a.FH.Copy(), b.FH.Copy()
		x.CounterResetHint, y.CounterResetHint = 0, 0
		return x.Equals(y)
	}
	return bits(a.V) == bits(b.V)
}

func bits(v float64) uint64 { return math.Float64bits(v) }
