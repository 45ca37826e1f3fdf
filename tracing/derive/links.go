package derive

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weir-dev/weir/tracing/spanstore"
)

// links counts the calls between services by the minute in which both spans of a call
// had come. A minute that is over does not change any more, so that it can be given
// out twice.
type links struct {
	limit int // of pairs in a minute

	mu   sync.Mutex
	now  minute
	over []minute // oldest first
}

type minute struct {
	at    int64 // Unix seconds; 0: none
	calls map[pair]uint64
}

type pair struct{ parent, child nodeID }

// maxMinutes bounds what is kept for a receiver that takes nothing.
const maxMinutes = 60

func newLinks(limit int) *links {
	return &links{limit: limit, now: minute{calls: make(map[pair]uint64)}}
}

func (l *links) add(parent, child nodeID) {
	p := pair{parent, child}
	l.mu.Lock()
	if n, ok := l.now.calls[p]; ok || len(l.now.calls) < l.limit {
		l.now.calls[p] = n + 1
	} else {
		l.now.calls[pair{otherNode, otherNode}]++
	}
	l.mu.Unlock()
}

// turn ends the minute if it is over at now.
func (l *links) turn(now time.Time) {
	at := now.Unix() - now.Unix()%60
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.now.at == 0 {
		l.now.at = at
	}
	if at <= l.now.at {
		return
	}
	if len(l.now.calls) > 0 {
		l.over = append(l.over, l.now)
		l.now.calls = make(map[pair]uint64)
	}
	l.now.at = at
	if n := len(l.over) - maxMinutes; n > 0 {
		l.over = slices.Delete(l.over, 0, n)
	}
}

// copies returns all minutes, the present one last.
func (l *links) copies() []minute {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := slices.Clone(l.over)
	calls := make(map[pair]uint64, len(l.now.calls))
	for p, n := range l.now.calls {
		calls[p] = n
	}
	return append(all, minute{l.now.at, calls})
}

func (l *links) drop() {
	l.mu.Lock()
	l.over = nil
	l.mu.Unlock()
}

// deliver gives out the minutes that are over, forgets those that were taken, and says
// how many.
func (l *links) deliver(ctx context.Context, all *names, to func(context.Context, time.Time, []spanstore.Dependency) error) (n int, err error) {
	for ; ; n++ {
		l.mu.Lock()
		if len(l.over) == 0 {
			l.mu.Unlock()
			return n, nil
		}
		m := l.over[0]
		l.mu.Unlock()
		if err := to(ctx, time.Unix(m.at, 0).UTC(), m.dependencies(all.all())); err != nil {
			return n, fmt.Errorf("store %d links between services of minute %d: %w", len(m.calls), m.at, err)
		}
		l.mu.Lock()
		l.over = l.over[1:] // only the flush takes from it
		l.mu.Unlock()
	}
}

func (m *minute) dependencies(names []string) []spanstore.Dependency {
	list := make([]spanstore.Dependency, 0, len(m.calls))
	for p, n := range m.calls {
		list = append(list, spanstore.Dependency{Parent: names[p.parent], Child: names[p.child], Calls: n})
	}
	slices.SortFunc(list, func(a, b spanstore.Dependency) int {
		return cmp.Or(cmp.Compare(a.Parent, b.Parent), cmp.Compare(a.Child, b.Child))
	})
	return list
}
