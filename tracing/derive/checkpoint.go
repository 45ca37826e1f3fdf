package derive

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// frozen is all totals at one position of the store. Series and edges hold theirs in
// shown.
type frozen struct {
	position uint64
	at       int64 // Unix milliseconds of the samples to come
	services []frozenService
	edges    []*edge
	halves   []half
	minutes  []minute
	names    []string
}

type frozenService struct {
	svc  *service
	sets []*series
}

// checkpoint copies all totals and makes them durable.
func (d *Derive) checkpoint() error {
	f := &d.status.frozen
	d.freeze(f)
	// In the order of arrival, whatever the shards of the next process.
	slices.SortFunc(f.halves, func(a, b half) int { return cmp.Compare(a.born, b.born) })
	data := f.encode(d)
	f.halves = nil
	d.metrics.checkpointBytes.Set(float64(len(data)))
	if err := save(d.deps.Dir, data); err != nil {
		return fmt.Errorf("save derived totals (%d bytes) to %s: %w", len(data), d.deps.Dir, err)
	}
	d.status.position = f.position
	return nil
}

// freeze copies totals while no span is between the store and Take.
func (d *Derive) freeze(f *frozen) {
	f.at = max(d.deps.Now().UnixMilli(), d.wroteAt)
	idle := int64(math.MinInt64)
	if d.cfg.Idle > 0 {
		idle = f.at - d.cfg.Idle.Std().Milliseconds()
	}
	if d.deps.Position != nil {
		d.gate.Lock()
		defer d.gate.Unlock()
		f.position = d.deps.Position()
	}
	f.services = f.services[:0]
	d.mu.RLock()
	for _, svc := range d.services {
		fs := frozenService{svc: svc}
		svc.each(func(x *series) {
			x.freeze(idle)
			fs.sets = append(fs.sets, x)
		})
		if len(fs.sets) > 0 {
			f.services = append(f.services, fs)
		}
	}
	d.mu.RUnlock()
	f.edges = d.graph.list()
	for _, e := range f.edges {
		e.freeze(idle)
	}
	for i := range d.graph.shards {
		sh := &d.graph.shards[i]
		sh.mu.Lock()
		for at := sh.waiting.oldest; at != 0; at = sh.waiting.slots[at].newer {
			f.halves = append(f.halves, sh.waiting.slots[at])
		}
		sh.mu.Unlock()
	}
	f.minutes = d.links.copies()
	f.names = d.names.all()
}

func (x *series) freeze(idleSince int64) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.seenAt, x.out.ending = x.last, x.last < idleSince
	x.shown.calls, x.shown.bytes = x.total.calls, x.total.bytes
	x.shown.latency.copyFrom(&x.total.latency)
}

func (e *edge) freeze(idleSince int64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.seenAt, e.out.ending = e.last, e.last < idleSince
	e.shown.calls, e.shown.failed = e.total.calls, e.total.failed
	e.shown.server.copyFrom(&e.total.server)
	e.shown.client.copyFrom(&e.total.client)
}

const fileName = "derived.bin"

// save replaces the file: it is the old one or the new one after a crash.
func save(dir string, data []byte) (err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	path := filepath.Join(dir, fileName)
	f, err := os.Create(path + ".new")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(path+".new"))
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(parent.Sync(), parent.Close())
}

// load reads the file into an empty Derive. A file that cannot be read is laid aside,
// for spans are worth more than totals: counting then begins anew.
func (d *Derive) load() (position uint64, found bool, err error) {
	path := filepath.Join(d.deps.Dir, fileName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("load derived totals: %w", err)
	}
	position, err = d.decode(data)
	if err == nil {
		return position, true, nil
	}
	d.deps.Log.Error("derived totals are unreadable, counting begins anew", "file", path, "err", err)
	d.forget()
	if err := os.Rename(path, path+".unreadable"); err != nil {
		return 0, false, fmt.Errorf("lay derived totals aside: %w", err)
	}
	return 0, false, nil
}

func (d *Derive) forget() {
	clear(d.services)
	d.sets.Store(0)
	d.names = newNames(d.cfg.MaxServices)
	d.graph = newGraph(d)
	d.links = newLinks(d.cfg.Graph.MaxEdges)
	d.wroteAt = 0
}
