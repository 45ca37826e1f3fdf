package main

import (
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
)

// seriesPerPod is how many series one pod has in every plane together: cAdvisor,
// kube-state-metrics, its Istio sidecar and itself.
const seriesPerPod = 50

// clusterLabel marks every series that bench sends, in every protocol, so that a
// query can count ours alone.
const clusterLabel = "prod-eu-west-1"

// shape is how the values of a metric move.
type shape uint8

const (
	countInt   shape = iota // whole numbers that only grow, with jitter
	countMicro              // seconds that only grow, in whole microseconds
	gaugeBytes              // multiples of 4096
	gaugeMilli              // three decimals
	constant                // never changes
)

// metric is what all series of one name share.
type metric struct {
	name, help, unit string
	shape            shape
	counter          bool
}

type label struct{ name, value string }

// template is one of a pod's 50 series before the pod is known. share scales
// the value, so that the buckets of a histogram grow with their bound.
type template struct {
	metric *metric
	plane  plane
	extra  []label
	share  float64
}

// plane is who exposes a series; it decides the labels.
type plane uint8

const (
	cadvisor plane = iota
	stateMetrics
	istio
	application
)

// series is one time series. Its labels are sorted by name.
type series struct {
	metric *metric
	plane  plane
	labels []label
	seed   uint64
	share  float64
}

// pod holds what the labels of one pod's series are made of. slot is its place,
// which keeps namespace and workload; gen counts its replacements.
type pod struct {
	slot, gen                        int
	seed                             uint64
	namespace, workload, name, uid   string
	node, nodeAddr, addr             string
	containerID, cgroup, image, peer string
	offset                           int64 // ms into the scrape interval
}

// teams and services name workloads; their lengths are those of ordinary
// clusters and give the label sizes that TestLabelMix holds to.
var (
	teams    = []string{"payments", "checkout", "identity", "search", "inventory", "shipping", "platform-observability", "recommendations"}
	services = []string{"api-gateway", "ledger", "session-store", "cart", "catalog-indexer", "pricing", "notification-worker", "fraud-scorer", "orders", "profile"}
)

// newPod derives everything from (seed, slot, gen): the same three give the
// same pod.
func newPod(seed uint64, slot, gen int) *pod {
	h := mix(seed ^ mix(uint64(slot)<<20|uint64(gen)))
	team := teams[(slot/100)%len(teams)]
	svc := services[(slot/10)%len(services)]
	replica := slot / (len(teams) * 100)
	node := int(h>>8) % (slot/30 + 3)
	hexes := hex.EncodeToString(bytes32(h))
	p := &pod{
		slot: slot, gen: gen, seed: h,
		namespace:   team + "-prod",
		workload:    fmt.Sprintf("%s-%d", svc, replica),
		uid:         hexes[0:8] + "-" + hexes[8:12] + "-4" + hexes[13:16] + "-a" + hexes[17:20] + "-" + hexes[20:32],
		node:        fmt.Sprintf("ip-10-%d-%d-%d.eu-west-1.compute.internal", node>>16&255, node>>8&255, node&255),
		nodeAddr:    fmt.Sprintf("10.%d.%d.%d:10250", node>>16&255, node>>8&255, node&255),
		addr:        fmt.Sprintf("10.%d.%d.%d:15020", 128+slot>>16&127, slot>>8&255, slot&255),
		containerID: hex.EncodeToString(bytes32(mix(h + 1))),
		image:       "registry.example.com/" + team + "/" + svc + ":v1." + strconv.Itoa(gen) + ".7",
		peer:        services[(slot/10+3)%len(services)] + "-" + strconv.Itoa(replica),
		offset:      int64(h % uint64(scrapeInterval.Milliseconds())),
	}
	p.name = p.workload + "-" + hexes[32:42] + "-" + hexes[42:47]
	p.cgroup = "/kubepods/burstable/pod" + p.uid + "/" + p.containerID
	return p
}

