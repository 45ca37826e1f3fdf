package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/weir-dev/weir/e2e"
)

func main() {
	peers := flag.String("peers", "", "`folder` with the binaries prometheus and prometheus-node-exporter")
	listen := flag.String("listen", "127.0.0.1:9480", "`host:port` of Weir")
	otlp := flag.String("otlp", "127.0.0.1:4317", "`host:port` of Weir for OTLP over gRPC")
	jaeger := flag.String("jaeger", "", "`binary` of a Jaeger from 2.15 on, to look at Weir's traces through; none if empty")
	traces := flag.String("traces", "127.0.0.1:16686", "`host:port` of Weir for Jaeger's HTTP APIs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	begun := time.Now()
	err := demo(ctx, e2e.Setup{
		Peers: *peers, Listen: *listen, OTLP: *otlp, Traces: *traces, Jaeger: *jaeger,
		Scrape: 5 * time.Second, Failover: 15 * time.Second, Timeout: 10 * time.Minute, Store: e2e.HistoryStore,
		Say: func(format string, args ...any) {
			fmt.Printf("[%3.0fs] %s\n", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
		},
	})
	if err != nil && ctx.Err() == nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo(ctx context.Context, setup e2e.Setup) (err error) {
	if err := errors.Join(free(setup.Listen, "-listen"), free(setup.OTLP, "-otlp"), free(setup.Traces, "-traces")); err != nil {
		return err
	}
	setup.Dir, err = os.MkdirTemp("", "weir-demo-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(setup.Dir)) }()
	stack, err := e2e.New(ctx, setup)
	if err != nil {
		return err
	}
	defer stack.Kill()
	mill, err := newPast(ctx, stack, setup)
	if err != nil {
		return err
	}
	if err := stack.Start(ctx); err != nil {
		return err
	}
	if err := mill.live(ctx, stack, setup); err != nil {
		return err
	}
	shop, err := newVisits(ctx, stack, setup)
	if err != nil {
		return err
	}
	setup.Say("waiting for the first answers, two scrapes of %s", setup.Scrape)
	for _, try := range append(tries(stack), shop.tries(stack)...) {
		if err := try.wait(ctx, stack); err != nil {
			return err
		}
		setup.Say("ok: %s", try.what)
	}
	calls, err := shop.waitGraph(ctx, stack)
	if err != nil {
		return err
	}
	graph, err := mill.wait(ctx, stack, setup)
	if err != nil {
		return err
	}
	explain(stack, setup)
	shop.show(stack, calls)
	if err := mill.show(ctx, stack, graph); err != nil {
		return err
	}
	fmt.Printf("\nLogs are in %s. Ctrl-C ends all of it and removes the data.\n", setup.Dir)
	over := ended(stack)
	for {
		select {
		case <-ctx.Done():
			fmt.Println()
			return stack.Stop()
		case p := <-over:
			setup.Say("%s has ended, the others go on", p.Name)
		}
	}
}

// free reports an address that something else listens on.
func free(address, flag string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("%w; stop what uses it or choose another with %s", err, flag)
	}
	return l.Close()
}

// ended yields the programs that end.
func ended(stack *e2e.Stack) <-chan *e2e.Program {
	over := make(chan *e2e.Program, len(stack.Programs()))
	for _, p := range stack.Programs() {
		exited := p.Exited()
		go func() {
			<-exited
			over <- p
		}()
	}
	return over
}

// try is something to ask Weir.
type try struct {
	what string
	expr string // PromQL
	path string // instead of expr
	at   string // URL that path is below, if it is not Weir's main port
	has  string // what the answer to path has in it, if not ""
}

func tries(stack *e2e.Stack) []try {
	all := []try{
		{what: "which targets are up, by cluster", expr: `sum by (cluster, job) (up)`},
		{what: "orders a second, counted by OTLP", expr: `sum by (country) (rate(shop_orders_total[1m]))`},
		{what: "95% of the payments are faster than (an exponential histogram)",
			expr: `histogram_quantile(0.95, sum(rate(shop_payment_duration_seconds[1m])))`},
		{what: "95% of the checkouts are faster than (explicit buckets)",
			expr: `histogram_quantile(0.95, sum by (le) (rate(shop_checkout_duration_seconds_bucket[1m])))`},
		{what: "which Prometheus of the pair is stored", path: "/api/v1/status/ha"},
		{what: "where each sample received has ended", path: "/api/v1/status/ledger"},
	}
	if stack.NodeExporter != nil {
		node := try{what: "load of this machine", expr: `node_load1{cluster="demo"}`}
		all = append(all[:1], append([]try{node}, all[1:]...)...)
	}
	return all
}

// wait asks until there is an answer that is not empty.
func (t try) wait(ctx context.Context, stack *e2e.Stack) error {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); ; {
		ok, err := t.ask(ctx, stack.Weir.URL)
		switch {
		case ok:
			return nil
		case time.Since(begun) > time.Minute:
			return errors.Join(fmt.Errorf("no answer within a minute: %s", t.what), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

func (t try) ask(ctx context.Context, base string) (ok bool, err error) {
	if t.expr == "" {
		var body json.RawMessage
		err := e2e.GetJSON(ctx, t.url(base), &body)
		return err == nil && bytes.Contains(body, []byte(t.has)), err
	}
	found, err := e2e.Query(ctx, base, t.expr)
	return len(found) > 0 && found[0].Value[1] != "NaN", err
}

func (t try) url(base string) string { return cmp.Or(t.at, base) + t.path }

// curl is how a reader asks the same.
func (t try) curl(base string) string {
	if t.expr == "" {
		if strings.Contains(t.path, "?") {
			return "curl -s '" + t.url(base) + "'"
		}
		return "curl -s " + t.url(base)
	}
	return fmt.Sprintf("curl -s %s/api/v1/query --data-urlencode 'query=%s'", base, t.expr)
}

func explain(stack *e2e.Stack, setup e2e.Setup) {
	fmt.Printf(`
Two Prometheus servers scrape the same targets and send them to Weir, a by
remote_write 2.0 and b by 1.0, as a pair: cluster="demo", __replica__="a" and "b".
Weir stores one of them, and the other when that one falls silent for %s.
A program with the OpenTelemetry SDK sends OTLP to %s.

  Weir           %s
  Prometheus a   %s
  Prometheus b   %s

Send your own Prometheus here too, by these lines in its configuration:

  remote_write:
    - url: %[3]s/api/v1/write

Every line below has just had an answer (for Grafana: a data source of the type
Prometheus with the URL %[3]s).
`, setup.Failover, stack.OTLP, stack.Weir.URL, stack.Prometheus["a"].URL, stack.Prometheus["b"].URL)
	for _, t := range tries(stack) {
		fmt.Printf("\n  # %s\n  %s\n", t.what, t.curl(stack.Weir.URL))
	}
	fmt.Printf(`
Kill the Prometheus that is elected (a is process %d, b is %d), wait %s, and ask
again: the other has taken over, without a gap.
`, stack.Prometheus["a"].PID(), stack.Prometheus["b"].PID(), setup.Failover)
}
