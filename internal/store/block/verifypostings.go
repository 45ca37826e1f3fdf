package block

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"slices"

	"github.com/prometheus/prometheus/tsdb/encoding"
)

// pair and mix make numbers of postings that can be summed up in any order.
func pair(name, value uint32) uint64 { return uint64(name)<<32 | uint64(value) }

func mix(pair uint64, ref uint32) uint64 {
	x := (pair ^ uint64(ref)*0x9e3779b97f4a7c15) * 0xff51afd7ed558ccd
	x = (x ^ x>>32) * 0xc4ceb9fe1a85ec53
	return x ^ x>>29
}

// readPostings compares the lists of postings with the series.
func (v *verifier) readPostings(ctx context.Context) error {
	lists, err := openWindow(v.dir, IndexFile, v.buffer)
	if err != nil {
		return v.note(err)
	}
	defer func() { _ = lists.close() }()
	t := &postingsTable{v: v, lists: lists, next: int64(v.index.toc.Postings)}
	end, err := v.index.section(int64(v.index.toc.PostingsTable), func(p []byte, last bool) (int, error) {
		if ctx.Err() != nil {
			return 0, ctx.Err()
		}
		return t.entries(p, last)
	})
	if ctx.Err() != nil {
		return fmt.Errorf("verify block %s: %w", v.dir, ctx.Err())
	}
	if err != nil {
		return v.note(err)
	}
	if want := v.index.w.size - tocSize; end != want {
		v.fault(IndexFile, end, "%d bytes belong to nothing", want-end)
	}
	if len(v.r.Faults) > 0 {
		return nil // the sums tell nothing new
	}
	if v.got != v.want || v.gotAll != v.wantAll {
		v.fault(IndexFile, int64(v.index.toc.Postings), "the postings are not those of the series")
	}
	return nil
}

// postingsTable reads the table of postings, and each list with it.
type postingsTable struct {
	v           *verifier
	lists       *window
	next        int64 // where the next list may begin
	begun       bool
	count, seen uint32
	name, value []byte
}

func (t *postingsTable) entries(p []byte, last bool) (int, error) {
	d := encoding.Decbuf{B: p}
	if !t.begun {
		t.count, t.begun = d.Be32(), true
	}
	taken := len(p) - d.Len()
	for d.Err() == nil && t.seen < t.count {
		keys := d.Uvarint()
		name, value := d.UvarintBytes(), d.UvarintBytes()
		at := d.Uvarint64()
		if d.Err() != nil {
			break
		}
		if keys != 2 {
			return 0, fmt.Errorf("entry %d of the table of postings has %d keys, want 2", t.seen, keys)
		}
		if c := slices.Compare(t.name, name); t.seen > 0 && (c > 0 || c == 0 && slices.Compare(t.value, value) >= 0) {
			return 0, fmt.Errorf("entry %d of the table of postings, %s=%q, is after %s=%q", t.seen, name, value, t.name, t.value)
		}
		t.name, t.value = append(t.name[:0], name...), append(t.value[:0], value...)
		if err := t.v.note(t.list(int64(at))); err != nil {
			return 0, err
		}
		t.seen++
		taken = len(p) - d.Len()
	}
	if last && (t.seen < t.count || taken < len(p)) {
		return 0, fmt.Errorf("the table of postings has %d entries, want %d", t.seen, t.count)
	}
	return taken, nil
}

// list reads one list, which follows the one before but for padding.
func (t *postingsTable) list(at int64) error {
	w, v := t.lists, t.v
	begin := (t.next + 3) &^ 3
	if at != begin {
		return w.fault(at, "the postings of %s=%q begin here, want %d", t.name, t.value, begin)
	}
	b, err := w.at(t.next, int(at-t.next)+8)
	if err != nil {
		return err
	}
	if len(b) < int(at-t.next)+8 {
		return w.fault(at, "the file ends within postings")
	}
	for _, x := range b[:at-t.next] {
		if x != 0 {
			return w.fault(t.next, "padding is %02x, want 00", x)
		}
	}
	b = b[at-t.next:]
	size, n := int64(binary.BigEndian.Uint32(b)), int64(binary.BigEndian.Uint32(b[4:]))
	t.next = at + 4 + size + crc32.Size
	if size != 4+4*n || t.next > int64(v.index.toc.PostingsTable) {
		t.next = at
		return w.fault(at, "a list of %d postings has %d bytes", n, size)
	}
	crc := crc32.Checksum(b[4:8], castagnoli)
	who := pair(crc32.Checksum(t.name, castagnoli), crc32.Checksum(t.value, castagnoli))
	all := len(t.name) == 0 && len(t.value) == 0
	last := uint32(0)
	for off := at + 8; n > 0; {
		k := int(min(n, minBuffer/4))
		if b, err = w.at(off, 4*k); err != nil {
			return err
		}
		if len(b) < 4*k {
			return w.fault(at, "the file became shorter")
		}
		crc = crc32.Update(crc, castagnoli, b)
		for i := 0; i < len(b); i += 4 {
			ref := binary.BigEndian.Uint32(b[i:])
			if ref <= last {
				return w.fault(off+int64(i), "series %d follows %d in the postings of %s=%q", ref, last, t.name, t.value)
			}
			last = ref
			if all {
				v.gotAll += mix(0, ref)
			} else {
				v.got += mix(who, ref)
			}
		}
		off, n = off+int64(4*k), n-int64(k)
	}
	if b, err = w.at(t.next-crc32.Size, crc32.Size); err != nil {
		return err
	}
	if want := binary.BigEndian.Uint32(b); want != crc {
		return w.fault(at, "the CRC-32C of the postings of %s=%q is %08x, want %08x", t.name, t.value, crc, want)
	}
	return nil
}
