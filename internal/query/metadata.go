package query

import (
	"context"
	"errors"
	"net/http"

	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/metadata"
	"github.com/prometheus/prometheus/scrape"
	"github.com/prometheus/prometheus/util/httputil"
	v1 "github.com/prometheus/prometheus/web/api/v1"
)

// Metadata tells type, help and unit of metric families, as their senders gave
// them.
type Metadata interface {
	// Families returns what is known of one family, or of all when name is empty.
	// A family has several entries where senders disagree. The caller only reads
	// the answer, which must not change afterwards.
	Families(name string) map[string][]metadata.Metadata
}

// serveConfig answers /api/v1/status/config. Upstream's handler can only print
// upstream's configuration.
func (a *API) serveConfig(w http.ResponseWriter, r *http.Request) {
	httputil.SetCORS(w, a.prom.CORSOrigin, r)
	codec := v1.JSONCodec{}
	body, err := codec.Encode(&v1.Response{
		Status: "success",
		Data:   map[string]string{"yaml": a.deps.ConfigYAML()},
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", codec.ContentType().String())
	_, _ = w.Write(body) // the client has gone: nobody to tell
}

// withMetadata lets upstream's /api/v1/metadata find ingested metadata. Upstream
// asks its scrape targets, each of which knows one entry a family; so the n-th
// entries of all families are shown to it as the n-th target. Its parameters,
// limits and answer stay upstream's.
func (a *API) withMetadata(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		families := a.deps.Metadata.Families(r.FormValue("metric"))
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), familiesKey{}, families)))
	})
}

type familiesKey struct{}

// targetsFor returns the targets that a request may see: those made of metadata
// behind /api/v1/metadata, else none.
func targetsFor(ctx context.Context) targets {
	families, _ := ctx.Value(familiesKey{}).(map[string][]metadata.Metadata)
	depth := 0
	for _, entries := range families {
		depth = max(depth, len(entries))
	}
	ts := make(targets, depth)
	for i := range ts {
		ts[i] = scrape.NewTarget(labels.EmptyLabels(), &config.ScrapeConfig{}, nil, nil)
		ts[i].SetMetadataStore(layer{families, i})
	}
	return ts
}

type targets []*scrape.Target

func (ts targets) TargetsActive() map[string][]*scrape.Target {
	if len(ts) == 0 {
		return nil
	}
	return map[string][]*scrape.Target{"": ts}
}

func (targets) TargetsDropped() map[string][]*scrape.Target { return nil }
func (targets) TargetsDroppedCounts() map[string]int        { return map[string]int{} }

func (targets) ScrapePoolConfig(name string) (*config.ScrapeConfig, error) {
	return nil, errors.New("scrape pool not found: " + name)
}

// layer is the n-th entry of every family that has so many.
type layer struct {
	families map[string][]metadata.Metadata
	n        int
}

func (l layer) ListMetadata() []scrape.MetricMetadata {
	list := make([]scrape.MetricMetadata, 0, len(l.families))
	for name := range l.families {
		if m, ok := l.GetMetadata(name); ok {
			list = append(list, m)
		}
	}
	return list
}

func (l layer) GetMetadata(name string) (scrape.MetricMetadata, bool) {
	entries := l.families[name]
	if l.n >= len(entries) {
		return scrape.MetricMetadata{}, false
	}
	e := entries[l.n]
	return scrape.MetricMetadata{MetricFamily: name, Type: e.Type, Help: e.Help, Unit: e.Unit}, true
}

func (l layer) SizeMetadata() int   { return 0 }
func (l layer) LengthMetadata() int { return len(l.families) }
