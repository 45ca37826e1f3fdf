package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
)

// replicaID numbers the replicas of all HA pairs; 0 is none.
type replicaID uint32

// someReplica is a replica that is not known.
const someReplica = math.MaxUint32

// maxReplicas bounds the replicas remembered: 200 bytes each. A sender whose
// replica label changes with every restart reaches it after years.
const maxReplicas = 10_000

// clockSkew bounds how far into the future a sample may move a replica's clock
// when ingest.limits.max_future_skew is off: Prometheus' own bound on samples.
const clockSkew = 10 * time.Minute

// pairs knows the clusters that send in several replicas and which replica of
// each is elected.
//
// A replica's clock is the newest sample time that it has sent. The elected
// replica's samples are stored as they come. Another's are held (hold.go) until
// it is known whether they are needed:
//
//   - it takes over when its clock is more than failover_after ahead of the
//     elected one's; what is held of it is settled first, so the series go on
//     from the first missing timestamp;
//   - the elected replica comes back from a silence shorter than that;
//   - the elected clock has passed a held sample by failover_after: whatever
//     the elected replica knows of that time, it has sent;
//   - nothing has moved any clock for failover_after of real time;
//   - the buffer or its journal is full.
//
// Settling appends a held sample only if its series has nothing as new. Clocks
// are sample time only, so that a replica that is slow, or sends what it could
// not send before, is not taken for dead, and the server's clock may be wrong.
//
// Locks: gate, then a group's mu, then journal.mu or a claim of a series. Batches
// never ask for a group's mu while they have claims, so settling under mu may
// wait for claims.
type pairs struct {
	clusterLabel, replicaLabel string
	failover                   int64 // milliseconds
	budget                     int64 // bytes
	log                        *slog.Logger
	since                      func() time.Duration // monotonic

	opening sync.Mutex
	open    atomic.Bool
	journal *journal // nil: none; used when open

	batches batchPool // for settling
	bytes   atomic.Int64
	seq     atomic.Uint64

	mu       sync.Mutex
	ids      map[[2]string]replicaID
	replicas []*replica
	groups   map[string]*group
}

// group is one cluster's replicas.
type group struct {
	cluster   string
	electedID atomic.Uint32 // of elected, for readers without the lock

	mu        sync.Mutex
	elected   *replica
	replicas  []*replica
	since     time.Time     // of the election
	moved     time.Duration // when a clock last moved
	takeovers uint64
	saved     []byte // state that the journal has
}

// replica is one sender. All but its first line belongs to group.mu.
type replica struct {
	id    replicaID
	name  string
	group *group

	clock   int64 // Unix milliseconds, 0 before the first sample
	seen    time.Time
	blocks  []*heldBlock // in the order of arrival
	bytes   int64
	samples int    // held, histograms included
	filled  uint64 // held samples that were stored
}

// verdict says whether a replica's samples are stored or held back.
type verdict struct {
	replica        replicaID
	oldest, newest int64 // sample times in the batch
	before         int64 // the replica's clock before it
}

func newPairs(cfg HAConfig, log *slog.Logger) *pairs {
	start := time.Now()
	p := &pairs{
		clusterLabel: cfg.ClusterLabel, replicaLabel: cfg.ReplicaLabel,
		failover: cfg.FailoverAfter.Std().Milliseconds(), budget: int64(cfg.HoldBytes),
		log: log, since: func() time.Duration { return time.Since(start) },
		ids: map[[2]string]replicaID{}, replicas: []*replica{nil}, groups: map[string]*group{},
	}
	if cfg.Dir != "" && cfg.ReplicaLabel != "" {
		p.journal = newJournal(cfg.Dir, log)
	}
	return p
}

// replica returns the number of a replica of a cluster.
func (p *pairs) replica(cluster, name string) (replicaID, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if id, ok := p.ids[[2]string{cluster, name}]; ok {
		return id, nil
	}
	if len(p.replicas) > maxReplicas {
		return 0, &refused{badLabels, fmt.Sprintf("more than %d replicas; see ingest.ha.replica_label", maxReplicas)}
	}
	cluster, name = strings.Clone(cluster), strings.Clone(name)
	g := p.groups[cluster]
	if g == nil {
		g = &group{cluster: cluster, moved: p.since()}
		p.groups[cluster] = g
	}
	r := &replica{id: replicaID(len(p.replicas)), name: name, group: g}
	p.replicas = append(p.replicas, r)
	p.ids[[2]string{cluster, name}] = r.id
	g.mu.Lock()
	g.replicas = append(g.replicas, r)
	g.mu.Unlock()
	return r.id, nil
}

func (p *pairs) at(id replicaID) *replica {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.replicas[id]
}

// all returns the groups.
func (p *pairs) all() []*group {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*group, 0, len(p.groups))
	for _, g := range p.groups {
		out = append(out, g)
	}
	return out
}

