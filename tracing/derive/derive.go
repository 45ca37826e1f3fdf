package derive

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// Deps is what a Derive reads and writes. Samples, Dir, Log and Now must be set.
type Deps struct {
	// Samples takes the series. A sample may come with a reference that an earlier
	// one was answered with, and then without labels, as the TSDB allows.
	Samples storage.AppendableV2
	// Dir is where the checkpoint lies; it is made if it is not there.
	Dir string
	Log *slog.Logger
	Reg prometheus.Registerer // may be nil
	Now func() time.Time

	// Position tells how far the store's durable spans go. It is called while nobody
	// is between Enter and Leave. Nil: the store cannot bring spans again, and what
	// was taken after the last checkpoint is lost in a crash.
	Position func() uint64
	// Replay calls take with the spans stored after a position, each once. It must be
	// set if Position is.
	Replay func(ctx context.Context, after uint64, take func(*span.Batch)) error

	// Unwanted tells that sampling has decided against a trace, to which no exemplar may
	// lead then. It is asked once the trace is pinned. Nil: all are kept.
	Unwanted func(span.TraceID) bool

	// Links takes the calls between different services found in a minute, all at
	// once. A crash in the milliseconds until that is written down gives the same links
	// of the same minute once more. Nil: not wanted.
	Links func(ctx context.Context, minute time.Time, links []spanstore.Dependency) error
}

// Derive makes series of spans. Its life is New, Open, Run; Take, Enter and Leave may
// be called by many goroutines at once after Open.
type Derive struct {
	cfg     Config
	deps    Deps
	metrics *metrics
	wanted  wanted
	labels  []string // of dimensions

	// gate is held for reading from before the store is given spans until they are
	// taken, and for writing while position and totals are copied.
	gate sync.RWMutex

	seed     maphash.Seed
	mu       sync.RWMutex // of services
	services map[string]*service
	sets     atomic.Int64 // label sets of all services
	spans    atomic.Uint64
	names    *names
	graph    *graph
	links    *links
	pins     *pins
	pool     sync.Pool // *taking

	flushing sync.Mutex // held by Flush; guards what follows, and all `shown` fields
	opened   bool
	wroteAt  int64 // Unix milliseconds of the newest samples
	status   flushStatus
}

// New checks what it is given and starts nothing; no file is touched.
func New(cfg Config, deps Deps) (*Derive, error) {
	switch {
	case deps.Samples == nil || deps.Log == nil || deps.Now == nil || deps.Dir == "":
		return nil, errors.New("new derive: Samples, Dir, Log and Now must be given")
	case (deps.Position == nil) != (deps.Replay == nil):
		return nil, errors.New("new derive: Position and Replay must be given both or neither")
	case cfg.Interval <= 0:
		return nil, fmt.Errorf("new derive: interval is %s (tracing.derive.interval)", cfg.Interval)
	}
	d := &Derive{
		cfg: cfg, deps: deps, seed: maphash.MakeSeed(), wanted: newWanted(&cfg),
		services: make(map[string]*service), links: newLinks(cfg.Graph.MaxEdges), pins: newPins(cfg.PinFor.Std()),
	}
	for _, dim := range cfg.Dimensions {
		d.labels = append(d.labels, labelName(dim))
	}
	d.names = newNames(cfg.MaxServices)
	d.graph = newGraph(d)
	d.pool.New = func() any { return &taking{d: d} }
	d.metrics = newMetrics(d, deps.Reg)
	return d, nil
}

// Enter is called before spans are given to the store, and Leave after they are taken
// or refused. It waits while totals are being copied, a few milliseconds an interval.
func (d *Derive) Enter() { d.gate.RLock() }

// Leave ends what Enter began.
func (d *Derive) Leave() { d.gate.RUnlock() }

// Take counts spans: those that isNew tells, or all if it is nil.
//
// Owns: nothing; b is borrowed until Take returns.
// Cost: no allocation where all series are known, see TestTakeAllocs; BenchmarkTake
// gives the time a span.
func (d *Derive) Take(b *span.Batch, isNew []bool, now time.Time) {
	t := d.pool.Get().(*taking)
	t.begin(b, now.UnixMilli())
	n := uint64(0)
	for i := range b.Spans {
		if isNew != nil && (i >= len(isNew) || !isNew[i]) {
			continue
		}
		n++
		t.take(&b.Spans[i])
	}
	t.end()
	d.spans.Add(n)
	d.pool.Put(t)
}

// taking is one Take.
type taking struct {
	d    *Derive
	b    *span.Batch
	now  int64
	from []sender // by resource of the batch
	dims values   // of the span at hand
	call call
	held *shard // locked by the graph
}

// sender is a resource.
type sender struct {
	svc  *service
	dims values
}

