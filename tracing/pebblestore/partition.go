package pebblestore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/weir-dev/weir/tracing/internal/index"
	"github.com/weir-dev/weir/tracing/span"
)

// partition is what arrived in a stretch of time: a folder with a Pebble.
type partition struct {
	s     *Store
	name  string
	start time.Time // of arrival
	gen   int       // how often it was rewritten

	mu   sync.Mutex
	h    *handle // nil: not open
	gone error   // why it cannot be opened any more

	closed atomic.Uint64 // the last journal number; 0: it takes spans, or is being closed
	kept   atomic.Uint64 // age in seconds that the last rewriting applied
	bytes  atomic.Int64  // of the folder, when last measured
	drops  atomic.Int64  // traces dropped
	hurt   atomic.Pointer[error]

	segMu sync.RWMutex
	segs  []segment // by id
	lives []*live   // not sealed: the one being sealed, the one being filled

	opsMu sync.RWMutex
	ops   map[operation]struct{}
	calls struct{ any bool } // has calls of services, under opsMu
}

// live is the index of a segment in memory.
type live struct {
	b           *index.Builder
	spans       atomic.Uint64
	fragments   uint64 // these three under writing.order
	first, last uint64
	min, max    atomic.Uint64 // of the starts
	sealing     bool          // under partition.segMu
}

func (s *Store) newLive() *live {
	l := &live{b: index.NewBuilder(s.cfg.Index.index())}
	l.min.Store(^uint64(0))
	return l
}

// add takes spans of one trace, by one goroutine at a time.
func (l *live) add(id span.TraceID, b *span.Batch, spans []int) {
	lo, hi := l.min.Load(), l.max.Load()
	for _, i := range spans {
		lo, hi = min(lo, b.Spans[i].Start), max(hi, b.Spans[i].Start)
	}
	l.min.Store(lo)
	l.max.Store(hi)
	l.b.Add(id, b, spans)
	l.fragments++
	l.spans.Add(uint64(len(spans)))
}

// commit notes the number of the commit that the added spans came with.
func (l *live) commit(seq uint64) {
	if l.first == 0 {
		l.first = seq
	}
	l.last = seq
}

const (
	nameLayout = "20060102T150405Z"
	// Suffixes of folders that are not partitions.
	suffixDoomed      = ".tmp-for-deletion"
	suffixTmp         = ".tmp"
	suffixQuarantined = ".quarantined"
)

func partitionName(start time.Time, gen int) string {
	name := start.UTC().Format(nameLayout)
	if gen > 0 {
		name += fmt.Sprintf("-%d", gen)
	}
	return name
}

// parsePartitionName returns false for what is not a partition's folder.
func parsePartitionName(name string) (start time.Time, gen int, ok bool) {
	stem := name
	if len(name) > len(nameLayout) {
		stem = name[:len(nameLayout)]
		if n, err := fmt.Sscanf(name[len(nameLayout):], "-%d", &gen); n != 1 || err != nil {
			return start, 0, false
		}
	}
	start, err := time.Parse(nameLayout, stem)
	return start, gen, err == nil && partitionName(start, gen) == name
}

func (s *Store) newPartition(name string) *partition {
	start, gen, _ := parsePartitionName(name)
	return &partition{s: s, name: name, start: start, gen: gen, ops: map[operation]struct{}{}}
}

func (p *partition) path() string { return filepath.Join(p.s.cfg.Dir, p.name) }

var errGone = errors.New("partition is gone")

// acquire opens the partition if need be, for reading.
func (p *partition) acquire() (*handle, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone != nil {
		return nil, p.gone
	}
	if p.h == nil {
		h, err := p.s.openHandle(p, true)
		if err != nil {
			p.damage(err)
			return nil, err
		}
		p.h = h
	}
	p.h.refs++
	return p.h, nil
}

func (h *handle) release() {
	h.p.mu.Lock()
	h.refs--
	last := h.refs == 0 && h.retired
	h.p.mu.Unlock()
	if last {
		h.end()
	}
}

// end closes a handle that nobody has.
func (h *handle) end() {
	if err := h.close(); err != nil {
		h.p.s.log.Warn("span partition did not close well", "partition", h.p.name, "reason", err)
	}
	h.p.mu.Lock()
	gone := errors.Is(h.p.gone, errGone)
	if !gone && h.w != nil && h.broken() == nil {
		h.p.removeLogs()
	}
	h.p.mu.Unlock()
	if gone {
		h.p.remove()
	}
}

