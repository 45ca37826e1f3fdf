package wire

import (
	"errors"
	"strconv"
)

// ErrUnusual says that an OTLP body is well-formed but written in a way that
// [OTLP.Decode] does not read: a field twice, attributes of a point apart from
// each other, repeated numbers not packed, or fields that OTLP has retired. A
// general decoder can write it anew in the usual way.
var ErrUnusual = errors.New("unusual protobuf")

// OTLP is a decoded ExportMetricsServiceRequest as flat arrays without pointers
// into the body. Attributes are not decoded: their bytes stand for them. The
// zero value is ready for [OTLP.Decode].
type OTLP struct {
	Resources []OTLPResource
	Scopes    []OTLPScope
	Metrics   []OTLPMetric
	Points    []OTLPPoint

	// Histograms belong to points of histograms, exponential histograms and
	// summaries, by OTLPPoint.Extra; the arrays below to them, by range.
	Histograms []OTLPHistogram
	Counts     []uint64
	Bounds     []float64
	Quantiles  []OTLPQuantile

	Exemplars []OTLPExemplar

	body []byte
}

// OTLPResource is one ResourceMetrics message. Raw is its Resource message.
type OTLPResource struct {
	Raw    Bytes
	Scopes Range
}

// OTLPScope is one ScopeMetrics message. Raw is its InstrumentationScope message.
type OTLPScope struct {
	Raw, SchemaURL Bytes
	Resource       uint32
	Metrics        Range
}

// OTLPKind is the kind of a metric, by the number of its field in the message.
type OTLPKind uint8

// Kinds of metrics.
const (
	OTLPNone        OTLPKind = 0
	OTLPGauge       OTLPKind = 5
	OTLPSum         OTLPKind = 7
	OTLPExplicit    OTLPKind = 9
	OTLPExponential OTLPKind = 10
	OTLPSummary     OTLPKind = 11
)

// Temporalities of a metric, as the protocol numbers them.
const (
	OTLPDelta      = 1
	OTLPCumulative = 2
)

// OTLPMetric is one Metric message.
type OTLPMetric struct {
	Name, Description, Unit Bytes
	Scope                   uint32
	Kind                    OTLPKind
	Temporality             int32
	Monotonic               bool
	Points                  Range
}

// OTLPPoint is one data point. Times are Unix nanoseconds.
type OTLPPoint struct {
	Raw        Bytes // the whole message
	Attributes Bytes // its attribute fields, tags included
	T, ST      uint64
	V          float64 // of a number; 0 if it has none
	Flags      uint32
	Extra      uint32 // index into OTLP.Histograms
	Exemplars  Range
}

// OTLPNoRecordedValue is the flag of a point that says only that there is none.
const OTLPNoRecordedValue = 1

// OTLPHistogram is what a point holds beyond a number.
type OTLPHistogram struct {
	Count     uint64
	Sum       float64
	HasSum    bool
	Counts    Range // explicit buckets
	Bounds    Range
	Scale     int32 // exponential buckets
	ZeroCount uint64
	Positive  OTLPBuckets
	Negative  OTLPBuckets
	Quantiles Range // summary
}

// OTLPBuckets are exponential buckets, dense from Offset on.
type OTLPBuckets struct {
	Offset int32
	Counts Range
}

// OTLPQuantile is one quantile of a summary.
type OTLPQuantile struct{ Quantile, Value float64 }

// OTLPExemplar is one exemplar; Raw is the whole message.
type OTLPExemplar struct {
	Raw      Bytes
	T        uint64
	V        float64
	HasValue bool
}

// Reset makes o empty.
func (o *OTLP) Reset() {
	*o = OTLP{
		Resources: o.Resources[:0], Scopes: o.Scopes[:0], Metrics: o.Metrics[:0], Points: o.Points[:0],
		Histograms: o.Histograms[:0], Counts: o.Counts[:0], Bounds: o.Bounds[:0], Quantiles: o.Quantiles[:0],
		Exemplars: o.Exemplars[:0],
	}
}

// Size returns the bytes that o's arrays hold on to.
func (o *OTLP) Size() int {
	return cap(o.Resources)*16 + cap(o.Scopes)*32 + cap(o.Metrics)*48 + cap(o.Points)*56 + cap(o.Histograms)*96 +
		cap(o.Counts)*8 + cap(o.Bounds)*8 + cap(o.Quantiles)*16 + cap(o.Exemplars)*32
}

// Bytes returns a range of the body.
func (o *OTLP) Bytes(b Bytes) []byte { return o.body[b.Lo:b.Hi] }

// Decode reads a whole body, which must stay as it is while o is used. Its
// error wraps ErrMalformed or ErrUnusual; o is of no use then.
func (o *OTLP) Decode(body []byte) error {
	o.Reset()
	o.body = body
	f := o.open(Bytes{0, uint32(len(body))})
	for f.next() {
		if f.num == 1 && f.is(wireLen) {
			f.err = o.resource(f.at)
		}
	}
	return f.err
}

