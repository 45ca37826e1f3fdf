package wire

import "math"

func (o *OTLP) point(at Bytes, kind OTLPKind) error {
	p := OTLPPoint{Raw: at, Exemplars: Range{uint32(len(o.Exemplars)), uint32(len(o.Exemplars))}}
	var err error
	if kind == OTLPGauge || kind == OTLPSum {
		err = o.number(&p)
	} else {
		p.Extra = uint32(len(o.Histograms))
		h := OTLPHistogram{}
		switch kind {
		case OTLPExplicit:
			err = o.explicit(&p, &h)
		case OTLPExponential:
			err = o.exponential(&p, &h)
		case OTLPSummary:
			err = o.summary(&p, &h)
		}
		o.Histograms = append(o.Histograms, h)
	}
	o.Points = append(o.Points, p)
	return err
}

// attribute adds the current field to the point's attributes.
func (p *OTLPPoint) attribute(f *fields) {
	switch {
	case !f.is(wireLen):
	case p.Attributes.Hi == 0:
		p.Attributes = Bytes{uint32(f.from), uint32(f.i)}
	case p.Attributes.Hi == uint32(f.from):
		p.Attributes.Hi = uint32(f.i)
	default:
		f.err = ErrUnusual
	}
}

// common reads the fields that have the same number in all points.
func (p *OTLPPoint) common(f *fields) {
	switch f.num {
	case 2:
		if f.is(wireFixed64) {
			p.ST = f.u
		}
	case 3:
		if f.is(wireFixed64) {
			p.T = f.u
		}
	}
}

func (p *OTLPPoint) flags(f *fields) {
	if f.is(wireVarint) {
		p.Flags = uint32(f.u)
	}
}

func (o *OTLP) number(p *OTLPPoint) error {
	f := o.open(p.Raw)
	for f.next() {
		switch f.num {
		case 4:
			if f.is(wireFixed64) {
				p.V = math.Float64frombits(f.u)
			}
		case 5:
			o.exemplar(&f, p)
		case 6:
			if f.is(wireFixed64) {
				p.V = float64(int64(f.u))
			}
		case 7:
			p.attribute(&f)
		case 8:
			p.flags(&f)
		default:
			p.common(&f)
		}
	}
	return f.err
}

func (o *OTLP) explicit(p *OTLPPoint, h *OTLPHistogram) error {
	var seen uint32
	f := o.open(p.Raw)
	for f.next() {
		switch f.num {
		case 4, 5:
			h.total(&f)
		case 6:
			if f.packed() && f.once(&seen) {
				h.Counts = o.fixedCounts(&f)
			}
		case 7:
			if f.packed() && f.once(&seen) {
				h.Bounds = o.bounds(&f)
			}
		case 8:
			o.exemplar(&f, p)
		case 9:
			p.attribute(&f)
		case 10:
			p.flags(&f)
		default:
			p.common(&f)
		}
	}
	return f.err
}

// total reads count and sum.
func (h *OTLPHistogram) total(f *fields) {
	switch {
	case !f.is(wireFixed64):
	case f.num == 4:
		h.Count = f.u
	default:
		h.Sum, h.HasSum = math.Float64frombits(f.u), true
	}
}

// packed checks that a repeated number is packed.
func (f *fields) packed() bool {
	if f.wt != wireLen {
		f.err = ErrUnusual
	}
	return f.err == nil
}

// numbers returns how many 8-byte numbers the field holds.
func (f *fields) numbers() int {
	if (f.at.Hi-f.at.Lo)%8 != 0 {
		f.err = errTruncated
	}
	return int(f.at.Hi-f.at.Lo) / 8
}

func (o *OTLP) fixedCounts(f *fields) Range {
	lo := uint32(len(o.Counts))
	for i := range f.numbers() {
		u, _, _ := fixed64(f.b, int(f.at.Lo)+8*i)
		o.Counts = append(o.Counts, u)
	}
	return Range{lo, uint32(len(o.Counts))}
}

