package ingest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
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

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store"
)

// FuzzHandler sends the same requests to Weir and to Prometheus' own receiver,
// each over a database of its own with the same settings, and compares what is
// answered and what is stored after each.
//
// Where Weir means to differ, the request goes to Prometheus' appender a sample
// at a time instead, and each sample's fate is compared. These are the places:
//
//   - 1.0, a sample is refused: Prometheus rolls the whole request back and says
//     400; Weir keeps the valid part (both say 400).
//   - 1.0, broken labels: Prometheus skips the series in silence; Weir says 400.
//   - 2.0, samples and histograms in one series: forbidden by the specification
//     and taken by Prometheus; Weir refuses the series.
//   - A request that holds two samples of a series in falling order: Prometheus
//     checks both against what is stored before the request, says 204 and may drop
//     the older in silence at the commit; Weir checks it against the newer.
//   - A series that held histograms gets a stale marker as a float and a newer
//     sample in one request: Prometheus makes the marker a histogram at the commit,
//     behind the newer sample, and drops it in silence; Weir keeps both.
//   - A sample that is stored already: Weir says 204 wherever it is stored, or
//     400 if the value is another; Prometheus says 400 for both when the series
//     takes samples in order only, and 204 for both otherwise.
//   - A histogram that cannot be brought to the store's resolution: Prometheus
//     says 500, so the sender repeats it for ever; Weir says 400.
//   - 2.0, an exemplar that is not stored for another reason than its order:
//     Prometheus says 204; the specification forbids that, Weir says 400.
//   - An exemplar whose series has no sample that it can go with, because none was
//     stored or the newest is a stale marker: Prometheus keeps it if the series
//     exists; Weir refuses it. 1.0, an exemplar of a new series of histograms:
//     Prometheus looks at it before the histograms and loses it; Weir keeps it.
//     So with series that have an empty label.
func FuzzHandler(f *testing.F) {
	for seed := range uint64(16) {
		code := make([]byte, 32+20*seed)
		rng := rand.New(rand.NewPCG(seed, 1))
		for i := range code {
			code[i] = byte(rng.IntN(256))
		}
		f.Add(seed%2 == 0, code)
	}
	inOrder, outOfOrder := &arena{}, &arena{window: 30 * time.Minute}
	f.Cleanup(inOrder.close)
	f.Cleanup(outOfOrder.close)
	f.Fuzz(func(t *testing.T, ooo bool, code []byte) {
		if len(code) > 4096 {
			t.Skip("as much as a program reads")
		}
		if ooo {
			outOfOrder.enter(t).run(code)
		} else {
			inOrder.enter(t).run(code)
		}
	})
}

// TestRandomRequests is FuzzHandler with random inputs, for everyday.
func TestRandomRequests(t *testing.T) {
	inOrder, outOfOrder := &arena{}, &arena{window: 30 * time.Minute}
	defer inOrder.close()
	defer outOfOrder.close()
	rng := rand.New(rand.NewPCG(3, 1))
	for i := range 300 {
		code := make([]byte, rng.IntN(500))
		for i := range code {
			code[i] = byte(rng.IntN(256))
		}
		t.Run(strconv.Itoa(i), func(t *testing.T) { []*arena{inOrder, outOfOrder}[i%2].enter(t).run(code) })
	}
}

// arena keeps a duel for many inputs, since opening two databases takes a
// hundred times longer than an input. Each input has series of its own, by a
// label, and comparison looks at those.
type arena struct {
	window time.Duration
	duel   *duel
	inputs int
	until  lasting
}

func (a *arena) enter(t *testing.T) *duel {
	const most = 200 // bounds memory: some 20 series an input
	if a.inputs%most == 0 {
		a.close()
		a.until = lasting{TB: t}
		a.duel = newDuel(&a.until, a.window)
	}
	a.inputs++
	// Twice the number, so that one damaged byte does not lead to another input.
	a.duel.t, a.duel.input = t, fmt.Sprintf("%d-%d", a.inputs, a.inputs)
	a.duel.peer.input = a.duel.input
	return a.duel
}

