package ingest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	remoteapi "github.com/prometheus/client_golang/exp/api/remote"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/store"
)

// peer is Prometheus' receiver over its database.
type peer struct {
	handler http.Handler
	db      *tsdb.DB
	input   string
}

func newPeer(t testing.TB, window time.Duration) *peer {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.OutOfOrderTimeWindow = window.Milliseconds()
	o.EnableExemplarStorage, o.MaxExemplars = true, store.DefaultConfig().Exemplars.Max
	log := slog.New(slog.DiscardHandler)
	db, err := tsdb.Open(t.TempDir(), log, nil, o, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	accepted := remoteapi.MessageTypes{remoteapi.WriteV1MessageType, remoteapi.WriteV2MessageType}
	h := remote.NewWriteHandler(log, prometheus.NewRegistry(), db, accepted, false, false, false)
	return &peer{handler: h, db: db}
}

// fate is what should become of a request. written is nil where the answer has
// no say in it.
type fate struct {
	status  int
	written *[numKinds]int
	how     string
}

// take gives the request to Prometheus and says what Weir should answer.
func (p *peer) take(t testing.TB, w wireRequest) fate {
	t.Helper()
	series, ok := readSeries(w)
	if why := p.differs(t, w, series); ok && why != "" {
		return p.oneByOne(t, w, series, why)
	}
	req := httptest.NewRequest(http.MethodPost, "/api/v1/write", bytes.NewReader(w.compressed()))
	req.Header.Set("Content-Type", w.contentType())
	rec := httptest.NewRecorder()
	p.handler.ServeHTTP(rec, req)
	switch {
	case w.proto == protoV1 && rec.Code != http.StatusNoContent && ok, rec.Code >= 500:
		return p.oneByOne(t, w, series, "Prometheus rolled back: "+rec.Body.String())
	case w.proto == protoV1:
		return fate{status: rec.Code, how: "as Prometheus"}
	}
	f := fate{status: rec.Code, how: "as Prometheus: " + rec.Body.String()}
	if n := (writtenHeaders(t, rec)); ok {
		f.written = &n
		if n[kindExemplar] < exemplarsIn(series) {
			f.status = http.StatusBadRequest
		}
	}
	return f
}

// oneSeries is a series of a request in terms of the model.
type oneSeries struct {
	labels    labels.Labels
	fault     string // why its labels are refused
	samples   []point
	exemplars []exemplar.Exemplar
	broken    int // exemplars whose labels cannot be read
}

// point is a sample. At most one of h and fh is set.
type point struct {
	t  int64
	v  float64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

func (p point) kind() kind {
	if p.h != nil || p.fh != nil {
		return kindHistogram
	}
	return kindFloat
}

// same leaves the counter reset hint out, as Prometheus does.
func (p point) same(q point) bool {
	for _, x := range []*point{&p, &q} {
		if x.h != nil {
			x.h = x.h.Copy()
			x.h.CounterResetHint = histogram.UnknownCounterReset
		}
		if x.fh != nil {
			x.fh = x.fh.Copy()
			x.fh.CounterResetHint = histogram.UnknownCounterReset
		}
	}
	return p.String() == q.String()
}

func (p point) stale() bool { return stale(p.v, p.h, p.fh) }

// String writes a sample bit by bit, without what depends on its neighbours: the
// counter reset hint, empty buckets, and whether a stale marker is kept as a
// histogram.
func (p point) String() string {
	gauge := histogram.UnknownCounterReset
	switch {
	case p.stale():
		return "stale"
	case p.h != nil:
		h := p.h.Copy().Compact(0)
		if h.CounterResetHint == histogram.GaugeType {
			gauge = h.CounterResetHint
		}
		return fmt.Sprintf("int %d %d %g %d %d %x %v%v %v%v %v", gauge, h.Schema, h.ZeroThreshold, h.ZeroCount, h.Count,
			math.Float64bits(h.Sum), h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets, h.CustomValues)
	case p.fh != nil:
		h := p.fh.Copy().Compact(0)
		if h.CounterResetHint == histogram.GaugeType {
			gauge = h.CounterResetHint
		}
		return fmt.Sprintf("float %d %d %g %g %g %x %v%v %v%v %v", gauge, h.Schema, h.ZeroThreshold, h.ZeroCount, h.Count,
			math.Float64bits(h.Sum), h.PositiveSpans, h.PositiveBuckets, h.NegativeSpans, h.NegativeBuckets, h.CustomValues)
	}
	return fmt.Sprintf("%x", math.Float64bits(p.v))
}

func exemplarsIn(series []oneSeries) (n int) {
	for _, s := range series {
		n += len(s.exemplars) + s.broken
	}
	return n
}

// readSeries reads a request by the generated decoder.
func readSeries(w wireRequest) (out []oneSeries, ok bool) {
	b := labels.NewScratchBuilder(0)
	if w.proto == protoV1 {
		var req prompb.WriteRequest
		if proto.Unmarshal(w.raw, &req) != nil {
			return nil, false
		}
		for _, ts := range req.Timeseries {
			s := oneSeries{labels: ts.ToLabels(&b, nil)}
			s.fault = labelFault(s.labels)
			for _, x := range ts.Samples {
				s.samples = append(s.samples, point{t: x.Timestamp, v: x.Value})
			}
			for _, x := range ts.Histograms {
				s.samples = append(s.samples, histogramPoint(x.Timestamp, x.IsFloatHistogram(), x.ToIntHistogram, x.ToFloatHistogram))
			}
			for _, x := range ts.Exemplars {
				s.exemplars = append(s.exemplars, x.ToExemplar(&b, nil))
			}
			out = append(out, s)
		}
		return out, true
	}
	var req writev2.Request
	if proto.Unmarshal(w.raw, &req) != nil {
		return nil, false
	}
	for _, ts := range req.Timeseries {
		ls, err := ts.ToLabels(&b, req.Symbols)
		s := oneSeries{labels: ls}
		if err == nil {
			_, err = ts.ToMetadata(req.Symbols)
		}
		if s.fault = labelFault(ls); err != nil {
			s.fault = err.Error()
		}
		for _, x := range ts.Samples {
			s.samples = append(s.samples, point{t: x.Timestamp, v: x.Value})
		}
		for _, x := range ts.Histograms {
			s.samples = append(s.samples, histogramPoint(x.Timestamp, x.IsFloatHistogram(), x.ToIntHistogram, x.ToFloatHistogram))
		}
		for _, x := range ts.Exemplars {
			if e, err := x.ToExemplar(&b, req.Symbols); err != nil {
				s.broken++
			} else {
				s.exemplars = append(s.exemplars, e)
			}
		}
		if s.fault == "" && (len(s.samples) == 0 || len(ts.Samples) > 0 && len(ts.Histograms) > 0) {
			s.fault = "neither or both of samples and histograms"
		}
		out = append(out, s)
	}
	return out, true
}

func histogramPoint(t int64, isFloat bool, h func() *histogram.Histogram, fh func() *histogram.FloatHistogram) point {
	if isFloat {
		return point{t: t, fh: fh()}
	}
	return point{t: t, h: h()}
}

func labelFault(ls labels.Labels) string {
	if _, dup := ls.HasDuplicateLabelNames(); dup {
		return "label repeated"
	}
	if !ls.Has(model.MetricNameLabel) || !ls.IsValid(model.UTF8Validation) {
		return "label invalid"
	}
	return ""
}

// differs says why a request cannot go to Prometheus as a whole; the reasons
// are listed at FuzzHandler.
func (p *peer) differs(t testing.TB, w wireRequest, series []oneSeries) string {
	stored, newest, turns := allSamples(t, p.db, p.input), map[string]int64{}, map[string]*turn{}
	for _, s := range series {
		if s.fault != "" {
			if w.proto == protoV1 || len(s.samples) > 0 {
				return s.fault
			}
			continue
		}
		id := s.labels.WithoutEmpty().String()
		if len(s.exemplars) > 0 && !slices.ContainsFunc(s.samples, func(x point) bool { return !x.stale() }) {
			return "exemplar without a sample to go with"
		}
		if len(s.exemplars) > 0 && s.labels.WithoutEmpty().Len() < s.labels.Len() {
			return "exemplar of a series with an empty label"
		}
		if len(s.exemplars) > 0 && w.proto == protoV1 && len(stored[id]) == 0 && s.samples[0].kind() == kindHistogram {
			return "exemplar before the histogram that makes its series"
		}
		for _, x := range s.samples {
			if _, ok := stored[id][x.t]; ok {
				return "stored already"
			}
			if last, ok := newest[id]; ok && x.t <= last {
				return "falling order in one request"
			}
			newest[id] = x.t
			if turns[id] == nil {
				turns[id] = newTurn(stored, id)
			}
			if turns[id].waits(x) {
				return "a stale marker, then a sample, after histograms"
			}
			turns[id].took(x)
			if len(s.exemplars) > 0 && (tooNewFor(x.t) || !p.surely(stored[id], x)) {
				return "exemplars beside a doubtful sample"
			}
		}
	}
	return ""
}

// surely says that a sample will be stored: it is newer than all of its series
// and not old.
func (p *peer) surely(stored map[int64]point, x point) bool {
	for t := range stored {
		if x.t <= t {
			return false
		}
	}
	if x.h != nil && x.h.Validate() != nil || x.fh != nil && x.fh.Validate() != nil {
		return false
	}
	return x.t > p.db.Head().MaxTime()-(20*time.Minute).Milliseconds()
}

func tooNewFor(t int64) bool { return t > time.Now().Add(10*time.Minute).UnixMilli() }

// oneByOne appends each sample of a request in a transaction of its own.
func (p *peer) oneByOne(t testing.TB, w wireRequest, series []oneSeries, why string) fate {
	t.Helper()
	f := fate{status: http.StatusNoContent, written: new([numKinds]int), how: "one by one: " + why}
	refuse := func() { f.status = http.StatusBadRequest }
	stored, turns := allSamples(t, p.db, p.input), map[string]*turn{}
	var all, now, later []bearer
	for _, s := range series {
		if s.fault != "" {
			refuse()
			continue
		}
		ls := s.labels.WithoutEmpty()
		id := ls.String()
		if turns[id] == nil {
			turns[id] = newTurn(stored, id)
		}
		b, waiting := bearer{oneSeries: s, id: id}, false
		for _, x := range s.samples {
			ok, appended := p.one(t, stored, ls, x)
			switch {
			case !ok:
				refuse()
			default:
				f.written[x.kind()]++
			}
			if turns[id].waits(x) {
				waiting = true
				if appended {
					b.waited = append(b.waited, x)
				}
			} else if appended {
				turns[id].took(x)
				b.goes = b.goes || !x.stale()
			}
		}
		if last, ok := turns[id].newest, turns[id].any; !waiting {
			b.goes = b.goes || ok && !last.stale()
		}
		b.later = waiting && !b.goes
		if !b.later {
			now = append(now, b)
		}
		all = append(all, b)
		if s.broken > 0 {
			refuse()
		}
	}
	for _, b := range all { // the second round
		for _, x := range b.waited {
			turns[b.id].took(x)
			b.goes = b.goes || !x.stale()
		}
		if b.later {
			b.goes = b.goes || turns[b.id].any && !turns[b.id].newest.stale()
			later = append(later, b)
		}
	}
	for _, round := range [][]bearer{now, later} {
		sent, refused := p.exemplars(t, round)
		f.written[kindExemplar] += sent
		if refused > 0 && w.proto == protoV2 {
			refuse()
		}
	}
	return f
}

// bearer is a series of a request with its exemplars.
type bearer struct {
	oneSeries
	id     string
	goes   bool    // there is a sample that the exemplars can go with
	later  bool    // they go in the second round
	waited []point // appended then
}

// exemplars appends those of one round in one transaction.
func (p *peer) exemplars(t testing.TB, round []bearer) (sent, refused int) {
	t.Helper()
	app := p.db.Appender(context.Background())
	for _, b := range round {
		for _, e := range b.exemplars {
			ok := b.goes && !tooNewFor(e.Ts)
			if ok {
				_, err := app.AppendExemplar(0, b.labels.WithoutEmpty(), e)
				ok = err == nil
			}
			if ok {
				sent++
			} else {
				refused++
			}
		}
	}
	require.NoError(t, app.Commit())
	return sent, refused
}

// turn is a series in the first of Weir's rounds. It matters to exemplars only:
// those of a series that waits for the second round are looked at after all others.
type turn struct {
	newest     point
	any        bool // there is a newest
	moved      bool // by this request
	histograms bool // the store keeps the newest as a histogram
	taken      map[int64]bool
}

func newTurn(stored samples, id string) *turn {
	x, ok := stored.newest(id)
	return &turn{newest: x, any: ok, histograms: x.kind() == kindHistogram, taken: map[int64]bool{}}
}

func (r *turn) waits(x point) bool {
	switch {
	case !r.moved || x.t == r.newest.t:
		return false
	case x.t > r.newest.t:
		return r.histograms && r.newest.stale() && r.newest.kind() == kindFloat
	}
	return !r.taken[x.t]
}

// took notes an appended sample.
func (r *turn) took(x point) {
	r.taken[x.t] = true
	if !r.any || x.t > r.newest.t {
		r.histograms = x.kind() == kindHistogram || r.histograms && x.stale()
		r.newest, r.any, r.moved = x, true, true
	}
}

// one appends a sample and says whether Weir should account for it, and whether
// it is new.
func (p *peer) one(t testing.TB, stored samples, ls labels.Labels, x point) (ok, appended bool) {
	t.Helper()
	switch {
	case tooNewFor(x.t):
		return false, false
	case x.h != nil && tooFine(x.h.Schema) && x.h.ReduceResolution(histogram.ExponentialSchemaMax) != nil:
		return false, false
	case x.fh != nil && tooFine(x.fh.Schema) && x.fh.ReduceResolution(histogram.ExponentialSchemaMax) != nil:
		return false, false
	}
	id := ls.String()
	if old, ok := stored[id][x.t]; ok {
		return old.same(x), false
	}
	app := p.db.Appender(context.Background())
	var err error
	if x.kind() == kindFloat {
		_, err = app.Append(0, ls, x.t, x.v)
	} else {
		_, err = app.AppendHistogram(0, ls, x.t, x.h, x.fh)
	}
	if err != nil {
		require.NoError(t, app.Rollback())
		return false, false
	}
	require.NoError(t, app.Commit())
	stored.put(id, x)
	return true, true
}

// samples is all that a database holds, by series and time.
type samples map[string]map[int64]point

func (s samples) put(id string, x point) {
	if s[id] == nil {
		s[id] = map[int64]point{}
	}
	s[id][x.t] = x
}

func (s samples) newest(id string) (x point, ok bool) {
	for t, y := range s[id] {
		if !ok || t > x.t {
			x, ok = y, true
		}
	}
	return x, ok
}

func (s samples) text() string {
	var lines []string
	for id, points := range s {
		for _, x := range points {
			lines = append(lines, fmt.Sprintf("%s @%d %v", id, x.t, x))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// ofInput selects an input's series, and those that lost the label by damage.
func ofInput(input string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchRegexp, "input", input+"|")
}

func allSamples(t testing.TB, q storage.Queryable, input string) samples {
	t.Helper()
	out := samples{}
	each(t, q, func(ls labels.Labels, x point) { out.put(ls.String(), x) }, ofInput(input))
	return out
}

func exemplarsOf(t testing.TB, q storage.ExemplarQueryable, input string) string {
	t.Helper()
	eq, err := q.ExemplarQuerier(context.Background())
	require.NoError(t, err)
	found, err := eq.Select(math.MinInt64, math.MaxInt64, []*labels.Matcher{ofInput(input)})
	require.NoError(t, err)
	var b strings.Builder
	for _, r := range found {
		for _, e := range r.Exemplars {
			fmt.Fprintf(&b, "%s @%d %x %s\n", r.SeriesLabels, e.Ts, math.Float64bits(e.Value), e.Labels)
		}
	}
	return b.String()
}
