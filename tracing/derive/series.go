package derive

import (
	"hash/maphash"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/tracing/span"
)

// service is one service.name with its series.
type service struct {
	d      *Derive
	name   string
	node   nodeID
	folded prometheus.Counter

	mu    sync.RWMutex
	sets  map[uint64]*series // by hash, chained by next
	count int                // of label sets, what was folded left out

	foldedSpans atomic.Uint64
}

// series is the calls of one label set.
type series struct {
	name   string
	kind   span.Kind
	status span.Status
	dims   []string
	next   *series

	mu    sync.Mutex
	gone  bool // no longer in its service
	bound bool // counted against the bounds
	total redTotals
	born  int64 // Unix milliseconds; what counts begin at
	last  int64 // of the newest span's arrival

	// Of the flush alone.
	shown  redTotals
	seenAt int64 // last
	out    output
}

// redTotals is what is counted.
type redTotals struct {
	calls, bytes float64
	latency      hist
}

// output is how a label set or edge is known to the sample store.
type output struct {
	announced bool // a sample was written, or may have been
	ending    bool // idle: a stale marker is due
	refs      []storage.SeriesRef
}

// service returns that of a name, which is borrowed. Beyond the bound all share one.
func (d *Derive) service(name string) *service {
	if name = clean(name, d.cfg.MaxNameLength); name == "" {
		name = noService
	}
	d.mu.RLock()
	svc := d.services[name]
	d.mu.RUnlock()
	if svc != nil {
		return svc
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if svc := d.services[name]; svc != nil {
		return svc
	}
	if len(d.services) >= d.cfg.MaxServices && name != other {
		if svc := d.services[other]; svc != nil {
			return svc
		}
		name = other
	}
	name = strings.Clone(name)
	svc = &service{
		d: d, name: name, node: d.names.number(name, false),
		folded: d.metrics.folded.WithLabelValues(name), sets: make(map[uint64]*series),
	}
	d.services[name] = svc
	return svc
}

// observe counts a span in its series.
func (svc *service) observe(t *taking, c *call) {
	d, s := svc.d, c.s
	name := clean(s.Name, d.cfg.MaxNameLength)
	kind, status := s.Kind, s.Status
	if kind > span.KindConsumer {
		kind = span.KindUnspecified
	}
	if status > span.StatusError {
		status = span.StatusUnset
	}
	for {
		x, folded := svc.series(name, kind, status, &t.dims, t.now)
		x.mu.Lock()
		if x.gone { // it ended between the two locks
			x.mu.Unlock()
			continue
		}
		x.last = t.now
		x.total.calls += c.weight
		if d.cfg.Size {
			x.total.bytes += c.weight * float64(size(s))
		}
		x.total.latency.observe(d.cfg.Buckets, c.seconds, c.weight, s.TraceID, s.ID, t.now)
		x.mu.Unlock()
		if folded {
			svc.folded.Inc()
			svc.foldedSpans.Add(1)
		}
		return
	}
}

// series returns that of a label set, and whether it had to be folded.
func (svc *service) series(name string, kind span.Kind, status span.Status, dims *values, now int64) (_ *series, folded bool) {
	h := svc.hash(name, kind, status, dims)
	svc.mu.RLock()
	x := svc.find(h, name, kind, status, dims)
	svc.mu.RUnlock()
	if x != nil {
		return x, false
	}
	svc.mu.Lock()
	defer svc.mu.Unlock()
	if x := svc.find(h, name, kind, status, dims); x != nil {
		return x, false
	}
	d := svc.d
	if svc.count < d.cfg.MaxSeriesPerService && d.sets.Load() < int64(d.cfg.MaxSeries) {
		svc.count++
		d.sets.Add(1)
		x := svc.add(h, name, kind, status, dims, now)
		x.bound = true
		return x, false
	}
	// What is folded keeps kind and status: 18 sets a service at most.
	none := values{at: make([]piece, len(d.labels))}
	h = svc.hash(other, kind, status, &none)
	if x := svc.find(h, other, kind, status, &none); x != nil {
		return x, true
	}
	return svc.add(h, other, kind, status, &none, now), true
}

func (svc *service) hash(name string, kind span.Kind, status span.Status, dims *values) uint64 {
	h := maphash.String(svc.d.seed, name) + uint64(kind)<<2 + uint64(status)
	for i := range dims.at {
		h = (h ^ maphash.Bytes(svc.d.seed, dims.get(i))) * 0x9E3779B97F4A7C15
	}
	return h
}

func (svc *service) find(h uint64, name string, kind span.Kind, status span.Status, dims *values) *series {
next:
	for x := svc.sets[h]; x != nil; x = x.next {
		if x.name != name || x.kind != kind || x.status != status {
			continue
		}
		for i, v := range x.dims {
			if v != string(dims.get(i)) {
				continue next
			}
		}
		return x
	}
	return nil
}

func (svc *service) add(h uint64, name string, kind span.Kind, status span.Status, dims *values, now int64) *series {
	x := &series{
		name: strings.Clone(name), kind: kind, status: status, born: now, last: now, next: svc.sets[h],
		total: redTotals{latency: newHist(svc.d.cfg.Buckets, svc.d.cfg.Exemplars)},
	}
	for i := range dims.at {
		x.dims = append(x.dims, string(dims.get(i)))
	}
	svc.sets[h] = x
	return x
}

// each calls f with all series of the service.
func (svc *service) each(f func(*series)) {
	svc.mu.RLock()
	defer svc.mu.RUnlock()
	for _, x := range svc.sets {
		for ; x != nil; x = x.next {
			f(x)
		}
	}
}

// end takes series out that were idle; a span that comes now begins anew.
func (svc *service) end(idleSince int64) {
	svc.mu.Lock()
	defer svc.mu.Unlock()
	for h, x := range svc.sets {
		var keep *series
		for x != nil {
			next := x.next
			x.mu.Lock()
			if x.out.ending && x.last < idleSince {
				x.gone = true
				if x.bound {
					svc.count--
					svc.d.sets.Add(-1)
				}
			} else {
				x.out.ending = false
				x.next, keep = keep, x
			}
			x.mu.Unlock()
			x = next
		}
		if keep == nil {
			delete(svc.sets, h)
		} else {
			svc.sets[h] = keep
		}
	}
}
