package conf

import (
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/relabel"
	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write the expected messages instead of comparing them")

// sample holds every kind of setting the rooms use.
type sample struct {
	Name     string            `yaml:"name"`
	On       bool              `yaml:"on"`
	Count    int               `yaml:"count"`
	Ports    uint16            `yaml:"port"`
	Ratio    float64           `yaml:"ratio"`
	Wait     Duration          `yaml:"wait"`
	MaxBody  Bytes             `yaml:"max_body_bytes"`
	Token    Secret            `yaml:"token"`
	Limits   limits            `yaml:"limits"`
	Nested   nested            `yaml:"nested"`
	Peers    []peer            `yaml:"peers"`
	Labels   map[string]string `yaml:"labels"`
	Relabel  []*relabel.Config `yaml:"relabel_configs"`
	Optional *limits           `yaml:"optional"`
	Free     any               `yaml:"free"`
	Shared   `yaml:",inline"`
}

type Shared struct {
	Region string `yaml:"region"`
}

type nested struct {
	Labels map[string]string `yaml:"labels"`
}

type limits struct {
	MaxSeries int      `yaml:"max_series"`
	Age       Duration `yaml:"age"`
}

type peer struct {
	URL   string   `yaml:"url"`
	Wait  Duration `yaml:"wait"`
	Token Secret   `yaml:"token"`
}

func defaults() sample {
	return sample{
		Name: "weir", Count: 3, Ratio: 0.5, Wait: Duration(30 * time.Second), MaxBody: 32 * mib,
		Limits: limits{MaxSeries: 100, Age: Duration(time.Hour)},
		Peers:  []peer{{URL: "http://one"}},
		Labels: map[string]string{"a": "b"},
	}
}

func (c *sample) Validate(f *Faults) {
	if c.MaxBody < kib || c.MaxBody > 64*mib {
		f.Add("max_body_bytes", c.MaxBody, "1KiB..64MiB")
	}
	if c.Name == "" {
		f.Add("name", c.Name, "a name")
	}
	l := f.At("limits")
	if c.Limits.MaxSeries < 0 {
		l.Add("max_series", c.Limits.MaxSeries, "0 (no limit) or more")
	}
	for i, p := range c.Peers {
		if !strings.HasPrefix(p.URL, "http") {
			f.At("peers").At(fmt.Sprintf("[%d]", i)).Add("url", p.URL, "an http or https address")
		}
	}
}

// TestBadFiles reads each testdata/*.bad.yaml, one kind of mistake a file, and
// compares the error with the *.bad.txt beside it.
func TestBadFiles(t *testing.T) {
	files, err := filepath.Glob("testdata/*.bad.yaml")
	if err != nil || len(files) < 10 {
		t.Fatalf("found %d files: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			cfg := defaults()
			err := Load(file, &cfg)
			if err == nil {
				t.Fatal("the file was accepted")
			}
			wantFile := strings.TrimSuffix(file, "yaml") + "txt"
			if *update {
				if err := os.WriteFile(wantFile, []byte(err.Error()+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err2 := os.ReadFile(wantFile)
			if err2 != nil {
				t.Fatal(err2)
			}
			if got := err.Error() + "\n"; got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

func TestDecodeGood(t *testing.T) {
	merged := func(change func(*sample)) sample {
		c := defaults()
		change(&c)
		return c
	}
	for name, tc := range map[string]struct {
		text string
		want sample
	}{
		"empty":          {"", defaults()},
		"only a comment": {"# nothing\n", defaults()},
		"null":           {"~", defaults()},
		"empty section":  {"limits:\n", defaults()},
		"section merges": {"limits: {max_series: 7}", merged(func(c *sample) { c.Limits.MaxSeries = 7 })},
		"list replaces": {"peers: [{url: http://two, wait: 1m, token: s}]", merged(func(c *sample) {
			c.Peers = []peer{{"http://two", Duration(time.Minute), "s"}}
		})},
		"map replaces": {"labels: {x: y}", merged(func(c *sample) { c.Labels = map[string]string{"x": "y"} })},
		"null empties a list and a map": {"peers: ~\nlabels: ~", merged(func(c *sample) {
			c.Peers, c.Labels = nil, nil
		})},
		"pointer": {"optional: {max_series: 2}", merged(func(c *sample) { c.Optional = &limits{MaxSeries: 2} })},
		"inline":  {"region: eu", merged(func(c *sample) { c.Region = "eu" })},
		"free":    {"free: {a: [1]}", merged(func(c *sample) { c.Free = map[string]any{"a": []any{1}} })},
		"alias": {"peers:\n- &p {url: http://x}\n- *p\n", merged(func(c *sample) {
			c.Peers = []peer{{URL: "http://x"}, {URL: "http://x"}}
		})},
		"scalars": {"wait: 1h30m\nmax_body_bytes: 1MiB\non: true\nname: 5\nport: 80\ntoken: t", merged(func(c *sample) {
			c.Wait, c.MaxBody, c.On, c.Name, c.Ports, c.Token = Duration(90*time.Minute), mib, true, "5", 80, "t"
		})},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := defaults()
			if err := Decode(strings.NewReader(tc.text), &cfg); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(cfg, tc.want) {
				t.Errorf("got  %+v\nwant %+v", cfg, tc.want)
			}
		})
	}
}

func TestRelabelConfigsKeepTheirOwnDefaults(t *testing.T) {
	cfg := defaults()
	text := "relabel_configs:\n- {source_labels: [a], regex: 'x.*', target_label: b}\n"
	if err := Decode(strings.NewReader(text), &cfg); err != nil {
		t.Fatal(err)
	}
	if got := cfg.Relabel[0]; got.Action != relabel.Replace || got.Replacement != "$1" {
		t.Errorf("got %+v, want Prometheus' defaults for what is not given", got)
	}
}

func TestPrintAndDiffReadBack(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "",
		"scalars": "wait: 1w\nmax_body_bytes: 1500\non: true\nname: ''\nlimits: {age: 0s}\n",
		"lists":   "peers: []\nlabels: {}\n",
		"more":    "peers: [{url: http://a}, {url: http://b, wait: 5m}]\nregion: eu\noptional: {max_series: 1}\n",
		"relabel": "relabel_configs:\n- {source_labels: [a], regex: 'x.*', action: drop}\n",
	} {
		t.Run(name, func(t *testing.T) {
			cfg := defaults()
			_ = Decode(strings.NewReader(text), &cfg) // an empty name is a fault, and printed all the same
			base := defaults()
			diff, err := Diff(&cfg, &base)
			if err != nil {
				t.Fatal(err)
			}
			whole, err := Print(cfg)
			if err != nil {
				t.Fatal(err)
			}
			if text == "" && diff != nil {
				t.Errorf("defaults differ from themselves:\n%s", diff)
			}
			for form, printed := range map[string][]byte{"diff": diff, "whole": whole} {
				back := defaults()
				_ = Decode(strings.NewReader(string(printed)), &back)
				if again, _ := Diff(back, cfg); again != nil {
					t.Errorf("%s:\n%s\nread back differs by\n%s", form, printed, again)
				}
			}
		})
	}
}

func TestDiffHoldsOnlyWhatDiffers(t *testing.T) {
	cfg := defaults()
	cfg.Limits.MaxSeries = 7
	cfg.Token = "hush"
	cfg.MaxBody = 5
	got, err := Diff(cfg, defaults())
	if err != nil {
		t.Fatal(err)
	}
	want := "max_body_bytes: 5\ntoken: <redacted>\nlimits:\n  max_series: 7\n"
	if string(got) != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if _, err := Diff(cfg, limits{}); err == nil {
		t.Error("two types were compared")
	}
}

func TestScalarForms(t *testing.T) {
	for text, want := range map[string]Duration{
		"0": 0, "0s": 0, "30s": Duration(30 * time.Second), "1h30m": Duration(90 * time.Minute),
		"15d": Duration(360 * time.Hour), "1w": Duration(168 * time.Hour), "5ms": Duration(5 * time.Millisecond),
	} {
		var d, back Duration
		if err := d.UnmarshalText([]byte(text)); err != nil || d != want {
			t.Errorf("%s: got %v, %v", text, d, err)
		}
		if err := back.UnmarshalText([]byte(d.String())); err != nil || back != d {
			t.Errorf("%s prints as %s, read back as %v: %v", text, d, back, err)
		}
	}
	for text, want := range map[string]Bytes{
		"0": 0, "1": 1, "-1": -1, "512KiB": 512 * kib, "64MiB": 64 * mib, "1GiB": gib, "2TiB": 2 * tib, "1025KiB": 1025 * kib,
	} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err != nil || b != want || b.String() != text {
			t.Errorf("%s: got %v (%d), %v", text, b, b, err)
		}
	}
	for _, text := range []string{"", "KiB", "1KB", "1.5GiB", "99999999TiB", "x", "1 2MiB"} {
		var b Bytes
		if err := b.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, b)
		}
	}
	if got := Duration(0).String(); got != "0s" {
		t.Errorf("zero prints as %s", got)
	}
	if got := Duration(-time.Microsecond).String(); got != "-1µs" {
		t.Errorf("got %s", got)
	}
}

func TestSecretNeverPrints(t *testing.T) {
	s := Secret("hush")
	out, err := yaml.Marshal(map[string]any{"a": s, "b": []Secret{s}, "c": peer{Token: s}})
	if err != nil {
		t.Fatal(err)
	}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "secret", s, "peer", peer{Token: s})
	var f Faults
	f.Add("token", s, "another")
	printed := fmt.Sprintf("%v %s %q %d %x %#v %+v %T", s, s, s, s, s, s, peer{Token: s}, s) +
		string(out) + log.String() + f.Err().Error()
	if strings.Contains(printed, "hush") || strings.Contains(printed, "68757368") {
		t.Errorf("the secret is in %s", printed)
	}
	if s.Reveal() != "hush" || fmt.Sprint(Secret("")) != "" {
		t.Error("a secret must reveal itself when asked, and an empty one print as empty")
	}
}

