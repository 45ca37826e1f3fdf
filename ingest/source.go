package ingest

import (
	"errors"
	"fmt"

	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

// sourceV1 reads labels of a remote_write 1.0 request.
type sourceV1 struct{ r *wire.Request }

func (s sourceV1) labels(i int, add func(name, value string)) error {
	return wire.LabelsV1(s.r.RawLabels(&s.r.Series[i]), add)
}

// metadata is not to be had by series in 1.0; the request carries a list.
func (sourceV1) metadata(int) (metadata.Metadata, bool) { return metadata.Metadata{}, false }

func (s sourceV1) exemplars(i int, dst []exemplar.Exemplar) []exemplar.Exemplar {
	at := s.r.Series[i].Exemplars
	for j := at.Lo; j < at.Hi; j++ {
		e := &s.r.Exemplars[j]
		pairs, err := s.r.ExemplarLabelsV1(e)
		if err != nil {
			pairs = nil // checked by checkExemplarsV1 before
		}
		dst = append(dst, newExemplar(e, pairs))
	}
	return dst
}

// checkExemplarsV1 reads all exemplar labels once, so that a broken one spoils
// the request before anything is appended, as the reference decoder has it.
func checkExemplarsV1(r *wire.Request) error {
	for i := range r.Exemplars {
		if _, err := r.ExemplarLabelsV1(&r.Exemplars[i]); err != nil {
			return err
		}
	}
	return nil
}

// sourceV2 reads labels of a remote_write 2.0 request.
type sourceV2 struct{ r *wire.Request }

// errReferences is the fault of a 2.0 series that spoils only that series.
var errReferences = errors.New("label references")

func (s sourceV2) labels(i int, add func(name, value string)) error {
	sr := &s.r.Series[i]
	refs := s.r.Refs[sr.Refs.Lo:sr.Refs.Hi]
	if len(refs)%2 != 0 {
		return fmt.Errorf("%w: got %d of them, want an even number", errReferences, len(refs))
	}
	if bad, ok := s.r.CheckRefs(refs); !ok {
		return fmt.Errorf("%w: %d is outside of the symbol table of %d", errReferences, bad, len(s.r.Symbols))
	}
	if bad, ok := s.r.CheckRefs([]uint32{sr.Help, sr.Unit}); !ok {
		return fmt.Errorf("%w: metadata's %d is outside of the symbol table of %d", errReferences, bad, len(s.r.Symbols))
	}
	s.r.LabelsV2(refs, add)
	return nil
}

func (s sourceV2) metadata(i int) (metadata.Metadata, bool) {
	sr := &s.r.Series[i]
	if !sr.HasMeta {
		return metadata.Metadata{}, false
	}
	m := s.r.MetadataV2(sr)
	return metadata.Metadata{Type: m.Type, Help: m.Help, Unit: m.Unit}, true
}

func (s sourceV2) exemplars(i int, dst []exemplar.Exemplar) []exemplar.Exemplar {
	at := s.r.Series[i].Exemplars
	for j := at.Lo; j < at.Hi; j++ {
		e := &s.r.Exemplars[j]
		refs := s.r.Refs[e.Refs.Lo:e.Refs.Hi]
		if _, ok := s.r.CheckRefs(refs); !ok || len(refs)%2 != 0 {
			continue // counted as refused: fewer come out than the range holds
		}
		pairs := make([]string, 0, len(refs))
		for _, ref := range refs {
			pairs = append(pairs, string(s.r.Symbol(ref)))
		}
		dst = append(dst, newExemplar(e, pairs))
	}
	return dst
}

func newExemplar(e *wire.Exemplar, pairs []string) exemplar.Exemplar {
	return exemplar.Exemplar{
		Labels: labels.FromStrings(pairs...),
		Value:  e.V, Ts: e.T, HasTs: e.T != 0,
	}
}
