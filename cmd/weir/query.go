package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/query"
)

func queryCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "query",
		Short: "Asks a running server about queries",
		Args:  noVerb,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(queryExplainCommand())
	return c
}

// explainFlags are the flags of "query explain". Times and durations go to the
// server as they are; it says what is wrong with them.
type explainFlags struct {
	url              string
	time             string
	start, end, step string
	source           string
	analyze          bool
	output           string
}

func queryExplainCommand() *cobra.Command {
	var f explainFlags
	c := &cobra.Command{
		Use:   "explain PROMQL",
		Short: "Shows from which resolution each selector of a query is answered",
		Long: `Asks a running server from which resolution it would answer each selector
of a query, and how far off the answer may be. The query is not run unless
--analyze is given.

With --start, --end and --step it is a range query, else an instant query
at --time, or now.`,
		Example: `  weir query explain 'rate(http_requests_total[5m])'
  weir query explain --start 2025-01-01T00:00:00Z --end 2025-04-01T00:00:00Z --step 1h 'sum(rate(x[5m]))'`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return queryExplain(c.Context(), f, args[0], c.OutOrStdout())
		},
	}
	flags := c.Flags()
	flags.StringVar(&f.url, "url", "http://127.0.0.1:9480", "base `url` of the server")
	flags.StringVar(&f.time, "time", "", "`time` of an instant query: Unix seconds or RFC 3339")
	flags.StringVar(&f.start, "start", "", "first `time` of a range query")
	flags.StringVar(&f.end, "end", "", "last `time` of a range query")
	flags.StringVar(&f.step, "step", "", "`duration` between the times of a range query")
	flags.StringVar(&f.source, "max-source-resolution", "", "coarsest resolution to use: a `duration`, 0s for samples, or auto")
	flags.BoolVar(&f.analyze, "analyze", false, "run the query too and show what was read")
	flags.StringVarP(&f.output, "output", "o", "tree", "tree or json")
	return c
}

func queryExplain(ctx context.Context, f explainFlags, promql string, out io.Writer) error {
	if f.output != "tree" && f.output != "json" {
		return fmt.Errorf("--output: got %q, want tree or json", f.output)
	}
	data, notes, err := f.ask(ctx, promql)
	if err != nil {
		return err
	}
	if f.output == "json" {
		var indented bytes.Buffer
		if err := json.Indent(&indented, data, "", "  "); err != nil {
			return fmt.Errorf("read the answer of %s: %w", f.url, err)
		}
		_, err = fmt.Fprintln(out, indented.String())
		return err
	}
	var x query.Explanation
	if err := json.Unmarshal(data, &x); err != nil {
		return fmt.Errorf("read the answer of %s: %w", f.url, err)
	}
	_, err = io.WriteString(out, explanation(&x, notes))
	return err
}

// maxExplanation bounds an answer in bytes: a few hundred a selector and tier.
const maxExplanation = 16 << 20

// ask returns the data of the server's answer, and its warnings.
func (f explainFlags) ask(ctx context.Context, promql string) (data json.RawMessage, warnings []string, err error) {
	base, err := url.Parse(f.url)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, nil, fmt.Errorf("--url: got %q, want the base URL of a server such as http://127.0.0.1:9480", f.url)
	}
	form := url.Values{"query": {promql}}
	for name, value := range map[string]string{
		"time": f.time, "start": f.start, "end": f.end, "step": f.step, "max_source_resolution": f.source,
	} {
		if value != "" {
			form.Set(name, value)
		}
	}
	if f.analyze {
		form.Set("analyze", "1")
	}
	target := base.JoinPath("/api/v1/query/explain")
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target.String(), strings.NewReader(form.Encode()))
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", target.Redacted(), err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // it repeats the URL, and a password in it
		}
		return nil, nil, fmt.Errorf("ask %s (--url): %w", target.Redacted(), err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxExplanation))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer of %s: %w", target.Redacted(), err)
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
		Warnings      []string
	}
	switch err := json.Unmarshal(body, &answer); {
	case err != nil:
		return nil, nil, fmt.Errorf("ask %s: answered %s, not in JSON: is it a Weir server?", target.Redacted(), resp.Status)
	case answer.Status != "success":
		return nil, nil, errors.New(answer.Error)
	}
	return answer.Data, answer.Warnings, nil
}

// explanation prints x as a tree.
func explanation(x *query.Explanation, warnings []string) string {
	var b strings.Builder
	if x.Step > 0 {
		fmt.Fprintf(&b, "%s to %s, step %s\n", clock(x.Start), clock(x.End), length(x.Step))
	} else {
		fmt.Fprintf(&b, "at %s\n", clock(x.Start))
	}
	if x.Root == nil {
		b.WriteString("no series are read\n")
	} else {
		explainNode(&b, x.Root, "", "")
	}
	if x.Ran != nil {
		fmt.Fprintf(&b, "ran %.3f s: %d series, %d samples\n", x.Ran.Seconds, x.Ran.Series, x.Ran.Samples)
	}
	for _, w := range warnings {
		fmt.Fprintln(&b, w)
	}
	return b.String()
}

// explainNode prints n behind first, and what is below it behind rest.
func explainNode(b *strings.Builder, n *query.ExplanationNode, first, rest string) {
	fmt.Fprintf(b, "%s%s\n", first, n.Expr)
	if n.Selector != nil {
		bar := "  "
		if len(n.Children) > 0 {
			bar = "│ "
		}
		for _, line := range selectorLines(n.Selector) {
			fmt.Fprintf(b, "%s%s%s\n", rest, bar, line)
		}
	}
	for i, c := range n.Children {
		if i < len(n.Children)-1 {
			explainNode(b, c, rest+"├─ ", rest+"│  ")
		} else {
			explainNode(b, c, rest+"└─ ", rest+"   ")
		}
	}
}

func selectorLines(s *query.SelectorExplanation) (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	if len(s.Spans) == 0 {
		add("nothing is held of that time")
	}
	for _, p := range s.Spans {
		add("%-4s %s to %s", p.Resolution, clock(p.From), clock(p.To))
	}
	add("why: %s", s.Why)
	if s.Widened != "" {
		add("looks back: %s instead of %s where windows are wider", s.Widened, s.Range)
	}
	if s.Bound != "" {
		add("bound: %s", s.Bound)
	}
	for _, h := range s.Held {
		held := "held: " + h.Resolution
		if h.From != nil {
			held += " from " + clock(*h.From)
		}
		if h.To != nil {
			held += " to " + clock(*h.To)
		}
		if h.Partial {
			held += ", some series only"
		}
		add("%s", held)
	}
	if r := s.Read; r != nil {
		add("read: %d series, %d points, %d samples, %d bytes; %d values", r.Series, r.Points, r.Samples, r.Bytes, r.Values)
	}
	return lines
}

// clock prints Unix seconds, to the millisecond if need be.
func clock(unix float64) string {
	return time.UnixMilli(int64(unix * 1000)).UTC().Format("2006-01-02T15:04:05.999Z07:00")
}

func length(seconds float64) string { return model.Duration(seconds * float64(time.Second)).String() }
