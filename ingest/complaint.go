package ingest

import (
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/prometheus/model/labels"
)

// complaint gathers why samples of one request were refused: of each reason the
// first example, whatever the number.
type complaint struct {
	first [numOutcomes]string
	any   bool
}

// add notes a reason with the series it concerned.
func (c *complaint) add(o outcome, series, detail string) {
	if c.any && c.first[o] != "" {
		return
	}
	c.any = true
	var parts []string
	for _, p := range []string{series, detail} {
		if p != "" {
			parts = append(parts, p)
		}
	}
	c.first[o] = strings.Join(parts, ": ")
	if c.first[o] == "" {
		c.first[o] = refusals[o].says
	}
}

// addAt is add for a sample at t, Unix milliseconds.
func (c *complaint) addAt(o outcome, series string, t int64, detail string) {
	if c.any && c.first[o] != "" {
		return
	}
	if t != 0 {
		series += " at " + time.UnixMilli(t).UTC().Format("2006-01-02T15:04:05.000Z")
	}
	c.add(o, series, detail)
}

// text is the body of a refusing answer: a line a reason with its count, what
// it means, an example, and the setting that governs it.
func (c *complaint) text(count func(outcome) int) string {
	var b strings.Builder
	for o := firstRefusal; o < numOutcomes; o++ {
		if c.first[o] == "" {
			continue
		}
		r := refusals[o]
		fmt.Fprintf(&b, "%s: %d refused, %s; first: %s", r.name, count(o), r.says, c.first[o])
		if r.turn != "" {
			fmt.Fprintf(&b, "; see %s", r.turn)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// describe names series i of the request for an error: its labels, sorted and
// clipped. It is called only when something is refused.
func (b *batch) describe(i int) string {
	const most = 12 // labels shown
	var pairs []string
	err := b.src.labels(i, func(name, value string) {
		if len(pairs) < 2*most {
			pairs = append(pairs, strings.ToValidUTF8(clip(name), "�"), strings.ToValidUTF8(clip(value), "�"))
		}
	})
	if err != nil {
		return fmt.Sprintf("series %d of the request", i)
	}
	return labels.FromStrings(pairs...).String()
}
