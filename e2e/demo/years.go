package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/weir-dev/weir/e2e"
)

// past is the mill whose four months are in Weir before anything else is.
type past struct {
	*e2e.History
	begun int64 // the first full hour that is asked for, Unix milliseconds
}

const (
	pastDays = 120
	pastStep = int64(time.Hour / time.Millisecond)
)

// pastGraph is a plain selector: samples where they are, then ever coarser rollups.
const pastGraph = `mill_water_level_metres{gauge="upper"}`

// newPast backfills a mill.
func newPast(ctx context.Context, stack *e2e.Stack, setup e2e.Setup) (*past, error) {
	p := &past{History: e2e.NewHistory(time.Now(), pastDays)}
	p.begun = p.Begin + 24*pastStep
	setup.Say("backfilling %d days of a water mill, as blocks of a Prometheus (weir blocks backfill)", pastDays)
	return p, p.Backfill(ctx, stack.Command(), filepath.Join(setup.Dir, "mill"), stack.Data())
}

// live sends what is newer than the blocks, and goes on until ctx ends.
func (p *past) live(ctx context.Context, stack *e2e.Stack, setup e2e.Setup) error {
	now := time.Now().UnixMilli()
	if err := p.Send(ctx, stack.Weir.URL, p.Cut-1, now); err != nil {
		return err
	}
	go p.Live(ctx, stack.Weir.URL, now, setup.Say)
	return nil
}

// wait asks until the old samples have left and all tiers answer.
func (p *past) wait(ctx context.Context, stack *e2e.Stack, setup e2e.Setup) (*e2e.Graph, error) {
	setup.Say("waiting for rollups, and for samples older than a day to leave")
	for begun := time.Now(); ; {
		g, err := p.ask(ctx, stack, pastGraph)
		if err == nil && strings.Join(g.Crossed(), " ") == "1h 5m raw head" {
			setup.Say("ok: all tiers answer")
			return g, nil
		}
		if time.Since(begun) > 2*time.Minute {
			if err == nil {
				err = fmt.Errorf("%s comes from %v", pastGraph, g.Crossed())
			}
			return nil, fmt.Errorf("no graph across all tiers within two minutes: %w", err)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// ask asks as Grafana does: start and end are multiples of the step.
func (p *past) ask(ctx context.Context, stack *e2e.Stack, expr string) (*e2e.Graph, error) {
	return e2e.Ask(ctx, stack.Weir.URL, expr, p.begun, time.Now().UnixMilli()/pastStep*pastStep, pastStep, p.Cut)
}

// show prints the graph, from where it comes, and that it has no seam; an error says
// that it has one.
func (p *past) show(ctx context.Context, stack *e2e.Stack, g *e2e.Graph) error {
	seconds := func(ms int64) string { return strconv.FormatInt(ms/1000, 10) }
	fmt.Printf(`
%d days of a water mill were backfilled. Samples are kept for a day, rollups of five
minutes for two weeks, of an hour for three years. One plain range query, as Grafana
asks, crosses them all:

  curl -s %s/api/v1/query_range -d start=%s -d end=%s -d step=1h --data-urlencode 'query=%s'

%s
the last two days of it, hour by hour:

%s
`, pastDays, stack.Weir.URL, seconds(g.Start), seconds(g.End), g.Expr,
		g.Chart(0, len(g.Values), 96, 6), g.Chart(len(g.Values)-48, len(g.Values), 48, 6))
	explained, err := e2e.Run(ctx, stack.Command(), "query", "explain", "--url="+stack.Weir.URL,
		"--start="+seconds(g.Start), "--end="+seconds(g.End), "--step=1h", g.Expr)
	if err != nil {
		return err
	}
	fmt.Printf("  weir query explain says:\n\n%s\n", indent(explained))
	return errors.Join(checkSeams(g), p.showMore(ctx, stack))
}

func indent(text string) string {
	return "  " + strings.ReplaceAll(strings.TrimRight(text, "\n"), "\n", "\n  ") + "\n"
}

// checkSeams prints what it has compared.
func checkSeams(g *e2e.Graph) error {
	across, within := g.Seams()
	if n := g.Empty(); n > 0 {
		return fmt.Errorf("%s: %d of %d steps are empty", g.Expr, n, len(g.Values))
	}
	if b := g.Seam(); b != nil {
		return fmt.Errorf("%s: a seam: neighbours differ by %s, within one tier by at most %.4g", g.Expr, b, within)
	}
	fmt.Printf("  no seam in %s\n  %d steps, none empty; neighbours within one tier differ by at most %.4g, across a border by\n",
		g.Expr, len(g.Values), within)
	for _, b := range across {
		fmt.Printf("    %s\n", b)
	}
	return nil
}

// showMore looks at other functions in the same way.
func (p *past) showMore(ctx context.Context, stack *e2e.Stack) error {
	for _, expr := range []string{
		`sum(rate(mill_turns_total[2m]))`,
		`avg_over_time(` + pastGraph + `[1h])`,
	} {
		g, err := p.ask(ctx, stack, expr)
		if err != nil {
			return err
		}
		if err := checkSeams(g); err != nil {
			return err
		}
	}
	return nil
}
