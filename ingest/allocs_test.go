//go:build !race

// The race detector has sync.Pool drop things at random, so allocations say nothing.

package ingest

import (
	"context"
	"net/http"
	"runtime"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/stretchr/testify/require"
)

// TestAppendAllocs: a request's allocations do not grow with its samples, once
// its series are known: none a sample from the decoded body to the commit. What
// a request costs beside is bounded, the store's own commit included.
func TestAppendAllocs(t *testing.T) {
	// Measured: 22 a request in both; a collection that empties a pool during the
	// runs adds some, none of which a sample can be blamed for.
	const perRequest, noise = 40, 30
	for _, proto := range []protocol{protoV1, protoV2} {
		t.Run(proto.String(), func(t *testing.T) {
			r := newRig(t)
			// Far from where the store cuts chunks, which costs each series some.
			start := time.Now().Truncate(2 * time.Hour).Add(-90 * time.Minute)
			few, many := allocsOf(t, r, proto, 2000, start), allocsOf(t, r, proto, 4000, start.Add(10*time.Minute))
			t.Logf("2000 samples: %.0f allocations, 4000: %.0f", few, many)
			require.Less(t, few, float64(perRequest))
			require.Less(t, many-few, float64(noise), "2000 samples more")
		})
	}
}

// allocsOf returns the allocations of one request of n samples of known series.
func allocsOf(t *testing.T, r *rig, proto protocol, n int, from time.Time) float64 {
	t.Helper()
	const runs = 10
	var sent [][]byte
	for i := range runs + 3 {
		raw, _ := bodies(t, proto, n, n, from.UnixMilli()+int64(i)*15_000)
		decoded, err := snappy.Decode(nil, raw[0])
		require.NoError(t, err)
		sent = append(sent, decoded)
	}
	next := 0
	send := func() {
		res := r.in.receive(context.Background(), proto, sent[next])
		next++
		if res.status != http.StatusNoContent || res.written[kindFloat] != n {
			t.Fatalf("answer %+v", res)
		}
	}
	send() // make the series
	send() // grow the pools
	runtime.GC()
	return testing.AllocsPerRun(runs, send)
}