func (t *taking) begin(b *span.Batch, now int64) {
	t.b, t.now = b, now
	for len(t.from) < len(b.Resources) {
		t.from = append(t.from, sender{})
	}
	for i := range b.Resources {
		t.from[i].svc = nil
	}
}

func (t *taking) end() {
	if t.held != nil {
		t.held.mu.Unlock()
		t.held = nil
	}
	t.b = nil
	for i := range t.from {
		t.from[i].svc = nil
	}
}

func (t *taking) take(s *span.Span) {
	d := t.d
	from := t.sender(s.Resource)
	c := &t.call
	*c = call{s: s, svc: from.svc, seconds: float64(s.Duration()) / 1e9, weight: 1, at: t.now}
	if d.cfg.Weigh {
		c.weight = weight(s.State)
	}
	t.dims.copy(&from.dims)
	t.lookAt(s, c)
	from.svc.observe(t, c)
	t.graph(c)
}

// sender returns what is known of a resource; spans that name none share one without
// a name.
func (t *taking) sender(i int) *sender {
	if i < 0 || i >= len(t.b.Resources) {
		i = len(t.b.Resources)
		for len(t.from) <= i {
			t.from = append(t.from, sender{})
		}
	}
	from := &t.from[i]
	if from.svc != nil {
		return from
	}
	from.dims.reset(len(t.d.labels))
	name := ""
	if i < len(t.b.Resources) {
		name = t.b.Resources[i].Service
		for j := range t.b.Resources[i].Attrs {
			a := &t.b.Resources[i].Attrs[j]
			if role, ok := t.d.wanted.role(a.Key); ok && role.dim > 0 {
				from.dims.set(role.dim-1, a.Value, t.d.cfg.MaxNameLength)
			}
		}
	}
	from.svc = t.d.service(name)
	return from
}

// Open reads the checkpoint and takes the spans that came after it once more. Where
// there is none, counting begins at the store's present position.
func (d *Derive) Open(ctx context.Context) error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	position, found, err := d.load()
	if err != nil {
		return err
	}
	if found && d.deps.Replay != nil {
		before := d.spans.Load()
		err := d.deps.Replay(ctx, position, func(b *span.Batch) { d.Take(b, nil, d.deps.Now()) })
		if err != nil {
			return fmt.Errorf("derive metrics of the spans stored after position %d: %w", position, err)
		}
		d.metrics.replayed.Add(float64(d.spans.Load() - before))
	}
	d.opened = true
	return d.checkpoint()
}

// Run flushes every interval until ctx ends, and once more then.
func (d *Derive) Run(ctx context.Context) error {
	tick := time.NewTicker(d.cfg.Interval.Std())
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			d.flushAndTell(ctx)
		case <-ctx.Done():
			last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastFlush)
			defer cancel()
			d.flushAndTell(last)
			return nil
		}
	}
}

// lastFlush bounds how long a shutdown waits for a store that does not answer.
const lastFlush = 10 * time.Second

func (d *Derive) flushAndTell(ctx context.Context) {
	if err := d.Flush(ctx); err != nil {
		d.deps.Log.Warn("derived series not written", "err", err)
	}
}

// Flush ends what has waited or been idle for too long, writes a checkpoint, then a
// sample of every series, then the links of minutes that are over. It is safe to call
// beside Run. An error leaves all totals for the next flush.
func (d *Derive) Flush(ctx context.Context) error {
	d.flushing.Lock()
	defer d.flushing.Unlock()
	begin := time.Now()
	err := d.flush(ctx)
	d.status.tell(d.deps.Now(), time.Since(begin), err)
	d.metrics.flushSeconds.Set(time.Since(begin).Seconds())
	if err != nil {
		d.metrics.flushFailures.Inc()
	}
	return err
}

func (d *Derive) flush(ctx context.Context) error {
	if !d.opened {
		return errors.New("flush derived series: not opened")
	}
	now := d.deps.Now()
	d.graph.expire(now.Add(-d.cfg.Graph.Wait.Std()).UnixMilli())
	d.links.turn(now)
	if err := d.checkpoint(); err != nil {
		return err
	}
	err := d.write(ctx)
	return errors.Join(err, d.deliver(ctx))
}

// deliver hands out the links of minutes that are over. Those that are not taken are
// kept for the next time. A minute is given again only after a crash between the
// giving and the checkpoint, which therefore follows at once.
func (d *Derive) deliver(ctx context.Context) error {
	if d.deps.Links == nil {
		d.links.drop()
		return nil
	}
	n, err := d.links.deliver(ctx, d.names, d.deps.Links)
	if n > 0 {
		err = errors.Join(err, d.checkpoint())
	}
	return err
}
