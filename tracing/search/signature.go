package search

import (
	"bytes"
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/weir-dev/weir/tracing/span"
)

// Signature is errors that look the same.
type Signature struct {
	Service   string `json:"service"`
	Operation string `json:"operation"`
	// Message of the status, or else of the exception, without what differs between
	// errors of one kind: <id> and <n> stand for ids and numbers.
	Message   string `json:"message"`
	Exception string `json:"exceptionType,omitempty"`
	Count     int    `json:"count"` // spans
	// Origins counts the spans below which there is no error.
	Origins int       `json:"origins"`
	Traces  int       `json:"traces"`
	First   time.Time `json:"firstSeen"` // by the start of the span
	Last    time.Time `json:"lastSeen"`
	// Example is the trace of the last one, and what it said in full.
	Example        string `json:"exampleTraceID"`
	ExampleMessage string `json:"exampleMessage,omitempty"`
}

const (
	// maxSignatures that are told apart, about 500 bytes each.
	maxSignatures = 10_000
	// maxMessage bounds messages in bytes: a line or two of a terminal.
	maxMessage = 300
)

type signatureKey struct{ service, name, message, exception string }

type signature struct {
	count, origins, traces int
	seen                   int // the number of the trace that was counted last
	first, last            uint64
	example                span.TraceID
	message                string
}

// signatures gathers the errors of traces.
type signatures struct {
	by     map[signatureKey]*signature
	traces int
	folded bool
}

func newSignatures() *signatures { return &signatures{by: map[signatureKey]*signature{}} }

func (g *signatures) take(b *span.Batch, t *tree) {
	g.traces++
	var above []bool // there is an error somewhere below
	for i := range b.Spans {
		s := &b.Spans[i]
		if s.Status != span.StatusError {
			continue
		}
		if above == nil {
			above = t.aboveErrors()
		}
		message, exception := said(s)
		sig := g.of(signatureKey{service(b, s), s.Name, normal(message), exception})
		sig.count++
		if !above[i] {
			sig.origins++
		}
		if sig.seen != g.traces {
			sig.seen = g.traces
			sig.traces++
		}
		sig.first = min(sig.first, s.Start)
		if s.Start > sig.last || s.Start == sig.last && bytes.Compare(s.TraceID[:], sig.example[:]) <= 0 {
			sig.last, sig.example, sig.message = s.Start, s.TraceID, short(message)
		}
	}
}

// aboveErrors marks the spans that have an error somewhere below them.
func (t *tree) aboveErrors() []bool {
	above := make([]bool, len(t.parent))
	for i := range t.b.Spans {
		if t.b.Spans[i].Status != span.StatusError {
			continue
		}
		for p := t.parent[i]; p >= 0 && !above[p]; p = t.parent[p] {
			above[p] = true
		}
	}
	return above
}

func (g *signatures) of(key signatureKey) *signature {
	sig := g.by[key]
	if sig != nil {
		return sig
	}
	if len(g.by) >= maxSignatures {
		g.folded = true
		key = signatureKey{otherName, otherName, "", ""}
		if sig = g.by[key]; sig != nil {
			return sig
		}
	}
	sig = &signature{first: ^uint64(0)}
	g.by[signatureKey{strings.Clone(key.service), strings.Clone(key.name), key.message, strings.Clone(key.exception)}] = sig
	return sig
}

func (g *signatures) rows(top int) []Signature {
	rows := make([]Signature, 0, len(g.by))
	for key, s := range g.by {
		rows = append(rows, Signature{
			Service: text(key.service), Operation: text(key.name), Message: key.message, Exception: text(key.exception),
			Count: s.count, Origins: s.origins, Traces: s.traces, First: instant(s.first), Last: instant(s.last),
			Example: s.example.String(), ExampleMessage: s.message,
		})
	}
	slices.SortFunc(rows, func(a, b Signature) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Service, b.Service), cmp.Compare(a.Operation, b.Operation),
			cmp.Compare(a.Message, b.Message), cmp.Compare(a.Exception, b.Exception))
	})
	return rows[:min(top, len(rows))]
}

