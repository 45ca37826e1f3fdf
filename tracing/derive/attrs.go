package derive

import (
	"math"
	"strconv"
	"strings"

	"github.com/weir-dev/weir/tracing/span"
)

// role is what an attribute is looked at for; positions in configured lists count
// from 1.
type role struct{ dim, database, peer, queue int }

// wanted is the attributes that matter. Most do not, and most of these are told by
// their length alone.
type wanted struct {
	roles   map[string]role
	lengths [4]uint64 // bit set of len(key), below 256
}

func newWanted(cfg *Config) wanted {
	w := wanted{roles: make(map[string]role)}
	add := func(keys []string, set func(*role, int)) {
		for i, k := range keys {
			r := w.roles[k]
			set(&r, i+1)
			w.roles[k] = r
			w.lengths[len(k)>>6&3] |= 1 << (len(k) & 63)
		}
	}
	add(cfg.Dimensions, func(r *role, i int) { r.dim = i })
	add(cfg.Graph.Databases, func(r *role, i int) { r.database = i })
	add(cfg.Graph.Peers, func(r *role, i int) { r.peer = i })
	add(cfg.Graph.Queues, func(r *role, i int) { r.queue = i })
	return w
}

func (w *wanted) role(key string) (role, bool) {
	if w.lengths[len(key)>>6&3]&(1<<(len(key)&63)) == 0 {
		return role{}, false
	}
	r, ok := w.roles[key]
	return r, ok
}

// lookAt finds dimensions, and the peer of a span that calls.
func (t *taking) lookAt(s *span.Span, c *call) {
	calls := s.Kind == span.KindClient || s.Kind == span.KindProducer || s.Kind == span.KindConsumer
	if !calls && len(t.d.labels) == 0 {
		return
	}
	var best role // 0: none yet
	for i := range s.Attrs {
		a := &s.Attrs[i]
		r, ok := t.d.wanted.role(a.Key)
		if !ok {
			continue
		}
		if r.dim > 0 {
			t.dims.set(r.dim-1, a.Value, t.d.cfg.MaxNameLength)
		}
		if !calls || a.Value.Type != span.TypeString || a.Value.Str == "" {
			continue
		}
		better(&best.database, r.database, &c.database, a.Value.Str)
		better(&best.peer, r.peer, &c.peer, a.Value.Str)
		better(&best.queue, r.queue, &c.queue, a.Value.Str)
	}
}

func better(best *int, rank int, to *string, s string) {
	if rank > 0 && (*best == 0 || rank < *best) {
		*best, *to = rank, s
	}
}

// values is the dimensions of a span or resource as text, in memory of its own that
// is used again.
type values struct {
	buf []byte
	at  []piece
}

type piece struct{ lo, hi int }

func (v *values) reset(n int) {
	v.buf = v.buf[:0]
	v.at = v.at[:0]
	for range n {
		v.at = append(v.at, piece{})
	}
}

func (v *values) copy(o *values) {
	v.buf = append(v.buf[:0], o.buf...)
	v.at = append(v.at[:0], o.at...)
}

// set gives dimension i the text of a value, as Jaeger prints it. Arrays and maps
// make no labels.
func (v *values) set(i int, from span.Value, limit int) {
	lo := len(v.buf)
	switch from.Type {
	case span.TypeString:
		v.buf = append(v.buf, clean(from.Str, limit)...)
	case span.TypeBool:
		v.buf = strconv.AppendBool(v.buf, from.Num != 0)
	case span.TypeInt:
		v.buf = strconv.AppendInt(v.buf, int64(from.Num), 10)
	case span.TypeDouble:
		v.buf = strconv.AppendFloat(v.buf, math.Float64frombits(from.Num), 'g', -1, 64)
	default:
		return
	}
	v.at[i] = piece{lo, len(v.buf)}
}

func (v *values) get(i int) []byte { return v.buf[v.at[i].lo:v.at[i].hi] }

// weight is how many spans one stands for whose sender kept it with the probability
// that its W3C tracestate tells: the OpenTelemetry member `ot` with the rejection
// threshold `th`, up to 14 hex digits of 56 bits, trailing zeros left out. Without
// one, or with one that is malformed, it is 1.
func weight(state string) float64 {
	for member := range strings.SplitSeq(state, ",") {
		sub, ok := strings.CutPrefix(strings.TrimSpace(member), "ot=")
		if !ok {
			continue
		}
		for field := range strings.SplitSeq(sub, ";") {
			if th, ok := strings.CutPrefix(field, "th:"); ok {
				return thresholdWeight(th)
			}
		}
	}
	return 1
}

// maxWeight bounds what one span can add: a sender that keeps fewer than one in a
// million is mistaken or malicious.
const maxWeight = 1 << 20

func thresholdWeight(th string) float64 {
	if th == "" || len(th) > 14 {
		return 1
	}
	t, err := strconv.ParseUint(th, 16, 64)
	if err != nil {
		return 1
	}
	t <<= 4 * (14 - len(th))
	const all = 1 << 56
	return min(all/float64(all-t), maxWeight)
}
