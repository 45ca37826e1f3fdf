package ingest

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/relabel"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/ingest/internal/wire"
)

type pair struct{ name, value string }

// rules is what decides a series' final labels. It is replaced as a whole on
// reload, and every key is forgotten with it.
type rules struct {
	relabel  []*relabel.Config
	external []pair
}

func newRules(cfg Config) *rules {
	r := &rules{relabel: cfg.RelabelConfigs}
	for n, v := range cfg.ExternalLabels {
		r.external = append(r.external, pair{n, v})
	}
	slices.SortFunc(r.external, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	return r
}

// identity is who a series is: its final labels and its place in an HA pair.
type identity struct {
	labels  labels.Labels
	cluster string
	replica string // "" when it belongs to no pair
}

// refused is the verdict on one series' labels.
type refused struct {
	reason outcome
	detail string
}

func (e *refused) Error() string { return e.detail }

// inCluster is an error about a series whose cluster is known.
type inCluster struct {
	error
	cluster clusterID
}

func (e inCluster) Unwrap() error { return e.error }

// errDropped says that relabelling drops the series.
var errDropped = errors.New("dropped by relabelling")

// identify reads the labels of series i and applies, in this order: the checks
// of the protocol, the limits on labels, relabelling, external labels, removal
// of the replica label. It fails with *refused, errDropped, or an error that
// wraps wire.ErrMalformed.
func (w *writer) identify(b *batch, i int) (identity, error) {
	b.pairs = b.pairs[:0]
	err := b.src.labels(i, func(name, value string) { b.pairs = append(b.pairs, pair{name, value}) })
	switch {
	case errors.Is(err, wire.ErrMalformed):
		return identity{}, err
	case errors.As(err, new(*refused)):
		return identity{}, err
	case err != nil:
		return identity{}, &refused{badRequest, err.Error()}
	}
	if err := w.checkLabels(b.pairs); err != nil {
		return identity{}, err
	}
	rules := w.rules.Load()
	b.scratch.Reset()
	for _, p := range b.pairs {
		if p.value != "" { // an empty label is no label
			b.scratch.Add(p.name, p.value)
		}
	}
	ls := b.scratch.Labels()
	if len(rules.relabel) > 0 || len(rules.external) > 0 {
		if ls, err = rules.apply(ls); err != nil {
			return identity{}, err
		}
	}
	return w.place(ls), nil
}

// checkLabels sorts pairs and refuses what no series may have.
func (w *writer) checkLabels(pairs []pair) error {
	limit := w.limits.cfg.Load()
	if n := limit.MaxLabelsPerSeries; n > 0 && len(pairs) > n {
		return &refused{limitLabels, fmt.Sprintf("%d labels, more than %d", len(pairs), n)}
	}
	slices.SortFunc(pairs, func(a, b pair) int { return strings.Compare(a.name, b.name) })
	named := false
	for i, p := range pairs {
		switch {
		case p.name == "":
			return &refused{badLabels, fmt.Sprintf("label name empty, value %q", clip(p.value))}
		case !utf8.ValidString(p.name):
			return &refused{badLabels, fmt.Sprintf("label name %q is not UTF-8", clip(p.name))}
		case !utf8.ValidString(p.value):
			return &refused{badLabels, fmt.Sprintf("value %q of label %q is not UTF-8", clip(p.value), clip(p.name))}
		case i > 0 && p.name == pairs[i-1].name:
			return &refused{badLabels, fmt.Sprintf("label name %q repeated", clip(p.name))}
		case limit.MaxLabelNameLength > 0 && len(p.name) > limit.MaxLabelNameLength:
			return &refused{limitNameLength, fmt.Sprintf("label name %q has %d bytes, more than %d", clip(p.name), len(p.name), limit.MaxLabelNameLength)}
		case limit.MaxLabelValueLength > 0 && len(p.value) > limit.MaxLabelValueLength:
			return &refused{limitValueLength, fmt.Sprintf("value of label %q has %d bytes, more than %d", clip(p.name), len(p.value), limit.MaxLabelValueLength)}
		}
		named = named || p.name == model.MetricNameLabel && p.value != ""
	}
	if !named {
		return &refused{badLabels, "metric name missing"}
	}
	return nil
}

// apply relabels ls and adds the external labels.
func (r *rules) apply(ls labels.Labels) (labels.Labels, error) {
	lb := labels.NewBuilder(ls)
	if len(r.relabel) > 0 && !relabel.ProcessBuilder(lb, r.relabel...) {
		return labels.EmptyLabels(), errDropped
	}
	for _, p := range r.external {
		if lb.Get(p.name) == "" {
			lb.Set(p.name, p.value)
		}
	}
	out := lb.Labels()
	if out.Get(model.MetricNameLabel) == "" {
		return labels.EmptyLabels(), &refused{badLabels, "relabelling took the metric name away"}
	}
	return out, nil
}

// place finds the cluster and takes the replica label off.
func (w *writer) place(ls labels.Labels) identity {
	id := identity{labels: ls, cluster: ls.Get(w.ha.clusterLabel)}
	if w.ha.replicaLabel == "" || id.cluster == "" {
		return id
	}
	if id.replica = ls.Get(w.ha.replicaLabel); id.replica != "" {
		id.labels = labels.NewBuilder(ls).Del(w.ha.replicaLabel).Labels()
	}
	return id
}

// resolve finds or makes the series of request series i and remembers its key.
// app is asked whether the store has it already.
func (w *writer) resolve(app storage.AppenderV2, b *batch, i int) (target, error) {
	id, err := w.identify(b, i)
	if errors.Is(err, errDropped) {
		to := target{id: idDropped}
		w.remember(b.keys[i], to)
		return to, nil
	}
	if err != nil {
		return target{id: idFaulty}, err
	}
	if md, ok := b.src.metadata(i); ok {
		w.metadata.set(familyOf(id.labels.Get(model.MetricNameLabel), md.Type), md)
	}
	to, err := w.settleIn(app, b, id)
	if err != nil {
		return target{id: idFaulty}, inCluster{err, w.ledger.cluster(id.cluster)}
	}
	b.keepLabels(i, id.labels)
	w.remember(b.keys[i], to)
	return to, nil
}

// settleIn returns the target of an identity. Different keys of one series, of
// two protocols or two replicas, meet here: a series has one number.
func (w *writer) settleIn(app storage.AppenderV2, b *batch, id identity) (target, error) {
	b.canonical = id.labels.Bytes(b.canonical[:0])
	canonical := hash128(&w.hasher.canonical, b.canonical)
	to, ok := w.known.get(canonical)
	if !ok {
		ref, err := w.admit(app, id.labels)
		if err != nil {
			return target{}, err
		}
		fresh := w.series.alloc()
		s := w.series.at(fresh)
		s.cluster = w.ledger.cluster(id.cluster)
		if w.counting(id.labels.Get(model.MetricNameLabel)) {
			s.flags |= rising
		}
		if ref != 0 {
			w.recall(s, ref)
			if id.replica != "" {
				w.recalled(s)
			}
		}
		if to, _ = w.known.insert(canonical, target{id: fresh}, 0); to.id != fresh {
			*s = series{}
			w.series.unalloc(fresh)
		}
	}
	if id.replica != "" {
		var err error
		if to.replica, err = w.ha.replica(id.cluster, id.replica); err != nil {
			return target{}, err
		}
	}
	return to, nil
}

// admit returns the store's reference of ls, 0 if it has none and may make one.
func (w *writer) admit(app storage.AppenderV2, ls labels.Labels) (storage.SeriesRef, error) {
	if g, ok := app.(storage.GetRef); ok && w.limits.mayInherit(ls) {
		if ref, _ := g.GetRef(ls, ls.Hash()); ref != 0 {
			return ref, nil
		}
	}
	// Refused here, an unwanted series costs no memory at all.
	return 0, w.limits.check(ls)
}

// recall fills in what the store knows of a series that ingest does not: after a
// restart, or after its memory was swept.
func (w *writer) recall(s *series, ref storage.SeriesRef) {
	s.ref = ref
	if t, v, isHistogram, ok := w.store.Last(ref); ok {
		s.newest(t, v, isHistogram, 0)
		s.flags &^= appended
	}
}

// keysPerSeries and sparseKeys bound the remembered keys: two replicas in two
// protocols make four a series, and the rest is for series that relabelling
// drops. A sender who exceeds it with ever new labels costs time, not memory.
const (
	keysPerSeries = 4
	sparseKeys    = 1 << 20
)

func (w *writer) remember(k key, to target) {
	if k == (key{}) {
		return
	}
	if _, flushed := w.keys.insert(k, to, sparseKeys+keysPerSeries*w.series.len()); flushed {
		w.flushes.Inc()
	}
}

// clip keeps an error readable whatever a sender put into a label.
func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
