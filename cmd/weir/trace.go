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
	"strconv"
	"time"

	"github.com/spf13/cobra"
)

func traceCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "trace",
		Short: "Finds, shows and analyzes traces of a running server",
		Long: `Finds, shows and analyzes traces of a running server.

A query is terms joined by &&, all true of one span. Terms compare a key with
= != < <= > >= =~ or !~; a key alone asks that the attribute is there. Keys of
a span itself are service, operation, kind, status (ok, error, unset),
duration, and root, which stands alone; others are attributes. Values with
spaces or signs go into double quotes.

Of spans of one trace, {a} -> {b} asks that b is a child of a, {a} ->> {b}
that it is anywhere below, and {a} && {b} that there are both.`,
		Args: noVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(traceSearchCommand(), traceShowCommand(), traceAnalyzeCommand())
	return c
}

// traceServer is where a verb asks, of which time, and the form of the answer.
type traceServer struct {
	url        string
	start, end string
	since      time.Duration
	output     output
	asJSON     bool
}

// flags of all verbs.
func (t *traceServer) flags(c *cobra.Command, form string) {
	flags := c.Flags()
	flags.StringVar(&t.url, "url", "http://127.0.0.1:9480", "base `url` of the server")
	flags.StringVarP(&t.output.form, "output", "o", form, "`form` of the answer: "+form+" or json")
	flags.BoolVar(&t.asJSON, "json", false, "the same as --output json")
	c.PreRunE = func(*cobra.Command, []string) error {
		if t.asJSON {
			t.output.form = "json"
		}
		if t.output.form != form && t.output.form != "json" {
			return fmt.Errorf("--output: got %q, want %s or json", t.output.form, form)
		}
		return nil
	}
}

// windowFlags of those that look at a window. Times go to the server as they are; it
// says what is wrong with them.
func (t *traceServer) windowFlags(c *cobra.Command) {
	flags := c.Flags()
	flags.StringVar(&t.start, "start", "", "first start of spans, a `time`: Unix seconds or RFC 3339; empty is an hour before --end")
	flags.StringVar(&t.end, "end", "", "last start of spans, a `time`; empty is now")
	flags.DurationVar(&t.since, "since", 0, "look back so long from now, instead of --start and --end")
	c.MarkFlagsMutuallyExclusive("since", "start")
	c.MarkFlagsMutuallyExclusive("since", "end")
}

func (t *traceServer) window(form url.Values) error {
	switch {
	case t.since < 0:
		return fmt.Errorf("--since: got %s, want more than 0s", t.since)
	case t.since > 0:
		t.start = strconv.FormatFloat(float64(time.Now().Add(-t.since).UnixMilli())/1000, 'f', -1, 64)
	}
	set(form, map[string]string{"start": t.start, "end": t.end})
	return nil
}

// set sets what is given.
func set(form url.Values, values map[string]string) {
	for name, value := range values {
		if value != "" {
			form.Set(name, value)
		}
	}
}

// maxTraceAnswer bounds an answer in bytes: a trace of 20,000 spans has about 20 MB.
const maxTraceAnswer = 256 << 20

// ask asks for path and reads the data of the answer into v, or prints it where JSON is
// wanted: done is then true. Warnings of the server go to errOut.
func (t *traceServer) ask(ctx context.Context, path string, form url.Values, v any, out, errOut io.Writer) (done bool, err error) {
	data, warnings, err := t.get(ctx, path, form)
	if err != nil {
		return false, err
	}
	for _, w := range warnings {
		fmt.Fprintln(errOut, "warning:", printable(w))
	}
	if t.output.form == "json" {
		var indented bytes.Buffer
		if err := json.Indent(&indented, data, "", "  "); err != nil {
			return false, fmt.Errorf("read the answer of %s: %w", path, err)
		}
		_, err := fmt.Fprintln(out, indented.String())
		return true, err
	}
	if err := json.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("read the answer of %s: %w", path, err)
	}
	return false, nil
}

func (t *traceServer) get(ctx context.Context, path string, form url.Values) (data json.RawMessage, warnings []string, err error) {
	target, err := url.Parse(t.url)
	if err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, nil, fmt.Errorf("--url: got %q, want the base URL of a server such as http://127.0.0.1:9480", t.url)
	}
	target = target.JoinPath("/api/v1/traces", path)
	shown := target.Redacted()
	target.RawQuery = form.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.String(), nil)
	if err != nil {
		return nil, nil, fmt.Errorf("ask %s: %w", shown, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // it repeats the URL, and a password in it
		}
		return nil, nil, fmt.Errorf("ask %s (--url): %w", shown, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxTraceAnswer+1))
	if err != nil {
		return nil, nil, fmt.Errorf("read the answer of %s: %w", shown, err)
	}
	if len(body) > maxTraceAnswer {
		return nil, nil, fmt.Errorf("ask %s: the answer is larger than %s; ask for less with --limit", shown, bytesText(maxTraceAnswer))
	}
	var answer struct {
		Status, Error string
		Data          json.RawMessage
		Warnings      []string
	}
	switch err := json.Unmarshal(body, &answer); {
	case err != nil:
		return nil, nil, fmt.Errorf("ask %s: answered %s, not in JSON: is it a Weir server?", shown, resp.Status)
	case answer.Status != "success":
		return nil, nil, errors.New(printable(answer.Error))
	}
	return answer.Data, answer.Warnings, nil
}

// queryArg is the query of a verb; none selects all.
func queryArg(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}
