package tiers

import (
	"math"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/storage"
)

// TestQuerierStale asks the engine for series that go stale in each hour and are back
// in the next, over a time the older part of which has rollups only. A series must be
// seen up to its marker, and not from the window's end after it.
func TestQuerierStale(t *testing.T) {
	cfg := config(t.TempDir())
	cfg.Retention.Time = 6 * time.Hour
	r := open(t, cfg)
	const hours = 24
	stale := math.Float64frombits(value.StaleNaN)
	app := r.db.AppenderV2(t.Context())
	add := func(name string, at int64, v float64) {
		t.Helper()
		var h *histogram.FloatHistogram
		if name == "hist" {
			h = &histogram.FloatHistogram{Count: v, Sum: v}
		}
		_, err := app.Append(0, series(name, "prod"), 0, at, v, nil, h, storage.AOptions{})
		r.must(err)
	}
	for from := base; from < base+hours*hour; from += hour {
		for _, name := range []string{"steady", "hist"} {
			for m := int64(1); m <= 32; m++ {
				add(name, from+m*minute, 1)
			}
			add(name, from+33*minute, stale)
		}
		// Its marker is due after the hour, going by its pace, when it is back.
		add("rare", from+4*minute, 1)
		add("rare", from+59*minute, 1)
		add("rare", from+59*minute+30_000, stale)
	}
	r.must(app.Commit())
	r.compact()
	r.work()
	r.compact()
	raw := r.rawSpans()[0].from
	if raw < base+4*hour || raw > base+(hours-4)*hour {
		t.Fatalf("raw begins %v into the time", ms(raw-base))
	}

	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1_000_000, Timeout: time.Minute, LookbackDelta: 5 * time.Minute})
	defer func() { r.must(engine.Close()) }()
	seen := func(name string) map[int64]bool {
		t.Helper()
		q, err := engine.NewRangeQuery(t.Context(), storage.QueryableFunc(r.querier), nil, name,
			time.UnixMilli(base), time.UnixMilli(base+hours*hour), 15*time.Second)
		r.must(err)
		defer q.Close()
		m, err := q.Exec(t.Context()).Matrix()
		r.must(err)
		at := map[int64]bool{}
		for _, s := range m {
			for _, p := range s.Floats {
				at[p.T] = true
			}
			for _, p := range s.Histograms {
				at[p.T] = true
			}
		}
		return at
	}
	for name, c := range map[string]struct{ there, gone []span }{ // in each hour
		"steady": {[]span{{5 * minute, 33 * minute}}, []span{{35 * minute, hour}}},
		"hist":   {[]span{{5 * minute, 33 * minute}}, []span{{35 * minute, hour}}},
		"rare":   {[]span{{5 * minute, 9 * minute}, {59 * minute, 59*minute + 30_000}}, []span{{10 * minute, 59 * minute}}},
	} {
		at := seen(name)
		for now := base + 1; now < base+hours*hour; now++ {
			now = floor(now+14_999, 15_000)
			for _, s := range c.there {
				if in := (now - base) % hour; s.from <= in && in < s.to && !at[now] {
					t.Errorf("%s is not seen %s into the time; raw begins %s into it", name, ms(now-base), ms(raw-base))
				}
			}
			for _, s := range c.gone {
				if in := (now - base) % hour; s.from <= in && in < s.to && at[now] {
					t.Errorf("%s is still seen %s into the time; raw begins %s into it", name, ms(now-base), ms(raw-base))
				}
			}
		}
	}
}

// querier is that of the store.
func (r *rig) querier(mint, maxt int64) (storage.Querier, error) {
	q, err := r.db.Querier(mint, maxt)
	if err != nil {
		return nil, err
	}
	qs := []storage.Querier{q}
	if old := r.tiers.Querier(mint, maxt); old != nil {
		qs = append(qs, old)
	}
	return storage.NewMergeQuerier(qs, nil, storage.ChainedSeriesMerge), nil
}
