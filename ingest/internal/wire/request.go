package wire

import (
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
)

// Request is one decoded body, 1.0 or 2.0, as flat arrays without pointers
// into the body, so that a pooled Request costs the garbage collector nothing.
// The zero value is ready for [Request.DecodeV1] or [Request.DecodeV2].
type Request struct {
	Series     []Series
	Samples    []Sample
	Histograms []Histogram
	Exemplars  []Exemplar

	// Metadata is the metadata list of a 1.0 body. 2.0 carries it per series.
	Metadata []Metadata

	// Symbols and Refs are the symbol table and all label references of a 2.0
	// body; a Series and an Exemplar own a range of Refs.
	Symbols []Bytes
	Refs    []uint32

	body []byte
	// Label fields that were not adjacent in the body, gathered: of series and of
	// exemplars apart, since an exemplar may stand between two labels of its series.
	scratch, exemplarScratch []byte
}

// Bytes is a range of the body. Offsets fit 32 bits because the body is capped
// far below 4 GiB.
type Bytes struct{ Lo, Hi uint32 }

// Range is a half-open range of one of the Request's arrays.
type Range struct{ Lo, Hi uint32 }

// Len returns the number of elements in r.
func (r Range) Len() int { return int(r.Hi - r.Lo) }

// Series is one TimeSeries message.
type Series struct {
	Samples, Histograms, Exemplars Range

	// Labels is, in 1.0, the encoded label fields one after another, tags
	// included, as the sender wrote them: the series' identity on the wire.
	// Read it by [Request.RawLabels]. Moved says that they were not adjacent in
	// the body and have been gathered.
	Labels Bytes
	Moved  bool

	// Refs is, in 2.0, the range of Request.Refs that holds label references.
	Refs Range

	// Type, Help, Unit are the series' metadata in 2.0, the last two as symbol
	// references. HasMeta says that the message was there.
	Type       int32
	Help, Unit uint32
	HasMeta    bool

	// Created is field 6 of release candidate 3, in Unix milliseconds; 0 when
	// absent.
	Created int64
}

// Sample is one float sample. T and ST (start timestamp, 0 when unknown) are in
// Unix milliseconds. V keeps its bits, stale markers included.
type Sample struct {
	T, ST int64
	V     float64
}

// Histogram is one native histogram; exactly one of H and FH is set.
type Histogram struct {
	T, ST int64
	H     *histogram.Histogram
	FH    *histogram.FloatHistogram
}

// Exemplar is one exemplar. Labels is the range of encoded label fields (1.0),
// Refs of label references (2.0).
type Exemplar struct {
	T      int64
	V      float64
	Labels Bytes
	Moved  bool
	Refs   Range
}

// Metadata is one 1.0 metadata entry. The strings are copies.
type Metadata struct {
	Family, Help, Unit string
	Type               model.MetricType
}

// Reset makes r empty and drops what it points to.
func (r *Request) Reset() {
	clear(r.Histograms) // pointers: let the collector have them
	clear(r.Metadata)
	r.Series, r.Samples = r.Series[:0], r.Samples[:0]
	r.Histograms, r.Exemplars = r.Histograms[:0], r.Exemplars[:0]
	r.Metadata, r.Symbols, r.Refs = r.Metadata[:0], r.Symbols[:0], r.Refs[:0]
	r.body, r.scratch, r.exemplarScratch = nil, r.scratch[:0], r.exemplarScratch[:0]
}

// Size returns the bytes that r's arrays hold on to, for a pool that bounds
// what it keeps.
func (r *Request) Size() int {
	return cap(r.Series)*80 + cap(r.Samples)*24 + cap(r.Histograms)*32 + cap(r.Exemplars)*40 +
		cap(r.Metadata)*64 + cap(r.Symbols)*8 + cap(r.Refs)*4 + cap(r.scratch) + cap(r.exemplarScratch)
}

// Symbol returns the bytes of symbol i of a 2.0 body; i must be in range.
func (r *Request) Symbol(i uint32) []byte {
	s := r.Symbols[i]
	return r.body[s.Lo:s.Hi]
}

// RawLabels returns the encoded label fields of a 1.0 series.
func (r *Request) RawLabels(s *Series) []byte {
	if s.Moved {
		return r.scratch[s.Labels.Lo:s.Labels.Hi]
	}
	return r.body[s.Labels.Lo:s.Labels.Hi]
}

func (r *Request) rawExemplarLabels(e *Exemplar) []byte {
	if e.Moved {
		return r.exemplarScratch[e.Labels.Lo:e.Labels.Hi]
	}
	return r.body[e.Labels.Lo:e.Labels.Hi]
}

// run collects label fields that are normally adjacent; only when they are not
// does it copy them together.
type run struct {
	at    Bytes
	moved bool
	any   bool
}

// add appends the field body[lo:hi] to the run. The last run of scratch must be
// this one.
func (u *run) add(body []byte, scratch *[]byte, lo, hi int) {
	switch {
	case !u.any:
		u.at, u.any = Bytes{uint32(lo), uint32(hi)}, true
	case !u.moved && u.at.Hi == uint32(lo):
		u.at.Hi = uint32(hi)
	default:
		if !u.moved {
			start := len(*scratch)
			*scratch = append(*scratch, body[u.at.Lo:u.at.Hi]...)
			u.at, u.moved = Bytes{uint32(start), 0}, true
		}
		*scratch = append(*scratch, body[lo:hi]...)
		u.at.Hi = uint32(len(*scratch))
	}
}
