package ingest

import (
	"fmt"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/gogo/protobuf/proto"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
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
