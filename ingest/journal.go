package ingest

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"sync"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/encoding"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// journal keeps held samples and elections over a kill: Prometheus' write-ahead
// log with Prometheus' records, and two of our own.
//
//	segment: state*  ( [state] head series* samples* histograms* exemplars* )*
//
// Every segment starts with the state of all clusters and describes the series
// that it speaks of, by seriesID, so older segments can be deleted when all
// their blocks are settled. That a block is settled is not written down:
// the store has what was appended, so settling again changes nothing.
//
// As with the store's own log, a record is safe from a kill when written, and
// from a power failure when the operating system has written it out.
type journal struct {
	dir string
	log *slog.Logger

	mu        sync.Mutex
	wl        *wlog.WL // nil before open and after close
	torn      bool     // the last write failed: go on in a new segment
	first     int      // oldest segment
	segment   int      // written to
	written   int      // bytes since it began, uncompressed
	described map[seriesID]struct{}
	states    map[string][]byte
	live      map[int]int // blocks not settled, by the segment they began in
}

const (
	// journalSegment is the size at which the log starts a segment by itself,
	// which must not happen inside of a block; rotateAt is where we do. A pair
	// with 100,000 series takes 20 MiB for their labels a segment, so smaller
	// segments would mostly repeat labels. Unmeasured beyond that arithmetic.
	journalSegment = 128 << 20
	rotateAt       = 64 << 20
)

// Types of our records; Prometheus counts from 1.
const (
	recordState byte = 200
	recordHead  byte = 201
)

func newJournal(dir string, log *slog.Logger) *journal {
	return &journal{
		dir: dir, log: log, described: map[seriesID]struct{}{},
		states: map[string][]byte{}, live: map[int]int{},
	}
}

// begin opens the log, reads back what is in it and starts a segment.
func (j *journal) begin(state func(rec []byte) (cluster string), block func(*journaled) (kept bool)) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	wl, err := wlog.NewSize(j.log, nil, j.dir, journalSegment, compression.Snappy)
	if err != nil {
		return fmt.Errorf("open journal of held samples (ingest.ha.dir: %s): %w", j.dir, err)
	}
	first, last, err := wlog.Segments(j.dir)
	if err != nil {
		return errors.Join(fmt.Errorf("open journal of held samples (ingest.ha.dir: %s): %w", j.dir, err), wl.Close())
	}
	j.wl, j.first, j.segment = wl, first, last
	for i := first; i < last; i++ {
		err := readSegment(wlog.SegmentName(j.dir, i), func(rec []byte) { j.states[state(rec)] = rec }, func(b *journaled) {
			b.segment = i
			if block(b) {
				j.live[i]++
			}
		})
		if err != nil {
			// A kill during a write tears the end, of which nothing was acknowledged.
			j.log.Warn("journal of held samples ends early", "segment", i, "err", err)
		}
	}
	return nil
}

// close writes nothing more.
func (j *journal) close() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wl == nil {
		return nil
	}
	err := j.wl.Close()
	j.wl = nil
	return err
}

// noteState writes who is elected in a cluster.
func (j *journal) noteState(cluster string, state []byte) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.states[cluster] = state
	if err := j.ready(); err != nil {
		return err
	}
	return j.put(state)
}

// write makes blk durable and sets its segment.
func (j *journal) write(cluster, replica string, state []byte, blk *heldBlock, labelsOf func(i int) labels.Labels) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.states[cluster] = state
	if err := j.ready(); err != nil {
		return fmt.Errorf("write journal of held samples (ingest.ha.dir: %s): %w", j.dir, err)
	}
	var unknown []record.RefSeries
	for i, hs := range blk.series {
		if _, ok := j.described[hs.id]; !ok {
			j.described[hs.id] = struct{}{}
			unknown = append(unknown, record.RefSeries{Ref: chunks.HeadSeriesRef(hs.id), Labels: labelsOf(i)})
		}
	}
	recs := append([][]byte{state, encodeHead(cluster, replica, blk.proto)}, encodeBlock(blk, unknown)...)
	segment, before := j.segment, j.written
	if err := j.put(recs...); err != nil {
		return fmt.Errorf("write journal of held samples (ingest.ha.dir: %s): %w", j.dir, err)
	}
	blk.segment = segment
	j.live[segment]++
	if j.written-before > journalSegment-rotateAt-journalSegment/8 {
		// Such a block may have crossed into a segment that lacks the states.
		j.torn = true
	}
	return nil
}

// ready starts a new segment if it is time for one.
func (j *journal) ready() error {
	if j.wl == nil {
		return errors.New("it is closed")
	}
	if j.torn || j.written > rotateAt || j.written == 0 && len(j.states) > 0 {
		return j.rotate()
	}
	return nil
}

func (j *journal) rotate() error {
	if j.torn || j.written > 0 {
		n, err := j.wl.NextSegment()
		if err != nil {
			return err
		}
		j.segment, j.written, j.torn = n, 0, false
		clear(j.described)
	}
	var recs [][]byte
	for _, state := range j.states {
		recs = append(recs, state)
	}
	return j.put(recs...)
}

