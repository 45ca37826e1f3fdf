package jaegerv1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/jaegertracing/jaeger-idl/model/v1"
	"go.opentelemetry.io/collector/pdata/ptrace"

	"github.com/weir-dev/weir/tracing/jaegermodel"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

// traces writes an answer trace by trace, so that one is in memory at a time. Once it
// has begun, what goes wrong is told in its errors.
type traces struct {
	w       http.ResponseWriter
	begun   bool
	count   int
	buf     []byte
	notices []notice
}

func (t *traces) add(trace *model.Trace) error {
	t.buf = t.buf[:0]
	if t.count > 0 {
		t.buf = append(t.buf, ',')
	}
	t.buf = appendTrace(t.buf, trace)
	t.count++
	return t.flush()
}

func (t *traces) flush() error {
	if !t.begun {
		t.begun = true
		t.w.Header().Set("Content-Type", "application/json")
		t.buf = append([]byte(`{"data":[`), t.buf...)
	}
	_, err := t.w.Write(t.buf)
	return err
}

// end writes what comes after the traces.
func (t *traces) end() error {
	t.buf = t.buf[:0]
	errs, err := json.Marshal(t.notices)
	if err != nil {
		return fmt.Errorf("encode errors of answer: %w", err)
	}
	t.buf = append(t.buf, `],"total":0,"limit":0,"offset":0,"errors":`...)
	t.buf = append(append(t.buf, errs...), '}')
	return t.flush()
}

// answer calls each with a function that writes a trace.
func (h *handler) answer(w http.ResponseWriter, r *http.Request, each func(*traces) error) error {
	t := &traces{w: w}
	var whole bytes.Buffer
	if pretty(r) {
		t.w = buffered{w, &whole} // indenting needs it all
	}
	err := each(t)
	switch {
	case err != nil && !t.begun:
		return err
	case err != nil:
		h.deps.Log.Error("jaeger answer is incomplete", "path", r.URL.Path, "traces", t.count, "err", err)
		t.notices = append(t.notices, notice{Code: statusOf(err), Msg: "the answer is incomplete: " + err.Error()})
	}
	if err := t.end(); err != nil || whole.Len() == 0 {
		return nil // the client is gone, or has it all
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, whole.Bytes(), "", indent); err != nil {
		return fmt.Errorf("indent answer: %w", err)
	}
	_, _ = w.Write(indented.Bytes()) // the client is gone
	return nil
}

type buffered struct {
	http.ResponseWriter
	io.Writer
}

func (b buffered) Write(p []byte) (int, error) { return b.Writer.Write(p) }

func (h *handler) translated(b *span.Batch, raw bool) (*model.Trace, error) {
	t, err := jaegermodel.Trace(b)
	if err == nil && !raw {
		jaegermodel.Adjust(t, h.limits.MaxSkew)
	}
	return t, err
}

func (h *handler) trace(w http.ResponseWriter, r *http.Request, text string) error {
	id, err := parseID(text)
	if err != nil {
		return bad(err)
	}
	b, err := h.deps.Reader.Trace(r.Context(), id, hint(r))
	if err != nil {
		return err
	}
	if len(b.Spans) == 0 { // Grafana takes data[0]
		return spanstore.ErrNotFound
	}
	t, err := h.translated(b, raw(r))
	if err != nil {
		return err
	}
	return h.answer(w, r, func(out *traces) error { return out.add(t) })
}

func (h *handler) search(w http.ResponseWriter, r *http.Request, _ string) error {
	s, err := h.parseSearch(r)
	if err != nil {
		return bad(err)
	}
	return h.answer(w, r, func(out *traces) error {
		if len(s.ids) > 0 {
			return h.byID(r, s, out)
		}
		return h.find(r, s, out)
	})
}

func (h *handler) byID(r *http.Request, s search, out *traces) error {
	for _, id := range s.ids {
		b, err := h.deps.Reader.Trace(r.Context(), id, spanstore.Window{})
		if errors.Is(err, spanstore.ErrNotFound) {
			out.notices = append(out.notices, notice{Msg: spanstore.ErrNotFound.Error(), TraceID: jaegermodel.TraceID(id).String()})
			continue
		}
		if err != nil {
			return err
		}
		if err := h.add(out, b, s.raw); err != nil {
			return err
		}
	}
	return nil
}

func (h *handler) find(r *http.Request, s search, out *traces) error {
	var notes spanstore.Notes
	var err error
	if !s.never {
		notes, err = h.deps.Reader.Find(r.Context(), s.query, func(b *span.Batch) error { return h.add(out, b, s.raw) })
	}
	if s.note != "" && (s.never || out.count >= s.query.Limit) {
		out.notices = append(out.notices, notice{Msg: s.note})
	}
	if notes.Partial != "" {
		out.notices = append(out.notices, notice{Msg: "traces may be missing: " + notes.Partial})
	}
	return err
}

func (h *handler) add(out *traces, b *span.Batch, raw bool) error {
	t, err := h.translated(b, raw)
	if err != nil || len(t.Spans) == 0 {
		return err
	}
	return out.add(t)
}

func (h *handler) archive(w http.ResponseWriter, r *http.Request, text string) error {
	id, err := parseID(text)
	if err != nil {
		return bad(err)
	}
	if h.deps.Archive == nil {
		return fail(http.StatusInternalServerError, errors.New("archive span storage was not configured"))
	}
	if err := h.deps.Archive(r.Context(), id, hint(r)); err != nil {
		return err
	}
	return writeJSON(w, r, envelope{Data: []string{}, Errors: []notice{}})
}

// transform shows what somebody has as OTLP JSON, neither stored nor adjusted. Traces
// are in the order of their first spans.
func (h *handler) transform(w http.ResponseWriter, r *http.Request, _ string) error {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, h.limits.MaxBody))
	if large := (*http.MaxBytesError)(nil); errors.As(err, &large) {
		return fail(http.StatusRequestEntityTooLarge, fmt.Errorf("spans to transform: got more than %d bytes", large.Limit))
	}
	if err != nil {
		return bad(err)
	}
	otlp, err := (&ptrace.JSONUnmarshaler{}).UnmarshalTraces(body)
	if err != nil {
		return bad(fmt.Errorf("cannot unmarshal OTLP : %w", err))
	}
	b, err := span.FromTraces(otlp)
	if err != nil {
		return bad(err)
	}
	all, err := jaegermodel.Spans(b)
	if err != nil {
		return err
	}
	return h.answer(w, r, func(out *traces) error {
		for _, t := range byTrace(all.Spans) {
			if err := out.add(t); err != nil {
				return err
			}
		}
		return nil
	})
}

func byTrace(spans []*model.Span) []*model.Trace {
	var out []*model.Trace
	seen := make(map[model.TraceID]*model.Trace)
	for _, s := range spans {
		t := seen[s.TraceID]
		if t == nil {
			t = &model.Trace{}
			seen[s.TraceID] = t
			out = append(out, t)
		}
		t.Spans = append(t.Spans, s)
	}
	return out
}