func (o *OTLP) bounds(f *fields) Range {
	lo := uint32(len(o.Bounds))
	for i := range f.numbers() {
		v, _, _ := float(f.b, int(f.at.Lo)+8*i)
		o.Bounds = append(o.Bounds, v)
	}
	return Range{lo, uint32(len(o.Bounds))}
}

func (o *OTLP) exponential(p *OTLPPoint, h *OTLPHistogram) error {
	var seen uint32
	f := o.open(p.Raw)
	for f.next() {
		switch f.num {
		case 1:
			p.attribute(&f)
		case 4, 5:
			h.total(&f)
		case 6:
			if f.is(wireVarint) {
				h.Scale = zigzag32(f.u)
			}
		case 7:
			if f.is(wireFixed64) {
				h.ZeroCount = f.u
			}
		case 8:
			if f.is(wireLen) && f.once(&seen) {
				h.Positive, f.err = o.buckets(f.at)
			}
		case 9:
			if f.is(wireLen) && f.once(&seen) {
				h.Negative, f.err = o.buckets(f.at)
			}
		case 10:
			p.flags(&f)
		case 11:
			o.exemplar(&f, p)
		default:
			p.common(&f)
		}
	}
	return f.err
}

func (o *OTLP) buckets(at Bytes) (b OTLPBuckets, _ error) {
	var seen uint32
	f := o.open(at)
	for f.next() {
		switch f.num {
		case 1:
			if f.is(wireVarint) {
				b.Offset = zigzag32(f.u)
			}
		case 2:
			if f.packed() && f.once(&seen) {
				b.Counts = o.varintCounts(&f)
			}
		}
	}
	return b, f.err
}

func (o *OTLP) varintCounts(f *fields) Range {
	lo := uint32(len(o.Counts))
	for i := int(f.at.Lo); i < int(f.at.Hi) && f.err == nil; {
		var u uint64
		u, i, f.err = varint(f.b[:f.at.Hi], i)
		o.Counts = append(o.Counts, u)
	}
	return Range{lo, uint32(len(o.Counts))}
}

func (o *OTLP) summary(p *OTLPPoint, h *OTLPHistogram) error {
	h.Quantiles.Lo = uint32(len(o.Quantiles))
	f := o.open(p.Raw)
	for f.next() {
		switch f.num {
		case 4, 5:
			h.total(&f)
		case 6:
			if f.is(wireLen) {
				f.err = o.quantile(f.at)
			}
		case 7:
			p.attribute(&f)
		case 8:
			p.flags(&f)
		default:
			p.common(&f)
		}
	}
	h.Quantiles.Hi = uint32(len(o.Quantiles))
	return f.err
}

func (o *OTLP) quantile(at Bytes) error {
	var q OTLPQuantile
	f := o.open(at)
	for f.next() {
		switch {
		case f.num == 1 && f.is(wireFixed64):
			q.Quantile = math.Float64frombits(f.u)
		case f.num == 2 && f.is(wireFixed64):
			q.Value = math.Float64frombits(f.u)
		}
	}
	o.Quantiles = append(o.Quantiles, q)
	return f.err
}

// exemplar reads the current field as an exemplar of p.
func (o *OTLP) exemplar(field *fields, p *OTLPPoint) {
	if !field.is(wireLen) {
		return
	}
	e := OTLPExemplar{Raw: field.at}
	f := o.open(field.at)
	for f.next() {
		switch {
		case f.num == 2 && f.is(wireFixed64):
			e.T = f.u
		case f.num == 3 && f.is(wireFixed64):
			e.V, e.HasValue = math.Float64frombits(f.u), true
		case f.num == 6 && f.is(wireFixed64):
			e.V, e.HasValue = float64(int64(f.u)), true
		}
	}
	field.err = f.err
	o.Exemplars = append(o.Exemplars, e)
	p.Exemplars.Hi = uint32(len(o.Exemplars))
}
