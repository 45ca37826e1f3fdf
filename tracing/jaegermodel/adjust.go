package jaegermodel

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"net"
	"slices"
	"time"

	"github.com/jaegertracing/jaeger-idl/model/v1"
)

// Adjust corrects a trace in place for people to look at, with the steps and in the
// order of Jaeger v1.62, whose warnings it leaves on the spans:
//
//  1. a server span that shares its id with its client's gets one of its own;
//  2. clocks of other hosts are put right by at most maxSkew (0: only told);
//  3. addresses that are numbers become text;
//  4. what says something of the library moves to the process;
//  5. tags and fields are sorted;
//  6. the same span is there once;
//  7. references to the trace 0 go;
//  8. the parent comes first.
//
// The spans are sorted by start and id afterwards; Jaeger leaves them in no order.
func Adjust(t *model.Trace, maxSkew time.Duration) {
	shared := byID(t.Spans)
	if len(shared) > 0 {
		splitShared(t, shared)
	}
	newSkew(t.Spans, maxSkew).correct()
	for _, p := range processes(t.Spans) {
		addresses(p.Tags)
	}
	for _, s := range t.Spans {
		addresses(s.Tags)
		moveLibrary(s)
	}
	for _, p := range processes(t.Spans) {
		model.KeyValues(p.Tags).Sort()
	}
	for _, s := range t.Spans {
		sortTags(s)
	}
	if len(shared) > 0 {
		dedupe(t)
	}
	for _, s := range t.Spans {
		dropInvalid(s)
		parentFirst(s)
	}
	sortSpans(t.Spans)
}

// processes are those of the spans, each once.
func processes(spans []*model.Span) []*model.Process {
	var out []*model.Process
	seen := make(map[*model.Process]struct{})
	for _, s := range spans {
		if _, ok := seen[s.Process]; !ok {
			seen[s.Process] = struct{}{}
			out = append(out, s.Process)
		}
	}
	return out
}

// byID groups spans that share an id; there are none in most traces.
func byID(spans []*model.Span) map[model.SpanID][]*model.Span {
	ids := make(map[model.SpanID]int, len(spans))
	for _, s := range spans {
		ids[s.SpanID]++
	}
	maps.DeleteFunc(ids, func(_ model.SpanID, n int) bool { return n == 1 })
	if len(ids) == 0 {
		return nil
	}
	shared := make(map[model.SpanID][]*model.Span, len(ids))
	for _, s := range spans {
		if ids[s.SpanID] > 1 {
			shared[s.SpanID] = append(shared[s.SpanID], s)
		}
	}
	return shared
}

// splitShared gives new ids to server spans whose id a client span has too, as Zipkin's
// libraries send them, and makes the client their parent. New ids are the lowest free.
func splitShared(t *model.Trace, shared map[model.SpanID][]*model.Span) {
	used := make(map[model.SpanID]struct{}, len(t.Spans))
	for _, s := range t.Spans {
		used[s.SpanID] = struct{}{}
	}
	var last model.SpanID
	renamed := make(map[model.SpanID]model.SpanID)
	for _, s := range t.Spans {
		if !s.IsRPCServer() || !slices.ContainsFunc(shared[s.SpanID], (*model.Span).IsRPCClient) {
			continue
		}
		for last++; ; last++ {
			if _, ok := used[last]; !ok {
				break
			}
		}
		renamed[s.SpanID] = last
		s.ReplaceParentID(s.SpanID)
		s.SpanID = last
	}
	for _, s := range t.Spans {
		if id, ok := renamed[s.ParentSpanID()]; ok && s.SpanID != id {
			s.ReplaceParentID(id)
		}
	}
}

// skew is the tree of a trace, for correcting clocks from the roots down.
type skew struct {
	spans    []*model.Span
	limit    time.Duration
	first    map[model.SpanID]*model.Span // of each id
	children map[model.SpanID][]*model.Span
	roots    []*model.Span
}

func newSkew(spans []*model.Span, limit time.Duration) *skew {
	k := &skew{
		spans: spans, limit: limit,
		first:    make(map[model.SpanID]*model.Span, len(spans)),
		children: make(map[model.SpanID][]*model.Span),
	}
	for _, s := range spans {
		if k.first[s.SpanID] != nil {
			warn(s, "duplicate span IDs; skipping clock skew adjustment")
			continue
		}
		k.first[s.SpanID] = s
	}
	for _, s := range spans {
		if k.first[s.SpanID] != s {
			continue
		}
		parent := s.ParentSpanID()
		switch {
		case parent == 0:
			k.roots = append(k.roots, s)
		case k.first[parent] == nil:
			warn(s, fmt.Sprintf("invalid parent span IDs=%s; skipping clock skew adjustment", parent))
			k.roots = append(k.roots, s)
		default:
			k.children[parent] = append(k.children[parent], s)
		}
	}
	return k
}

func warn(s *model.Span, text string) { s.Warnings = append(s.Warnings, text) }

// correct visits what hangs on a root; spans in a circle hang on none. A stack, since
// a chain may be as long as the trace.
func (k *skew) correct() {
	type visit struct {
		span, parent *model.Span
		host         string // whose clock delta corrects
		delta        time.Duration
	}
	var stack []visit
	for _, root := range k.roots {
		stack = append(stack, visit{span: root, host: host(root.Process)})
	}
	for len(stack) > 0 {
		v := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if h := host(v.span.Process); v.parent != nil && (h != v.host || h == "") {
			v.host, v.delta = h, offset(v.span, v.parent)
		}
		k.shift(v.span, v.delta)
		for _, child := range k.children[v.span.SpanID] {
			stack = append(stack, visit{span: child, parent: v.span, host: v.host, delta: v.delta})
		}
	}
}

