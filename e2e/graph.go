package e2e

import (
	"context"
	"fmt"
	"math"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Graph is the answer to a range query that gives one series, and from where each
// value comes. Times are Unix milliseconds.
type Graph struct {
	Expr             string
	Start, End, Step int64
	Values           []float64 // NaN where there is none
	Tiers            []string  // "1h", "5m", "raw" or "head", of each value
	Spans            []GraphSpan
	Infos            []string
}

// GraphSpan is a stretch of time (From, To] that one tier answers for, as
// /api/v1/query/explain tells.
type GraphSpan struct {
	Resolution string
	From, To   float64 // Unix seconds
}

// Ask asks the server at base for a graph. Raw samples from head on are in the head.
func Ask(ctx context.Context, base, expr string, start, end, step, head int64) (*Graph, error) {
	g := &Graph{Expr: expr, Start: start, End: end, Step: step}
	var answer struct {
		Data struct {
			Result []struct {
				Values [][2]any
			}
		}
		Infos []string
	}
	if err := GetJSON(ctx, base+"/api/v1/query_range?"+g.params(), &answer); err != nil {
		return nil, err
	}
	if n := len(answer.Data.Result); n != 1 {
		return nil, fmt.Errorf("ask %s: got %d series, want 1", expr, n)
	}
	g.Infos = answer.Infos
	for range (end-start)/step + 1 {
		g.Values = append(g.Values, math.NaN())
	}
	for _, v := range answer.Data.Result[0].Values {
		at, _ := v[0].(float64)
		x, err := strconv.ParseFloat(fmt.Sprint(v[1]), 64)
		if err != nil {
			return nil, fmt.Errorf("ask %s: %w", expr, err)
		}
		g.Values[(int64(math.Round(at*1000))-start)/step] = x
	}
	return g, g.explain(ctx, base, head)
}

func (g *Graph) params() string {
	seconds := func(ms int64) string { return strconv.FormatFloat(float64(ms)/1000, 'f', 3, 64) }
	return url.Values{
		"query": {g.Expr}, "start": {seconds(g.Start)}, "end": {seconds(g.End)}, "step": {seconds(g.Step)},
	}.Encode()
}

// explained is a node of what /api/v1/query/explain tells.
type explained struct {
	Selector *struct{ Spans []GraphSpan }
	Children []*explained
}

// spans are those of the first selector.
func (n *explained) spans() []GraphSpan {
	if n == nil {
		return nil
	}
	if n.Selector != nil {
		return n.Selector.Spans
	}
	for _, c := range n.Children {
		if s := c.spans(); s != nil {
			return s
		}
	}
	return nil
}

func (g *Graph) explain(ctx context.Context, base string, head int64) error {
	var answer struct{ Data struct{ Root *explained } }
	if err := GetJSON(ctx, base+"/api/v1/query/explain?"+g.params(), &answer); err != nil {
		return err
	}
	g.Spans = answer.Data.Root.spans()
	for i := range g.Values {
		t := g.Start + int64(i)*g.Step
		tier := "none"
		for _, s := range g.Spans {
			if at := float64(t) / 1000; s.From < at && at <= s.To {
				tier = s.Resolution
			}
		}
		if tier == "raw" && t >= head {
			tier = "head"
		}
		g.Tiers = append(g.Tiers, tier)
	}
	return nil
}

// Crossed are the tiers in the order of time.
func (g *Graph) Crossed() (tiers []string) {
	for _, t := range g.Tiers {
		if n := len(tiers); n == 0 || tiers[n-1] != t {
			tiers = append(tiers, t)
		}
	}
	return tiers
}

// Empty counts the steps without a value.
func (g *Graph) Empty() (n int) {
	for _, v := range g.Values {
		if math.IsNaN(v) {
			n++
		}
	}
	return n
}

// Border is between two neighbours of two tiers.
type Border struct {
	Left, Right string  // tiers
	At          int64   // the time of the right one, Unix milliseconds
	Jump        float64 // between their values
}

func (b Border) String() string {
	return fmt.Sprintf("%.4g from %s to %s at %s", b.Jump, b.Left, b.Right, time.UnixMilli(b.At).UTC().Format(time.RFC3339))
}

// Seams are the differences between neighbours of two tiers, and the largest between
// neighbours of one.
func (g *Graph) Seams() (across []Border, within float64) {
	for i := 1; i < len(g.Values); i++ {
		b := Border{g.Tiers[i-1], g.Tiers[i], g.Start + int64(i)*g.Step, math.Abs(g.Values[i] - g.Values[i-1])}
		if b.Left != b.Right {
			across = append(across, b)
		} else {
			within = max(within, b.Jump)
		}
	}
	return across, within
}

// slack is by how much more neighbours may differ across a border than within a tier:
// the coarser of two smooths more, and what it says of an hour lags by half of it.
const slack = 1.25

// Seam is the first border over which neighbours differ more than any within a tier,
// nil if there is none.
func (g *Graph) Seam() *Border {
	across, within := g.Seams()
	for _, b := range across {
		if !(b.Jump <= within*slack) {
			return &b
		}
	}
	return nil
}

// Chart draws the values of [from, to) as so many rows of text, each column the mean
// of equally many values, and below it the tiers.
func (g *Graph) Chart(from, to, columns, rows int) string {
	from, columns = max(0, from), min(columns, to-max(0, from))
	means := make([]float64, columns)
	marks := make([]string, columns)
	lo, hi := math.Inf(1), math.Inf(-1)
	for c := range means {
		a, b := from+c*(to-from)/columns, from+(c+1)*(to-from)/columns
		for _, v := range g.Values[a:b] {
			means[c] += v / float64(b-a)
		}
		marks[c] = g.Tiers[b-1]
		lo, hi = min(lo, means[c]), max(hi, means[c])
	}
	var out strings.Builder
	levels := []rune(" ▁▂▃▄▅▆▇█")
	for r := rows - 1; r >= 0; r-- {
		label := ""
		switch r {
		case rows - 1:
			label = fmt.Sprintf("%.4g", hi)
		case 0:
			label = fmt.Sprintf("%.4g", lo)
		}
		fmt.Fprintf(&out, "%8s ", label)
		for _, m := range means {
			full := 1 + (m-lo)/max(hi-lo, 1e-300)*float64(rows*8-1) // eighths of a row
			out.WriteRune(levels[int(min(max(full-float64(r*8), 0), 8))])
		}
		out.WriteByte('\n')
	}
	out.WriteString(strings.Repeat(" ", 9) + ruler(marks) + "\n")
	return out.String()
}

// ruler writes each name below the columns that are its, and bars where it changes;
// the last may be longer than its columns.
func ruler(marks []string) string {
	var out strings.Builder
	for i := 0; i < len(marks); {
		j := i
		for j < len(marks) && marks[j] == marks[i] {
			j++
		}
		text := "|" + marks[i]
		if len(text) > j-i && j < len(marks) {
			text = text[:j-i]
		}
		out.WriteString(text + strings.Repeat("-", max(0, j-i-len(text))))
		i = j
	}
	return out.String()
}