// put writes records; after a failure the segment's end is torn.
func (j *journal) put(recs ...[]byte) error {
	for _, r := range recs {
		j.written += len(r) + 16
	}
	err := j.wl.Log(recs...)
	j.torn = j.torn || err != nil
	return err
}

// done says that one block of a segment is settled.
func (j *journal) done(segment int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.live[segment]--; j.live[segment] <= 0 {
		delete(j.live, segment)
	}
}

// forget says that numbers of series mean nothing any more.
func (j *journal) forget(ids map[seriesID]struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for id := range ids {
		delete(j.described, id)
	}
}

// needed returns the oldest segment with a block that is not settled.
func (j *journal) needed() int {
	oldest := j.segment
	for n := range j.live {
		oldest = min(oldest, n)
	}
	return oldest
}

// floor returns the segment whose older ones should be settled, so that the
// journal, and with it the time to read it back, stays near twice the buffer's
// bound plus two segments.
func (j *journal) floor(budget int64) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.segment - 1 - int(2*budget/rotateAt)
}

// shorten deletes the segments that nothing needs.
func (j *journal) shorten() {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.wl == nil {
		return
	}
	if len(j.live) == 0 && j.written > rotateAt/64 {
		if err := j.rotate(); err != nil {
			j.log.Warn("journal of held samples not shortened", "err", err)
			return
		}
	}
	n := j.needed()
	if n <= j.first || n == j.segment && j.written == 0 {
		return
	}
	if err := j.wl.Truncate(n); err != nil {
		j.log.Warn("journal of held samples not shortened", "err", err)
		return
	}
	j.first = n
}

// labels returns the labels of the series that blk's segment describes.
func (j *journal) labels(blk *heldBlock) map[seriesID]labels.Labels {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := map[seriesID]labels.Labels{}
	for i := blk.segment; i <= min(blk.segment+1, j.segment); i++ {
		err := readRecords(wlog.SegmentName(j.dir, i), func(rec []byte) error {
			if record.Type(rec[0]) != record.Series {
				return nil
			}
			dec := record.NewDecoder(nil, j.log)
			series, err := dec.Series(rec, nil)
			for _, s := range series {
				if _, ok := out[seriesID(s.Ref)]; i == blk.segment || !ok {
					out[seriesID(s.Ref)] = s.Labels
				}
			}
			return err
		})
		if err != nil && i < j.segment { // the end of the last is being written
			j.log.Warn("read journal of held samples", "segment", i, "err", err)
		}
	}
	return out
}

func encodeHead(cluster, replica string, proto protocol) []byte {
	e := encoding.Encbuf{}
	e.PutByte(recordHead)
	e.PutUvarintStr(cluster)
	e.PutUvarintStr(replica)
	e.PutByte(byte(proto))
	return e.Get()
}

// encodeBlock returns blk as records, the labels of unknown first.
func encodeBlock(blk *heldBlock, unknown []record.RefSeries) (recs [][]byte) {
	enc := record.Encoder{EnableSTStorage: true}
	var (
		floats []record.RefSample
		hists  []record.RefHistogramSample
		fhists []record.RefFloatHistogramSample
		exs    []record.RefExemplar
	)
	var s, h, e uint32
	for _, hs := range blk.series {
		ref := chunks.HeadSeriesRef(hs.id)
		for _, x := range blk.samples[s : s+hs.samples] {
			floats = append(floats, record.RefSample{Ref: ref, ST: x.ST, T: x.T, V: x.V})
		}
		for _, x := range blk.histograms[h : h+hs.histograms] {
			if x.H != nil {
				hists = append(hists, record.RefHistogramSample{Ref: ref, ST: x.ST, T: x.T, H: x.H})
			} else {
				fhists = append(fhists, record.RefFloatHistogramSample{Ref: ref, ST: x.ST, T: x.T, FH: x.FH})
			}
		}
		for _, x := range blk.exemplars[e : e+hs.exemplars] {
			exs = append(exs, record.RefExemplar{Ref: ref, T: x.Ts, V: x.Value, Labels: x.Labels})
		}
		s, h, e = s+hs.samples, h+hs.histograms, e+hs.exemplars
	}
	if len(unknown) > 0 {
		recs = append(recs, enc.Series(unknown, nil))
	}
	if len(floats) > 0 {
		recs = append(recs, enc.Samples(floats, nil))
	}
	if len(hists) > 0 {
		rec, _ := enc.HistogramSamples(hists, nil) // with start timestamps nothing is left over
		recs = append(recs, rec)
	}
	if len(fhists) > 0 {
		rec, _ := enc.FloatHistogramSamples(fhists, nil)
		recs = append(recs, rec)
	}
	if len(exs) > 0 {
		recs = append(recs, enc.Exemplars(exs, nil))
	}
	return recs
}

// journaled is a block as it is read back.
type journaled struct {
	segment          int
	cluster, replica string
	proto            protocol
	series           []journaledSeries // in the order of the block
}

