package gen

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/relabel"

	"github.com/weir-dev/weir/internal/conf"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing them")

var here = Source{Module: "github.com/weir-dev/weir", Root: "../../.."}

type good struct {
	// Door takes requests in.
	Door door `yaml:"door"`
	// Store of samples.
	Store struct1 `yaml:"store"`
}

// door is where requests come in.
type door struct {
	// Listen is the address, host:port; empty for none. Restart.
	Listen string `yaml:"listen"`
	// MaxBody bounds a request body after decompression; 0 for no bound, a|b.
	// Reload.
	MaxBody conf.Bytes `yaml:"max_body_bytes"`
	Limits  limits     `yaml:"limits"`
	// Peers to forward to. Reload.
	Peers []peer `yaml:"peers"`
	// Relabel rules, in order. Reload.
	Relabel []*relabel.Config `yaml:"relabel_configs"`
	// Ignored by the file.
	Derived int `yaml:"-"`
}

// limits of one cluster.
type limits struct {
	// Series a cluster may have; 0 for no limit. Reload.
	Series int `yaml:"series"`
}

type peer struct {
	// URL of the peer. Reload.
	URL string `yaml:"url"`
	// Token sent along; empty for none. Reload.
	Token conf.Secret `yaml:"token"`
}

type struct1 struct {
	// Labels added to each series. Restart.
	Labels map[string]string `yaml:"labels"`
	// Keep samples that long; 0 for ever. Restart.
	Keep conf.Duration `yaml:"keep"`
	// Quantiles kept. Restart.
	Quantiles []float64 `yaml:"quantiles"`
	// Tenants by name. Restart.
	Tenants map[string]limits `yaml:"tenants"`
}

func TestMarkdown(t *testing.T) {
	settings, err := Walk(good{
		Door:  door{Listen: "127.0.0.1:80", MaxBody: 64 << 20},
		Store: struct1{Keep: conf.Duration(15 * 24 * time.Hour), Quantiles: []float64{0.5, 0.99}},
	}, here)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Markdown("# Settings\n", settings)
	if err != nil {
		t.Fatal(err)
	}
	const file = "testdata/good.md"
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

type bad struct {
	Silent int `yaml:"silent"`
	// Undecided says nothing about a change.
	Undecided int `yaml:"undecided"`
	// Restart.
	Bare int `yaml:"bare"`
	// Untagged field. Reload.
	Untagged int
	// Wait in Go's own type. Reload.
	Wait time.Duration `yaml:"wait"`
}

func TestWalkNamesEveryUndocumentedField(t *testing.T) {
	_, err := Walk(bad{}, here)
	if err == nil {
		t.Fatal("undocumented fields were accepted")
	}
	want := []string{
		`silent (field Silent): want a comment above it`,
		`undecided (field Undecided): want the comment to end with "Reload." or "Restart."`,
		`bare (field Bare): want a comment above it`,
		`untagged (field Untagged): want a yaml tag`,
		`wait (field Wait): want type conf.Duration`,
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("got %d faults, want %d:\n%v", len(lines), len(want), err)
	}
	for i, line := range lines {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("got  %s\nwant %s...", line, want[i])
		}
	}
}
