//go:build !race

// What is measured here, memory and time, is that of the race detector under it.

package store_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/weir-dev/weir/internal/store"
	"github.com/weir-dev/weir/internal/store/storetest"
)

// replayReport is what a child process tells of itself.
type replayReport struct {
	Seconds         float64
	CPUSeconds      float64
	PeakMiB, RSSMiB int64 // VmHWM, VmRSS
	Series          uint64
}

// TestReplay kills a process that holds series and measures another that replays
// its WAL: the memory replay takes, and the time to readiness. WEIR_REPLAY_SERIES
// sets how many series, 1000000 for the bar of the project. Measured with them (10
// labels, 20 samples a series, 2 cores, other work beside): 1254 MiB before the
// kill, 1105 MiB at most in replay, 966 after, 12 CPU-s, ready in 7 s.
func TestReplay(t *testing.T) {
	if os.Getenv("WEIR_REPLAY_CHILD") != "" {
		replayChild(t)
		return
	}
	series := 30_000
	if n, err := strconv.Atoi(os.Getenv("WEIR_REPLAY_SERIES")); err == nil {
		series = n
	}
	dir := t.TempDir()
	before := runReplayChild(t, "write", dir, series)
	after := runReplayChild(t, "replay", dir, series)
	t.Logf("before the kill %+v, replayed %+v", before, after)
	if after.Series != uint64(series) {
		t.Fatalf("%d series replayed, want %d", after.Series, series)
	}
	// Below that many series the Go runtime and its buffers are most of it.
	const slackMiB = 40
	if bound := before.RSSMiB*12/10 + slackMiB; after.PeakMiB > bound {
		t.Errorf("replay took %d MiB, want at most %d: 1.2 times the steady %d MiB", after.PeakMiB, bound, before.RSSMiB)
	}
	if after.Seconds > 30 {
		t.Errorf("ready after %.1f s, want 30 s", after.Seconds)
	}
}

func runReplayChild(t *testing.T, mode, dir string, series int) (r replayReport) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestReplay$", "-test.v")
	cmd.Env = append(os.Environ(), "WEIR_REPLAY_CHILD="+mode, "WEIR_REPLAY_DIR="+dir, fmt.Sprint("WEIR_REPLAY_SERIES=", series))
	out, err := cmd.CombinedOutput()
	for sc := bufio.NewScanner(bytes.NewReader(out)); sc.Scan(); {
		if text, ok := strings.CutPrefix(sc.Text(), "report: "); ok {
			if err := json.Unmarshal([]byte(text), &r); err != nil {
				t.Fatal(err)
			}
			return r
		}
	}
	t.Fatalf("child %s ended without a report: %v\n%s", mode, err, out)
	return r
}

func replayChild(t *testing.T) {
	cfg := config(os.Getenv("WEIR_REPLAY_DIR"))
	if n, err := strconv.Atoi(os.Getenv("WEIR_REPLAY_CONCURRENCY")); err == nil {
		cfg.ReplayConcurrency = n
	}
	series, _ := strconv.Atoi(os.Getenv("WEIR_REPLAY_SERIES"))
	began := time.Now()
	s, _ := openLogged(t, cfg, nil, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	r := replayReport{Seconds: time.Since(began).Seconds()}
	if os.Getenv("WEIR_REPLAY_CHILD") == "write" {
		writeRounds(t, s, series, 20)
	}
	r.PeakMiB, r.RSSMiB = procStatus(t, "VmHWM"), procStatus(t, "VmRSS")
	r.Series = s.DB().Head().NumSeries()
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		t.Fatal(err)
	}
	r.CPUSeconds = float64(use.Utime.Nano()+use.Stime.Nano()) / 1e9
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	fmt.Printf("report: %s\n", text)
	if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// writeRounds appends one sample a series a round, 2000 series a commit, as a
// remote_write sender does.
func writeRounds(t *testing.T, s *store.Store, series, rounds int) {
	t.Helper()
	const perCommit = 2000
	rnd := rand.New(rand.NewPCG(1, 0))
	refs, values := make([]storage.SeriesRef, series), make([]float64, series)
	for round := range rounds {
		at := storetest.Base + int64(round)*15_000
		for from := 0; from < series; from += perCommit {
			app := s.AppenderV2(context.Background())
			for i := from; i < min(from+perCommit, series); i++ {
				ls := labels.EmptyLabels()
				if round == 0 {
					ls = podLabels(i)
				}
				values[i] += float64(rnd.IntN(1000)) / 8
				var err error
				if refs[i], err = app.Append(refs[i], ls, 0, at, values[i], nil, nil, storage.AOptions{}); err != nil {
					t.Fatal(err)
				}
			}
			if err := app.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// podLabels gives ten labels; ten metrics a container, hundred pods a node.
func podLabels(i int) labels.Labels {
	pod := i / 10
	return labels.FromStrings(
		model.MetricNameLabel, "container_network_receive_bytes_total_"+strconv.Itoa(i%10),
		"cluster", "eu-west-1-prod", "namespace", "team-"+strconv.Itoa(pod%50), "pod", fmt.Sprintf("checkout-%08x-%05d", pod*2654435761%(1<<32), pod),
		"container", "app", "node", "ip-10-0-"+strconv.Itoa(pod/100), "job", "kubelet", "instance", fmt.Sprintf("10.0.%d.%d:10250", pod/100/250, pod/100%250),
		"id", fmt.Sprintf("/kubepods/burstable/pod%08x", pod), "image", "registry.example/checkout:1."+strconv.Itoa(pod%7))
}

func procStatus(t *testing.T, field string) int64 {
	t.Helper()
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skipf("memory is read from /proc, which this system has not: %v", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return kib >> 10
		}
	}
	t.Fatalf("no %s in /proc/self/status", field)
	return 0
}
