package tiers

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-dev/weir/internal/conf"
)

// Removal is a block that retention takes, whole or some series of it.
type Removal struct {
	Tier    string    `json:"tier"`
	ULID    ulid.ULID `json:"ulid"`
	MinTime int64     `json:"min_time"` // Unix milliseconds, [MinTime, MaxTime)
	MaxTime int64     `json:"max_time"`
	Bytes   int64     `json:"bytes"` // of the block; of what a selector takes nobody knows before
	// Selector of the series that go; empty: the block goes.
	Selector string `json:"selector,omitempty"`
	Why      string `json:"why"`
	// Waits says why it is still there, though it is due.
	Waits string `json:"waits,omitempty"`

	rung  *rung
	entry *entry
}

// due says which blocks retention takes now, in this order:
//
//  1. raw blocks older than store.retention.time, and such as say nothing new;
//  2. tier blocks older than their rung's keep;
//  3. while everything together is larger than store.retention.size: the oldest raw
//     blocks, then, once no raw block is left but the newest, the oldest blocks of
//     the finest rung whose time has no raw block, and so on to the coarsest.
//
// A raw block waits until all rungs that want it have it, until it is in the bucket
// if there is one, and for older blocks, but for such as cannot be rolled up. The newest raw blocks, over which late samples may still
// come, never leave for their size. It changes nothing. [Tiers.mu] is held.
func (t *Tiers) due(raw rawView, head int64, shipped shippedSet) []Removal {
	newest, bounds := t.newest(raw), t.retention.Load()
	var out []Removal
	gone := map[ulid.ULID]bool{}
	take := func(x Removal) {
		out = append(out, x)
		gone[x.ULID] = x.Waits == ""
	}
	waits := ""
	last := newestInOrder(raw)
	for _, b := range raw {
		why := ""
		if b.ULID == last {
			continue
		}
		if t.again(b) {
			take(Removal{Tier: Raw, ULID: b.ULID, MinTime: b.from, MaxTime: b.to, Bytes: b.size, Why: "late samples that replay brought again, and that the rollups have"})
			continue
		}
		if bounds.time > 0 && plus(newest, -bounds.time) >= b.to {
			why = fmt.Sprintf("older than store.retention.time (%s)", ms(bounds.time))
		} else if on := t.cfg.RawOnDisk.Milliseconds(); on > 0 && shipped != nil && plus(newest, -on) >= b.to {
			why = fmt.Sprintf("in the bucket, and older than store.bucket.after (%s)", ms(on))
		} else {
			continue
		}
		x := t.removeRaw(raw, b, newest, shipped, why)
		if x.Waits == "" {
			x.Waits = waits
		}
		if x.Waits != "" && !t.retry.failing(b.ULID.String()) {
			waits = "an older block waits"
		}
		take(x)
	}
	for _, r := range t.rungs {
		for _, e := range r.blocks {
			if !r.wants(e.span, newest) {
				take(removeTier(r, e, fmt.Sprintf("older than the keep of rung %s (%s)", r.Name(), ms(r.keep))))
			}
		}
	}
	if bounds.size > 0 {
		t.dueBySize(raw, newest, head, bounds.size, gone, shipped, take)
	}
	return out
}

func (t *Tiers) dueBySize(raw rawView, newest, total, bound int64, gone map[ulid.ULID]bool, shipped shippedSet, take func(Removal)) {
	for _, b := range raw {
		total += b.size
	}
	for _, r := range t.rungs {
		for _, e := range r.blocks {
			total += e.size()
		}
	}
	for id := range gone { // what is old goes anyway
		if b, ok := raw.byID(id); ok && gone[id] {
			total -= b.size
		}
		for _, r := range t.rungs {
			for _, e := range r.blocks {
				if e.ULID() == id && gone[id] {
					total -= e.size()
				}
			}
		}
	}
	why := fmt.Sprintf("everything together is larger than store.retention.size (%s)", conf.Bytes(bound))
	recent := plus(newest, -(t.cfg.Late + t.cfg.MinBlock).Milliseconds())
	for _, b := range raw {
		if _, listed := gone[b.ULID]; listed && !gone[b.ULID] {
			return // its rollups come first
		} else if listed {
			continue
		}
		if total <= bound {
			return
		}
		if b.to > recent || b.ULID == newestInOrder(raw) {
			continue
		}
		x := t.removeRaw(raw, b, newest, shipped, why)
		take(x)
		if x.Waits != "" {
			return // younger data does not go before older
		}
		total -= b.size
	}
	for _, r := range t.rungs {
		for _, e := range r.blocks {
			if total <= bound {
				return
			}
			if gone[e.ULID()] || hasRaw(raw, gone, e.span) {
				continue
			}
			take(removeTier(r, e, why))
			total -= e.size()
		}
	}
}

// newestInOrder is the block that tells the TSDB at start how much of the write-ahead
// log is in blocks: without it, what is in rollups would come again.
func newestInOrder(raw rawView) (id ulid.ULID) {
	to := int64(math.MinInt64)
	for _, b := range raw {
		if b.class() == 0 && !b.Compaction.FromOutOfOrder() && b.to > to {
			id, to = b.ULID, b.to
		}
	}
	return id
}

func hasRaw(raw rawView, gone map[ulid.ULID]bool, s span) bool {
	for _, b := range raw {
		if b.overlaps(s) && !gone[b.ULID] {
			return true
		}
	}
	return false
}

