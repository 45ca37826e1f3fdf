package derive

import (
	"encoding/binary"
	"hash/crc32"
	"math"
)

const magic = "weirdrv1"

// encoder appends the checkpoint's form: whole numbers as varints, floats by num,
// texts with their length. The file is magic, body, and the body's CRC-32C.
type encoder []byte

func (e *encoder) uint(v uint64)   { *e = binary.AppendUvarint(*e, v) }
func (e *encoder) int(v int64)     { *e = binary.AppendVarint(*e, v) }
func (e *encoder) text(s string)   { e.uint(uint64(len(s))); *e = append(*e, s...) }
func (e *encoder) bytes(b []byte)  { *e = append(*e, b...) }
func (e *encoder) float(v float64) { *e = binary.LittleEndian.AppendUint64(*e, math.Float64bits(v)) }

// num is short for whole numbers, which counts are but for weights.
func (e *encoder) num(v float64) {
	if v >= 0 && v < 1<<53 && v == math.Trunc(v) {
		e.uint(uint64(v) << 1)
		return
	}
	e.uint(1)
	e.float(v)
}

func (e *encoder) flag(v bool) {
	if v {
		e.uint(1)
	} else {
		e.uint(0)
	}
}

func (e *encoder) nums(v []float64) {
	e.uint(uint64(len(v)))
	for _, f := range v {
		e.num(f)
	}
}

func (e *encoder) hist(h *hist) {
	e.nums(h.classic)
	if h.classic == nil {
		return
	}
	e.float(h.sum)
	e.num(h.count)
	e.int(int64(h.native.schema))
	e.int(int64(h.native.first))
	e.num(h.native.zero)
	e.nums(h.native.counts)
}

func (f *frozen) encode(d *Derive) []byte {
	e := encoder(magic)
	e.uint(f.position)
	e.int(f.at)
	e.uint(uint64(len(d.cfg.Buckets)))
	for _, b := range d.cfg.Buckets {
		e.float(b)
	}
	e.uint(uint64(len(d.labels)))
	for _, l := range d.labels {
		e.text(l)
	}
	e.uint(uint64(len(f.services)))
	for _, s := range f.services {
		e.text(s.svc.name)
		e.uint(uint64(len(s.sets)))
		for _, x := range s.sets {
			e.series(x)
		}
	}
	e.uint(uint64(len(f.names)))
	for _, n := range f.names {
		e.text(n)
	}
	e.uint(uint64(len(f.edges)))
	for _, x := range f.edges {
		e.edge(x)
	}
	e.uint(uint64(len(f.halves)))
	for i := range f.halves {
		e.half(&f.halves[i])
	}
	e.uint(uint64(len(f.minutes)))
	for _, m := range f.minutes {
		e.int(m.at)
		e.uint(uint64(len(m.calls)))
		for p, n := range m.calls {
			e.uint(uint64(p.parent))
			e.uint(uint64(p.child))
			e.uint(n)
		}
	}
	return binary.LittleEndian.AppendUint32(e, crc32.Checksum(e[len(magic):], crc32.MakeTable(crc32.Castagnoli)))
}

func (e *encoder) series(x *series) {
	e.text(x.name)
	e.uint(uint64(x.kind))
	e.uint(uint64(x.status))
	for _, v := range x.dims {
		e.text(v)
	}
	e.flag(x.bound)
	e.int(x.born)
	e.int(x.seenAt)
	e.num(x.shown.calls)
	e.num(x.shown.bytes)
	e.hist(&x.shown.latency)
}

func (e *encoder) edge(x *edge) {
	e.uint(uint64(x.key.client))
	e.uint(uint64(x.key.server))
	e.uint(uint64(x.key.conn))
	e.int(x.born)
	e.int(x.seenAt)
	e.num(x.shown.calls)
	e.num(x.shown.failed)
	e.hist(&x.shown.server)
	e.hist(&x.shown.client)
}

func (e *encoder) half(h *half) {
	e.bytes(h.key.trace[:])
	e.bytes(h.key.id[:])
	e.bytes(h.trace[:])
	e.bytes(h.span[:])
	e.uint(uint64(h.side))
	e.flag(h.failed)
	e.flag(h.message)
	e.uint(uint64(h.peerConn))
	e.uint(uint64(h.node))
	e.uint(uint64(h.peer))
	e.float(h.seconds)
	e.num(h.weight)
	e.int(h.born)
}
