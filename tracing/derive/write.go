package derive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/exemplar"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

// family is a metric.
type family struct {
	name, help string
	kind       model.MetricType
}

var (
	callsFamily    = family{name: "traces_spanmetrics_calls_total", kind: model.MetricTypeCounter, help: "Spans by service, name, kind and status."}
	latencyFamily  = family{name: "traces_spanmetrics_latency", kind: model.MetricTypeHistogram, help: "Durations of spans in seconds."}
	sizeFamily     = family{name: "traces_spanmetrics_size_total", kind: model.MetricTypeCounter, help: "Bytes of spans, as OTLP encodes them."}
	requestsFamily = family{name: "traces_service_graph_request_total", kind: model.MetricTypeCounter, help: "Calls of one node of the service graph by another."}
	failedFamily   = family{name: "traces_service_graph_request_failed_total", kind: model.MetricTypeCounter, help: "Calls of which either span has the status error."}
	serverFamily   = family{name: "traces_service_graph_request_server_seconds", kind: model.MetricTypeHistogram, help: "Durations of calls as the server's span has them; of virtual nodes, the client's."}
	clientFamily   = family{name: "traces_service_graph_request_client_seconds", kind: model.MetricTypeHistogram, help: "Durations of calls as the client's span has them."}
	unpairedFamily = family{name: "traces_service_graph_unpaired_spans_total", kind: model.MetricTypeCounter, help: "Client and server spans whose other half did not come in time."}
	droppedFamily  = family{name: "traces_service_graph_dropped_spans_total", kind: model.MetricTypeCounter, help: "Client and server spans that could not wait for their other half for want of room."}
	kindNames      = [...]string{"SPAN_KIND_UNSPECIFIED", "SPAN_KIND_INTERNAL", "SPAN_KIND_SERVER", "SPAN_KIND_CLIENT", "SPAN_KIND_PRODUCER", "SPAN_KIND_CONSUMER"}
	statusNames    = [...]string{"STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"}
	staleNaN       = math.Float64frombits(value.StaleNaN)
)

// batchSamples is how many samples one appender takes: it bounds its memory, about
// 100 bytes a sample. unmeasured.
const batchSamples = 20_000

// write appends one sample for each series of the checkpoint.
//
// A series that was never written gets a sample 0 before its first one, or the spans
// that made it would be missing in increase() and rate().
func (d *Derive) write(ctx context.Context) error {
	f := &d.status.frozen
	if f.at <= d.wroteAt {
		return nil // the clock went back: these samples come later
	}
	d.pins.turn(f.at)
	w := &writer{d: d, ctx: ctx, t: f.at, zeroAt: max(f.at-d.cfg.Interval.Std().Milliseconds(), d.wroteAt+1)}
	for _, s := range f.services {
		for _, x := range s.sets {
			w.series(s.svc, x)
		}
	}
	for _, e := range f.edges {
		w.edge(e, f.names)
	}
	w.commit()
	d.metrics.samples.Add(float64(w.written))
	d.metrics.refused.Add(float64(w.refused))
	d.metrics.exemplars.Add(float64(w.exemplars))
	if w.err != nil {
		return fmt.Errorf("append derived samples: %w", w.err)
	}
	d.wroteAt = f.at
	if d.cfg.Idle > 0 {
		idle := f.at - d.cfg.Idle.Std().Milliseconds()
		for _, s := range f.services {
			s.svc.end(idle)
		}
		d.graph.end(idle)
	}
	if w.refused > 0 {
		return fmt.Errorf("append derived samples: %d of %d refused, the first: %w", w.refused, w.refused+w.written, w.refusal)
	}
	return nil
}

// writer is one flush. After an error it does nothing.
type writer struct {
	d         *Derive
	ctx       context.Context
	t, zeroAt int64
	app       storage.AppenderV2
	pending   int       // samples in app
	open      []*output // whose samples are in app
	err       error

	written, refused, exemplars int
	refusal                     error

	// Of the label set at hand.
	out     *output
	born    int64
	i       int // of its series
	base    []labels.Label
	scratch labels.ScratchBuilder
}

func (w *writer) begin(out *output, born int64) {
	w.out, w.born, w.i, w.base = out, born, 0, w.base[:0]
}

func (w *writer) label(name, value string) {
	if value != "" {
		w.base = append(w.base, labels.Label{Name: name, Value: value})
	}
}

