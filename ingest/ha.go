package ingest

import (
	"sync"
)

// replicaID numbers the replicas of all HA pairs; 0 is none.
type replicaID uint32

// pairs knows the clusters that send in several replicas and which replica of
// each is elected.
type pairs struct {
	clusterLabel, replicaLabel string

	mu       sync.Mutex
	ids      map[[2]string]replicaID
	replicas []*replica
}

type replica struct {
	cluster, name string
}

// verdict says whether a replica's samples are stored or held back.
type verdict struct {
	replica replicaID
	admit   bool
}

func newPairs(cfg HAConfig) *pairs {
	return &pairs{
		clusterLabel: cfg.ClusterLabel, replicaLabel: cfg.ReplicaLabel,
		ids: map[[2]string]replicaID{}, replicas: []*replica{nil},
	}
}

// replica returns the number of a replica of a cluster.
func (p *pairs) replica(cluster, name string) replicaID {
	p.mu.Lock()
	defer p.mu.Unlock()
	k := [2]string{cluster, name}
	id, ok := p.ids[k]
	if !ok {
		id = replicaID(len(p.replicas))
		p.replicas = append(p.replicas, &replica{cluster, name})
		p.ids[k] = id
	}
	return id
}

// elect fills b.verdict: one for each replica that b has samples of.
func (w *writer) elect(b *batch) {
	for _, to := range b.targets {
		if to.replica != 0 && !b.met(to.replica) {
			b.verdict = append(b.verdict, verdict{to.replica, true})
		}
	}
}

func (b *batch) met(r replicaID) bool {
	for _, v := range b.verdict {
		if v.replica == r {
			return true
		}
	}
	return false
}

func (b *batch) admits(r replicaID) bool {
	for _, v := range b.verdict {
		if v.replica == r {
			return v.admit
		}
	}
	return true
}

// hold keeps back the samples of series i.
func (w *writer) hold(b *batch, i int, _ target, s *series) {
	w.countSeries(b, i, s.cluster, deduplicated)
}
