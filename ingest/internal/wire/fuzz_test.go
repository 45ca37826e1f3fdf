package wire

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/gogo/protobuf/proto"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
)

// account writes down what a request holds, bit by bit, for comparison. The
// reference decoder's account and ours must be the same text.
type account struct{ strings.Builder }

func (a *account) label(name, value string)   { fmt.Fprintf(a, " %q=%q", name, value) }
func (a *account) series()                    { a.WriteString("series") }
func (a *account) exemplar(t int64, v uint64) { fmt.Fprintf(a, "\n exemplar @%d %x", t, v) }

func (a *account) sample(t, st int64, v float64) {
	fmt.Fprintf(a, "\n sample @%d since %d %x", t, st, math.Float64bits(v))
}

func (a *account) histogram(t, st int64, h *histogram.Histogram, fh *histogram.FloatHistogram) {
	fmt.Fprintf(a, "\n histogram @%d since %d ", t, st)
	if h != nil {
		fmt.Fprintf(a, "int %d %d %x %d %d %x +%v%v -%v%v", h.CounterResetHint, h.Schema, math.Float64bits(h.ZeroThreshold), h.ZeroCount, h.Count,
			math.Float64bits(h.Sum), h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets)
		a.bits(h.CustomValues)
		return
	}
	fmt.Fprintf(a, "float %d %d %x %x %x %x +%v -%v", fh.CounterResetHint, fh.Schema, math.Float64bits(fh.ZeroThreshold), math.Float64bits(fh.ZeroCount),
		math.Float64bits(fh.Count), math.Float64bits(fh.Sum), fh.PositiveSpans, fh.NegativeSpans)
	a.bits(fh.PositiveBuckets)
	a.bits(fh.NegativeBuckets)
	a.bits(fh.CustomValues)
}

func (a *account) bits(vs []float64) {
	a.WriteString(" [")
	for _, v := range vs {
		fmt.Fprintf(a, " %x", math.Float64bits(v))
	}
	a.WriteString("]")
}

// refs writes label references, resolved where they can be.
func (a *account) refs(symbols int, symbol func(uint32) string, refs []uint32) {
	for _, ref := range refs {
		if ref < uint32(symbols) {
			fmt.Fprintf(a, " %d%q", ref, symbol(ref))
		} else {
			fmt.Fprintf(a, " %d?", ref)
		}
	}
}

// referenceV1 is what the generated decoder makes of body.
func referenceV1(body []byte) (string, error) {
	var req prompb.WriteRequest
	if err := proto.Unmarshal(body, &req); err != nil {
		return "", err
	}
	var a account
	for _, ts := range req.Timeseries {
		a.series()
		for _, l := range ts.Labels {
			a.label(l.Name, l.Value)
		}
		for _, s := range ts.Samples {
			a.sample(s.Timestamp, 0, s.Value)
		}
		for _, h := range ts.Histograms {
			a.histogram(h.Timestamp, 0, h.ToIntHistogram(), h.ToFloatHistogram())
		}
		for _, e := range ts.Exemplars {
			a.exemplar(e.Timestamp, math.Float64bits(e.Value))
			for _, l := range e.Labels {
				a.label(l.Name, l.Value)
			}
		}
		a.WriteByte('\n')
	}
	for _, m := range req.Metadata {
		typ := strings.ToLower(m.Type.String())
		if _, known := prompb.MetricMetadata_MetricType_name[int32(m.Type)]; !known {
			typ = "unknown"
		}
		fmt.Fprintf(&a, "metadata %s %q %q %q\n", typ, m.MetricFamilyName, m.Help, m.Unit)
	}
	return a.String(), nil
}

// oursV1 is what this package makes of it.
func oursV1(r *Request, body []byte) (string, error) {
	if err := r.DecodeV1(body); err != nil {
		return "", err
	}
	var a account
	for i := range r.Series {
		s := &r.Series[i]
		a.series()
		if err := LabelsV1(r.RawLabels(s), a.label); err != nil {
			return "", err
		}
		a.values(r, s)
		for j := s.Exemplars.Lo; j < s.Exemplars.Hi; j++ {
			e := &r.Exemplars[j]
			a.exemplar(e.T, math.Float64bits(e.V))
			pairs, err := r.ExemplarLabelsV1(e)
			if err != nil {
				return "", err
			}
			for k := 0; k < len(pairs); k += 2 {
				a.label(pairs[k], pairs[k+1])
			}
		}
		a.WriteByte('\n')
	}
	for _, m := range r.Metadata {
		fmt.Fprintf(&a, "metadata %s %q %q %q\n", m.Type, m.Family, m.Help, m.Unit)
	}
	return a.String(), nil
}

func (a *account) values(r *Request, s *Series) {
	for _, x := range r.Samples[s.Samples.Lo:s.Samples.Hi] {
		a.sample(x.T, x.ST, x.V)
	}
	for _, h := range r.Histograms[s.Histograms.Lo:s.Histograms.Hi] {
		a.histogram(h.T, h.ST, h.H, h.FH)
	}
}

