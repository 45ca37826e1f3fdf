package jaegerv1

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var update = flag.Bool("update", false, "write testdata/weir.jsonl anew")

// oracleEnv names the program of oracle/, which oracle/build.sh makes.
const oracleEnv = "WEIR_JAEGER_ORACLE"

// recorded is a line of a golden file.
type recorded struct {
	Case  string
	Reply reply
}

// TestJaeger compares our answers on the generated corpus with those that Jaeger gave,
// byte for byte. With the oracle it also writes them anew.
func TestJaeger(t *testing.T) {
	c := generated(t)
	if len(c.Cases) < 400 {
		t.Errorf("%d cases, want at least 400", len(c.Cases))
	}
	file := filepath.Join("testdata", "jaeger-v1.62.jsonl")
	if os.Getenv(oracleEnv) != "" {
		write(t, file, c, ask(t, c))
	}
	wants := read(t, file, c)
	known := knownDifferences(t)
	own := make([]reply, len(c.Cases))
	for i, r := range c.Cases {
		got := answerOf(t, c.Stores[r.Store], r)
		own[i] = got
		want := wants[i]
		want.Asked, got.Asked = nil, nil
		same := want.Status == got.Status && want.Type == got.Type && want.Body == got.Body
		switch reason := known[r.Name]; {
		case !same && reason == "":
			t.Errorf("%s\ngot  %s\nwant %s", r.Name, show(got), show(want))
		case same && reason != "":
			t.Errorf("%s: DIFFERENCES.md says that it differs (%s), and it does not", r.Name, reason)
		case same:
			own[i] = reply{} // said already
		}
		delete(known, r.Name)
	}
	for name, reason := range known {
		t.Errorf("DIFFERENCES.md names case %q (%s), which there is not", name, reason)
	}
	checkOwn(t, c, own)
}

// checkOwn keeps what we answer otherwise.
func checkOwn(t *testing.T, c *corpus, own []reply) {
	t.Helper()
	file := filepath.Join("testdata", "weir.jsonl")
	differ := &corpus{}
	var replies []reply
	for i, r := range own {
		if r.Status != 0 {
			differ.Cases = append(differ.Cases, c.Cases[i])
			replies = append(replies, r)
		}
	}
	if *update {
		write(t, file, differ, replies)
	}
	for i, want := range read(t, file, differ) {
		if got := replies[i]; show(got) != show(want) {
			t.Errorf("%s\ngot  %s\nwant %s (or run with -update)", differ.Cases[i].Name, show(got), show(want))
		}
	}
}

// knownDifferences are the reasons in DIFFERENCES.md by case: lines that begin with
// "- `", the case between backticks, below a heading that says the reason.
func knownDifferences(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("DIFFERENCES.md")
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[string]string)
	reason := ""
	for line := range strings.Lines(string(text)) {
		if heading, ok := strings.CutPrefix(line, "## "); ok {
			reason = strings.TrimSpace(heading)
		}
		if name, ok := strings.CutPrefix(line, "- `"); ok {
			known[strings.TrimSuffix(strings.TrimSpace(name), "`")] = reason
		}
	}
	return known
}

func show(r reply) string {
	return fmt.Sprintf("%d %s %s %s", r.Status, r.Type, r.Body, strings.Join(r.Asked, "\n"))
}

// ask runs the oracle.
func ask(t *testing.T, c *corpus) []reply {
	t.Helper()
	in, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Getenv(oracleEnv))
	cmd.Stdin = bytes.NewReader(in)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("run %s: %v", cmd, err)
	}
	var replies []reply
	if err := json.Unmarshal(out, &replies); err != nil {
		t.Fatal(err)
	}
	if len(replies) != len(c.Cases) {
		t.Fatalf("oracle gave %d answers to %d cases", len(replies), len(c.Cases))
	}
	return replies
}

func write(t *testing.T, file string, c *corpus, replies []reply) {
	t.Helper()
	var out bytes.Buffer
	lines := json.NewEncoder(&out)
	lines.SetEscapeHTML(false)
	for i, r := range replies {
		if err := lines.Encode(recorded{c.Cases[i].Name, r}); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, file string, c *corpus) []reply {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := json.NewDecoder(bytes.NewReader(text))
	var replies []reply
	for i := range c.Cases {
		var r recorded
		if err := in.Decode(&r); err != nil {
			t.Fatalf("%s ends after %d cases, want %d: it is stale (%v)", file, i, len(c.Cases), err)
		}
		if r.Case != c.Cases[i].Name {
			t.Fatalf("%s: case %d is %q, want %q: it is stale", file, i, r.Case, c.Cases[i].Name)
		}
		replies = append(replies, r.Reply)
	}
	if err := in.Decode(new(recorded)); !errors.Is(err, io.EOF) {
		t.Fatalf("%s has more than the %d cases: it is stale", file, len(c.Cases))
	}
	return replies
}

// answerOf is ours.
func answerOf(t *testing.T, s store, r request) reply {
	t.Helper()
	m := newMemory(s.batch)
	deps := Deps{Reader: m, Base: r.Base, Log: slog.New(slog.DiscardHandler), Limits: Limits{MaxSkew: s.Skew}}
	if s.Archive {
		deps.Archive = func(ctx context.Context, id span.TraceID, _ spanstore.Window) error {
			_, err := m.Trace(ctx, id, spanstore.Window{})
			return err
		}
	}
	metrics := &prometheus{answers: s.Metrics}
	if s.Metrics != nil {
		deps.Metrics = metrics
	}
	h, err := NewHandler(deps)
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(r.Method, r.Path, strings.NewReader(r.Body)))
	return reply{Status: w.Code, Type: w.Header().Get("Content-Type"), Body: w.Body.String(), Asked: metrics.asked}
}

