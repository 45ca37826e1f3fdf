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

func traceSearchCommand() *cobra.Command {
	var server traceServer
	var limit int
	c := &cobra.Command{
		Use:   "search [QUERY]",
		Short: "Lists the newest traces that a query selects",
		Long: `Lists the newest traces that a query selects, or all of the last hour. For the
query language see "weir trace --help".`,
		Example: `  weir trace search 'service=checkout && duration>200ms && http.status_code>=500'
  weir trace search --since 24h '{service=frontend} ->> {service=cart && status=error}'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return traceSearch(c.Context(), &server, queryArg(args), limit, c.OutOrStdout(), c.ErrOrStderr())
		},
	}
	server.flags(c, "table")
	server.windowFlags(c)
	c.Flags().IntVar(&limit, "limit", 20, "traces to list at most")
	return c
}

func traceSearch(ctx context.Context, server *traceServer, query string, limit int, out, errOut io.Writer) error {
	form := url.Values{"limit": {strconv.Itoa(limit)}}
	set(form, map[string]string{"q": query})
	if err := server.window(form); err != nil {
		return err
	}
	var found search.Found
	if done, err := server.ask(ctx, "search", form, &found, out, errOut); done || err != nil {
		return err
	}
	if err := server.output.write(out, nil, func(w io.Writer) { printFound(w, &found) }); err != nil {
		return err
	}
	if note := foundNote(&found); note != "" {
		fmt.Fprintln(errOut, note)
	}
	return nil
}

func printFound(w io.Writer, found *search.Found) {
	fmt.Fprintln(w, "TRACE ID\tSTART (UTC)\tDURATION\tSPANS\tERRORS\tROOT\tSERVICES")
	for _, t := range found.Traces {
		names := make([]string, len(t.Services))
		for i, s := range t.Services {
			names[i] = printable(s.Name)
			if s.Errors > 0 {
				names[i] += "!"
			}
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%s\t%s\n", t.TraceID, utc(t.Start), took(t.Duration), t.Spans, t.Errors,
			rootText(&t), fit(strings.Join(names, ","), min(60, cells(strings.Join(names, ",")))))
	}
}

func rootText(t *search.Summary) string {
	root := printable(t.RootService + " " + t.RootOperation)
	if t.RootMissing {
		root = "? " + root
	}
	return fit(root, min(50, cells(root)))
}

// foundNote says what the table does not.
func foundNote(found *search.Found) string {
	var notes []string
	switch {
	case len(found.Traces) == 0:
		notes = append(notes, fmt.Sprintf("no traces from %s to %s", utc(found.Start), utc(found.End)))
	case found.More:
		notes = append(notes, "there are more: --limit has older ones listed")
	}
	if found.Notes.Scanned {
		notes = append(notes, fmt.Sprintf("no index has all of the query: %s looked through", counted(found.Notes.Examined, "trace")))
	}
	return strings.Join(notes, "; ")
}
