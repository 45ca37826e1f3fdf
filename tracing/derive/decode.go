package derive

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"slices"

	"github.com/weir-dev/weir/tracing/span"
)

var errShort = errors.New("it ends too early")

// decoder reads what an encoder wrote. After the first error it reads zeros.
type decoder struct {
	data []byte
	err  error
}

func (r *decoder) uint() uint64 {
	v, n := binary.Uvarint(r.data)
	return v * r.took(n)
}

func (r *decoder) int() int64 {
	v, n := binary.Varint(r.data)
	return v * int64(r.took(n))
}

func (r *decoder) took(n int) uint64 {
	if n <= 0 {
		r.err, r.data = errShort, nil
		return 0
	}
	r.data = r.data[n:]
	return 1
}

func (r *decoder) bytes(n int) []byte {
	if n > len(r.data) {
		r.err, r.data = errShort, nil
		return make([]byte, min(n, 16))
	}
	b := r.data[:n]
	r.data = r.data[n:]
	return b
}

// count is of things that take at least one byte each.
func (r *decoder) count() int {
	n := r.uint()
	if n > uint64(len(r.data)) {
		r.err, r.data = errShort, nil
		return 0
	}
	return int(n)
}

func (r *decoder) text() string { return string(r.bytes(r.count())) }
func (r *decoder) flag() bool   { return r.uint() == 1 }

func (r *decoder) float() float64 {
	return math.Float64frombits(binary.LittleEndian.Uint64(r.bytes(8)))
}

func (r *decoder) num() float64 {
	if v := r.uint(); v&1 == 0 {
		return float64(v >> 1)
	}
	return r.float()
}

func (r *decoder) nums() []float64 {
	n := r.count()
	if n == 0 {
		return nil
	}
	v := make([]float64, n)
	for i := range v {
		v[i] = r.num()
	}
	return v
}

// hist returns an empty one when the bounds are not those of the file.
func (r *decoder) hist(cfg *Config, same bool) hist {
	classic := r.nums()
	if classic == nil {
		return hist{}
	}
	h := newHist(cfg.Buckets, cfg.Exemplars)
	sum, count := r.float(), r.num()
	native := sparse{schema: int32(r.int()), first: int32(r.int()), zero: r.num(), counts: r.nums()}
	if same && len(classic) == len(h.classic) {
		h.sum, h.count, h.classic, h.native = sum, count, classic, native
	}
	return h
}

func (d *Derive) decode(data []byte) (position uint64, err error) {
	body := len(data) - 4
	if body < len(magic) || string(data[:len(magic)]) != magic {
		return 0, errors.New("it does not begin with " + magic)
	}
	want := binary.LittleEndian.Uint32(data[body:])
	if got := crc32.Checksum(data[len(magic):body], crc32.MakeTable(crc32.Castagnoli)); got != want {
		return 0, fmt.Errorf("its CRC is %08x, want %08x", got, want)
	}
	return (&decoder{data: data[len(magic):body]}).body(d)
}

// body reads into an empty Derive.
func (r *decoder) body(d *Derive) (position uint64, err error) {
	position = r.uint()
	d.wroteAt = r.int()
	bounds := make([]float64, r.count())
	for i := range bounds {
		bounds[i] = r.float()
	}
	labels := make([]string, r.count())
	for i := range labels {
		labels[i] = r.text()
	}
	same := slices.Equal(bounds, d.cfg.Buckets)
	for range r.count() {
		svc := d.service(r.text())
		for range r.count() {
			r.series(svc, len(labels), same, slices.Equal(labels, d.labels))
		}
	}
	ids := make([]nodeID, r.count())
	for i := range ids {
		ids[i] = d.names.number(r.text(), true)
	}
	r.graph(d, ids, same)
	r.links(d, ids)
	return position, r.err
}

func (r *decoder) series(svc *service, dims int, sameBounds, sameLabels bool) {
	name, kind, status := r.text(), span.Kind(r.uint()), span.Status(r.uint())
	v := values{}
	for range dims {
		s := r.text()
		v.at = append(v.at, piece{len(v.buf), len(v.buf) + len(s)})
		v.buf = append(v.buf, s...)
	}
	bound, born, last := r.flag(), r.int(), r.int()
	total := redTotals{calls: r.num(), bytes: r.num(), latency: r.hist(&svc.d.cfg, sameBounds)}
	if r.err != nil || !sameLabels {
		return
	}
	h := svc.hash(name, kind, status, &v)
	if svc.find(h, name, kind, status, &v) != nil {
		return // two services of the file are "_other" of a smaller bound
	}
	x := svc.add(h, name, kind, status, &v, born)
	x.last, x.total, x.bound, x.out.announced = last, total, bound, true
	if bound {
		svc.count++
		svc.d.sets.Add(1)
	}
}

func (r *decoder) id(ids []nodeID) nodeID {
	n := r.uint()
	if n >= uint64(len(ids)) {
		r.err = cmp.Or(r.err, errors.New("it names a node that it does not list"))
		return nobody
	}
	return ids[n]
}

func (r *decoder) graph(d *Derive, ids []nodeID, same bool) {
	for range r.count() {
		k := edgeKey{r.id(ids), r.id(ids), conn(min(r.uint(), uint64(dropped)))}
		e := &edge{key: k, born: r.int(), last: r.int()}
		e.total = edgeTotals{calls: r.num(), failed: r.num(), server: r.hist(&d.cfg, same), client: r.hist(&d.cfg, same)}
		e.out.announced = true
		d.graph.edges[k] = e
	}
	for range r.count() {
		h := r.half(ids)
		if r.err != nil {
			return
		}
		trace := d.graph.trace(&h.key.trace)
		h.key = keyOf(trace, h.key.trace, h.key.id)
		sh := &d.graph.shards[trace>>60]
		sh.mu.Lock()
		d.graph.keep(sh, &h)
		sh.mu.Unlock()
	}
}

func (r *decoder) half(ids []nodeID) (h half) {
	copy(h.key.trace[:], r.bytes(16))
	copy(h.key.id[:], r.bytes(8))
	copy(h.trace[:], r.bytes(16))
	copy(h.span[:], r.bytes(8))
	h.side = side(r.uint() & 1)
	h.failed, h.message = r.flag(), r.flag()
	h.peerConn = conn(min(r.uint(), uint64(connVirtual)))
	h.node, h.peer = r.id(ids), r.id(ids)
	h.seconds, h.weight, h.born = r.float(), r.num(), r.int()
	return h
}

func (r *decoder) links(d *Derive, ids []nodeID) {
	for left := r.count(); left > 0; left-- {
		m := minute{at: r.int(), calls: make(map[pair]uint64)}
		for range r.count() {
			p := pair{r.id(ids), r.id(ids)}
			m.calls[p] += r.uint()
		}
		if left == 1 {
			d.links.now = m
		} else {
			d.links.over = append(d.links.over, m)
		}
	}
}
