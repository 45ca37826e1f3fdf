package ingest

import (
	"maps"
	"strings"
	"sync"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/metadata"
)

// maxFamilies bounds the metadata kept: at 150 bytes of help a family about
// 15 MiB. Prometheus' own servers rarely see 10,000 families.
const maxFamilies = 50_000

// maxVariants bounds the different metadata of one family, as senders of
// different versions have it.
const maxVariants = 10

// Metadata remembers what senders say of metric families. It lives in memory:
// after a restart, senders repeat it within a minute (1.0) or with the first
// samples (2.0, OTLP).
type Metadata struct {
	mu       sync.RWMutex
	families map[string][]metadata.Metadata
}

func newMetadata() *Metadata { return &Metadata{families: map[string][]metadata.Metadata{}} }

// Families returns what senders say of one family, or of all when name is
// empty. A family has several entries where senders disagree, the newest first.
// The caller must not change the slices.
func (m *Metadata) Families(name string) map[string][]metadata.Metadata {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if name == "" {
		return maps.Clone(m.families)
	}
	if v, ok := m.families[name]; ok {
		return map[string][]metadata.Metadata{name: v}
	}
	return nil
}

// set remembers md for a family. The newest variant stands first.
func (m *Metadata) set(family string, md metadata.Metadata) {
	if md.IsEmpty() || md.Type == model.MetricTypeUnknown && md.Help == "" && md.Unit == "" {
		return
	}
	m.mu.RLock()
	v := m.families[family]
	known := len(v) > 0 && v[0] == md
	full := len(v) == 0 && len(m.families) >= maxFamilies
	m.mu.RUnlock()
	if known || full {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	next := []metadata.Metadata{md}
	for _, old := range m.families[family] {
		if old != md && len(next) < maxVariants {
			next = append(next, old)
		}
	}
	m.families[strings.Clone(family)] = next
}

// familyOf returns the name under which a series' metadata is kept: that of the
// series less the suffix that its type gives to parts of a histogram or summary.
func familyOf(series string, t model.MetricType) string {
	switch t {
	case model.MetricTypeHistogram, model.MetricTypeGaugeHistogram:
		return trimAny(series, "_bucket", "_count", "_sum")
	case model.MetricTypeSummary:
		return trimAny(series, "_count", "_sum")
	default:
		return series
	}
}

func trimAny(s string, suffixes ...string) string {
	for _, x := range suffixes {
		if t, ok := strings.CutSuffix(s, x); ok {
			return t
		}
	}
	return s
}
