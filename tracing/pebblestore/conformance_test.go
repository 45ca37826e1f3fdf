package pebblestore_test

import (
	"testing"

	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/spanstore"
	"github.com/weir-dev/weir/tracing/spanstore/storetest"
)

func TestConformance(t *testing.T) {
	storetest.Run(t, func(t *testing.T) (spanstore.Reader, spanstore.Writer) {
		s := open(t, config(t.TempDir()), pebblestore.Deps{})
		return s, s
	})
}
