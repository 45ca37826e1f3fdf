//go:build e2e

package e2e_test

import (
	"math"
	"slices"
	"strings"
	"testing"
)

// TestE2EComparisonSeesFaults hands the comparison books with one fault each. A
// scrapes at full seconds until it dies at 10 s, b half a second later.
func TestE2EComparisonSeesFaults(t *testing.T) {
	const series = `{__name__="x_total"}`
	good := func() *comparison {
		c := &comparison{
			weir: book{}, pair: map[string]book{"a": {}, "b": {}},
			reign:  []reign{{"a", 0, 10_000}, {"b", 10_000, 30_000}},
			scrape: 1000, failover: 3000, unsent: 2000,
		}
		for _, name := range []string{series, `{__name__="gauge"}`} {
			for i := range 30 {
				a := sample{t: int64(i) * 1000, v: float64(10 * i)}
				b := sample{t: a.t + 500, v: a.v + 5}
				if i < 10 {
					c.pair["a"][name] = append(c.pair["a"][name], a)
				}
				c.pair["b"][name] = append(c.pair["b"][name], b)
				if i < 9 {
					c.weir[name] = append(c.weir[name], a)
				}
				if i >= 8 {
					c.weir[name] = append(c.weir[name], b)
				}
			}
		}
		return c
	}
	if faults := good().run(); len(faults) > 0 {
		t.Fatalf("faults in a perfect book: %q", faults)
	}
	for want, spoil := range map[string]func(c *comparison){
		"lost":                         func(c *comparison) { c.weir[series] = slices.Delete(c.weir[series], 4, 5) },
		"invented or altered":          func(c *comparison) { c.weir[series][0].v = math.Copysign(0, -1) },
		"doubled":                      func(c *comparison) { c.weir[series] = slices.Insert(c.weir[series], 4, c.weir[series][4]) },
		"from the replica not elected": func(c *comparison) { c.weir[series] = slices.Insert(c.weir[series], 5, c.pair["b"][series][4]) },
		"false reset": func(c *comparison) { // a has counted further than b when it dies
			for i := range c.pair["a"][series] {
				c.pair["a"][series][i].v += 20
			}
			for i := range 9 {
				c.weir[series][i].v += 20
			}
		},
		"not taken over": func(c *comparison) { g := `{__name__="gauge"}`; c.weir[g] = slices.Delete(c.weir[g], 10, 11) },
	} {
		c := good()
		spoil(c)
		faults := c.run()
		if !slices.ContainsFunc(faults, func(f string) bool { return strings.HasPrefix(f, want) }) {
			t.Errorf("got faults %q, want one that begins with %q", faults, want)
		}
	}
}
