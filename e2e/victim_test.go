//go:build chaos

package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/weir-dev/weir/e2e"
)

// victim is a Weir to be killed.
type victim struct {
	t       *testing.T
	weir    *e2e.Program
	data    string        // its directory
	begun   time.Time     // when it was made
	slowest time.Duration // start
}

// newVictim makes a Weir that is not started. The samples' clock is not the
// server's, so that hours of samples fit into a second: nothing else may be stored.
func newVictim(t *testing.T, data, settings string) *victim {
	dir := t.TempDir()
	if err := e2e.Build(t.Context(), dir, e2e.WeirCommand); err != nil {
		t.Fatal(err)
	}
	listen, err := e2e.FreeAddresses(1)
	if err != nil {
		t.Fatal(err)
	}
	weir, err := e2e.NewWeir(dir, dir, listen[0], fmt.Sprintf(`
server: {listen: "%s"}
ingest:
  otlp: {grpc: {endpoint: ""}, http: {endpoint: ""}}
  limits: {max_future_skew: 0s}
self_scrape: {interval: 0s}
%s`, listen[0], settings))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		weir.Kill()
		if t.Failed() {
			t.Logf("log of weir ends with:\n%s", weir.LogTail())
		}
	})
	return &victim{t: t, weir: weir, data: data, begun: time.Now()}
}

func (v *victim) start() {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(v.t.Context(), time.Minute)
	defer cancel()
	begun := time.Now()
	if err := v.weir.Start(ctx); err != nil {
		v.t.Fatal(err)
	}
	v.slowest = max(v.slowest, time.Since(begun))
}

// startFor starts Weir and kills it when it is not ready in time, or ready.
func (v *victim) startFor(d time.Duration) {
	ctx, cancel := context.WithTimeout(v.t.Context(), d)
	defer cancel()
	_ = v.weir.Start(ctx) // not ready is what is wanted
	v.weir.Kill()
}

// life lets Weir live for a random time of at most d.
func (v *victim) life(d time.Duration) { time.Sleep(rand.N(d)) }
