//go:build e2e || chaos

package e2e_test

import (
	"fmt"
	"math"
	"net/url"
	"testing"
	"time"

	commonconfig "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage/remote"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// sample is a float, an integer histogram or a float histogram.
type sample struct {
	t  int64 // Unix milliseconds
	v  float64
	h  *histogram.Histogram
	fh *histogram.FloatHistogram
}

// same is bit-exact: a stale marker differs from any other NaN.
func (s sample) same(o sample) bool {
	switch {
	case (s.h == nil) != (o.h == nil) || (s.fh == nil) != (o.fh == nil):
		return false
	case s.h != nil:
		return s.h.Equals(o.h)
	case s.fh != nil:
		return s.fh.Equals(o.fh)
	}
	return math.Float64bits(s.v) == math.Float64bits(o.v)
}

// compact copies without empty buckets: chunks add some that the sample had not.
func (s sample) compact() sample {
	if s.h != nil {
		s.h = s.h.Copy().Compact(0)
	}
	if s.fh != nil {
		s.fh = s.fh.Copy().Compact(0)
	}
	return s
}

func (s sample) String() string {
	switch {
	case s.h != nil:
		return fmt.Sprintf("%s @%d", s.h, s.t)
	case s.fh != nil:
		return fmt.Sprintf("%s @%d", s.fh, s.t)
	}
	return fmt.Sprintf("%v (%x) @%d", s.v, math.Float64bits(s.v), s.t)
}

// book is what a server knows: samples in the order it gave them, by series.
type book map[string][]sample

// read asks a server for its raw samples by remote read, which, unlike PromQL,
// gives stale markers and native histograms as they are. The label __replica__ is
// left out of the names.
func read(t *testing.T, base string, from, to int64, matchers ...*labels.Matcher) book {
	t.Helper()
	at, err := url.Parse(base + "/api/v1/read")
	if err != nil {
		t.Fatal(err)
	}
	client, err := remote.NewReadClient(t.Name(), &remote.ClientConfig{
		URL:              &commonconfig.URL{URL: at},
		Timeout:          model.Duration(time.Minute),
		ChunkedReadLimit: config.DefaultChunkedReadLimit,
	})
	if err != nil {
		t.Fatal(err)
	}
	query, err := remote.ToQuery(from, to, matchers, nil)
	if err != nil {
		t.Fatal(err)
	}
	set, err := client.Read(t.Context(), query, false)
	if err != nil {
		t.Fatalf("read %s: %v", at, err)
	}
	found := make(book)
	var it chunkenc.Iterator
	for set.Next() {
		series := set.At()
		name := labels.NewBuilder(series.Labels()).Del("__replica__").Labels().String()
		it = series.Iterator(it)
		samples := collect(it)
		if it.Err() != nil {
			t.Fatalf("read %s of %s: %v", name, at, it.Err())
		}
		found[name] = append(found[name], samples...)
	}
	if set.Err() != nil {
		t.Fatalf("read %s: %v", at, set.Err())
	}
	return found
}

func collect(it chunkenc.Iterator) (all []sample) {
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		var s sample
		switch kind {
		case chunkenc.ValFloat:
			s.t, s.v = it.At()
		case chunkenc.ValHistogram:
			s.t, s.h = it.AtHistogram(nil)
		case chunkenc.ValFloatHistogram:
			s.t, s.fh = it.AtFloatHistogram(nil)
		}
		all = append(all, s.compact())
	}
	return all
}

func equal(name, value string) *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, name, value)
}
