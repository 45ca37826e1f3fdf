package derive

import (
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

const (
	// other stands for what is beyond a bound.
	other = "_other"
	// noService is what Jaeger calls the service of a resource without service.name.
	noService = "OTLPResourceNoServiceName"
	// user is the virtual node that calls where no client is known, as Tempo names it.
	user = "user"
)

var ownLabels = []string{"service", "span_name", "span_kind", "status_code", "le"}

// labelName is an attribute's name as a label: letters, digits and underscores.
func labelName(attr string) string {
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, attr)
	if name != "" && name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

func itoa(n int) string { return strconv.Itoa(n) }

// clean returns s as a label value: UTF-8 of at most limit bytes. Two names that look
// the same as labels must be one series, so names are cleaned before they are looked
// up.
func clean(s string, limit int) string {
	if len(s) <= limit && utf8.ValidString(s) {
		return s
	}
	s = strings.ToValidUTF8(s[:min(len(s), 2*limit)], "\uFFFD")
	if len(s) > limit {
		for limit > 0 && !utf8.RuneStart(s[limit]) {
			limit--
		}
		s = s[:limit]
	}
	return s
}

// nodeID numbers the names of services and virtual nodes.
type nodeID uint32

const (
	nobody    nodeID = 0 // an empty label
	otherNode nodeID = 1
	userNode  nodeID = 2
)

// names numbers nodes of the graph. Services and virtual nodes have a quota each, so
// that peers which are addresses leave room for services.
type names struct {
	limit int

	mu       sync.RWMutex
	ids      map[string]nodeID
	list     []string
	services int
	virtual  int
}

func newNames(limit int) *names {
	n := &names{limit: limit, ids: make(map[string]nodeID)}
	for id, name := range []string{"", other, user} {
		n.ids[name] = nodeID(id)
		n.list = append(n.list, name)
	}
	return n
}

// number returns the id of a clean name, which is borrowed.
func (n *names) number(name string, virtual bool) nodeID {
	n.mu.RLock()
	id, ok := n.ids[name]
	n.mu.RUnlock()
	if ok {
		return id
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if id, ok := n.ids[name]; ok {
		return id
	}
	quota := &n.services
	if virtual {
		quota = &n.virtual
	}
	if *quota >= n.limit {
		return otherNode
	}
	*quota++
	name = strings.Clone(name)
	id = nodeID(len(n.list))
	n.ids[name] = id
	n.list = append(n.list, name)
	return id
}

// all returns the names by id. It is not to be written to.
func (n *names) all() []string {
	n.mu.RLock()
	defer n.mu.RUnlock()
	return n.list[:len(n.list):len(n.list)]
}
