//go:build e2e

package e2e_test

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/weir-dev/weir/e2e"
)

const (
	scrape   = time.Second
	failover = 5 * time.Second
	// unsent is how long before its death a Prometheus may have scraped what it did
	// not send: batch_send_deadline, and a second for a busy machine.
	unsent = 2 * time.Second
)

// TestE2EPair kills the elected Prometheus, then Weir, then the Prometheus that
// took over and Weir at once, and compares every sample with the servers that
// scraped it.
func TestE2EPair(t *testing.T) {
	p := newPair(t)
	begun := ms(time.Now())
	if err := p.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.wait("both replicas to send", func() bool { return len(p.status().Replicas) == 2 })
	p.run(8 * time.Second)
	first := p.status()
	if first.Takeovers != 0 {
		t.Errorf("%d takeovers before anything was killed", first.Takeovers)
	}
	x, y := first.Elected, map[string]string{"a": "b", "b": "a"}[first.Elected]

	p.checkSent(x)
	killedX := p.kill(p.Prometheus[x])
	p.wait(y+" to take over", func() bool { return p.status().Elected == y })
	p.start(p.Prometheus[x])

	p.kill(p.Weir)
	p.run(3 * time.Second)
	p.start(p.Weir)
	restarted := ms(time.Now())
	p.wait("both to go on", func() bool { return p.sent(x, restarted) && p.sent(y, restarted) })

	p.checkSent(y)
	killedY := p.kill(p.Prometheus[y])
	p.run(failover / 2) // x's samples are acknowledged and held, not yet stored
	p.kill(p.Weir)
	p.start(p.Weir)
	p.wait(x+" to take over", func() bool { return p.status().Elected == x })
	p.start(p.Prometheus[y])
	p.run(failover)

	end := ms(time.Now())
	p.wait("all to be sent", func() bool { return p.sent(x, end) && p.sent(y, end) })
	p.checkSent(x)
	p.checkSent(y)
	p.checkLedger()
	p.checkOTLP(begun)
	c := comparison{
		weir:   read(t, p.Weir.URL, begun, end, equal("cluster", e2e.Cluster), notWeirs),
		pair:   map[string]book{},
		reign:  []reign{{x, begun, killedX}, {y, killedX, killedY}, {x, killedY, end}},
		scrape: scrape.Milliseconds(), failover: failover.Milliseconds(), unsent: unsent.Milliseconds(),
	}
	for replica, prometheus := range p.Prometheus {
		c.pair[replica] = read(t, prometheus.URL, begun, end, equal("cluster", e2e.Cluster))
	}
	p.report(&c)
}

// pair is the stack under test.
type pair struct {
	*e2e.Stack
	t *testing.T
}

func newPair(t *testing.T) *pair {
	peers := os.Getenv("WEIR_PEERS")
	if peers == "" {
		t.Fatal("WEIR_PEERS is not set: it names the folder that has prometheus; make e2e sets it")
	}
	stack, err := e2e.New(t.Context(), e2e.Setup{
		Dir: t.TempDir(), Peers: peers, Scrape: scrape, Failover: failover, Timeout: 5 * time.Minute, Say: t.Logf,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stack.Kill()
		if t.Failed() {
			for _, p := range stack.Programs() {
				t.Logf("log of %s ends with:\n%s", p.Name, p.LogTail())
			}
		}
	})
	return &pair{stack, t}
}

func ms(t time.Time) int64 { return t.UnixMilli() }

// notWeirs leaves out what Weir has scraped of itself.
var notWeirs = labels.MustNewMatcher(labels.MatchNotEqual, "job", "weir")

func (p *pair) run(d time.Duration) {
	p.t.Logf("running %s", d)
	time.Sleep(d)
}

func (p *pair) kill(program *e2e.Program) (when int64) {
	p.t.Logf("kill -9 %s", program.Name)
	program.Kill()
	return ms(time.Now())
}

func (p *pair) start(program *e2e.Program) {
	p.t.Helper()
	p.t.Logf("starting %s again", program.Name)
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	if err := program.Start(ctx); err != nil {
		p.t.Fatal(err)
	}
}

func (p *pair) wait(what string, done func() bool) {
	p.t.Helper()
	p.t.Logf("waiting for %s", what)
	for begun := time.Now(); !done(); time.Sleep(100 * time.Millisecond) {
		if time.Since(begun) > 30*time.Second {
			p.t.Fatalf("waited 30s in vain for %s; %+v", what, p.status())
		}
	}
}

// election is one cluster of /api/v1/status/ha.
type election struct {
	Elected   string
	Takeovers int
	Replicas  []struct {
		Replica string
		Clock   time.Time
	}
}

func (p *pair) status() election {
	p.t.Helper()
	var answer struct {
		Data struct{ Clusters []election }
	}
	if err := e2e.GetJSON(p.t.Context(), p.Weir.URL+"/api/v1/status/ha", &answer); err != nil {
		p.t.Fatal(err)
	}
	if len(answer.Data.Clusters) == 0 {
		return election{}
	}
	return answer.Data.Clusters[0]
}

// sent says whether a Prometheus has sent all that it has scraped until t.
func (p *pair) sent(replica string, t int64) bool {
	for _, r := range p.status().Replicas {
		if r.Replica == replica {
			return ms(r.Clock) > t+unsent.Milliseconds()
		}
	}
	return false
}