// prometheus is a Querier that gives the answers of a corpus, under our labels.
type prometheus struct {
	answers map[string]json.RawMessage
	asked   []string
}

func (p *prometheus) QueryRange(_ context.Context, expr string, start, end time.Time, step time.Duration) (promql.Matrix, error) {
	number := func(t time.Time) string { return strconv.FormatFloat(float64(t.UnixNano())/1e9, 'f', -1, 64) }
	p.asked = append(p.asked, fmt.Sprintf("%s start=%s end=%s step=%v", expr, number(start), number(end), step.Seconds()))
	for _, part := range []string{"histogram_quantile", "STATUS_CODE_ERROR", "calls_total"} {
		if !strings.Contains(expr, part) {
			continue
		}
		if data, ok := p.answers[part]; ok {
			return matrix(data)
		}
		return nil, errors.New("execution: told to fail")
	}
	return nil, fmt.Errorf("no answer to %s", expr)
}

func matrix(data json.RawMessage) (promql.Matrix, error) {
	var in struct {
		Result []struct {
			Metric map[string]string
			Values [][2]any
		}
	}
	if err := json.Unmarshal(data, &in); err != nil {
		return nil, err
	}
	var out promql.Matrix
	for _, s := range in.Result {
		series := promql.Series{}
		b := labels.NewScratchBuilder(2)
		for name, value := range s.Metric {
			if name == "service_name" {
				name = "service"
			}
			b.Add(name, value)
		}
		b.Sort()
		series.Metric = b.Labels()
		for _, v := range s.Values {
			f, err := strconv.ParseFloat(v[1].(string), 64)
			if err != nil {
				return nil, err
			}
			series.Floats = append(series.Floats, promql.FPoint{T: int64(v[0].(float64) * 1000), F: f})
		}
		out = append(out, series)
	}
	return out, nil
}

// TestPromQL compares what we ask of the span metrics with what Jaeger asks of its own.
func TestPromQL(t *testing.T) {
	c := generated(t)
	wants := read(t, filepath.Join("testdata", "jaeger-v1.62.jsonl"), c)
	ours := strings.NewReplacer("service_name", "service", "traces_spanmetrics_duration_milliseconds_bucket", "traces_spanmetrics_latency_bucket",
		"histogram_quantile", "1000 * histogram_quantile")
	asked := 0
	for i, r := range c.Cases {
		got := answerOf(t, c.Stores[r.Store], r)
		if got.Status == http.StatusBadRequest || wants[i].Status == http.StatusBadRequest {
			continue
		}
		for k := range wants[i].Asked {
			want := ours.Replace(wants[i].Asked[k])
			asked++
			if k >= len(got.Asked) || got.Asked[k] != want {
				t.Errorf("%s\ngot  %q\nwant %q", r.Name, got.Asked, want)
			}
		}
	}
	if asked < 20 {
		t.Errorf("%d queries were compared, want at least 20", asked)
	}
}

// TestJaegerFixtures compares on traces of other projects, which are not ours to copy.
// Dependencies are left out: to count calls is a store's work.
func TestJaegerFixtures(t *testing.T) {
	if os.Getenv(oracleEnv) == "" {
		t.Skipf("%s is not set: make the program with oracle/build.sh", oracleEnv)
	}
	c := &corpus{Stores: make(map[string]store)}
	for name, b := range fixtures(t) {
		s := newStore(b)
		c.Stores[name] = s
		s.Skew = time.Second
		c.Stores[name+", corrected"] = s
		for _, store := range []string{name, name + ", corrected"} {
			m := newMemory(b)
			services, _ := m.Services(t.Context())
			c.get(store, "/api/services")
			for _, id := range m.ids {
				c.get(store, "/api/traces/"+id.String())
				c.get(store, "/api/traces/"+id.String()+"?raw=true&prettyPrint=true")
			}
			for _, service := range services {
				c.get(store, "/api/operations?service="+url.QueryEscape(service))
				c.get(store, "/api/traces?start=0&end=2000000000000000&service="+url.QueryEscape(service))
			}
		}
	}
	wants := ask(t, c)
	for i, r := range c.Cases {
		if got, want := answerOf(t, c.Stores[r.Store], r), wants[i]; show(got) != show(want) {
			t.Errorf("%s\ngot  %s\nwant %s", r.Name, show(got), show(want))
		}
	}
	t.Logf("%d answers are equal", len(c.Cases))
}