// fields reads one message field by field.
type fields struct {
	b    []byte // the body up to the message's end
	from int    // offset of the field's tag
	i    int    // offset behind the field
	num  int32
	wt   int
	at   Bytes  // value of a length-delimited field
	u    uint64 // value of a varint, fixed64 or fixed32 field
	err  error
}

func (o *OTLP) open(at Bytes) fields { return fields{b: o.body[:at.Hi], i: int(at.Lo)} }

// next moves on to the next field. It returns false at the end and after an
// error.
func (f *fields) next() bool {
	if f.err != nil || f.i >= len(f.b) {
		return false
	}
	f.from = f.i
	var i int
	if f.num, f.wt, i, f.err = field(f.b, f.i); f.err != nil {
		return false
	}
	switch f.wt {
	case wireLen:
		var lo, hi int
		lo, hi, f.err = span(f.b, i)
		f.at, f.i = Bytes{uint32(lo), uint32(hi)}, hi
	case wireFixed64:
		f.u, f.i, f.err = fixed64(f.b, i)
	case wireVarint:
		f.u, f.i, f.err = varint(f.b, i)
	default:
		f.i, f.err = skip(f.b, i, f.wt)
	}
	return f.err == nil
}

// is checks the wire type of a field with a meaning.
func (f *fields) is(wt int) bool {
	if f.wt != wt {
		f.err = errWireType("OTLP", "field "+strconv.Itoa(int(f.num)), f.wt)
		return false
	}
	return true
}

// once checks that the field, of a message that sets of its kind would have to
// be merged, comes but once; seen has a bit a field.
func (f *fields) once(seen *uint32) bool {
	bit := uint32(1) << f.num
	if *seen&bit != 0 {
		f.err = ErrUnusual
	}
	*seen |= bit
	return f.err == nil
}

func (o *OTLP) resource(at Bytes) error {
	n := len(o.Resources)
	o.Resources = append(o.Resources, OTLPResource{Scopes: Range{uint32(len(o.Scopes)), 0}})
	var seen uint32
	f := o.open(at)
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireLen) && f.once(&seen) {
				o.Resources[n].Raw = f.at
			}
		case 2:
			if f.is(wireLen) {
				f.err = o.scope(f.at, uint32(n))
			}
		case 1000: // scopes as they were before OTLP 0.15
			return ErrUnusual
		}
	}
	o.Resources[n].Scopes.Hi = uint32(len(o.Scopes))
	return f.err
}

func (o *OTLP) scope(at Bytes, resource uint32) error {
	n := len(o.Scopes)
	o.Scopes = append(o.Scopes, OTLPScope{Resource: resource, Metrics: Range{uint32(len(o.Metrics)), 0}})
	var seen uint32
	f := o.open(at)
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireLen) && f.once(&seen) {
				o.Scopes[n].Raw = f.at
			}
		case 2:
			if f.is(wireLen) {
				f.err = o.metric(f.at, uint32(n))
			}
		case 3:
			if f.is(wireLen) {
				o.Scopes[n].SchemaURL = f.at
			}
		}
	}
	o.Scopes[n].Metrics.Hi = uint32(len(o.Metrics))
	return f.err
}

func (o *OTLP) metric(at Bytes, scope uint32) error {
	m := OTLPMetric{Scope: scope, Points: Range{uint32(len(o.Points)), 0}}
	f := o.open(at)
	for f.next() {
		switch f.num {
		case 1, 2, 3:
			if f.is(wireLen) {
				*[...]*Bytes{&m.Name, &m.Description, &m.Unit}[f.num-1] = f.at
			}
		case 5, 7, 9, 10, 11:
			if !f.is(wireLen) {
				break
			}
			if m.Kind != OTLPNone {
				return ErrUnusual
			}
			m.Kind = OTLPKind(f.num)
			f.err = o.data(f.at, &m)
		}
	}
	m.Points.Hi = uint32(len(o.Points))
	o.Metrics = append(o.Metrics, m)
	return f.err
}

// data reads the message of a metric's kind: the kinds share their fields.
func (o *OTLP) data(at Bytes, m *OTLPMetric) error {
	aggregated := m.Kind == OTLPSum || m.Kind == OTLPExplicit || m.Kind == OTLPExponential
	f := o.open(at)
	for f.next() {
		switch {
		case f.num == 1 && f.is(wireLen):
			f.err = o.point(f.at, m.Kind)
		case f.num == 2 && aggregated && f.is(wireVarint):
			m.Temporality = int32(f.u)
		case f.num == 3 && m.Kind == OTLPSum && f.is(wireVarint):
			m.Monotonic = f.u != 0
		}
	}
	return f.err
}
