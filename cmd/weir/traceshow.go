package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/tracing/search"
)

func traceShowCommand() *cobra.Command {
	var server traceServer
	var columns, limit int
	var raw bool
	c := &cobra.Command{
		Use:   "show ID",
		Short: "Shows a trace as a waterfall",
		Long: `Shows a trace as a waterfall: spans below what called them, with their duration,
the part of it in which no child ran, and when it was. Full bars are on the
critical path: what the end of the trace waited for.`,
		Example: `  weir trace show 4bf92f3577b34da6a3ce929d0e0e4736
  weir trace show --json 4bf92f3577b34da6a3ce929d0e0e4736 | jq '.spans[] | select(.status == "error")'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if columns != 0 && (columns < 60 || columns > 1000) {
				return fmt.Errorf("--width: got %d, want 60 to 1000, or 0 for that of the terminal", columns)
			}
			form := url.Values{"limit": {strconv.Itoa(limit)}}
			if raw {
				form.Set("raw", "true")
			}
			return traceShow(c.Context(), &server, args[0], form, screenOf(c, columns), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	server.flags(c, "waterfall")
	flags := c.Flags()
	flags.IntVar(&columns, "width", 0, "`columns` to use; 0 is all of the terminal, or 100 without one")
	flags.IntVar(&limit, "limit", 1000, "spans to show at most")
	flags.BoolVar(&raw, "raw", false, "as stored: clocks of services that disagree are not corrected")
	return c
}

func traceShow(ctx context.Context, server *traceServer, id string, form url.Values, s screen, out, errOut io.Writer) error {
	if id = strings.TrimSpace(id); id == "" || strings.Trim(id, "0123456789abcdefABCDEF") != "" {
		return fmt.Errorf("trace id %q: want 1 to 32 hex digits", id)
	}
	var t search.Trace
	if done, err := server.ask(ctx, id, form, &t, out, errOut); done || err != nil {
		return err
	}
	_, err := io.WriteString(out, waterfall(&t, s))
	return err
}

// waterfall draws a trace.
func waterfall(t *search.Trace, s screen) string {
	var b strings.Builder
	sum := &t.Summary
	fmt.Fprintf(&b, "%s  %s\n", sum.TraceID, rootText(sum))
	line := []string{utc(sum.Start) + " UTC", took(sum.Duration), counted(sum.Spans, "span"), counted(len(sum.Services), "service")}
	if sum.Errors > 0 {
		line = append(line, s.red(counted(sum.Errors, "error")))
	}
	fmt.Fprintf(&b, "%s\n\n", strings.Join(line, "  "))
	draw := newDrawing(t, s)
	b.WriteString(draw.head())
	for i := range t.Spans {
		draw.span(&b, i)
	}
	if t.Omitted > 0 {
		fmt.Fprintf(&b, "... %s more (--limit)\n", counted(t.Omitted, "span"))
	}
	return b.String()
}

// drawing is the lines of a waterfall: the tree, two durations of timeWidth, a sign for
// errors, and bars.
type drawing struct {
	screen
	spans []search.Span
	total float64 // seconds that the bars stand for
	label int     // columns
	bar   int
	next  []bool // span i has a later sibling
	open  []bool // at each depth above: there are siblings to come
}

const timeWidth = 8

func newDrawing(t *search.Trace, s screen) *drawing {
	d := &drawing{screen: s, spans: t.Spans, total: t.Summary.Duration, next: make([]bool, len(t.Spans))}
	var later []bool // by depth
	longest := len("SERVICE OPERATION")
	for i := len(t.Spans) - 1; i >= 0; i-- {
		depth := t.Spans[i].Depth
		for len(later) <= depth {
			later = append(later, false)
		}
		later = later[:depth+1]
		d.next[i] = later[depth]
		later[depth] = true
		longest = max(longest, 2*depth+cells(spanText(&t.Spans[i])))
	}
	d.label = min(longest, s.width*45/100)
	d.bar = s.width - d.label - 2*(timeWidth+1) - 4
	return d
}

func spanText(s *search.Span) string {
	text := printable(s.Service + " " + s.Operation)
	if s.Orphan {
		text = "? " + text
	}
	return text
}

func (d *drawing) head() string {
	right := took(d.total)
	return fit("SERVICE OPERATION", d.label) + fmt.Sprintf(" %*s %*s   ", timeWidth, "DURATION", timeWidth, "SELF") +
		"0" + strings.Repeat(" ", max(1, d.bar-1-cells(right))) + right + "\n"
}

// span draws span i, and what its error says below.
func (d *drawing) span(b *strings.Builder, i int) {
	s := &d.spans[i]
	for len(d.open) <= s.Depth {
		d.open = append(d.open, false)
	}
	d.open = d.open[:s.Depth+1]
	d.open[s.Depth] = d.next[i]
	sign, label := " ", fit(d.branch(s.Depth, true)+spanText(s), d.label)
	if s.Status == "error" {
		sign, label = d.red("!"), d.red(label)
	}
	line := fmt.Sprintf("%s %*s %*s %s ", label, timeWidth, took(s.Duration), timeWidth, took(s.Self), sign) + d.strip(s)
	b.WriteString(strings.TrimRight(line, " ") + "\n")
	if s.Status == "error" && s.Message != "" {
		rest := "  "
		if i+1 < len(d.spans) && d.spans[i+1].Depth > s.Depth {
			rest = "│ "
		}
		indent := d.branch(s.Depth, false) + rest
		b.WriteString(indent + d.red(strings.TrimRight(fit("! "+printable(strings.Join(strings.Fields(s.Message), " ")), d.width-cells(indent)), " ")) + "\n")
	}
}

// branch is the tree left of a span, or of a line below it. What is deep is told by its
// depth.
func (d *drawing) branch(depth int, first bool) string {
	if depth == 0 {
		return ""
	}
	if 2*depth > d.label/2 {
		return fmt.Sprintf("…%d ", depth)
	}
	var b strings.Builder
	for k := 1; k <= depth; k++ {
		switch {
		case k == depth && first && d.open[k]:
			b.WriteString("├ ")
		case k == depth && first:
			b.WriteString("└ ")
		case d.open[k]:
			b.WriteString("│ ")
		default:
			b.WriteString("  ")
		}
	}
	return b.String()
}

// strip is the bar of a span: at least one column.
func (d *drawing) strip(s *search.Span) string {
	from, to := 0, d.bar
	if d.total > 0 {
		from = min(int(s.Offset/d.total*float64(d.bar)), d.bar-1)
		to = min(max(int((s.Offset+s.Duration)/d.total*float64(d.bar)+.5), from+1), d.bar)
	}
	sign, dim := "━", d.faint
	if s.Critical {
		sign, dim = "█", func(text string) string { return text }
	}
	if s.Status == "error" {
		dim = d.red
	}
	return strings.Repeat(" ", from) + dim(strings.Repeat(sign, to-from))
}