func referenceV2(body []byte, created []int64) (string, error) {
	var req writev2.Request
	if err := proto.Unmarshal(body, &req); err != nil {
		return "", err
	}
	symbol := func(ref uint32) string { return req.Symbols[ref] }
	var a account
	for i, ts := range req.Timeseries {
		// The one addition: release candidate 3 said it once for the whole series.
		since := func(st int64) int64 {
			if st == 0 && i < len(created) {
				return created[i]
			}
			return st
		}
		a.series()
		a.refs(len(req.Symbols), symbol, ts.LabelsRefs)
		for _, s := range ts.Samples {
			a.sample(s.Timestamp, since(s.StartTimestamp), s.Value)
		}
		for _, h := range ts.Histograms {
			a.histogram(h.Timestamp, since(h.StartTimestamp), h.ToIntHistogram(), h.ToFloatHistogram())
		}
		for _, e := range ts.Exemplars {
			a.exemplar(e.Timestamp, math.Float64bits(e.Value))
			a.refs(len(req.Symbols), symbol, e.LabelsRefs)
		}
		m := ts.Metadata
		if m.HelpRef < uint32(len(req.Symbols)) && m.UnitRef < uint32(len(req.Symbols)) {
			md, err := ts.ToMetadata(req.Symbols)
			fmt.Fprintf(&a, "\n metadata %s %q %q %v", md.Type, md.Help, md.Unit, err)
		}
		fmt.Fprintf(&a, "\n metadata %d %d %d\n", m.Type, m.HelpRef, m.UnitRef)
	}
	return a.String(), nil
}

func oursV2(r *Request, body []byte) (string, error) {
	if err := r.DecodeV2(body); err != nil {
		return "", err
	}
	n := len(r.Symbols)
	symbol := func(ref uint32) string { return string(r.Symbol(ref)) }
	var a account
	for i := range r.Series {
		s := &r.Series[i]
		a.series()
		a.refs(n, symbol, r.Refs[s.Refs.Lo:s.Refs.Hi])
		a.values(r, s)
		for _, e := range r.Exemplars[s.Exemplars.Lo:s.Exemplars.Hi] {
			a.exemplar(e.T, math.Float64bits(e.V))
			a.refs(n, symbol, r.Refs[e.Refs.Lo:e.Refs.Hi])
		}
		if s.Help < uint32(n) && s.Unit < uint32(n) {
			md := r.MetadataV2(s)
			fmt.Fprintf(&a, "\n metadata %s %q %q %v", md.Type, md.Help, md.Unit, error(nil))
		}
		fmt.Fprintf(&a, "\n metadata %d %d %d\n", s.Type, s.Help, s.Unit)
	}
	return a.String(), nil
}

// createdOf returns field 6 of every series, which the generated decoder of
// release candidate 4 keeps among the unknown fields.
func createdOf(body []byte) (created []int64) {
	var req writev2.Request
	if proto.Unmarshal(body, &req) != nil {
		return nil
	}
	for _, ts := range req.Timeseries {
		created = append(created, lastCreated(ts.XXX_unrecognized))
	}
	return created
}

func lastCreated(b []byte) (v int64) {
	for i := 0; i < len(b); {
		n, wt, next, err := field(b, i)
		if err != nil {
			return v
		}
		if n == 6 && wt == wireVarint {
			u, after, _ := varint(b, next)
			v, i = int64(u), after
			continue
		}
		if i, err = skip(b, next, wt); err != nil {
			return v
		}
	}
	return v
}

// FuzzV1 holds the reader of 1.0 to the generated decoder: both accept a body or
// both refuse it, and both read the same.
func FuzzV1(f *testing.F) {
	for _, s := range seedsV1(f) {
		f.Add(s)
	}
	r := &Request{} // one for all, as the pool has it: nothing may stay behind
	f.Fuzz(func(t *testing.T, body []byte) {
		want, wantErr := referenceV1(body)
		got, err := oursV1(r, body)
		compare(t, want, wantErr, got, err)
	})
}

// FuzzV2 does the same for 2.0.
func FuzzV2(f *testing.F) {
	for _, s := range seedsV2(f) {
		f.Add(s)
	}
	r := &Request{}
	f.Fuzz(func(t *testing.T, body []byte) {
		want, wantErr := referenceV2(body, createdOf(body))
		got, err := oursV2(r, body)
		compare(t, want, wantErr, got, err)
	})
}

func compare(t *testing.T, want string, wantErr error, got string, err error) {
	t.Helper()
	if wantErr != nil {
		require.Error(t, err, "the generated decoder says %v", wantErr)
		require.ErrorIs(t, err, ErrMalformed)
		return
	}
	require.NoError(t, err, "the generated decoder takes it")
	require.Equal(t, want, got)
}

// TestDecodersAgree makes sure that the comparison sees each feature, or the
// fuzz tests would prove little.
func TestDecodersAgree(t *testing.T) {
	v1, err := referenceV1(encode(t, fullV1()))
	require.NoError(t, err)
	v2, err := referenceV2(encode(t, fullV2()), nil)
	require.NoError(t, err)
	for _, want := range []string{`"job"="a"`, "7ff0000000000002", "7ff8dead0000beef", "exemplar @3", "int 2 3", "int 0 -53", "float 3 -1", "metadata stateset"} {
		require.Contains(t, v1, want)
	}
	for _, want := range []string{"since -7", "exemplar @3", "since 5 int", "metadata gauge", "4294967295?", `"not\xffutf8"`} {
		require.Contains(t, v2, want)
	}
	_, err = oursV1(&Request{}, []byte{0x80})
	require.True(t, errors.Is(err, ErrMalformed))
}
