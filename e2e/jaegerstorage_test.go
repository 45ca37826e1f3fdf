//go:build e2e

package e2e_test

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/weir-dev/weir/e2e"
	"github.com/weir-dev/weir/tracing/jaegerstore"
	"github.com/weir-dev/weir/tracing/spanstore"
	"github.com/weir-dev/weir/tracing/spanstore/storetest"
)

// jaegers is the folder with the real ones.
func jaegers(t *testing.T) string {
	t.Helper()
	dir := os.Getenv("WEIR_JAEGERS")
	if dir == "" {
		t.Fatal("WEIR_JAEGERS is not set: it names the folder that e2e/jaeger/build.sh has filled; make e2e sets it")
	}
	return dir
}

func startProgram(t *testing.T, p *e2e.Program) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("log of %s ends with:\n%s", p.Name, p.LogTail())
		}
	})
	if err := p.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

// TestE2EJaegerStorage holds the storages of a real Jaeger, through jaeger.storage.v2,
// against what every store of Weir has to do.
func TestE2EJaegerStorage(t *testing.T) {
	lacks := []storetest.Lack{
		storetest.DuplicateCount, storetest.Fidelity, storetest.Immediacy, storetest.Links, storetest.Completeness, storetest.Choice,
	}
	for backend, lacks := range map[string][]storetest.Lack{
		"memory": lacks,
		"badger": append(lacks, storetest.OperationKinds, storetest.Twins),
	} {
		t.Run(backend, func(t *testing.T) {
			p, err := e2e.NewJaegerStorage(jaegers(t), t.TempDir(), backend)
			if err != nil {
				t.Fatal(err)
			}
			startProgram(t, p.Program)
			storetest.Run(t, func(t *testing.T) (spanstore.Reader, spanstore.Writer) {
				cfg := jaegerstore.DefaultConfig()
				cfg.Endpoint = p.GRPC
				s, err := jaegerstore.New(cfg, jaegerstore.Deps{})
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Open(t.Context()); err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() {
					if err := s.Close(); err != nil {
						t.Error(err)
					}
				})
				return s, s
			}, lacks...)
		})
	}
}
