//go:build chaos

package e2e_test

import (
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weir-dev/weir/e2e"
)

// question is asked by a range query on the grid of its windows.
type question struct {
	begin, end int64 // first and last end of a window, milliseconds
	width      time.Duration
	source     string // max_source_resolution; "" to not name one
	acked      int    // requests
}

// question is about all time of which something is acknowledged.
func (c *pastChaos) question(acked int, width time.Duration, source string) question {
	w := width.Milliseconds()
	return question{begin: (pastBase + w - 1) / w * w, end: past{0}.known(acked) / w * w, width: width, source: source, acked: acked}
}

// ask is one thing to know of each window of some series.
type ask struct {
	expr string // %s is the width
	kind string // of the series that it asks for; "" for all
	want func(f fact) float64
	rise bool // it is about the rise of counters
}

var countAsk = ask{expr: `count_over_time(past[%s])`, want: func(f fact) float64 { return float64(f.count) }}

var asks = []ask{
	countAsk,
	{expr: `sum_over_time(past{kind="gauge"}[%s])`, kind: "gauge", want: func(f fact) float64 { return f.sum }},
	{expr: `min_over_time(past{kind="gauge"}[%s])`, kind: "gauge", want: func(f fact) float64 { return f.min }},
	{expr: `max_over_time(past{kind="gauge"}[%s])`, kind: "gauge", want: func(f fact) float64 { return f.max }},
	{expr: `increase(past{kind="counter"}[%s])`, kind: "counter", want: func(f fact) float64 { return f.rise }, rise: true},
	{expr: `histogram_count(increase(past{kind=~".*histogram"}[%s]))`, kind: "histogram", want: func(f fact) float64 { return 4 * f.rise }, rise: true},
	{expr: `histogram_sum(increase(past{kind=~".*histogram"}[%s]))`, kind: "histogram", want: func(f fact) float64 { return 10 * f.rise }, rise: true},
	{expr: `histogram_count(sum_over_time(past{kind=~".*histogram"}[%s]))`, kind: "histogram", want: func(f fact) float64 { return 4 * f.sum }},
}

// ask compares an answer with the truth, window by window and series by series, and
// returns how many were right.
//
// Three hours of samples come in a second, so that blocks are cut, rolled up and
// deleted in the time of one query. An answer of which that has torn out a piece is
// asked for once more, and told; all work done, and more often than once in ten
// rounds, it is a fault.
func (c *pastChaos) ask(q question, a ask) (right int) {
	c.t.Helper()
	right, rolled, faults := c.compare(q, a)
	if a.rise && !rolled {
		return 0 // Prometheus' own increase, which estimates
	}
	if len(faults) == 0 {
		return right
	}
	why := fmt.Sprintf("%s of %d to %d by %s, max_source_resolution=%q: %d windows right, %d wrong:\n%s",
		fmt.Sprintf(a.expr, dur(q.width)), q.begin, q.end, q.width, q.source, right, len(faults), strings.Join(faults[:min(10, len(faults))], "\n"))
	if c.torn++; c.settled || c.torn > 1+rounds(c.t, 5)/10 {
		c.t.Error(why)
		return right
	}
	again, _, faults := c.compare(q, a)
	if len(faults) > 0 {
		c.t.Errorf("%s\nasked again:\n%s", why, strings.Join(faults[:min(10, len(faults))], "\n"))
	} else {
		c.t.Logf("%s\nasked again, all are right", why)
	}
	return again
}

// compare asks, and says what is wrong with the answer.
func (c *pastChaos) compare(q question, a ask) (right int, rolled bool, faults []string) {
	c.t.Helper()
	found, rolled := c.values(q, fmt.Sprintf(a.expr, dur(q.width)))
	if a.rise && !rolled {
		return 0, false, nil
	}
	for _, tr := range c.truths {
		if !strings.HasSuffix(tr.kind(), a.kind) {
			continue
		}
		known := tr.known(q.acked)
		tr.learn(known)
		for _, x := range a.judgeAll(tr, q, min(q.end, known), found[tr.series], &right) {
			faults = append(faults, fmt.Sprintf("%s @%d (%.1fh before the end): %s", tr.labels(), x.end, float64(q.end-x.end)/3.6e6, x.why))
		}
	}
	return right, rolled, faults
}

