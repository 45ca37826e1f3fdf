package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/tracing/search"
)

// analyzeFlags are the flags of "trace analyze".
type analyzeFlags struct {
	server                   traceServer
	limit, top, groups       int
	columns                  int
	sort, by, compare        string
	compareStart, compareEnd string
}

func traceAnalyzeCommand() *cobra.Command {
	var f analyzeFlags
	c := &cobra.Command{
		Use:   "analyze [QUERY]",
		Short: "Tells where the traces of a query spend time and fail, or how two sets differ",
		Long: `Tells what is in the traces that a query selects: operations by the time spent
in them, errors that look the same, and a heat map of durations. For the query
language see "weir trace --help".

With --compare, or --compare-start and --compare-end, it tells what differs
between two values of an attribute of the spans that the query stands for, or
between another window and this one.
A * marks what is no accident: p below 0.01, divided by the number of tests.

Where there are more traces than --limit, it is of a sample that is spread
over the window.`,
		Example: `  weir trace analyze --since 6h 'service=checkout && duration>1s'
  weir trace analyze --by http.route 'service=frontend && kind=server'
  weir trace analyze --compare service.version=1.4,1.5 'service=cart'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return f.run(c.Context(), queryArg(args), c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	f.server.flags(c, "table")
	f.server.windowFlags(c)
	flags := c.Flags()
	flags.IntVar(&f.limit, "limit", 1000, "traces of the sample, of each set")
	flags.IntVar(&f.top, "top", 20, "rows of a table")
	flags.StringVar(&f.sort, "sort", "self", "operations by self, total or critical time, or calls")
	flags.StringVar(&f.by, "by", "", "a heat map for each value of this `attribute`, the largest --groups of them")
	flags.IntVar(&f.groups, "groups", 8, "heat maps with --by")
	flags.IntVar(&f.columns, "columns", 48, "columns of a heat map")
	flags.StringVar(&f.compare, "compare", "", "compare two values of an attribute: `ATTRIBUTE=A,B`")
	flags.StringVar(&f.compareStart, "compare-start", "", "`time` at which the window to compare with starts")
	flags.StringVar(&f.compareEnd, "compare-end", "", "`time` at which it ends")
	return c
}

func (f *analyzeFlags) run(ctx context.Context, query string, out, errOut io.Writer) error {
	form := url.Values{}
	for name, n := range map[string]int{"limit": f.limit, "top": f.top, "groups": f.groups, "columns": f.columns} {
		form.Set(name, strconv.Itoa(n))
	}
	set(form, map[string]string{
		"q": query, "sort": f.sort, "by": f.by, "compare_start": f.compareStart, "compare_end": f.compareEnd,
	})
	if f.compare != "" {
		name, values, _ := strings.Cut(f.compare, "=")
		a, b, ok := strings.Cut(values, ",")
		if !ok || name == "" {
			return fmt.Errorf("--compare: got %q, want an attribute and two values such as service.version=1.4,1.5", f.compare)
		}
		set(form, map[string]string{"compare": name, "a": a, "b": b})
	}
	if err := f.server.window(form); err != nil {
		return err
	}
	var a search.Analysis
	if done, err := f.server.ask(ctx, "analyze", form, &a, out, errOut); done || err != nil {
		return err
	}
	_, err := io.WriteString(out, analysisText(&a))
	return err
}

func analysisText(a *search.Analysis) string {
	var b strings.Builder
	if a.Comparison != nil {
		comparisonText(&b, a.Comparison)
		return b.String()
	}
	fmt.Fprintf(&b, "%s to %s UTC: %s\n", utc(a.Start), utc(a.End), sampleText(a.Sample, a.End.Sub(a.Start)))
	if len(a.Operations) > 0 {
		operationsText(&b, a)
	}
	if len(a.Errors) > 0 {
		errorsText(&b, a)
	}
	if a.Heatmap != nil && len(a.Heatmap.Groups) > 0 {
		heatText(&b, a.Heatmap)
	}
	return b.String()
}

func sampleText(s search.Sample, window time.Duration) string {
	text := counted(s.Traces, "trace") + ", " + counted(s.Spans, "span")
	if !s.Complete {
		text += fmt.Sprintf("; a sample, of %s of the time", percent(s.Covered, window.Seconds()))
	}
	return text
}

// rows prints lines of cells parted by tabs as a table.
func rows(b *strings.Builder, each func(w io.Writer)) {
	tw := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	each(tw)
	_ = tw.Flush() // into memory
}

func short(s string, columns int) string {
	s = printable(s)
	return fit(s, min(columns, cells(s)))
}

func operationsText(b *strings.Builder, a *search.Analysis) {
	b.WriteString("\noperations\n")
	rows(b, func(w io.Writer) {
		fmt.Fprintln(w, "SELF\tCRITICAL\tTOTAL\tCALLS\tPER S\tERRORS\tP50\tP95\tMAX\tSERVICE\tOPERATION")
		for _, o := range a.Operations {
			fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", took(o.Self), took(o.Critical), took(o.Total), o.Calls,
				digits(o.Rate), percent(float64(o.Errors), float64(o.Calls)), took(o.P50), took(o.P95), took(o.Max),
				short(o.Service, 30), short(o.Operation, 50))
		}
	})
}

func errorsText(b *strings.Builder, a *search.Analysis) {
	b.WriteString("\nerrors (origin: no error below)\n")
	rows(b, func(w io.Writer) {
		fmt.Fprintln(w, "COUNT\tORIGIN\tTRACES\tLAST (UTC)\tEXAMPLE\tSERVICE\tOPERATION\tMESSAGE")
		for _, s := range a.Errors {
			message := s.Message
			if s.Exception != "" {
				message = strings.TrimSuffix(s.Exception+": "+message, ": ")
			}
			fmt.Fprintf(w, "%d\t%d\t%d\t%s\t%s\t%s\t%s\t%s\n", s.Count, s.Origins, s.Traces, utc(s.Last), s.Example,
				short(s.Service, 30), short(s.Operation, 50), short(message, 100))
		}
	})
}

// shades from few to many.
var shades = []rune("░▒▓█")

func heatText(b *strings.Builder, m *search.Heatmap) {
	most := 0
	for _, g := range m.Groups {
		for _, column := range g.Cells {
			most = max(most, slices.Max(column))
		}
	}
	fmt.Fprintf(b, "\ndurations, from %s UTC, %s a column; █ is more than %s\n", utc(m.Start), took(m.Step), counted(most*3/4, "span"))
	for _, g := range m.Groups {
		name := ""
		switch {
		case g.Other:
			name = "other values: "
		case g.None:
			name = "no " + printable(m.By) + ": "
		case m.By != "":
			name = short(m.By+"="+g.Value, 60) + ": "
		}
		fmt.Fprintf(b, "%s%s, p50 %s, p95 %s\n", name, counted(g.Count, "span"), took(g.P50), took(g.P95))
		heatRows(b, m, &g, most)
	}
}

func heatRows(b *strings.Builder, m *search.Heatmap, g *search.Heat, most int) {
	for k := len(m.Bounds) - 1; k >= 0; k-- {
		bound := "longer"
		if m.Bounds[k] > 0 {
			bound = "≤ " + took(m.Bounds[k])
		}
		line := fmt.Sprintf("%s%s │", strings.Repeat(" ", max(0, 9-cells(bound))), bound)
		for _, column := range g.Cells {
			if n := column[k]; n == 0 {
				line += " "
			} else {
				line += string(shades[(n*len(shades)-1)/most])
			}
		}
		b.WriteString(strings.TrimRight(line, " ") + "\n")
	}
}

func comparisonText(b *strings.Builder, c *search.Comparison) {
	for _, s := range []struct {
		name string
		side *search.Side
	}{{"A", &c.A}, {"B", &c.B}} {
		of := ""
		if c.Attribute != "" {
			of = short(c.Attribute+"="+s.side.Value, 60) + ", "
		}
		fmt.Fprintf(b, "%s: %s%s to %s UTC: %s\n", s.name, of, utc(s.side.Start), utc(s.side.End),
			sampleText(s.side.Sample, s.side.End.Sub(s.side.Start)))
	}
	if len(c.Operations) == 0 {
		return
	}
	b.WriteString("\noperations by the change of the time that a trace spends in them\n")
	few := false
	rows(b, func(w io.Writer) {
		fmt.Fprintln(w, "A TRACE\tP50\t\tP95\t\tPER S\t\tERRORS\t\tCALLS\tSERVICE\tOPERATION")
		for _, d := range c.Operations {
			calls := fmt.Sprintf("%d, %d", callsOf(d.A), callsOf(d.B))
			if d.Few {
				few = true
				calls += " few"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", signed(d.TimePerTrace.B-d.TimePerTrace.A), changed(d.P50, took), changed(d.P95, took),
				changed(d.Rate, digits), changed(d.ErrorRatio, func(v float64) string { return percent(v, 1) }), calls,
				short(d.Service, 30)+"\t"+short(d.Operation, 50))
		}
	})
	fmt.Fprintf(b, "\n* p < %s, by %s\n", strconv.FormatFloat(.01/float64(max(1, c.Tests)), 'g', 2, 64), counted(c.Tests, "test"))
	if few {
		b.WriteString("few: less than 20 calls in a set, durations and errors not tested\n")
	}
}

func callsOf(o *search.Operation) int {
	if o == nil {
		return 0
	}
	return o.Calls
}

func signed(seconds float64) string {
	if seconds > 0 {
		return "+" + took(seconds)
	}
	return took(seconds)
}

// changed is two cells: both figures, and how much one is more than the other.
func changed(c search.Change, figure func(float64) string) string {
	by := ""
	switch {
	case c.A == c.B:
	case c.A == 0:
		by = "new"
	case c.B == 0:
		by = "gone"
	case c.B > 10*c.A:
		by = "×" + digits(c.B/c.A)
	default:
		by = fmt.Sprintf("%+.0f%%", 100*(c.B/c.A-1))
	}
	if c.Significant {
		by += "*"
	}
	return figure(c.A) + " → " + figure(c.B) + "\t" + by
}