// series returns the pod's 50 series, always in the same order.
func (p *pod) series() []series {
	out := make([]series, len(templates))
	for i := range templates {
		t := &templates[i]
		seed := mix(p.seed + uint64(i))
		if t.share != 1 { // the buckets of one histogram follow one count
			seed = mix(p.seed ^ 0xb0c)
		}
		out[i] = series{metric: t.metric, plane: t.plane, seed: seed, share: t.share, labels: p.labels(t)}
	}
	return out
}

// labels joins the pod's labels of the template's plane with the template's
// own, sorted by name.
func (p *pod) labels(t *template) []label {
	var own []label
	switch t.plane {
	case cadvisor:
		own = []label{
			{"cluster", clusterLabel}, {"container", p.workload}, {"id", p.cgroup},
			{"image", p.image}, {"instance", p.nodeAddr}, {"job", "kubelet"}, {"metrics_path", "/metrics/cadvisor"},
			{"name", p.containerID}, {"namespace", p.namespace}, {"node", p.node}, {"pod", p.name},
		}
	case stateMetrics:
		own = []label{
			{"cluster", clusterLabel}, {"container", p.workload}, {"instance", "10.128.0.17:8080"},
			{"job", "kube-state-metrics"}, {"namespace", p.namespace}, {"node", p.node}, {"pod", p.name}, {"uid", p.uid},
		}
	case istio:
		own = []label{
			{"cluster", clusterLabel}, {"connection_security_policy", "mutual_tls"},
			{"destination_service", p.workload + "." + p.namespace + ".svc.cluster.local"},
			{"destination_workload", p.workload}, {"instance", p.addr}, {"job", "envoy-stats"}, {"namespace", p.namespace},
			{"pod", p.name}, {"reporter", "destination"}, {"request_protocol", "http"},
			{"source_workload", p.peer},
		}
	case application:
		own = []label{
			{"app_kubernetes_io_name", p.workload}, {"cluster", clusterLabel}, {"container", p.workload},
			{"instance", p.addr}, {"job", p.namespace + "/" + p.workload}, {"namespace", p.namespace},
			{"pod", p.name}, {"version", p.image[len(p.image)-6:]},
		}
	}
	return mergeLabels(t.metric.name, own, t.extra)
}

// mergeLabels joins two lists sorted by name behind the metric name. Upper-case
// and underscore sort before lower-case letters, so __name__ comes first.
func mergeLabels(name string, a, b []label) []label {
	out := make([]label, 0, 1+len(a)+len(b))
	out = append(out, label{"__name__", name})
	for len(a) > 0 || len(b) > 0 {
		if len(b) == 0 || (len(a) > 0 && a[0].name < b[0].name) {
			out, a = append(out, a[0]), a[1:]
		} else {
			out, b = append(out, b[0]), b[1:]
		}
	}
	return out
}

// at is the series' value in its n-th scrape. Counters never fall.
func (s *series) at(n int64) float64 {
	rate := int64(5 + s.seed>>16%200) // a scrape
	base := int64(s.seed >> 40 % 1_000_000)
	jitter := func(width int64) int64 { return int64(mix(s.seed+uint64(n)*0x9e37) % uint64(width)) }
	switch s.metric.shape {
	case countInt:
		return math.Floor(float64(base+rate*n+jitter(rate)) * s.share)
	case countMicro:
		us := base*1000 + rate*20_000*n + jitter(rate*20_000)
		return float64(us) / 1e6
	case gaugeBytes:
		return float64(4096 * (base/8 + 2000 + jitter(600)))
	case gaugeMilli:
		return float64(base%50_000+jitter(5000)) / 1000
	default:
		return s.share * float64(base%4096)
	}
}

// mix is the finaliser of splitmix64: neighbouring inputs give unrelated outputs.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

func bytes32(h uint64) []byte {
	b := make([]byte, 0, 32)
	for range 4 {
		h = mix(h)
		for s := 0; s < 64; s += 8 {
			b = append(b, byte(h>>s))
		}
	}
	return b
}