// wrongWindow is a window and what is wrong with its answer.
type wrongWindow struct {
	end int64
	why string
}

// judgeAll judges the answers for all windows up to until, and counts the right ones.
//
// Windows beside a hole are left out where a rise is asked for: what a counter rose
// over a hole longer than the range is spread over the hole. [pastChaos.askRise] looks
// at the sum.
func (a ask) judgeAll(tr *truth, q question, until int64, found map[int64]float64, right *int) (wrong []wrongWindow) {
	width := q.width.Milliseconds()
	hole := func(end int64) bool { return tr.over(end, width).count == 0 }
	for end := q.begin; end <= until; end += width {
		if a.rise && q.begin < q.end && (hole(end-width) || hole(end) || hole(end+width)) {
			continue
		}
		got, there := found[end]
		if why := a.judge(tr.over(end, width), got, there); why != "" {
			wrong = append(wrong, wrongWindow{end, why})
			continue
		}
		*right++
	}
	return wrong
}

// askRise compares the rise of each series over all time with the truth.
func (c *pastChaos) askRise(q question, a ask) (right int) {
	c.t.Helper()
	until := past{9}.known(q.acked) / pastCoarse.Milliseconds() * pastCoarse.Milliseconds() // of those with late samples too
	q.begin, q.end = until, until
	q.width = time.Duration(until-pastBase+pastCoarse.Milliseconds()) * time.Millisecond
	return c.ask(q, a)
}

// judge says what is wrong with an answer, if anything.
func (a ask) judge(f fact, got float64, there bool) string {
	want := a.want(f)
	switch {
	case f.count == 0 && there:
		return fmt.Sprintf("got %v where there are no samples", got)
	case f.count == 0, a.rise && f.count == 1 && !there: // raw, a rise takes two samples
		return ""
	case !there:
		return fmt.Sprintf("nothing, want %v from %d samples", want, f.count)
	case math.IsNaN(want) && math.IsNaN(got):
		return ""
	case a.rise && math.Abs(got-want) <= 1e-9*max(1, math.Abs(want)):
		return ""
	case got != want:
		return fmt.Sprintf("got %v, want %v from %d samples", got, want, f.count)
	}
	return ""
}

// values asks, and returns the answer by series and time, and whether rollups gave any
// of it.
func (c *pastChaos) values(q question, expr string) (all map[int]map[int64]float64, rolled bool) {
	c.t.Helper()
	seconds := func(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }
	params := url.Values{"query": {expr}, "start": {seconds(q.begin)}, "end": {seconds(q.end)}, "step": {seconds(q.width.Milliseconds())}}
	if q.source != "" {
		params.Set("max_source_resolution", q.source)
	}
	var answer struct {
		Data struct {
			Result []struct {
				Metric map[string]string
				Values [][2]any
			}
		}
		Infos []string
	}
	if err := e2e.GetJSON(c.t.Context(), c.weir.URL+"/api/v1/query_range?"+params.Encode(), &answer); err != nil {
		c.t.Fatal(err)
	}
	all = map[int]map[int64]float64{}
	for _, s := range answer.Data.Result {
		series, err := strconv.Atoi(s.Metric["series"])
		if err != nil || all[series] != nil {
			c.t.Fatalf("%s: got a series that was not sent, or twice: %v", expr, s.Metric)
		}
		all[series] = make(map[int64]float64, len(s.Values))
		for _, v := range s.Values {
			at, _ := v[0].(float64)
			text, _ := v[1].(string)
			x, err := strconv.ParseFloat(text, 64)
			if err != nil {
				c.t.Fatalf("%s: %v", expr, err)
			}
			all[series][int64(math.Round(at*1000))] = x
		}
	}
	return all, strings.Contains(strings.Join(answer.Infos, " "), "rollups")
}