// value is the answer to an expression that has exactly one.
func (p *pair) value(from *e2e.Program, expr string) float64 {
	p.t.Helper()
	found, err := e2e.Query(p.t.Context(), from.URL, expr)
	if err != nil {
		p.t.Fatal(err)
	}
	if len(found) != 1 {
		return math.NaN()
	}
	v, err := strconv.ParseFloat(fmt.Sprint(found[0].Value[1]), 64)
	if err != nil {
		p.t.Fatal(err)
	}
	return v
}

// checkSent: a Prometheus counts nothing as lost on the way, and something as sent.
func (p *pair) checkSent(replica string) {
	p.t.Helper()
	for _, kind := range []string{"samples", "histograms"} {
		for _, loss := range []string{"failed_total", "dropped_total"} {
			metric := "prometheus_remote_storage_" + kind + "_" + loss
			if n := p.value(p.Prometheus[replica], "sum("+metric+") or vector(0)"); n != 0 {
				p.t.Errorf("%s of %s is %v, want 0", metric, replica, n)
			}
		}
	}
	if n := p.value(p.Prometheus[replica], "sum(prometheus_remote_storage_samples_total)"); !(n > 0) {
		p.t.Errorf("%s has sent %v samples, want more than 0", replica, n)
	}
}

// checkLedger: each sample received has ended somewhere, and none was refused.
func (p *pair) checkLedger() {
	p.t.Helper()
	type protocol struct {
		Protocol, Kind string
		Received       int64
		Balance        int64
		Clusters       map[string]struct{ Refused map[string]int64 }
	}
	var answer struct {
		Data struct{ Protocols []protocol }
	}
	settled := func() bool {
		if err := e2e.GetJSON(p.t.Context(), p.Weir.URL+"/api/v1/status/ledger", &answer); err != nil {
			p.t.Fatal(err)
		}
		for _, b := range answer.Data.Protocols {
			if b.Balance != 0 {
				return false
			}
		}
		return true
	}
	p.wait("the ledger to balance between two requests", settled)
	received := map[string]int64{}
	for _, b := range answer.Data.Protocols {
		received[b.Protocol] += b.Received
		for cluster, ends := range b.Clusters {
			delete(ends.Refused, "unavailable") // said while starting, and sent again
			if len(ends.Refused) > 0 {
				p.t.Errorf("refused of %s by %s from cluster %q: %v", b.Kind, b.Protocol, cluster, ends.Refused)
			}
		}
	}
	for _, name := range []string{"remote_write_1", "remote_write_2", "otlp"} {
		if received[name] == 0 {
			p.t.Errorf("nothing received by %s: %v", name, received)
		}
	}
}

var sold = regexp.MustCompile(`sold (\d+) orders`)

// checkOTLP: what the OTel program has counted is what Weir has.
func (p *pair) checkOTLP(begun int64) {
	p.t.Helper()
	if err := p.OTelProgram.Stop(20 * time.Second); err != nil {
		p.t.Error(err)
	}
	log, err := os.ReadFile(p.OTelProgram.Log)
	if err != nil {
		p.t.Fatal(err)
	}
	found := sold.FindSubmatch(log)
	if found == nil {
		p.t.Fatalf("the OTel program does not say what it sold: %s", bytes.TrimSpace(log))
	}
	for _, expr := range []string{"sum(shop_orders_total)", "sum(shop_checkout_duration_seconds_count)", "sum(histogram_count(shop_payment_duration_seconds))"} {
		if n := p.value(p.Weir, expr); fmt.Sprint(n) != string(found[1]) {
			p.t.Errorf("%s is %v, the OTel program sold %s", expr, n, found[1])
		}
	}
	if q := p.value(p.Weir, "histogram_quantile(0.9, sum(rate(shop_payment_duration_seconds[1m])))"); !(q > 0) {
		p.t.Errorf("90%% of payments are faster than %v, want more than 0", q)
	}
	if up := p.value(p.Weir, `up{job="weir"}`); up != 1 {
		p.t.Errorf(`up{job="weir"} is %v, want 1`, up)
	}
	c := comparison{}
	for name, samples := range read(p.t, p.Weir.URL, begun, ms(time.Now()), equal("job", "demo/shop")) {
		c.checkOnce(name, samples)
		if counts.MatchString(name) {
			c.checkFalls(name, samples)
		}
	}
	for _, f := range c.faults {
		p.t.Error(f)
	}
}

// report shows a few faults of each kind, or how much was compared.
func (p *pair) report(c *comparison) {
	p.t.Helper()
	kinds := map[string]int{}
	for _, f := range c.run() {
		kind, _, _ := strings.Cut(f, ":")
		if kinds[kind]++; kinds[kind] <= 5 {
			p.t.Error(f)
		}
	}
	var samples, histograms int
	for _, s := range c.weir {
		samples += len(s)
		for _, one := range s {
			if one.h != nil || one.fh != nil {
				histograms++
			}
		}
	}
	if len(c.weir) < 500 || histograms == 0 {
		p.t.Errorf("compared %d series with %d histograms only; is anything scraped?", len(c.weir), histograms)
	}
	p.t.Logf("compared %d series, %d samples, %d of them native histograms: %d faults %v",
		len(c.weir), samples, histograms, len(c.faults), kinds)
}
