package ingest

import (
	"context"
	"errors"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// heldBlock is what one request brought of a replica that is not elected: an
// acknowledged copy, in the journal too.
type heldBlock struct {
	proto protocol
	seq   uint64 // order of arrival over all replicas
	maxT  int64

	series     []heldSeries
	samples    []wire.Sample
	histograms []wire.Histogram
	exemplars  []exemplar.Exemplar
	labels     map[int]labels.Labels // of series that the store may not know when settled

	bytes   int64
	segment int // of the journal
}

// heldSeries says how many entries of the block's arrays, which stand in the
// order of the series, are one series'.
type heldSeries struct {
	id                             seriesID
	samples, histograms, exemplars uint32
}

// What a held thing occupies, for ingest.ha.hold_bytes: the array's element and
// for histograms and labels what they point to, by the sizes of their types.
const (
	heldBlockBytes     = 256
	heldSeriesBytes    = 16
	heldSampleBytes    = 24
	heldHistogramBytes = 32 + 240
	heldExemplarBytes  = 48
	heldLabelsBytes    = 64 // a map entry
)

func (blk *heldBlock) size() int64 {
	n := heldBlockBytes + heldSeriesBytes*len(blk.series) + heldSampleBytes*len(blk.samples) +
		heldExemplarBytes*len(blk.exemplars)
	for _, h := range blk.histograms {
		n += heldHistogramBytes
		if h.H != nil {
			n += 8*(len(h.H.PositiveSpans)+len(h.H.NegativeSpans)) +
				8*(len(h.H.PositiveBuckets)+len(h.H.NegativeBuckets)+len(h.H.CustomValues))
		} else {
			n += 8*(len(h.FH.PositiveSpans)+len(h.FH.NegativeSpans)) +
				8*(len(h.FH.PositiveBuckets)+len(h.FH.NegativeBuckets)+len(h.FH.CustomValues))
		}
	}
	for i := range blk.exemplars {
		n += labelBytes(blk.exemplars[i].Labels)
	}
	for _, ls := range blk.labels {
		n += heldLabelsBytes + labelBytes(ls)
	}
	return int64(n)
}

func labelBytes(ls labels.Labels) (n int) {
	ls.Range(func(l labels.Label) { n += len(l.Name) + len(l.Value) + 2 })
	return n
}

// hold takes the samples of r out of b: the journal has them when it returns
// nil. Otherwise b is as it was. The caller holds r's group.
func (w *writer) hold(ctx context.Context, b *batch, r *replica) error {
	saved := slices.Clone(b.tally)
	blk, from := w.gather(b, r)
	if len(blk.series) > 0 {
		if err := w.keep(ctx, r, blk, func(i int) labels.Labels { return w.labelsOf(b, from[i]) }); err != nil {
			b.tally = saved
			return err
		}
	}
	for i, to := range b.targets {
		if to.replica == r.id && to.id >= firstSeriesID {
			b.targets[i].id = idHeld
		}
	}
	return nil
}

// gather copies the samples of r that are neither faulty nor covered already.
// from says where the block's series stand in the request.
func (w *writer) gather(b *batch, r *replica) (blk *heldBlock, from []int) {
	blk = &heldBlock{proto: b.proto}
	for i, to := range b.targets {
		if to.replica != r.id || to.id < firstSeriesID {
			continue
		}
		s := w.series.at(to.id)
		if !w.wellFormed(b, i, s) {
			continue
		}
		if b.isDelta(i) { // what adds up must not be replayed later
			w.countSeries(b, i, s.cluster, deduplicated)
			continue
		}
		g := gathering{appending: appending{w: w, b: b, i: i, s: s, id: to.id, t: b.at(s.cluster)}, blk: blk}
		var sure bool // that the store knows the series when it is settled
		g.known, g.lastT, sure = s.peek(b.token)
		before := heldSeries{to.id, uint32(len(blk.samples)), uint32(len(blk.histograms)), uint32(len(blk.exemplars))}
		g.all(&b.req.Series[i])
		got := heldSeries{
			to.id, uint32(len(blk.samples)) - before.samples,
			uint32(len(blk.histograms)) - before.histograms, uint32(len(blk.exemplars)) - before.exemplars,
		}
		if got.samples+got.histograms == 0 {
			continue
		}
		if !sure || g.newest-g.lastT > 2*w.ha.failover {
			if blk.labels == nil {
				blk.labels = map[int]labels.Labels{}
			}
			blk.labels[len(blk.series)] = w.labelsOf(b, i)
		}
		blk.series = append(blk.series, got)
		from = append(from, i)
	}
	blk.bytes = blk.size()
	return blk, from
}

// peek returns the newest sample's time. sure says that the store knows the
// series. Neither is known while a batch is at it.
func (s *series) peek(token uint32) (known bool, lastT int64, sure bool) {
	if ok, fresh := s.claim(token); !ok || !fresh {
		return false, 0, false
	}
	known, lastT, sure = s.flags&hasLast != 0, s.lastT, s.ref != 0
	s.release(false)
	return known, lastT, sure && known
}

// gathering is one series' turn in gather.
type gathering struct {
	appending
	blk    *heldBlock
	known  bool // lastT is
	lastT  int64
	newest int64 // held
}

func (g *gathering) all(sr *wire.Series) {
	before := len(g.blk.samples) + len(g.blk.histograms)
	for _, s := range g.b.req.Samples[sr.Samples.Lo:sr.Samples.Hi] {
		if g.needed(kindFloat, s.T, nil, nil) {
			g.blk.samples = append(g.blk.samples, s)
		}
	}
	for _, s := range g.b.req.Histograms[sr.Histograms.Lo:sr.Histograms.Hi] {
		if g.needed(kindHistogram, s.T, s.H, s.FH) {
			g.blk.histograms = append(g.blk.histograms, s)
		}
	}
	if sr.Exemplars.Len() > 0 {
		g.exemplars(sr.Exemplars.Len(), len(g.blk.samples)+len(g.blk.histograms) > before)
	}
}

// exemplars holds the n exemplars of a series if one of its samples is held.
func (g *gathering) exemplars(n int, wait bool) {
	mine := g.b.src.exemplars(g.i, nil)
	if lost := n - len(mine); lost > 0 {
		g.refuse(kindExemplar, lost, exemplarRefused, 0, "label references outside of the symbol table or in odd number")
	}
	keep := slices.DeleteFunc(mine, func(e exemplar.Exemplar) bool { return e.Ts > g.b.maxT })
	if late := len(mine) - len(keep); late > 0 {
		g.refuse(kindExemplar, late, exemplarRefused, 0, "timestamp too far in the future")
	}
	if !wait {
		g.t.n[kindExemplar][deduplicated] += uint32(len(keep))
		return
	}
	g.t.n[kindExemplar][held] += uint32(len(keep))
	g.blk.exemplars = append(g.blk.exemplars, keep...)
}

// needed settles what need not wait, and books the rest as held.
func (g *gathering) needed(k kind, t int64, h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	if k == kindHistogram {
		if err := errors.Join(fitSchema(h, fh), validate(h, fh)); err != nil {
			g.refuse(k, 1, badHistogram, t, err.Error())
			return false
		}
	}
	switch {
	case t > g.b.maxT:
		g.refuse(k, 1, tooNew, t, "")
		return false
	case t < g.b.minT:
		g.refuse(k, 1, tooOld, t, "")
		return false
	case g.known && t <= g.lastT:
		g.t.n[k][deduplicated]++
		return false
	}
	g.t.n[k][held]++
	g.newest = max(g.newest, t)
	g.blk.maxT = max(g.blk.maxT, t)
	return true
}

func validate(h *histogram.Histogram, fh *histogram.FloatHistogram) error {
	if h != nil {
		return h.Validate()
	}
	return fh.Validate()
}

// keep makes room, writes blk to the journal and puts it into the buffer.
func (w *writer) keep(ctx context.Context, r *replica, blk *heldBlock, labelsOf func(i int) labels.Labels) error {
	p := w.ha
	for p.bytes.Load()+blk.bytes > p.budget {
		oldest := r.group.oldest()
		if oldest == nil {
			break // other clusters fill the buffer: settled below
		}
		first := oldest.blocks[0]
		if err := w.settleHeld(ctx, oldest, func(x *heldBlock) bool { return x == first }); err != nil {
			return err
		}
	}
	if p.journal != nil {
		if err := p.journal.write(r.group.cluster, r.name, r.group.encode(), blk, labelsOf); err != nil {
			return err
		}
	}
	w.insert(r, blk)
	if p.bytes.Load() > p.budget {
		// It is acknowledged by the journal already, so a failure may wait.
		w.settleGroup(ctx, r.group, func(x *heldBlock) bool { return x == blk })
	}
	return nil
}

// oldest returns the replica that holds the block that arrived first.
func (g *group) oldest() (found *replica) {
	for _, r := range g.replicas {
		if len(r.blocks) > 0 && (found == nil || r.blocks[0].seq < found.blocks[0].seq) {
			found = r
		}
	}
	return found
}

func (w *writer) insert(r *replica, blk *heldBlock) {
	blk.seq = w.ha.seq.Add(1)
	for _, hs := range blk.series {
		w.series.at(hs.id).pins.Add(1)
	}
	r.blocks = append(r.blocks, blk)
	r.bytes += blk.bytes
	r.samples += len(blk.samples) + len(blk.histograms)
	w.ha.bytes.Add(blk.bytes)
}

// strayBlocks is how many blocks that are not due settleHeld passes over before
// it gives up: blocks come nearly in the order of time, and one with an odd
// sample must not keep back the others, nor cost a walk over thousands.
const strayBlocks = 64

// settleHeld settles the due blocks of r, oldest first. The caller holds r's
// group and no claim.
func (w *writer) settleHeld(ctx context.Context, r *replica, due func(*heldBlock) bool) (err error) {
	i, kept := 0, 0
	for ; i < len(r.blocks) && kept < strayBlocks; i++ {
		blk := r.blocks[i]
		if !due(blk) {
			r.blocks[kept] = blk
			kept++
		} else if err = w.settleBlock(ctx, r, blk); err != nil {
			break
		}
	}
	r.blocks = slices.Delete(r.blocks, kept, i)
	return err
}

// settleBlock sends a block through the rounds of an ordinary batch: what its
// series have no sample for is appended, the rest is deduplicated. When it
// fails, blk holds what is not settled.
func (w *writer) settleBlock(ctx context.Context, r *replica, blk *heldBlock) error {
	for idle := 0; len(blk.series) > 0; {
		left := len(blk.samples) + len(blk.histograms)
		if err := w.settleRound(ctx, r, blk); err != nil {
			return err
		}
		if len(blk.samples)+len(blk.histograms) < left {
			idle = 0
		} else if err := w.pause(ctx, &idle); err != nil {
			return err
		}
	}
	if w.ha.journal != nil {
		w.ha.journal.done(blk.segment)
	}
	return nil
}

// settleRound settles all of blk but the series that other batches have claimed
// and what must wait for a commit. When it fails, it has done nothing.
func (w *writer) settleRound(ctx context.Context, r *replica, blk *heldBlock) error {
	b := w.ha.batches.get(blk.proto)
	defer w.ha.batches.put(b)
	w.load(b, r, blk)
	w.round(w.store.AppenderV2(ctx), b, nil)
	if b.failed != nil {
		return b.failed
	}
	w.rebook(b, r)
	w.shrink(r, blk, b)
	if b.say.any {
		w.ha.log.Warn("held samples refused", "cluster", r.group.cluster, "replica", r.name,
			"why", b.say.text(func(o outcome) int { return b.total(kindFloat, o) + b.total(kindHistogram, o) }))
	}
	return nil
}

// load makes a batch of a block.
func (w *writer) load(b *batch, r *replica, blk *heldBlock) {
	for b.token = w.tokens.Add(1); b.token == 0; b.token = w.tokens.Add(1) {
	}
	b.minT, b.maxT = math.MinInt64, math.MaxInt64 // checked when it came
	src := &heldSource{w: w, blk: blk}
	b.src = src
	b.req.Samples = append(b.req.Samples, blk.samples...)
	b.req.Histograms = append(b.req.Histograms, blk.histograms...)
	var at [3]uint32
	for _, hs := range blk.series {
		to := [3]uint32{at[0] + hs.samples, at[1] + hs.histograms, at[2] + hs.exemplars}
		b.req.Series = append(b.req.Series, wire.Series{
			Samples:    wire.Range{Lo: at[0], Hi: to[0]},
			Histograms: wire.Range{Lo: at[1], Hi: to[1]},
			Exemplars:  wire.Range{Lo: at[2], Hi: to[2]},
		})
		b.targets = append(b.targets, target{hs.id, r.id})
		b.keys = append(b.keys, key{})
		src.exemplarsAt = append(src.exemplarsAt, wire.Range{Lo: at[2], Hi: to[2]})
		at = to
	}
	for i, ls := range blk.labels {
		b.keepLabels(i, ls)
	}
}

// rebook moves what a round has settled from held to its end.
func (w *writer) rebook(b *batch, r *replica) {
	for i := range b.tally {
		t := &b.tally[i]
		book := w.ledger.book(t.cluster)
		for k := range t.n {
			for o, n := range t.n[k] {
				if n == 0 {
					continue
				}
				book.n[b.proto][k][o].Add(int64(n))
				book.n[b.proto][k][held].Add(-int64(n))
			}
			if kind(k) != kindExemplar {
				r.filled += uint64(t.n[k][stored])
			}
		}
	}
}

// shrink leaves of blk what the round of b has left to do.
func (w *writer) shrink(r *replica, blk *heldBlock, b *batch) {
	next := heldBlock{proto: blk.proto, seq: blk.seq, maxT: blk.maxT, segment: blk.segment}
	todo := b.todo // in the order of the series
	var e uint32
	for i, hs := range blk.series {
		from := e
		e += hs.exemplars
		if len(todo) == 0 || todo[0] != uint32(i) {
			w.series.at(hs.id).pins.Add(-1)
			continue
		}
		todo = todo[1:]
		sr := &b.req.Series[i]
		if ls, ok := blk.labels[i]; ok {
			if next.labels == nil {
				next.labels = map[int]labels.Labels{}
			}
			next.labels[len(next.series)] = ls
		}
		hs.samples, hs.histograms = uint32(sr.Samples.Len()), uint32(sr.Histograms.Len())
		next.samples = append(next.samples, b.req.Samples[sr.Samples.Lo:sr.Samples.Hi]...)
		next.histograms = append(next.histograms, b.req.Histograms[sr.Histograms.Lo:sr.Histograms.Hi]...)
		if hs.exemplars = uint32(sr.Exemplars.Len()); hs.exemplars > 0 {
			next.exemplars = append(next.exemplars, blk.exemplars[from:e]...)
		}
		next.series = append(next.series, hs)
	}
	if len(next.series) > 0 {
		next.bytes = next.size()
	}
	r.bytes += next.bytes - blk.bytes
	r.samples += len(next.samples) + len(next.histograms) - len(blk.samples) - len(blk.histograms)
	w.ha.bytes.Add(next.bytes - blk.bytes)
	*blk = next
}

// heldSource is the source of a batch made of a block.
type heldSource struct {
	w           *writer
	blk         *heldBlock
	exemplarsAt []wire.Range
	journaled   map[seriesID]labels.Labels // nil until asked
}

var errHeld = errors.New("labels of a held series are not kept")

func (*heldSource) labels(int, func(name, value string)) error { return errHeld }

func (*heldSource) metadata(int) (metadata.Metadata, bool) { return metadata.Metadata{}, false }

func (s *heldSource) exemplars(i int, dst []exemplar.Exemplar) []exemplar.Exemplar {
	at := s.exemplarsAt[i]
	return append(dst, s.blk.exemplars[at.Lo:at.Hi]...)
}

// final returns the labels of a series that the store has dropped although it
// knew it when the block came: from the journal, for it is rare.
func (s *heldSource) final(i int) labels.Labels {
	if s.journaled == nil && s.w.ha.journal != nil {
		s.journaled = s.w.ha.journal.labels(s.blk)
	}
	return s.journaled[s.blk.series[i].id]
}
