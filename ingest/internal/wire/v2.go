package wire

// DecodeV2 reads an io.prometheus.write.v2.Request:
//
//	Request    { repeated string symbols = 4; repeated TimeSeries timeseries = 5; }
//	TimeSeries { repeated uint32 labels_refs = 1; repeated Sample samples = 2;
//	             repeated Histogram histograms = 3; repeated Exemplar exemplars = 4;
//	             Metadata metadata = 5; int64 created_timestamp = 6 (up to rc.3); }
//
// References are not checked against the symbol table here: a bad one spoils
// its series, not the request. The error wraps [ErrMalformed].
func (r *Request) DecodeV2(body []byte) error {
	r.Reset()
	r.body = body
	for i := 0; i < len(body); {
		num, wt, next, err := field(body, i)
		if err != nil {
			return err
		}
		switch num {
		case 4, 5:
			if wt != wireLen {
				return errWireType("Request", "symbols or timeseries", wt)
			}
			lo, hi, err := span(body, next)
			if err != nil {
				return err
			}
			if num == 4 {
				r.Symbols = append(r.Symbols, Bytes{uint32(lo), uint32(hi)})
			} else if err := r.seriesV2(body[lo:hi]); err != nil {
				return err
			}
			i = hi
		default:
			if i, err = skip(body, next, wt); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *Request) seriesV2(b []byte) error {
	s := Series{
		Samples:    Range{uint32(len(r.Samples)), 0},
		Histograms: Range{uint32(len(r.Histograms)), 0},
		Exemplars:  Range{uint32(len(r.Exemplars)), 0},
		Refs:       Range{uint32(len(r.Refs)), uint32(len(r.Refs))},
	}
	// An exemplar's references land in r.Refs too; exemplars wait until the
	// series' own are complete, so that each owns one range.
	exemplars := 0
	for i := 0; i < len(b); {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		lo, hi := 0, 0
		if num >= 2 && num <= 5 {
			if wt != wireLen {
				return errWireType("TimeSeries", [...]string{2: "samples", 3: "histograms", 4: "exemplars", 5: "metadata"}[num], wt)
			}
			if lo, hi, err = span(b, next); err != nil {
				return err
			}
		}
		switch num {
		case 1:
			if r.Refs, hi, err = refs(r.Refs, b, next, wt, "TimeSeries"); err != nil {
				return err
			}
		case 2:
			err = r.sample(b[lo:hi], 3)
		case 3:
			err = r.histogram(b[lo:hi], 17)
		case 4:
			exemplars++
		case 5:
			err = s.metadata(b[lo:hi])
		case 6:
			hi, err = s.created(b, next, wt)
		default:
			hi, err = skip(b, next, wt)
		}
		if err != nil {
			return err
		}
		i = hi
	}
	s.Refs.Hi = uint32(len(r.Refs))
	if exemplars > 0 {
		if err := r.exemplarsV2(b); err != nil {
			return err
		}
	}
	s.Samples.Hi = uint32(len(r.Samples))
	s.Histograms.Hi = uint32(len(r.Histograms))
	s.Exemplars.Hi = uint32(len(r.Exemplars))
	if s.Created != 0 {
		r.spreadCreated(&s)
	}
	r.Series = append(r.Series, s)
	return nil
}

// spreadCreated gives the series' created timestamp (up to release candidate 3)
// to each sample that has no start timestamp of its own (since then).
func (r *Request) spreadCreated(s *Series) {
	for i := s.Samples.Lo; i < s.Samples.Hi; i++ {
		if r.Samples[i].ST == 0 {
			r.Samples[i].ST = s.Created
		}
	}
	for i := s.Histograms.Lo; i < s.Histograms.Hi; i++ {
		if r.Histograms[i].ST == 0 {
			r.Histograms[i].ST = s.Created
		}
	}
}

// created reads field 6, reserved since release candidate 4. A sender that uses
// it for something else is none of our business, so another wire type is
// skipped like any unknown field.
func (s *Series) created(b []byte, next, wt int) (int, error) {
	if wt != wireVarint {
		return skip(b, next, wt)
	}
	v, next, err := varint(b, next)
	s.Created = int64(v)
	return next, err
}

// refs appends the references of one field, packed or not.
func refs(dst []uint32, b []byte, next, wt int, message string) ([]uint32, int, error) {
	switch wt {
	case wireVarint:
		v, next, err := varint(b, next)
		if err != nil {
			return dst, 0, err
		}
		return append(dst, uint32(v)), next, nil
	case wireLen:
		lo, hi, err := span(b, next)
		if err != nil {
			return dst, 0, err
		}
		// The last element may run over the announced end; the reference decoder
		// then goes on behind it, and so does this one.
		for lo < hi {
			// One and two bytes reach 16,384 symbols: more than a request holds.
			if c := b[lo]; c < 0x80 {
				dst, lo = append(dst, uint32(c)), lo+1
				continue
			} else if lo+1 < len(b) && b[lo+1] < 0x80 {
				dst, lo = append(dst, uint32(c&0x7f)|uint32(b[lo+1])<<7), lo+2
				continue
			}
			v, after := uvarint(b, lo)
			if after < 0 {
				return dst, 0, varintErr(after)
			}
			dst, lo = append(dst, uint32(v)), after
		}
		return dst, lo, nil
	}
	return dst, 0, errWireType(message, "labels_refs", wt)
}

// metadata reads Metadata { MetricType type = 1; uint32 help_ref = 3;
// uint32 unit_ref = 4; }.
func (s *Series) metadata(b []byte) error {
	s.HasMeta = true
	for i := 0; i < len(b); {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		if num != 1 && num != 3 && num != 4 {
			if i, err = skip(b, next, wt); err != nil {
				return err
			}
			continue
		}
		if wt != wireVarint {
			return errWireType("Metadata", "type, help_ref or unit_ref", wt)
		}
		v, next, err := varint(b, next)
		if err != nil {
			return err
		}
		switch num {
		case 1:
			s.Type = int32(v)
		case 3:
			s.Help = uint32(v)
		case 4:
			s.Unit = uint32(v)
		}
		i = next
	}
	return nil
}

// exemplarsV2 reads the exemplars of the TimeSeries message b, which seriesV2
// has walked before.
func (r *Request) exemplarsV2(b []byte) error {
	for i := 0; i < len(b); {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		switch num {
		case 1:
			// Read again, not skipped: see refs about the announced end.
			n := len(r.Refs)
			r.Refs, i, err = refs(r.Refs, b, next, wt, "TimeSeries")
			r.Refs = r.Refs[:n]
		case 4:
			var lo int
			if lo, i, err = span(b, next); err == nil {
				err = r.exemplarV2(b[lo:i])
			}
		default:
			i, err = skip(b, next, wt)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// exemplarV2 reads Exemplar { repeated uint32 labels_refs = 1; double value = 2;
// int64 timestamp = 3; }.
func (r *Request) exemplarV2(b []byte) error {
	e := Exemplar{Refs: Range{uint32(len(r.Refs)), 0}}
	for i := 0; i < len(b); {
		num, wt, next, err := field(b, i)
		if err != nil {
			return err
		}
		switch num {
		case 1:
			if r.Refs, i, err = refs(r.Refs, b, next, wt, "Exemplar"); err != nil {
				return err
			}
		case 2:
			if wt != wireFixed64 {
				return errWireType("Exemplar", "value", wt)
			}
			if e.V, i, err = float(b, next); err != nil {
				return err
			}
		case 3:
			if wt != wireVarint {
				return errWireType("Exemplar", "timestamp", wt)
			}
			var v uint64
			if v, i, err = varint(b, next); err != nil {
				return err
			}
			e.T = int64(v)
		default:
			if i, err = skip(b, next, wt); err != nil {
				return err
			}
		}
	}
	e.Refs.Hi = uint32(len(r.Refs))
	r.Exemplars = append(r.Exemplars, e)
	return nil
}

// LabelsV2 calls add for every label that refs names, in the order of the wire.
// Every reference must be in range and their number even; see
// [Request.CheckRefs]. The strings share the body's memory and are valid during
// the call only.
func (r *Request) LabelsV2(refs []uint32, add func(name, value string)) {
	for i := 0; i+1 < len(refs); i += 2 {
		add(view(r.Symbol(refs[i])), view(r.Symbol(refs[i+1])))
	}
}

// CheckRefs returns the first reference that is outside of the symbol table.
func (r *Request) CheckRefs(refs []uint32) (bad uint32, ok bool) {
	n := uint32(len(r.Symbols))
	for _, ref := range refs {
		if ref >= n {
			return ref, false
		}
	}
	return 0, true
}

// MetadataV2 returns copies of the metadata of a 2.0 series; its references
// must be in range.
func (r *Request) MetadataV2(s *Series) Metadata {
	return Metadata{
		Type: metricType(s.Type),
		Help: string(r.Symbol(s.Help)),
		Unit: string(r.Symbol(s.Unit)),
	}
}