func (a *arena) close() {
	for _, f := range slices.Backward(a.until.ends) {
		f()
	}
	a.until.ends = nil
}

// lasting is a test whose clean-up waits for its owner.
type lasting struct {
	testing.TB
	ends []func()
}

func (l *lasting) Cleanup(f func()) { l.ends = append(l.ends, f) }

func (l *lasting) TempDir() string {
	dir, err := os.MkdirTemp("", "weir-fuzz")
	require.NoError(l, err)
	l.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// duel is Weir and Prometheus side by side.
type duel struct {
	t     testing.TB
	weir  *rig
	peer  *peer
	base  int64
	input string // value of the label of this input's series
}

func newDuel(t testing.TB, window time.Duration) *duel {
	d := &duel{t: t, base: time.Now().Add(-20 * time.Minute).UnixMilli()}
	d.weir = newRig(t, func(c *Config, s *store.Config) {
		c.Limits = LimitsConfig{MaxFutureSkew: c.Limits.MaxFutureSkew}
		c.HA.ReplicaLabel = ""
		s.OutOfOrderWindow = conf.Duration(window)
	})
	d.peer = newPeer(t, window)
	// A first sample, so that both heads have a time to measure age by.
	first := prompb.WriteRequest{Timeseries: []prompb.TimeSeries{{
		Labels:  []prompb.Label{{Name: "__name__", Value: "first"}},
		Samples: []prompb.Sample{{Timestamp: d.base, Value: 1}},
	}}}
	raw, err := first.Marshal()
	require.NoError(t, err)
	d.step(wireRequest{protoV1, raw})
	return d
}

func (d *duel) run(code []byte) {
	p := &program{code, d.input}
	for range 24 { // bounds the time of one input
		w, ok := p.next(d.base)
		if !ok {
			return
		}
		d.step(w)
	}
}

// step sends one request to both and compares.
func (d *duel) step(w wireRequest) {
	d.t.Helper()
	want := d.peer.take(d.t, w)
	got := d.weir.post(w.contentType(), w.raw)
	about := fmt.Sprintf("%v (%s)\nweir: %s", w, want.how, got.Body)
	require.Equal(d.t, want.status, got.Code, about)
	if want.written != nil {
		require.Equal(d.t, *want.written, writtenHeaders(d.t, got), about)
	}
	require.Equal(d.t, allSamples(d.t, d.peer.db, d.input).text(), allSamples(d.t, d.weir.store, d.input).text(), about)
	require.Equal(d.t, exemplarsOf(d.t, d.peer.db, d.input), exemplarsOf(d.t, d.weir.store, d.input), about)
	for _, b := range d.weir.in.w.ledger.totals() {
		require.Zero(d.t, b.Balance, "ledger of %s %s\n%s", b.Protocol, b.Kind, about)
	}
}

// String shows what a request holds.
func (w wireRequest) String() string {
	m := proto.Message(&prompb.WriteRequest{})
	if w.proto == protoV2 {
		m = &writev2.Request{}
	}
	if err := proto.Unmarshal(w.raw, m); err != nil {
		return fmt.Sprintf("%v, malformed: %v", w.proto, err)
	}
	return fmt.Sprintf("%v:\n%s", w.proto, proto.CompactTextString(m))
}

func writtenHeaders(t testing.TB, w *httptest.ResponseRecorder) (n [numKinds]int) {
	t.Helper()
	for k, name := range []string{"Samples", "Histograms", "Exemplars"} {
		var err error
		n[k], err = strconv.Atoi(w.Header().Get("X-Prometheus-Remote-Write-" + name + "-Written"))
		require.NoError(t, err)
	}
	return n
}

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
	if !ls.Has(labels.MetricName) || !ls.IsValid(model.UTF8Validation) {
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