func (w *writer) series(svc *service, x *series) {
	w.begin(&x.out, x.born)
	w.label("service", svc.name)
	w.label("span_name", x.name)
	w.label("span_kind", kindNames[x.kind])
	w.label("status_code", statusNames[x.status])
	for i, v := range x.dims {
		w.label(w.d.labels[i], v)
	}
	w.counter(&callsFamily, x.shown.calls)
	if w.d.cfg.Size {
		w.counter(&sizeFamily, x.shown.bytes)
	}
	w.hist(&latencyFamily, &x.shown.latency)
	w.end()
}

func (w *writer) edge(e *edge, names []string) {
	w.begin(&e.out, e.born)
	w.label("client", names[e.key.client])
	w.label("server", names[e.key.server])
	switch e.key.conn {
	case unpaired:
		w.counter(&unpairedFamily, e.shown.calls)
	case dropped:
		w.counter(&droppedFamily, e.shown.calls)
	default:
		w.label("connection_type", connNames[e.key.conn])
		w.counter(&requestsFamily, e.shown.calls)
		w.counter(&failedFamily, e.shown.failed)
		// A half that is seen later must not move the references of the other.
		w.hist(&serverFamily, &e.shown.server)
		w.hist(&clientFamily, &e.shown.client)
	}
	w.end()
}

// end remembers whose samples the open appender holds, and commits it when it is big.
func (w *writer) end() {
	w.open = append(w.open, w.out)
	if w.pending >= batchSamples {
		w.commit()
	}
}

func (w *writer) commit() {
	if w.app == nil {
		return
	}
	if w.err == nil {
		w.err = w.app.Commit()
	} else {
		w.err = errors.Join(w.err, w.app.Rollback())
	}
	if w.err == nil {
		w.written += w.pending
		for _, o := range w.open {
			o.announced = true
		}
	}
	w.app, w.pending, w.open = nil, 0, w.open[:0]
}

func (w *writer) counter(f *family, v float64) {
	w.sample(f, f.name, "", v, nil, nil, nil)
}

// hist writes a histogram in the forms that are wanted. Its place among the label
// set's references is taken even if it is empty.
func (w *writer) hist(f *family, h *hist) {
	cfg := &w.d.cfg
	if h.classic == nil {
		if cfg.Classic {
			w.i += len(cfg.Buckets) + 3
		}
		if cfg.Native {
			w.i++
		}
		return
	}
	picks := w.picks(h)
	if cfg.Classic {
		sum := 0.0
		for i, c := range h.classic {
			sum += c
			le := "+Inf"
			if i < len(cfg.Buckets) {
				le = strconv.FormatFloat(cfg.Buckets[i], 'g', -1, 64)
			}
			var ex []exemplar.Exemplar
			for j := range picks {
				if bucket(cfg.Buckets, picks[j].Value) == i {
					ex = picks[j : j+1]
				}
			}
			w.sample(f, f.name+"_bucket", le, sum, nil, nil, ex)
		}
		w.sample(f, f.name+"_sum", "", h.sum, nil, nil, nil)
		w.sample(f, f.name+"_count", "", sum, nil, nil, nil)
	}
	if !cfg.Native {
		return
	}
	// Of several exemplars the store wants the time ascending, then the value.
	slices.SortFunc(picks, func(a, b exemplar.Exemplar) int {
		return cmp.Or(cmp.Compare(a.Ts, b.Ts), cmp.Compare(a.Value, b.Value))
	})
	if h.whole() {
		w.sample(f, f.name, "", 0, h.integer(), nil, picks)
	} else {
		w.sample(f, f.name, "", 0, nil, h.float(), picks)
	}
}

// picks are the exemplars of the interval, of ascending buckets. Their traces are
// pinned; one that cannot be is left out, for an exemplar must lead somewhere.
func (w *writer) picks(h *hist) []exemplar.Exemplar {
	var list []exemplar.Exemplar
	for i := range h.picks {
		p := &h.picks[i]
		if p.at == 0 || p.trace.IsZero() || !w.d.pins.add(p.trace) {
			continue
		}
		if unwanted := w.d.deps.Unwanted; unwanted != nil && unwanted(p.trace) {
			continue // decided before it was pinned
		}
		list = append(list, exemplar.Exemplar{
			Labels: labels.FromStrings("span_id", p.id.String(), "trace_id", p.trace.String()),
			Value:  p.value, Ts: p.at, HasTs: true,
		})
	}
	w.exemplars += len(list)
	return list
}