// shippedSet are the raw blocks that are in the bucket; nil when there is none.
type shippedSet map[ulid.ULID]bool

// shipped asks the bucket, which must not be done with [Tiers.mu] held: it asks back.
func (t *Tiers) shipped(raw rawView) shippedSet {
	far := t.deps.remote()
	if far == nil {
		return nil
	}
	set := shippedSet{}
	for _, b := range raw {
		set[b.ULID] = far.Shipped(b.ULID)
	}
	return set
}

func (t *Tiers) removeRaw(raw rawView, b rawBlock, newest int64, shipped shippedSet, why string) Removal {
	return Removal{Tier: Raw, ULID: b.ULID, MinTime: b.from, MaxTime: b.to, Bytes: b.size, Why: why, Waits: t.holdsRaw(raw, b, newest, shipped)}
}

// holdsRaw says what a raw block that is due still waits for.
func (t *Tiers) holdsRaw(raw rawView, b rawBlock, newest int64, shipped shippedSet) string {
	if lacking := t.lacking(b, newest); len(lacking) > 0 {
		return "not rolled up to " + lacking[0].Name() + " yet"
	}
	if why := t.lateFor(raw, b, newest); why != "" {
		return why
	}
	for _, d := range t.state.Deletions {
		if d.reaches(b.span) && !d.TierDone {
			return "deletion " + d.ID + " is under way"
		}
	}
	// A settled block was in the bucket, whole, before it was rewritten.
	if shipped != nil && !t.state.settled(b.ULID) && !shipped[b.ULID] {
		return "not in the bucket yet"
	}
	return ""
}

// lateFor says which late samples of the time of b may still come to rest. They must
// meet the samples that are there: replay after a crash compacts some of them once
// more, the TSDB drops what is double, and rungs would count it twice.
func (t *Tiers) lateFor(raw rawView, b rawBlock, newest int64) string {
	for _, o := range raw {
		if o.ULID != b.ULID && o.overlaps(b.span) && len(t.lacking(o, newest)) > 0 {
			return "late samples of its time, in block " + o.ULID.String() + ", are not rolled up yet"
		}
	}
	db := t.deps.DB()
	if db == nil {
		return "the write-ahead log, which may have late samples of its time, is being replayed"
	}
	if from, to := db.Head().MinOOOTime(), db.Head().MaxOOOTime(); from <= to && from < b.to {
		return "late samples of its time may be in memory"
	}
	return ""
}

func removeTier(r *rung, e *entry, why string) Removal {
	return Removal{Tier: r.Name(), ULID: e.ULID(), MinTime: e.from, MaxTime: e.to, Bytes: e.size(), Why: why, rung: r, entry: e}
}

func ms(n int64) conf.Duration { return conf.Duration(time.Duration(n) * time.Millisecond) }

// Deletable is the TSDB's BlocksToDelete: the raw blocks that may go. It is asked at
// each change of the blocks, before they are served and before any is deleted, and
// by one goroutine at a time that keeps their metas from being changed meanwhile: so
// it is here that the raw blocks are looked at, and nowhere else.
func (t *Tiers) Deletable(blocks []*tsdb.Block) map[ulid.ULID]struct{} {
	out := map[ulid.ULID]struct{}{}
	for _, b := range blocks {
		if m := b.Meta(); m.Compaction.Deletable { // tombstones left nothing of it
			out[m.ULID] = struct{}{}
		}
	}
	t.inherit(blocks)
	raw := viewOf(blocks)
	shipped := t.shipped(raw)
	t.mu.Lock()
	defer t.mu.Unlock()
	from := t.state.RawFrom
	for _, x := range t.due(raw, t.headSize(), shipped) {
		if x.Tier == Raw && x.Waits == "" {
			from = max(from, x.MaxTime)
			out[x.ULID] = struct{}{}
			t.metrics.retained.WithLabelValues(Raw).Inc()
			t.log.Info("block deleted", "tier", Raw, "block", x.ULID, "why", x.Why)
		}
	}
	if from != t.state.RawFrom {
		t.state.RawFrom = from
		_ = t.save("note where raw data begins") // told by save; rollups hold that time anyway
	}
	was := t.seen
	t.seen = slices.DeleteFunc(raw, func(b rawBlock) bool { _, gone := out[b.ULID]; return gone })
	if !slices.EqualFunc(was, t.seen, func(a, b rawBlock) bool { return a.ULID == b.ULID }) {
		t.tellChange()
		t.Wake()
	}
	return out
}

func (t *Tiers) headSize() int64 {
	if db := t.deps.DB(); db != nil {
		return db.Head().Size()
	}
	return 0
}

// retainNext deletes the tier blocks that are due. Raw blocks are the TSDB's to
// delete, which asks Deletable every minute.
func (t *Tiers) retainNext(_ context.Context, raw rawView) (bool, error) {
	shipped := t.shipped(raw)
	t.mu.RLock()
	due := t.due(raw, t.headSize(), shipped)
	t.mu.RUnlock()
	did := false
	for _, x := range due {
		if x.entry == nil {
			continue
		}
		if err := t.drop(x.rung, x.entry); err != nil {
			return did, err
		}
		did = true
		t.metrics.retained.WithLabelValues(x.Tier).Inc()
		t.log.Info("block deleted", "tier", x.Tier, "block", x.ULID, "why", x.Why)
	}
	return did, nil
}