type journaledSeries struct {
	ref        chunks.HeadSeriesRef
	labels     labels.Labels
	samples    []wire.Sample
	histograms []wire.Histogram
	exemplars  []exemplar.Exemplar
}

// readRecords calls f for every record of a segment until it ends or is torn.
func readRecords(name string, f func(rec []byte) error) (err error) {
	seg, err := wlog.OpenReadSegment(name)
	if err != nil {
		return err
	}
	src := wlog.NewSegmentBufReader(seg)
	defer func() { err = errors.Join(err, src.Close()) }()
	r := wlog.NewReader(src)
	for r.Next() {
		if len(r.Record()) == 0 {
			continue
		}
		if err := f(r.Record()); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// readSegment calls state for every state record and block for every block, the
// last one too if it is torn: half of it is as good as all of it, because the
// sender, who has no answer, brings it again.
func readSegment(name string, state func(rec []byte), block func(*journaled)) error {
	var now *journaled
	known := map[chunks.HeadSeriesRef]labels.Labels{}
	at := map[chunks.HeadSeriesRef]int{}
	flush := func() {
		if now != nil {
			now.series = inRuns(now.series)
			block(now)
			clear(at)
			now = nil
		}
	}
	series := func(ref chunks.HeadSeriesRef) *journaledSeries {
		if now == nil {
			now = &journaled{}
		}
		i, ok := at[ref]
		if !ok {
			i = len(now.series)
			at[ref] = i
			now.series = append(now.series, journaledSeries{ref: ref, labels: known[ref]})
		}
		return &now.series[i]
	}
	dec := record.NewDecoder(nil, slog.New(slog.DiscardHandler))
	err := readRecords(name, func(rec []byte) error {
		switch rec[0] {
		case recordState:
			flush()
			state(slices.Clone(rec))
			return nil
		case recordHead:
			flush()
			d := encoding.Decbuf{B: rec[1:]}
			now = &journaled{cluster: d.UvarintStr(), replica: d.UvarintStr(), proto: protocol(d.Byte())}
			if now.proto >= numProtocols {
				return fmt.Errorf("protocol %d is unknown", now.proto)
			}
			return d.Err()
		}
		return decodeRecord(&dec, rec, known, series)
	})
	flush()
	return err
}

// inRuns gives back the order of time to series that hold both floats and
// histograms, which the journal keeps in records apart: a stale marker is a float
// behind histograms, and must not be appended before them. Each run of one kind
// becomes an entry of its own, since a request may not mix them in one.
func inRuns(series []journaledSeries) (out []journaledSeries) {
	for _, s := range series {
		if len(s.samples) == 0 || len(s.histograms) == 0 {
			out = append(out, s)
			continue
		}
		floats, histograms := s.samples, s.histograms
		for len(floats)+len(histograms) > 0 {
			run := journaledSeries{ref: s.ref, labels: s.labels}
			for len(floats) > 0 && (len(histograms) == 0 || floats[0].T < histograms[0].T) {
				run.samples, floats = append(run.samples, floats[0]), floats[1:]
			}
			if len(run.samples) == 0 {
				for len(histograms) > 0 && (len(floats) == 0 || histograms[0].T <= floats[0].T) {
					run.histograms, histograms = append(run.histograms, histograms[0]), histograms[1:]
				}
			}
			if len(floats)+len(histograms) == 0 {
				run.exemplars = s.exemplars
			}
			out = append(out, run)
		}
	}
	return out
}

// decodeRecord reads one of Prometheus' records into known or into series.
func decodeRecord(dec *record.Decoder, rec []byte, known map[chunks.HeadSeriesRef]labels.Labels, series func(chunks.HeadSeriesRef) *journaledSeries) error {
	switch dec.Type(rec) {
	case record.Series:
		got, err := dec.Series(rec, nil)
		for _, s := range got {
			known[s.Ref] = s.Labels
		}
		return err
	case record.Samples, record.SamplesV2:
		got, err := dec.Samples(rec, nil)
		for _, x := range got {
			s := series(x.Ref)
			s.samples = append(s.samples, wire.Sample{T: x.T, ST: x.ST, V: x.V})
		}
		return err
	case record.HistogramSamples, record.HistogramSamplesV2:
		got, err := dec.HistogramSamples(rec, nil)
		for _, x := range got {
			s := series(x.Ref)
			s.histograms = append(s.histograms, wire.Histogram{T: x.T, ST: x.ST, H: x.H})
		}
		return err
	case record.FloatHistogramSamples, record.FloatHistogramSamplesV2:
		got, err := dec.FloatHistogramSamples(rec, nil)
		for _, x := range got {
			s := series(x.Ref)
			s.histograms = append(s.histograms, wire.Histogram{T: x.T, ST: x.ST, FH: x.FH})
		}
		return err
	case record.Exemplars:
		got, err := dec.Exemplars(rec, nil)
		for _, x := range got {
			s := series(x.Ref)
			s.exemplars = append(s.exemplars, exemplar.Exemplar{Labels: x.Labels, Value: x.V, Ts: x.T, HasTs: x.T != 0})
		}
		return err
	}
	return fmt.Errorf("record of type %d is unknown", rec[0])
}