// sample appends one sample to the series at hand and moves on to the next.
func (w *writer) sample(f *family, name, le string, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, ex []exemplar.Exemplar) {
	at := w.i
	w.i++
	for len(w.out.refs) <= at {
		w.out.refs = append(w.out.refs, 0)
	}
	if w.err != nil {
		return
	}
	if w.app == nil {
		if w.err = w.ctx.Err(); w.err != nil {
			return
		}
		w.app = w.d.deps.Samples.AppenderV2(w.ctx)
	}
	opts := storage.AOptions{
		MetricFamilyName: f.name, Exemplars: ex, RejectOutOfOrder: true,
		Metadata: metadata.Metadata{Type: f.kind, Help: f.help},
	}
	ref, st := &w.out.refs[at], min(w.born, w.t-1)
	if w.out.ending {
		v, h, fh, opts.Exemplars = stale(v, h, fh)
	} else if !w.out.announced {
		v0, h0, fh0 := zero(h, fh)
		zeroOpts := opts
		zeroOpts.Exemplars = nil
		if err := w.append(ref, name, le, 0, w.zeroAt, v0, h0, fh0, zeroOpts); err != nil && !refusal(err) {
			w.err = err
			return
		}
	}
	err := w.append(ref, name, le, st, w.t, v, h, fh, opts)
	switch {
	case err == nil:
		w.pending++
	case refusal(err):
		w.refused++
		w.refusal = cmp.Or(w.refusal, err)
	default:
		w.err = err
	}
}

// append appends by reference, or by labels to a store that does not know it.
func (w *writer) append(ref *storage.SeriesRef, name, le string, st, t int64, v float64, h *histogram.Histogram, fh *histogram.FloatHistogram, opts storage.AOptions) error {
	if *ref != 0 {
		got, err := w.app.Append(*ref, labels.EmptyLabels(), st, t, v, h, fh, opts)
		if err = w.without(err); err == nil {
			*ref = got
			return nil
		}
		if refusal(err) || w.ctx.Err() != nil {
			return err
		}
	}
	got, err := w.app.Append(0, w.labels(name, le), st, t, v, h, fh, opts)
	if err = w.without(err); err == nil {
		*ref = got
	}
	return err
}

// without takes the errors of exemplars out: the sample was appended.
func (w *writer) without(err error) error {
	var partial *storage.AppendPartialError
	if errors.As(err, &partial) {
		w.d.metrics.exemplarsRefused.Add(float64(len(partial.ExemplarErrors)))
		return nil
	}
	return err
}

func (w *writer) labels(name, le string) labels.Labels {
	w.scratch.Reset()
	w.scratch.Add(model.MetricNameLabel, name)
	for _, l := range w.base {
		w.scratch.Add(l.Name, l.Value)
	}
	if le != "" {
		w.scratch.Add("le", le)
	}
	w.scratch.Sort()
	return w.scratch.Labels()
}

// refusal says whether the store refuses one sample, not all.
func refusal(err error) bool {
	return errors.Is(err, storage.ErrOutOfOrderSample) || errors.Is(err, storage.ErrDuplicateSampleForTimestamp) ||
		errors.Is(err, storage.ErrOutOfBounds) || errors.Is(err, storage.ErrTooOldSample)
}

func zero(h *histogram.Histogram, fh *histogram.FloatHistogram) (float64, *histogram.Histogram, *histogram.FloatHistogram) {
	switch {
	case h != nil:
		return 0, &histogram.Histogram{Schema: h.Schema, ZeroThreshold: h.ZeroThreshold}, nil
	case fh != nil:
		return 0, nil, &histogram.FloatHistogram{Schema: fh.Schema, ZeroThreshold: fh.ZeroThreshold}
	}
	return 0, nil, nil
}

func stale(v float64, h *histogram.Histogram, fh *histogram.FloatHistogram) (float64, *histogram.Histogram, *histogram.FloatHistogram, []exemplar.Exemplar) {
	switch {
	case h != nil:
		return 0, &histogram.Histogram{Sum: staleNaN}, nil, nil
	case fh != nil:
		return 0, nil, &histogram.FloatHistogram{Sum: staleNaN}, nil
	}
	return staleNaN, nil, nil, nil
}
