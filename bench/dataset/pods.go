package dataset

import (
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
)

// seriesPerPod is the number of series of one pod in every mix.
const seriesPerPod = 20

// podsPerService makes 2,000 series 20 services of 5 pods in 5 namespaces.
const (
	podsPerService       = 5
	servicesPerNamespace = 4
)

// pod is what its series share: names, load and the targets that expose them.
type pod struct {
	seed                     uint64
	namespace, service, name string
	addr, node               string
	rate                     float64  // requests a scrape, in the middle of the day
	latency                  float64  // seconds, mean of an ordinary hour
	phase                    float64  // of the day's load curve, radians
	offsets                  [2]int64 // ms into the interval that its two targets are scraped at
}

// lateness bounds how many ms a scrape is late; offsets leave room for it.
const lateness = 20

func newPod(seed uint64, i int) *pod {
	h := mix(seed ^ mix(uint64(i)+1))
	service := i / podsPerService
	p := &pod{
		seed:      h,
		namespace: "team-" + strconv.Itoa(service/servicesPerNamespace),
		service:   "service-" + strconv.Itoa(service),
		addr:      fmt.Sprintf("10.%d.%d.%d:8080", 128+i>>16&127, i>>8&255, i&255),
		node:      fmt.Sprintf("node-%d:10250", i/30),
		rate:      3 * math.Exp(unit(mix(h+1))*math.Log(200)), // 0.2 to 40 a second
		latency:   0.02 * math.Exp(unit(mix(h+2))*math.Log(20)),
		phase:     2 * math.Pi * unit(mix(h+3)),
	}
	p.name = fmt.Sprintf("%s-%08x-%05x", p.service, uint32(mix(seed+uint64(service))), mix(h+4)&0xfffff)
	for t := range p.offsets {
		p.offsets[t] = int64(mix(h+5+uint64(t)) % uint64(Interval.Milliseconds()-lateness))
	}
	return p
}

// template is one of a pod's series before the pod is known.
type template struct {
	name   string
	extra  []string // pairs of name and value
	target int      // 0: the application, 1: the node's cAdvisor
	kind   kind
	share  float64 // of the pod's requests
	bound  float64 // of a bucket, seconds
}

var templates = map[string][]template{"mix": mixTemplates(), "counters": counterTemplates()}

var bounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, math.Inf(1)}

// mixTemplates are 3 request counters, 12 buckets with their sum and count, and a
// counter and two gauges of the container.
func mixTemplates() []template {
	out := []template{
		{name: "http_requests_total", extra: []string{"code", "200"}, kind: requests, share: 0.96},
		{name: "http_requests_total", extra: []string{"code", "404"}, kind: requests, share: 0.03},
		{name: "http_requests_total", extra: []string{"code", "500"}, kind: requests, share: 0.01},
		{name: "http_request_duration_seconds_sum", kind: duration, share: 1},
		{name: "http_request_duration_seconds_count", kind: requests, share: 1},
		{name: "container_cpu_usage_seconds_total", target: 1, kind: processor, share: 1},
		{name: "container_memory_working_set_bytes", target: 1, kind: memory},
		{name: "go_goroutines", kind: whole},
	}
	for _, b := range bounds {
		le := strconv.FormatFloat(b, 'g', -1, 64)
		out = append(out, template{name: "http_request_duration_seconds_bucket", extra: []string{"le", le}, kind: bucket, share: 1, bound: b})
	}
	return out
}

func counterTemplates() []template {
	var out []template
	handlers := map[string]float64{"/": 0.4, "/api/items": 0.3, "/api/item": 0.2, "/api/search": 0.08, "/healthz": 0.02}
	codes := map[string]float64{"200": 0.9, "304": 0.06, "404": 0.03, "500": 0.01}
	for h, hs := range handlers {
		for c, cs := range codes {
			out = append(out, template{name: "http_requests_total", extra: []string{"code", c, "handler", h}, kind: requests, share: hs * cs})
		}
	}
	return out
}

// NewSeries returns all series in the order of their labels, each before its
// first sample.
func (s Spec) NewSeries() []*Series {
	out := make([]*Series, 0, s.Series)
	b := labels.NewScratchBuilder(8)
	for n := range s.Series / seriesPerPod {
		p := newPod(s.Seed, n)
		for i := range templates[s.Mix] {
			t := &templates[s.Mix][i]
			out = append(out, newSeries(s, p, t, p.labels(&b, t)))
		}
	}
	slices.SortFunc(out, func(a, b *Series) int { return labels.Compare(a.Labels, b.Labels) })
	return out
}

func (p *pod) labels(b *labels.ScratchBuilder, t *template) labels.Labels {
	b.Reset()
	b.Add(model.MetricNameLabel, t.name)
	for i := 0; i < len(t.extra); i += 2 {
		b.Add(t.extra[i], t.extra[i+1])
	}
	b.Add("namespace", p.namespace)
	b.Add("pod", p.name)
	if t.target == 1 {
		b.Add("instance", p.node)
		b.Add("job", "kubelet")
	} else {
		b.Add("instance", p.addr)
		b.Add("job", p.service)
		b.Add("service", p.service)
	}
	b.Sort()
	return b.Labels()
}

// mix is the finaliser of splitmix64: neighbouring inputs give unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// unit maps a hash to [0, 1).
func unit(h uint64) float64 { return float64(h>>11) / (1 << 53) }
