package ingest

import (
	"math"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// source reads from a request what only an unknown series needs.
type source interface {
	// labels calls add for every label of series i as the sender wrote it:
	// unsorted, unchecked. The strings are valid during the call only. An error
	// that wraps wire.ErrMalformed spoils the request, any other the series.
	labels(i int, add func(name, value string)) error
	// metadata returns what the request says of series i's metric family.
	metadata(i int) (metadata.Metadata, bool)
	// exemplars appends the exemplars of series i to dst; what it returns is
	// kept by the store.
	exemplars(i int, dst []exemplar.Exemplar) []exemplar.Exemplar
}

// batch is one request on its way through. It is pooled; nothing in it outlives
// [writer.write].
type batch struct {
	proto protocol
	req   wire.Request // series, samples, histograms; of OTLP too
	keys  []key        // one a series
	src   source

	token   uint32
	targets []target            // one a series
	fresh   []labels.Labels     // final labels of series that were looked at; empty if none was
	claimed []seriesID          // to be released at the end of the round
	todo    []uint32            // series that the next round must try
	log     []logged            // what this round has appended
	index   map[sampleID]logged // log by sample; nil until an old sample asks
	indexed int                 // entries of log that index holds
	verdict []verdict           // HA: one a replica met

	tally  []tally
	minT   int64
	maxT   int64
	failed error // why the store did not take the round
	say    complaint

	symbols   []key
	pairs     []pair
	scratch   labels.ScratchBuilder
	exemplars []exemplar.Exemplar
	canonical []byte
}

// logged is a sample that this round has appended and not committed.
type logged struct {
	id   seriesID
	t    int64
	bits uint64
	h    *histogram.Histogram
	fh   *histogram.FloatHistogram
}

type sampleID struct {
	id seriesID
	t  int64
}

// same compares a received sample with a logged one.
func (b *batch) same(e logged, k kind, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) bool {
	return sameSample(k, v, h, fh, math.Float64frombits(e.bits), e.h, e.fh)
}

// tally counts one cluster's outcomes in a batch.
type tally struct {
	cluster clusterID
	n       [numKinds][numOutcomes]uint32
	pending [numKinds]uint32 // stored, if the round commits
}

// maxPooled bounds what an idle batch keeps: the largest request that
// Prometheus' defaults make (2,000 series, 14 labels) needs 0.4 MiB.
const maxPooled = 4 << 20

type batchPool struct{ sync.Pool }

func (p *batchPool) get(proto protocol) *batch {
	b, ok := p.Get().(*batch)
	if !ok {
		b = &batch{}
	}
	b.proto = proto
	return b
}

func (p *batchPool) put(b *batch) {
	b.reset()
	if b.req.Size()+cap(b.keys)*16+cap(b.targets)*8+cap(b.symbols)*16+cap(b.fresh)*16 <= maxPooled {
		p.Put(b)
	}
}

func (b *batch) reset() {
	b.req.Reset()
	b.src = nil
	b.keys, b.targets, b.claimed = b.keys[:0], b.targets[:0], b.claimed[:0]
	b.todo, b.verdict, b.tally = b.todo[:0], b.verdict[:0], b.tally[:0]
	clear(b.fresh)
	b.fresh, b.failed = b.fresh[:0], nil
	b.resetRound()
	b.say = complaint{}
	clear(b.exemplars[:cap(b.exemplars)])
	b.exemplars = b.exemplars[:0]
}

// keepLabels remembers the final labels of series i for its first append.
func (b *batch) keepLabels(i int, ls labels.Labels) {
	if len(b.fresh) == 0 {
		b.fresh = slices.Grow(b.fresh, len(b.targets))[:len(b.targets)]
	}
	b.fresh[i] = ls
}

// resetRound forgets what the last round appended.
func (b *batch) resetRound() {
	clear(b.log) // pointers to histograms
	b.log, b.index, b.indexed = b.log[:0], nil, 0
	b.exemplars = b.exemplars[:0]
}

// count books n samples of a cluster.
func (b *batch) count(c clusterID, k kind, o outcome, n int) {
	b.at(c).n[k][o] += uint32(n)
}

// at returns the tally of a cluster; requests with many clusters are rare.
func (b *batch) at(c clusterID) *tally {
	for i := range b.tally {
		if b.tally[i].cluster == c {
			return &b.tally[i]
		}
	}
	b.tally = append(b.tally, tally{cluster: c})
	return &b.tally[len(b.tally)-1]
}

// settle turns this round's appended samples into outcome o.
func (b *batch) settle(o outcome) {
	for i := range b.tally {
		t := &b.tally[i]
		for k := range t.pending {
			t.n[k][o] += t.pending[k]
			t.pending[k] = 0
		}
	}
}

// total returns how many of k found outcome o.
func (b *batch) total(k kind, o outcome) (n int) {
	for i := range b.tally {
		n += int(b.tally[i].n[k][o])
	}
	return n
}

// accepted returns how many of k count as written for the sender: all that
// Weir answers for, whatever it made of them.
func (b *batch) accepted(k kind) int {
	n := 0
	for _, o := range []outcome{stored, duplicate, deduplicated, dropped, held} {
		n += b.total(k, o)
	}
	return n
}

// flush enters the tallies into the ledger.
func (b *batch) flush(l *ledger) {
	for i := range b.tally {
		t := &b.tally[i]
		book := l.book(t.cluster)
		for k := range t.n {
			for o, n := range t.n[k] {
				if n != 0 {
					book.n[b.proto][k][o].Add(int64(n))
				}
			}
		}
	}
}

// sizes returns how many of each kind the request holds.
func (b *batch) sizes() (n [numKinds]int) {
	return [numKinds]int{len(b.req.Samples), len(b.req.Histograms), len(b.req.Exemplars)}
}

// refuseAll books every sample of the request under one reason.
func (b *batch) refuseAll(o outcome) {
	for k, n := range b.sizes() {
		if n > 0 {
			b.count(0, kind(k), o, n)
		}
	}
}