// elect decides for each replica that b has samples of whether they are stored,
// and holds them if not. When it fails, b.failed is set and every sample booked.
func (w *writer) elect(ctx context.Context, b *batch) {
	w.meet(b)
	if len(b.verdict) == 0 {
		return
	}
	for j := range b.verdict {
		// All clocks first: a batch may bring several replicas.
		v := &b.verdict[j]
		v.before = w.ha.at(v.replica).tick(w, v.newest)
	}
	var err error
	for j := 0; j < len(b.verdict) && err == nil; j++ {
		err = w.judge(ctx, b, b.verdict[j])
	}
	if err == nil {
		return
	}
	b.failed = err
	b.say.add(unavailable, "", err.Error())
	b.todo = append(b.todo[:0], rest(nil, 0, len(b.targets))...)
	w.refuseRest(b)
}

// meet fills b.verdict: the replicas met with their newest sample time.
func (w *writer) meet(b *batch) {
	if w.ha.replicaLabel == "" {
		return
	}
	at, bound := -1, min(b.maxT, w.now().Add(clockSkew).UnixMilli())
	if b.maxT < math.MaxInt64 {
		bound = b.maxT
	}
	for i, to := range b.targets {
		if to.replica == 0 || to.id < firstSeriesID {
			continue
		}
		if at < 0 || b.verdict[at].replica != to.replica {
			at = b.meet(to.replica)
		}
		v, sr := &b.verdict[at], &b.req.Series[i]
		for _, s := range b.req.Samples[sr.Samples.Lo:sr.Samples.Hi] {
			v.see(s.T, bound)
		}
		for _, s := range b.req.Histograms[sr.Histograms.Lo:sr.Histograms.Hi] {
			v.see(s.T, bound)
		}
	}
}

func (v *verdict) see(t, bound int64) {
	v.oldest = min(v.oldest, t)
	if t > v.newest && t <= bound {
		v.newest = t
	}
}

// meet returns the place of a replica in b.verdict.
func (b *batch) meet(r replicaID) int {
	for i, v := range b.verdict {
		if v.replica == r {
			return i
		}
	}
	b.verdict = append(b.verdict, verdict{replica: r, oldest: math.MaxInt64})
	return len(b.verdict) - 1
}

// tick moves r's clock and returns where it stood.
func (r *replica) tick(w *writer, newest int64) (before int64) {
	g := r.group
	g.mu.Lock()
	defer g.mu.Unlock()
	r.seen, before = w.now(), r.clock
	if newest > r.clock {
		r.clock = newest
		g.moved = w.ha.since()
	}
	return before
}

// judge elects v's replica if it is due, and holds its samples in b if it is not.
func (w *writer) judge(ctx context.Context, b *batch, v verdict) error {
	r := w.ha.at(v.replica)
	g := r.group
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.elected == nil:
		w.choose(g, r)
	case g.elected != r && r.clock-g.elected.clock > w.ha.failover:
		if err := w.settleHeld(ctx, r, func(*heldBlock) bool { return true }); err != nil {
			return err
		}
		g.takeovers++
		w.ha.log.Info("replica takes over", "cluster", g.cluster, "replica", r.name,
			"from", g.elected.name, "behind", time.Duration(r.clock-g.elected.clock)*time.Millisecond)
		w.choose(g, r)
	case g.elected == r && v.oldest-v.before > 3*w.ha.failover/4:
		// It has missed a scrape, as failover_after should be two, and goes on as
		// if nothing had been: the gap is filled before it closes.
		w.settleGroup(ctx, g, func(blk *heldBlock) bool { return blk.maxT < v.oldest })
	}
	if g.elected == r {
		return nil
	}
	return w.hold(ctx, b, r)
}

// choose makes r the elected replica. The caller holds g.mu.
func (w *writer) choose(g *group, r *replica) {
	g.elected, g.since = r, w.now()
	g.electedID.Store(uint32(r.id))
	w.saveState(g)
}

// saveState notes in the journal who is elected. Losing the note is harmless:
// after a restart the old one is elected until the other runs ahead again.
func (w *writer) saveState(g *group) {
	if w.ha.journal == nil {
		return
	}
	state := g.encode()
	if string(state) == string(g.saved) {
		return
	}
	if err := w.ha.journal.noteState(g.cluster, state); err != nil {
		w.ha.log.Warn("election not noted", "cluster", g.cluster, "err", err)
		return
	}
	g.saved = state
}

// settlePassed settles what the elected replicas of b have passed.
func (w *writer) settlePassed(ctx context.Context, b *batch) {
	for _, v := range b.verdict {
		r := w.ha.at(v.replica)
		if g := r.group; replicaID(g.electedID.Load()) == r.id {
			g.mu.Lock()
			w.settleGroup(ctx, g, w.ha.passed(g))
			g.mu.Unlock()
		}
	}
}

// passed says of a held block whether the elected clock has passed all of it.
func (p *pairs) passed(g *group) func(*heldBlock) bool {
	if g.elected == nil {
		return func(*heldBlock) bool { return false }
	}
	clock := g.elected.clock
	return func(blk *heldBlock) bool { return blk.maxT <= clock-p.failover }
}

