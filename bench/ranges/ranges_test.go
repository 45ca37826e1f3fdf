package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/golang/snappy"
	"github.com/prometheus/prometheus/prompb"
	"github.com/prometheus/prometheus/tsdb"

	"github.com/weir-dev/weir/bench/dataset"
	"github.com/weir-dev/weir/bench/tiers"
)

// fakeEnv makes this test binary a server that understands the flags of all.
const fakeEnv = "RANGES_TEST_FAKE_SERVER"

func TestMain(m *testing.M) {
	if os.Getenv(fakeEnv) == "" {
		os.Exit(m.Run())
	}
	if err := fakeServer(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// fakeServer listens where flags or config file say and answers every query with
// one point; weir's is 1 % larger. As weir it puts rollups of all blocks into
// its directory first, as VictoriaMetrics it counts what it is sent.
func fakeServer(args []string) error {
	line := strings.Join(args, "\n")
	value := "100"
	if config := regexp.MustCompile(`serve\n--config.file=(.*)`).FindStringSubmatch(line); config != nil {
		text, err := os.ReadFile(config[1])
		if err != nil {
			return err
		}
		line = string(text)
		value = "101"
		if err := fakeRollups(regexp.MustCompile(`(?m)dir: (.*)`).FindStringSubmatch(line)[1]); err != nil {
			return err
		}
	}
	addr := regexp.MustCompile(`(?m)(?:  listen: |listen-address=|httpListenAddr=)(.*)`).FindStringSubmatch(line)
	if addr == nil {
		fmt.Println("fake, version 1")
		return nil
	}
	var samples atomic.Int64
	http.HandleFunc("/api/v1/query_range", func(w http.ResponseWriter, r *http.Request) {
		v := value
		if r.FormValue("max_source_resolution") == "0s" {
			v = "100"
		}
		fmt.Fprintf(w, `{"data":{"result":[{"metric":{"q":%q},"values":[[%s,%q]]}],"stats":{"samples":{"totalQueryableSamples":%d}}}}`,
			r.FormValue("query")[:3], r.FormValue("start"), v, max(7, samples.Load()))
	})
	http.HandleFunc("/api/v1/write", func(w http.ResponseWriter, r *http.Request) {
		n, err := countSamples(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
		fmt.Println("total", samples.Add(int64(n)))
	})
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "\nvm_active_force_merges 0\n") })
	return http.ListenAndServe(addr[1], nil)
}

func countSamples(body io.Reader) (n int, err error) {
	data, err := io.ReadAll(body)
	if err != nil {
		return 0, err
	}
	raw, err := snappy.Decode(nil, data)
	if err != nil {
		return 0, err
	}
	var req prompb.WriteRequest
	if err := req.Unmarshal(raw); err != nil {
		return 0, err
	}
	for _, s := range req.Timeseries {
		n += len(s.Samples)
	}
	return n, nil
}

func fakeRollups(dir string) error {
	raw, err := tiers.Find(dir)
	if err != nil {
		return err
	}
	for _, b := range raw {
		for _, res := range rungs {
			dest, err := b.Link(filepath.Join(dir, "rollup", short(res)))
			if err != nil {
				return err
			}
			meta := fmt.Sprintf(`{"compaction":{"sources":[%q]},"thanos":{"downsample":{"resolution":%d}}}`, b.Sources[0], res.Milliseconds())
			if err := os.WriteFile(filepath.Join(dest, "meta.json"), []byte(meta), 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// fakeBinary is a script that runs this binary as a server.
func fakeBinary(t *testing.T, name string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+fakeEnv+"=1 exec "+self+` "$@"`+"\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

func dataSet(t *testing.T) (string, dataset.Spec) {
	t.Helper()
	s := dataset.Spec{Mix: "counters", Series: 20, Days: 1, Seed: 1}
	dir := filepath.Join(t.TempDir(), "set")
	if err := dataset.Write(t.Context(), dir, s, func(tsdb.BlockMeta) {}); err != nil {
		t.Fatal(err)
	}
	return dir, s
}

// TestRun starts fake servers from a real data set, asks them, and checks that the
// report has each, with the difference that weir's answers have.
func TestRun(t *testing.T) {
	data, spec := dataSet(t)
	work := filepath.Join(t.TempDir(), "work")
	out := filepath.Join(t.TempDir(), "result.md")
	args := []string{
		"-data", data, "-set", "dashboard", "-n", "2", "-o", out, "-dir", work, "-weir", fakeBinary(t, "weir"),
		"-prometheus", fakeBinary(t, "prometheus"), "-victoriametrics", fakeBinary(t, "victoria-metrics"),
	}
	if err := run(t.Context(), args); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"| dashboard | weir | 1 | 0 | 0 | 0.0099 | 0.0099 |",
		"| dashboard | weir raw | 1 | 0 | 0 | 0 | 0 |",
		"| dashboard | victoriametrics | 1 | 0 | 0 | 0 | 0 |",
		"| 7 | 7 | 7 | 7 |", // samples read
		"server=weir_raw",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("result lacks %q:\n%s", want, text)
		}
	}
	log, err := os.ReadFile(filepath.Join(work, "victoriametrics", "victoriametrics.log"))
	if want := fmt.Sprintf("total %d\n", spec.Samples()); err != nil || !strings.HasSuffix(string(log), want) {
		t.Errorf("VictoriaMetrics was sent:\n%s, %v, want at last %s", log, err, want)
	}
	raw, err := tiers.Find(data)
	if err != nil || !loaded(filepath.Join(work, "victoriametrics"), fingerprint(spec, raw)) {
		t.Errorf("a second run would load VictoriaMetrics again: %v", err)
	}
}

func TestServerThatEndsIsNamed(t *testing.T) {
	data, _ := dataSet(t)
	dies := filepath.Join(t.TempDir(), "dies")
	if err := os.WriteFile(dies, []byte("#!/bin/sh\n[ $1 = version ] || echo unknown field rollups\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	err := run(t.Context(), []string{"-data", data, "-weir", dies})
	if err == nil || !strings.Contains(err.Error(), "unknown field rollups") {
		t.Errorf("got %v, want the end of the server's log", err)
	}
	for _, args := range [][]string{{}, {"-data", data}, {"-data", data, "-weir", dies, "-set", "all"}, {"-data", "/nowhere", "-weir", dies, "-dir", t.TempDir()}} {
		if err := run(t.Context(), args); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}
