package jaegerv1

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/jaegermodel"
	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
)

// TestEmbeddedStore has the same answers from the embedded store as from memory, which
// are compared with Jaeger's. Dependencies are left out: they come from the service
// graph. So is what the store does not take twice, the very same span.
func TestEmbeddedStore(t *testing.T) {
	c := generated(t)
	handlers := make(map[string]http.Handler)
	for name, s := range c.Stores {
		handlers[name] = serve(t, Deps{Reader: embedded(t, once(s.batch)), Limits: Limits{MaxSkew: s.Skew}})
	}
	same := 0
	for _, r := range c.Cases {
		if r.Base != "" || r.Method != http.MethodGet || strings.HasPrefix(r.Path, "/api/dependencies") || c.Stores[r.Store].Metrics != nil {
			continue
		}
		s := c.Stores[r.Store]
		s.batch = once(s.batch)
		want := answerOf(t, s, r)
		w := httptest.NewRecorder()
		handlers[r.Store].ServeHTTP(w, httptest.NewRequest(r.Method, r.Path, nil))
		if got := (reply{Status: w.Code, Type: w.Header().Get("Content-Type"), Body: w.Body.String()}); show(got) != show(want) {
			t.Errorf("%s\ngot  %s\nwant %s", r.Name, show(got), show(want))
			continue
		}
		same++
	}
	t.Logf("%d answers are the same", same)
	if same < 300 {
		t.Errorf("%d answers were compared, want at least 300", same)
	}
}

// once leaves out what is there twice.
func once(b *span.Batch) *span.Batch {
	out := *b
	seen := make(map[string]bool)
	out.Spans = slices.DeleteFunc(slices.Clone(b.Spans), func(s span.Span) bool {
		key := fmt.Sprintf("%+v", s)
		defer func() { seen[key] = true }()
		return seen[key]
	})
	return &out
}

func embedded(t *testing.T, b *span.Batch) *pebblestore.Store {
	t.Helper()
	cfg := pebblestore.DefaultConfig()
	cfg.Dir, cfg.MinFree, cfg.Sync = t.TempDir(), 0, false
	cfg.Memory.Cache, cfg.Memory.Memtable, cfg.Memory.RecentSpans = 8<<20, 4<<20, 64<<10
	s, err := pebblestore.New(cfg, pebblestore.Deps{Logger: slog.New(slog.DiscardHandler), Now: func() time.Time { return epoch.Add(2 * time.Hour) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Open(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	named := *b
	named.Resources = slices.Clone(b.Resources)
	for i := range named.Resources {
		named.Resources[i].Service = jaegermodel.ServiceName(&named.Resources[i])
	}
	if _, err := s.Append(t.Context(), &named); err != nil {
		t.Fatal(err)
	}
	return s
}