// settleGroup settles what is due of every replica; what fails stays held.
func (w *writer) settleGroup(ctx context.Context, g *group, due func(*heldBlock) bool) {
	for _, r := range g.replicas {
		if err := w.settleHeld(ctx, r, due); err != nil {
			w.ha.log.Warn("held samples stay held", "cluster", g.cluster, "replica", r.name, "err", err)
			return
		}
	}
}

// tickPairs settles what nobody else will bring, and keeps the journal short.
func (w *writer) tickPairs(ctx context.Context) {
	if ok, _ := w.store.Ready(); !ok || w.ha.replicaLabel == "" {
		return
	}
	w.gate.RLock()
	defer w.gate.RUnlock()
	if err := w.openPairs(ctx); err != nil {
		w.ha.log.Error("open journal of held samples", "err", err)
		return
	}
	floor := -1
	if w.ha.journal != nil {
		floor = w.ha.journal.floor(w.ha.budget)
	}
	for _, g := range w.ha.all() {
		g.mu.Lock()
		due := w.ha.passed(g)
		silent := (w.ha.since() - g.moved).Milliseconds() >= w.ha.failover
		w.settleGroup(ctx, g, func(blk *heldBlock) bool { return silent || blk.segment < floor || due(blk) })
		w.saveState(g)
		g.mu.Unlock()
	}
	if w.ha.journal != nil {
		w.ha.journal.shorten()
	}
}

// forget says that numbers of series mean nothing any more.
func (p *pairs) forget(ids map[seriesID]struct{}) {
	if p.journal != nil {
		p.journal.forget(ids)
	}
}

// tickEvery is how often tickPairs runs: often enough that real time adds little
// to failover_after, seldom enough that idle clusters cost nothing.
func (p *pairs) tickEvery() time.Duration {
	return min(max(time.Duration(p.failover)*time.Millisecond/8, 20*time.Millisecond), 5*time.Second)
}

// recalled marks a series of a pair whose samples were stored before this
// process, or before its memory was swept: by whom is not known, so that any
// replica is taken for another. Nor is it known whether the newest sample fell,
// so a counter that was reset in the last failover_after before a kill may show
// that reset twice.
func (w *writer) recalled(s *series) {
	if s.flags&hasLast == 0 {
		return
	}
	s.flags |= switched
	if s.flags&lastHistogram != 0 {
		if _, h, fh, ok := w.store.SampleAt(s.ref, s.lastT); ok {
			s.lastV = math.Float64bits(magnitude(0, h, fh))
		}
	}
	s.writer = someReplica
}

// typeOf returns the type of a series' metric family, "" if nobody has told.
func (m *Metadata) typeOf(series string) model.MetricType {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, family := range []string{series, trimAny(series, "_bucket", "_count", "_sum")} {
		if v := m.families[family]; len(v) > 0 {
			return v[0].Type
		}
	}
	return ""
}

// counting says whether a metric's floats only rise, by its type if a sender
// told it, by its name otherwise.
func (w *writer) counting(name string) bool {
	switch w.metadata.typeOf(name) {
	case model.MetricTypeCounter, model.MetricTypeHistogram, model.MetricTypeSummary:
		return true
	case model.MetricTypeGauge, model.MetricTypeGaugeHistogram, model.MetricTypeInfo, model.MetricTypeStateset:
		return false
	}
	for _, suffix := range []string{"_total", "_bucket", "_count", "_sum"} {
		if strings.HasSuffix(name, suffix) {
			return true
		}
	}
	return false
}

// invents says whether a newer sample would show a counter reset that there was
// not, because it comes from another replica than the one before it.
//
// Replicas' clocks differ, and a scrape takes time: the later of two timestamps
// of two replicas may belong to the earlier scrape. Its counter is then lower
// than the one stored, or, if the one stored has just been reset, higher by all
// that was counted before. Such a sample is passed over until its clock is
// surely ahead, at most failover_after. So there is no false reset as long as
// the replicas' clocks differ by less than failover_after and one scrape
// interval.
func (a *appending) invents(k kind, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	s := a.s
	if a.by == 0 || s.writer == 0 || s.writer == a.by || s.flags&hasLast == 0 || t-s.lastT >= a.w.ha.failover {
		return false
	}
	if k == kindFloat && s.flags&rising == 0 || isGauge(h, fh) {
		return false
	}
	if s.flags&fell != 0 {
		return true
	}
	return (k == kindHistogram) == (s.flags&lastHistogram != 0) && magnitude(v, h, fh) < math.Float64frombits(s.lastV)
}

func isGauge(h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	return h != nil && h.CounterResetHint == histogram.GaugeType ||
		fh != nil && fh.CounterResetHint == histogram.GaugeType
}

// magnitude is what only rises in a sample: the value of a float, the count of
// a histogram. A stale marker has none.
func magnitude(v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) float64 {
	switch {
	case h != nil && value.IsStaleNaN(h.Sum), fh != nil && value.IsStaleNaN(fh.Sum):
		return math.NaN()
	case h != nil:
		return float64(h.Count)
	case fh != nil:
		return fh.Count
	}
	return v
}
