package ingest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/encoding"
)

// openPairs reads the journal back, once, when the store is ready: elections,
// clocks, and what was held. It fails when the journal cannot be written.
func (w *writer) openPairs(ctx context.Context) error {
	p := w.ha
	if p.open.Load() {
		return nil
	}
	p.opening.Lock()
	defer p.opening.Unlock()
	if p.open.Load() {
		return nil
	}
	if p.journal != nil {
		w.limits.seal()
		app := w.store.AppenderV2(ctx)
		if _, ok := app.(storage.GetRef); !ok {
			return errors.Join(errors.New("read journal of held samples: the store refuses writes"), app.Rollback())
		}
		b := p.batches.get(protoV1)
		defer p.batches.put(b)
		for b.token = w.tokens.Add(1); b.token == 0; b.token = w.tokens.Add(1) {
		}
		n := 0
		err := p.journal.begin(w.restoreState, func(j *journaled) bool {
			kept := w.restoreBlock(app, b, j)
			n += kept
			return kept > 0
		})
		if err = errors.Join(err, app.Rollback()); err != nil {
			return err
		}
		p.log.Info("held samples read back", "samples", n, "bytes", p.bytes.Load())
	}
	p.open.Store(true)
	return nil
}

// restoreBlock holds a block again, less what the store has anything newer of,
// and returns how many samples that is. They count as received anew, because
// the ledger starts at zero with the process.
func (w *writer) restoreBlock(app storage.AppenderV2, b *batch, j *journaled) (kept int) {
	id, err := w.ha.replica(j.cluster, j.replica)
	if err != nil || j.replica == "" {
		return 0
	}
	blk := &heldBlock{proto: j.proto, segment: j.segment, labels: map[int]labels.Labels{}}
	for _, js := range j.series {
		to, err := w.settleIn(app, b, identity{labels: js.labels, cluster: j.cluster, replica: j.replica})
		if err != nil || js.labels.IsEmpty() {
			w.ha.log.Warn("held series not read back", "series", js.labels.String(), "err", err)
			continue
		}
		s := w.series.at(to.id)
		known, lastT, _ := s.peek(b.token)
		hs := heldSeries{id: to.id}
		for _, x := range js.samples {
			if !known || x.T > lastT {
				blk.samples, blk.maxT = append(blk.samples, x), max(blk.maxT, x.T)
				hs.samples++
			}
		}
		for _, x := range js.histograms {
			if !known || x.T > lastT {
				blk.histograms, blk.maxT = append(blk.histograms, x), max(blk.maxT, x.T)
				hs.histograms++
			}
		}
		if hs.samples+hs.histograms == 0 {
			continue
		}
		hs.exemplars = uint32(len(js.exemplars))
		blk.exemplars = append(blk.exemplars, js.exemplars...)
		// The segment describes series by the numbers of another process.
		blk.labels[len(blk.series)] = js.labels
		blk.series = append(blk.series, hs)
		book := w.ledger.book(s.cluster)
		for k, n := range [numKinds]uint32{hs.samples, hs.histograms, hs.exemplars} {
			w.ledger.received[j.proto][k].Add(uint64(n))
			book.n[j.proto][k][held].Add(int64(n))
		}
		kept += int(hs.samples + hs.histograms)
	}
	if kept > 0 {
		blk.bytes = blk.size()
		r := w.ha.at(id)
		r.group.mu.Lock()
		w.insert(r, blk)
		r.group.mu.Unlock()
	}
	return kept
}

// encode returns g's state as a journal record. The caller holds g.mu.
func (g *group) encode() []byte {
	e := encoding.Encbuf{}
	e.PutByte(recordState)
	e.PutUvarintStr(g.cluster)
	name := ""
	if g.elected != nil {
		name = g.elected.name
	}
	e.PutUvarintStr(name)
	e.PutBE64int64(g.since.UnixMilli())
	e.PutUvarint64(g.takeovers)
	e.PutUvarint(len(g.replicas))
	for _, r := range g.replicas {
		e.PutUvarintStr(r.name)
		e.PutBE64int64(r.clock)
	}
	return e.Get()
}

// restoreState takes a state record over and returns its cluster.
func (w *writer) restoreState(rec []byte) (cluster string) {
	d := encoding.Decbuf{B: rec[1:]}
	cluster = strings.Clone(d.UvarintStr())
	elected := strings.Clone(d.UvarintStr())
	since, takeovers := d.Be64int64(), d.Uvarint64()
	for n := d.Uvarint(); n > 0 && d.Err() == nil; n-- {
		name := strings.Clone(d.UvarintStr())
		clock := d.Be64int64()
		id, err := w.ha.replica(cluster, name)
		if err != nil || d.Err() != nil {
			break
		}
		r := w.ha.at(id)
		r.group.mu.Lock()
		r.clock = max(r.clock, clock)
		if name == elected {
			r.group.elected, r.group.since = r, time.UnixMilli(since)
			r.group.electedID.Store(uint32(id))
			r.group.takeovers = takeovers
		}
		r.group.mu.Unlock()
	}
	if err := d.Err(); err != nil {
		w.ha.log.Warn("state of an HA pair is not readable", "cluster", cluster, "err", fmt.Errorf("%d bytes: %w", len(rec), err))
	}
	return cluster
}

// closePairs notes the clocks and closes the journal; what is held stays in it.
func (w *writer) closePairs() error {
	if w.ha.journal == nil || !w.ha.open.Load() {
		return nil
	}
	for _, g := range w.ha.all() {
		g.mu.Lock()
		w.saveState(g)
		g.mu.Unlock()
	}
	return w.ha.journal.close()
}

// sorted returns the groups by cluster.
func (p *pairs) sorted() []*group {
	gs := p.all()
	slices.SortFunc(gs, func(a, b *group) int { return strings.Compare(a.cluster, b.cluster) })
	return gs
}
