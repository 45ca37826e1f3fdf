package ingest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/VictoriaMetrics/fastcache"
	"github.com/stretchr/testify/require"
)

func randomKeys(n int) []key {
	keys := make([]key, n)
	for i := range keys {
		keys[i] = key{rand.Uint64() | 1, rand.Uint64()}
	}
	return keys
}

func TestKeyTable(t *testing.T) {
	table, keys := newKeyTable(), randomKeys(10_000)
	for i, k := range keys {
		to := target{id: firstSeriesID + seriesID(i), replica: replicaID(i % 3)}
		got, flushed := table.insert(k, to, 0)
		require.Equal(t, to, got)
		require.False(t, flushed)
	}
	again, _ := table.insert(keys[7], target{id: 1}, 0)
	require.Equal(t, firstSeriesID+7, again.id, "the first to insert a key decides")
	for i, k := range keys {
		got, ok := table.get(k)
		require.True(t, ok)
		require.Equal(t, firstSeriesID+seriesID(i), got.id)
	}
	_, ok := table.get(key{1, 1})
	require.False(t, ok)

	table.sweep(func(to target) bool { return to.id%2 == 0 })
	require.Equal(t, 5_000, table.len())
	for i, k := range keys {
		_, ok := table.get(k)
		require.Equal(t, (firstSeriesID+seriesID(i))%2 == 0, ok)
	}
}

func TestKeyTableStartsOver(t *testing.T) {
	table := newKeyTable()
	for i, k := range randomKeys(300) {
		_, flushed := table.insert(k, target{id: firstSeriesID}, 100)
		require.Equal(t, i == 100 || i == 200, flushed, "insert %d", i)
		require.LessOrEqual(t, table.len(), 100)
	}
}

// TestKeyTableConcurrent: lookups take no lock while others insert and the
// array is replaced under them.
func TestKeyTableConcurrent(t *testing.T) {
	table, keys := newKeyTable(), randomKeys(20_000)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := w; i < len(keys); i += 4 {
				table.insert(keys[i], target{id: firstSeriesID + seriesID(i)}, 0)
				if got, ok := table.get(keys[i/2]); ok && got.id != firstSeriesID+seriesID(i/2) {
					t.Errorf("key %d leads to %d", i/2, got.id)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, len(keys), table.len())
}

// BenchmarkKeys compares the table with the cache library that it stands in
// for; the figures are in docs/adr/002-series-keys.md.
func BenchmarkKeys(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		keys := randomKeys(n)
		order := rand.Perm(n)
		b.Run(fmt.Sprintf("table/keys=%d", n), func(b *testing.B) {
			table := newKeyTable()
			for i, k := range keys {
				table.insert(k, target{id: firstSeriesID + seriesID(i)}, 0)
			}
			slots := *table.slots.Load()
			b.ResetTimer()
			for i := range b.N {
				if _, ok := find(slots, keys[order[i%n]]); !ok {
					b.Fatal("lost")
				}
			}
		})
		b.Run(fmt.Sprintf("fastcache/keys=%d", n), func(b *testing.B) {
			cache := fastcache.New(n * 64)
			var k [16]byte
			var v [8]byte
			put := func(x key) {
				binary.LittleEndian.PutUint64(k[:], x.a)
				binary.LittleEndian.PutUint64(k[8:], x.b)
			}
			for _, x := range keys {
				put(x)
				cache.Set(k[:], v[:])
			}
			dst := make([]byte, 0, 8)
			b.ResetTimer()
			for i := range b.N {
				put(keys[order[i%n]])
				if dst = cache.Get(dst[:0], k[:]); len(dst) == 0 {
					b.Fatal("lost")
				}
			}
		})
	}
}