func TestFaultsOrderAndPaths(t *testing.T) {
	var f Faults
	if f.Err() != nil {
		t.Error("an empty collector has an error")
	}
	f.At("a").At("b").At("[2]").Add("c", "x", "y")
	f.At("a").Add("", 1, "2")
	f.Add("z", nil, "something")
	f.Add("e", errors.New("boom"), "peace")
	want := "a.b[2].c: got \"x\", want y\na: got 1, want 2\nz: got nothing, want something\ne: got boom, want peace"
	if got := f.Err().Error(); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestLoadNamesTheFile(t *testing.T) {
	cfg := defaults()
	if err := Load("testdata/absent.yaml", &cfg); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "absent.yaml") {
		t.Errorf("got %v", err)
	}
	big := filepath.Join(t.TempDir(), "big.yaml")
	if err := os.WriteFile(big, []byte(strings.Repeat("#", maxFile+1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Load(big, &cfg); err == nil || !strings.Contains(err.Error(), "larger than 4MiB") {
		t.Errorf("got %v", err)
	}
}

func TestAliasesAreBounded(t *testing.T) {
	var b strings.Builder
	b.WriteString("labels: &a {x: y}\nfree: 1\npeers:\n- &p {url: http://x}\n")
	for range maxValues/2 + 1 {
		b.WriteString("- *p\n")
	}
	cfg := defaults()
	err := Decode(strings.NewReader(b.String()), &cfg)
	if err == nil || !strings.Contains(err.Error(), "aliases expand to more than 1048576 values") {
		t.Errorf("got %.200v", err)
	}
}

// FuzzDecode looks for a text that breaks the reader, or that is accepted and
// does not come back from its printed form.
func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("peers:\n- &p {url: http://x}\n- *p\nlabels: {a: b}\nwait: 1h\nmax_body_bytes: 2KiB\n")
	f.Add("a: &a [*a]\nfree: &f {x: *f}\n<<: *f\n")
	f.Fuzz(func(t *testing.T, text string) {
		cfg := defaults()
		if err := Decode(strings.NewReader(text), &cfg); err != nil {
			return
		}
		cfg.Token, cfg.Free, cfg.Relabel = "", nil, nil // secrets are not printed; the rest is upstream's to print
		for i := range cfg.Peers {
			cfg.Peers[i].Token = ""
		}
		printed, err := Print(cfg)
		if err != nil {
			t.Fatalf("print what %q gave: %v", text, err)
		}
		back := defaults()
		if err := Decode(strings.NewReader(string(printed)), &back); err != nil {
			t.Fatalf("read back\n%s\n%v", printed, err)
		}
		if again, _ := Diff(back, cfg); again != nil {
			t.Fatalf("%q prints as\n%s\nand differs by\n%s", text, printed, again)
		}
	})
}
