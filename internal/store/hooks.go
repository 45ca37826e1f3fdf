package store

import (
	"sync/atomic"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// gatedHooks keeps PreCreation from being asked during replay: the TSDB asks it
// for each series record of the WAL, and a refusal there ends the start with an
// error that is taken for a corrupt WAL.
type gatedHooks struct {
	next  tsdb.SeriesLifecycleCallback // may be nil
	ready atomic.Bool
}

func (h *gatedHooks) PreCreation(ls labels.Labels) error {
	if h.next == nil || !h.ready.Load() {
		return nil
	}
	return h.next.PreCreation(ls)
}

func (h *gatedHooks) PostCreation(ls labels.Labels) {
	if h.next != nil {
		h.next.PostCreation(ls)
	}
}

// PostDeletion is called by the TSDB once for each of its stripes, mostly
// with an empty map, which is kept from the next.
func (h *gatedHooks) PostDeletion(gone map[chunks.HeadSeriesRef]labels.Labels) {
	if h.next != nil && len(gone) > 0 {
		h.next.PostDeletion(gone)
	}
}
