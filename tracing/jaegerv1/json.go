package jaegerv1

import (
	"encoding/base64"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jaegertracing/jaeger-idl/model/v1"
)

// appendTrace writes what encoding/json makes of Jaeger's struct, byte for byte, with
// two exceptions: numbers that JSON does not have are text, where Jaeger gives no answer
// at all, and a negative duration is 0, where Jaeger's has 20 digits.
func appendTrace(b []byte, t *model.Trace) []byte {
	b = append(b, `{"traceID":"`...)
	if len(t.Spans) > 0 {
		b = append(b, t.Spans[0].TraceID.String()...)
	}
	b = append(b, `","spans":[`...)
	keys := processKeys{of: make(map[*model.Process]int), equal: make(map[string]int)}
	for i, s := range t.Spans {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendSpan(b, s, keys.key(s.Process))
	}
	b = append(b, `],"processes":{`...)
	for i, n := range keys.sorted() {
		if i > 0 {
			b = append(b, ',')
		}
		p := keys.list[n-1]
		b = strconv.AppendInt(append(b, `"p`...), int64(n), 10)
		b = appendString(append(b, `":{"serviceName":`...), p.ServiceName)
		b = append(appendTags(append(b, `,"tags":`...), p.Tags), '}')
	}
	b = appendStrings(append(b, `},"warnings":`...), t.Warnings)
	return append(b, '}')
}

// processKeys numbers processes from 1 in the order in which they come; equal ones
// have the same number.
type processKeys struct {
	of    map[*model.Process]int
	equal map[string]int // by what they are as JSON
	list  []*model.Process
	buf   []byte
}

func (k *processKeys) key(p *model.Process) int {
	n := k.of[p]
	if n != 0 {
		return n
	}
	k.buf = appendTags(appendString(k.buf[:0], p.ServiceName), p.Tags)
	n = k.equal[string(k.buf)]
	if n == 0 {
		k.list = append(k.list, p)
		n = len(k.list)
		k.equal[string(k.buf)] = n
	}
	k.of[p] = n
	return n
}

// sorted are the keys as text is sorted: p1, p10, p2.
func (k *processKeys) sorted() []int {
	out := make([]int, len(k.list))
	for i := range out {
		out[i] = i + 1
	}
	slices.SortFunc(out, func(a, b int) int { return strings.Compare(strconv.Itoa(a), strconv.Itoa(b)) })
	return out
}

func appendSpan(b []byte, s *model.Span, process int) []byte {
	b = append(b, `{"traceID":"`...)
	b = append(b, s.TraceID.String()...)
	b = appendID(append(b, `","spanID":"`...), s.SpanID)
	b = append(b, '"')
	if s.Flags != 0 {
		b = strconv.AppendUint(append(b, `,"flags":`...), uint64(s.Flags), 10)
	}
	b = appendString(append(b, `,"operationName":`...), s.OperationName)
	b = append(b, `,"references":[`...)
	for i, ref := range s.References {
		if i > 0 {
			b = append(b, ',')
		}
		kind := "CHILD_OF"
		if ref.RefType == model.FollowsFrom {
			kind = "FOLLOWS_FROM"
		}
		b = append(append(b, `{"refType":"`...), kind...)
		b = append(append(b, `","traceID":"`...), ref.TraceID.String()...)
		b = append(appendID(append(b, `","spanID":"`...), ref.SpanID), `"}`...)
	}
	b = strconv.AppendUint(append(b, `],"startTime":`...), micros(s.StartTime), 10)
	b = strconv.AppendInt(append(b, `,"duration":`...), max(s.Duration.Microseconds(), 0), 10)
	b = appendTags(append(b, `,"tags":`...), s.Tags)
	b = append(b, `,"logs":[`...)
	for i, log := range s.Logs {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(append(b, `{"timestamp":`...), micros(log.Timestamp), 10)
		b = append(appendTags(append(b, `,"fields":`...), log.Fields), '}')
	}
	b = strconv.AppendInt(append(b, `],"processID":"p`...), int64(process), 10)
	return append(appendStrings(append(b, `","warnings":`...), s.Warnings), '}')
}

// micros of a time before 1970 are near 2^64, as Jaeger has them.
func micros(t time.Time) uint64 { return uint64(t.UnixNano() / 1000) }

const hexDigits = "0123456789abcdef"

func appendID(b []byte, id model.SpanID) []byte {
	for shift := 60; shift >= 0; shift -= 4 {
		b = append(b, hexDigits[id>>shift&15])
	}
	return b
}

// safe is the largest whole number that JavaScript has; beyond they are text.
const safe = 1<<53 - 1

func appendTags(b []byte, tags []model.KeyValue) []byte {
	b = append(b, '[')
	for i := range tags {
		tag := &tags[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"key":`...), tag.Key)
		switch tag.VType {
		case model.BoolType:
			b = strconv.AppendBool(append(b, `,"type":"bool","value":`...), tag.VBool)
		case model.Int64Type:
			b = append(b, `,"type":"int64","value":`...)
			if n := tag.VInt64; n > safe || n < -safe {
				b = append(strconv.AppendInt(append(b, '"'), n, 10), '"')
			} else {
				b = strconv.AppendInt(b, n, 10)
			}
		case model.Float64Type:
			b = appendFloat(append(b, `,"type":"float64","value":`...), tag.VFloat64)
		case model.BinaryType:
			b = append(b, `,"type":"binary","value":`...)
			if len(tag.VBinary) == 0 {
				b = append(b, "null"...)
			} else {
				b = append(base64.StdEncoding.AppendEncode(append(b, '"'), tag.VBinary), '"')
			}
		default:
			b = appendString(append(b, `,"type":"string","value":`...), tag.VStr)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendFloat writes a number as JavaScript does, and what JSON does not have as
// protobuf's JSON does. Minus zero is zero, as when Jaeger has stored it.
func appendFloat(b []byte, f float64) []byte {
	switch {
	case f == 0:
		return append(b, '0')
	case math.IsNaN(f):
		return append(b, `"NaN"`...)
	case math.IsInf(f, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(f, -1):
		return append(b, `"-Infinity"`...)
	}
	if size := math.Abs(f); size >= 1e-6 && size < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if n := len(b); b[n-4] == 'e' && b[n-3] == '-' && b[n-2] == '0' { // e-09
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}

func appendStrings(b []byte, list []string) []byte {
	if list == nil {
		return append(b, "null"...)
	}
	b = append(b, '[')
	for i, s := range list {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(b, s)
	}
	return append(b, ']')
}

// appendString escapes what would be markup in a web page and what ends a line in
// JavaScript, and marks bytes that are no UTF-8.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
			i++
			continue
		}
		size, r := 1, rune(c)
		if c >= utf8.RuneSelf {
			r, size = utf8.DecodeRuneInString(s[i:])
			if (r != utf8.RuneError || size > 1) && r != '\u2028' && r != '\u2029' {
				i += size
				continue
			}
		}
		b = append(b, s[start:i]...)
		b = appendEscaped(b, r)
		i += size
		start = i
	}
	return append(append(b, s[start:]...), '"')
}

func appendEscaped(b []byte, r rune) []byte {
	switch r {
	case '"', '\\':
		return append(b, '\\', byte(r))
	case '\b':
		return append(b, `\b`...)
	case '\f':
		return append(b, `\f`...)
	case '\n':
		return append(b, `\n`...)
	case '\r':
		return append(b, `\r`...)
	case '\t':
		return append(b, `\t`...)
	}
	return append(b, '\\', 'u', hexDigits[r>>12&15], hexDigits[r>>8&15], hexDigits[r>>4&15], hexDigits[r&15])
}