// said is the message of an error and the type of its exception: of the span, or of
// its last event that has one.
func said(s *span.Span) (message, exception string) {
	message = s.Message
	see := func(attrs []span.Attr) {
		for _, a := range attrs {
			switch {
			case a.Key == "exception.type" && exception == "":
				exception = a.Value.Text()
			case a.Key == "exception.message" && message == "":
				message = a.Value.Text()
			}
		}
	}
	see(s.Attrs)
	for i := len(s.Events) - 1; i >= 0; i-- {
		see(s.Events[i].Attrs)
	}
	return message, exception
}

// short is the beginning of a message, in one line.
func short(message string) string {
	if len(message) > 4*maxMessage {
		message = message[:4*maxMessage]
	}
	message = strings.Join(strings.Fields(strings.ToValidUTF8(message, "\uFFFD")), " ")
	if len(message) > maxMessage {
		message = strings.ToValidUTF8(message[:maxMessage], "") + "..."
	}
	return strings.Clone(message)
}

// normal is a message with <id> and <n> where ids and numbers are.
func normal(message string) string {
	message = short(message)
	var out strings.Builder
	for len(message) > 0 {
		n := 0
		for n < len(message) && inID(message[n]) {
			n++
		}
		if n == 0 {
			out.WriteByte(message[0])
			message = message[1:]
			continue
		}
		run := message[:n]
		for n > 1 && isJoint(run[n-1]) { // the end of a sentence, not of a number
			n--
			run = run[:n]
		}
		out.WriteString(normalRun(run))
		message = message[n:]
	}
	return out.String()
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// isJoint tells what joins the parts of ids and numbers.
func isJoint(c byte) bool { return c == '.' || c == ':' || c == '-' || c == '_' }

func inID(c byte) bool { return isDigit(c) || isLetter(c) || isJoint(c) }

// normalRun is a run of letters, digits and what joins them in ids and numbers.
func normalRun(run string) string {
	digits, hex, letters := 0, 0, 0
	for i := range len(run) {
		c := run[i]
		switch {
		case isDigit(c):
			digits++
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			hex++
		case isLetter(c):
			letters++
		}
	}
	switch {
	case digits == 0:
		return run
	case letters == 0 && strings.IndexByte(run, '.') < 0 && strings.IndexByte(run, ':') < 0 && hex > 0 && digits+hex >= 8,
		digits+hex+letters >= 16 && digits >= 4 && strings.IndexByte(run, '.') < 0:
		return "<id>"
	}
	return numbered(run)
}

// numbered has <n> for each run of digits with what joins them (1.5, 10.0.0.1:80), and
// <id> for a part that is a short hexadecimal id.
func numbered(run string) string {
	var out strings.Builder
	for i := 0; i < len(run); {
		if part := run[i:joined(run, i)]; (i == 0 || isJoint(run[i-1])) && shortID(part) {
			out.WriteString("<id>")
			i += len(part)
			continue
		}
		if !isDigit(run[i]) {
			out.WriteByte(run[i])
			i++
			continue
		}
		for i < len(run) && (isDigit(run[i]) || i+1 < len(run) && isJoint(run[i]) && isDigit(run[i+1])) {
			i++
		}
		out.WriteString("<n>")
	}
	return out.String()
}

// joined is where the part of a run ends that begins at i.
func joined(run string, i int) int {
	for i < len(run) && !isJoint(run[i]) {
		i++
	}
	return i
}

// shortID tells four or more hexadecimal digits, letters and numbers among them.
func shortID(part string) bool {
	digits := 0
	for i := range len(part) {
		c := part[i]
		if isDigit(c) {
			digits++
		} else if 'a' > c|0x20 || c|0x20 > 'f' {
			return false
		}
	}
	return len(part) >= 4 && 0 < digits && digits < len(part)
}