// removeLogs removes the logs of a closed partition, which are all in its tables.
// Pebble keeps them to be used again.
func (p *partition) removeLogs() {
	if p.closed.Load() == 0 {
		return
	}
	logs, _ := filepath.Glob(filepath.Join(p.path(), "*.log")) // the pattern is well formed
	for _, name := range logs {
		if err := os.Remove(name); err != nil {
			p.s.log.Warn("log of a closed span partition cannot be removed", "partition", p.name, "reason", err)
		}
	}
}

// retire takes the handle away from readers to come. It is closed when the last has
// let go of it.
func (p *partition) retire(next *handle) {
	p.mu.Lock()
	h := p.h
	p.h = next
	var last bool
	if h != nil {
		h.retired = true
		last = h.refs == 0
	}
	p.mu.Unlock()
	if last {
		h.end()
	}
}

// idle closes the handle if nobody has it and it only reads.
func (p *partition) idle() bool {
	p.mu.Lock()
	h := p.h
	if h == nil || h.refs > 0 || h.w != nil {
		p.mu.Unlock()
		return false
	}
	p.h = nil
	h.retired = true
	p.mu.Unlock()
	h.end()
	return true
}

// drop makes the partition vanish: for readers to come at once, and from the disk
// when those at work are done.
func (p *partition) drop() {
	p.mu.Lock()
	was, open := p.gone, p.h != nil
	p.gone = errGone
	p.mu.Unlock()
	switch {
	case was != nil:
	case open:
		p.retire(nil)
	default:
		p.remove()
	}
}

// remove renames first, so that half a partition is never opened.
func (p *partition) remove() {
	doomed := p.path() + suffixDoomed
	err := os.Rename(p.path(), doomed)
	if err == nil {
		err = os.RemoveAll(doomed)
	}
	if err != nil {
		p.s.log.Error("span partition cannot be removed", "partition", p.name, "reason", err)
	}
}

// damage notes that a part of the partition cannot be read.
func (p *partition) damage(err error) {
	if p.hurt.CompareAndSwap(nil, &err) {
		p.s.log.Error("span partition is damaged, what can be read is served", "partition", p.name, "reason", err)
	}
}

// load reads what is known of a partition without asking it.
func (p *partition) load(db *pebble.DB) error {
	version, err := get(db, metaFormat)
	if err != nil && !errors.Is(err, pebble.ErrNotFound) {
		return err
	}
	if err == nil && string(version) != formatVersion {
		return fmt.Errorf("format is %q, this Weir reads %q", version, formatVersion)
	}
	for key, to := range map[string]*atomic.Uint64{string(metaClosed): &p.closed, string(metaKept): &p.kept} {
		v, err := get(db, []byte(key))
		if err == nil {
			to.Store(number(append([]byte{0}, v...)))
		} else if !errors.Is(err, pebble.ErrNotFound) {
			return err
		}
	}
	var segs []segment
	err = each(db, ofKind(keySegment), func(key, value []byte) error {
		g, err := parseSegment(key, value)
		segs = append(segs, g)
		return err
	})
	if err != nil {
		return err
	}
	p.segMu.Lock()
	p.segs, p.lives = segs, nil
	p.segMu.Unlock()
	if err := p.loadNames(db); err != nil {
		return err
	}
	drops := int64(0)
	err = each(db, ofKind(keyDropped), func(_, _ []byte) error { drops++; return nil })
	p.drops.Store(drops)
	return err
}

func (p *partition) loadNames(db *pebble.DB) error {
	p.opsMu.Lock()
	defer p.opsMu.Unlock()
	clear(p.ops)
	err := each(db, ofKind(keyOperation), func(key, _ []byte) error {
		o, err := parseOperation(key)
		p.ops[o] = struct{}{}
		return err
	})
	if err != nil {
		return err
	}
	it, err := db.NewIter(ofKind(keyCalls))
	if err != nil {
		return err
	}
	p.calls.any = it.First()
	return it.Close()
}

// arrived is when its last span came, as far as known.
func (p *partition) arrived() time.Time {
	if last := p.closed.Load(); last > 0 {
		return time.Unix(0, int64(last))
	}
	return p.start.Add(p.s.cfg.Partition.Std())
}

// measure adds the files of the folder up.
func (p *partition) measure() int64 {
	var n int64
	entries, err := os.ReadDir(p.path())
	if err != nil {
		return p.bytes.Load()
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			n += info.Size()
		}
	}
	p.bytes.Store(n)
	return n
}