// host tells clocks apart; empty: not known.
func host(p *model.Process) string {
	tag, _ := model.KeyValues(p.Tags).FindByKey("ip")
	switch tag.VType {
	case model.StringType:
		return tag.VStr
	case model.Int64Type:
		return net.IP(binary.BigEndian.AppendUint32(nil, uint32(tag.VInt64))).String()
	case model.BinaryType:
		if len(tag.VBinary) == net.IPv4len || len(tag.VBinary) == net.IPv6len {
			return net.IP(tag.VBinary).String()
		}
	}
	return ""
}

// offset is what has to be added to the child's times so that it lies in its parent:
// in the middle, as if the way there took as long as the way back. A child that lasts
// longer cannot, so it only does not start earlier.
func offset(child, parent *model.Span) time.Duration {
	early := child.StartTime.Before(parent.StartTime)
	if child.Duration > parent.Duration {
		if early {
			return parent.StartTime.Sub(child.StartTime)
		}
		return 0
	}
	late := child.StartTime.Add(child.Duration).After(parent.StartTime.Add(parent.Duration))
	if !early && !late {
		return 0
	}
	return parent.StartTime.Add((parent.Duration - child.Duration) / 2).Sub(child.StartTime)
}

func (k *skew) shift(s *model.Span, delta time.Duration) {
	switch size := max(delta, -delta); {
	case delta == 0:
		return
	case k.limit == 0 && size > 0:
		warn(s, fmt.Sprintf("clock skew adjustment disabled; not applying calculated delta of %v", delta))
		return
	case size > k.limit:
		warn(s, fmt.Sprintf("max clock skew adjustment delta of %v exceeded; not applying calculated delta of %v", k.limit, delta))
		return
	}
	s.StartTime = s.StartTime.Add(delta)
	warn(s, fmt.Sprintf("This span's timestamps were adjusted by %v", delta))
	for i := range s.Logs {
		s.Logs[i].Timestamp = s.Logs[i].Timestamp.Add(delta)
	}
}

// addresses that old clients packed into a number.
func addresses(tags []model.KeyValue) {
	for i, tag := range tags {
		if tag.Key != "ip" && tag.Key != "peer.ipv4" {
			continue
		}
		var packed uint32
		switch tag.VType {
		case model.Int64Type:
			packed = uint32(tag.VInt64)
		case model.Float64Type:
			packed = whole(tag.VFloat64)
		default:
			continue
		}
		tags[i] = model.String(tag.Key, net.IP(binary.BigEndian.AppendUint32(nil, packed)).String())
	}
}

// whole is the same on every processor, which a conversion out of range is not.
func whole(f float64) uint32 {
	if math.IsNaN(f) || f <= math.MinInt64 || f >= math.MaxInt64 {
		return 0
	}
	return uint32(int64(f))
}

// moveLibrary gives the span a process of its own if it has something to move there.
func moveLibrary(s *model.Span) {
	var moved []model.KeyValue
	kept := s.Tags[:0]
	for _, tag := range s.Tags {
		switch tag.Key {
		case "telemetry.sdk.language", "telemetry.sdk.name", "telemetry.sdk.version", "telemetry.distro.name", "telemetry.distro.version":
			moved = append(moved, tag)
		default:
			kept = append(kept, tag)
		}
	}
	if len(moved) == 0 {
		return
	}
	s.Tags = kept
	s.Process = &model.Process{ServiceName: s.Process.ServiceName, Tags: slices.Concat(s.Process.Tags, moved)}
}

// sortTags puts the event's name before its other fields.
func sortTags(s *model.Span) {
	model.KeyValues(s.Tags).Sort()
	for _, log := range s.Logs {
		rest := log.Fields
		name := slices.IndexFunc(rest, func(f model.KeyValue) bool { return f.Key == "event" && f.VType == model.StringType })
		if name >= 0 {
			rest[0], rest[name] = rest[name], rest[0]
			rest = rest[1:]
		}
		model.KeyValues(rest).Sort()
	}
}

// dedupe drops spans that are equal in everything, warnings included. They have the
// same id, so only those that share one are compared.
func dedupe(t *model.Trace) {
	shared := byID(t.Spans)
	kept := make(map[model.SpanID][][]byte, len(shared))
	t.Spans = slices.DeleteFunc(t.Spans, func(s *model.Span) bool {
		if shared[s.SpanID] == nil {
			return false
		}
		body := encoded(s)
		for _, k := range kept[s.SpanID] {
			if bytes.Equal(k, body) {
				return true
			}
		}
		kept[s.SpanID] = append(kept[s.SpanID], body)
		return false
	})
}

func dropInvalid(s *model.Span) {
	s.References = slices.DeleteFunc(s.References, func(ref model.SpanRef) bool {
		if ref.TraceID != (model.TraceID{}) {
			return false
		}
		warn(s, fmt.Sprintf("Invalid span reference removed %+v", ref))
		return true
	})
}

// parentFirst is for the Jaeger UI, which takes the first reference for the parent: the
// first CHILD_OF in the same trace, or else the first of any kind.
func parentFirst(s *model.Span) {
	parent := -1
	for i, ref := range s.References {
		if ref.TraceID != s.TraceID {
			continue
		}
		if ref.RefType == model.ChildOf {
			parent = i
			break
		}
		if parent < 0 {
			parent = i
		}
	}
	if parent > 0 {
		s.References[0], s.References[parent] = s.References[parent], s.References[0]
	}
}
