package ingest

import (
	"bytes"
	flags "flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/golang/snappy"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/prompb"
	writev2 "github.com/prometheus/prometheus/prompb/io/prometheus/write/v2"
	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/weir-dev/weir/internal/conf"
	"github.com/weir-dev/weir/internal/store"
)

var update = flags.Bool("update", false, "write the expected answers into testdata instead of comparing them")

// TestScripts runs testdata/*.txtar: what a sender does, and what Weir says,
// books and stores.
//
// An archive's comment says what the case is. Its files, in order:
//
//	config   settings of `ingest`, and of `store` under that name
//	send     a request, in lines:
//	             1.0 | 2.0              protocol, always first
//	             method GET, content-type X, content-encoding X, chunked
//	             {a="x", b="y"}         a series; the lines below belong to it
//	             many N                 N more labels
//	             sample -1m 1.5         age and value, or the bits as 0x7ff0000000000002
//	             histogram -1m good     good, float, broken, fine (a schema too fine)
//	             exemplar -1m 1 {id="x"}
//	             refs 1 2 9             2.0: label references instead of labels
//	             unit 9                 2.0: reference of the unit
//	             body X                 replaces or breaks the encoded body: truncate,
//	                                    corrupt, claim N (bytes), zeros SIZE, cut
//	occupy   requests N or bytes SIZE: what other requests hold
//	apply    settings of `ingest` to reload
//	answer   to the request or command before: status, counts, headers, body
//	books    the ledger and the requests' results in the end
//	stored   all samples in the end
//
// Times are written as their distance from the start. Unless the comment says
// "closed", a good request must pass at the end. -update writes answer, books and
// stored.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			old, err := os.ReadFile(name)
			require.NoError(t, err)
			got := runScript(t, txtar.Parse(old))
			if *update {
				require.NoError(t, os.WriteFile(name, got, 0o644))
				return
			}
			require.Equal(t, string(old), string(got))
		})
	}
}

// script is one running archive.
type script struct {
	rig   *rig
	dir   string
	start time.Time
	held  []*pass
}

func runScript(t *testing.T, a *txtar.Archive) []byte {
	out := &txtar.Archive{Comment: a.Comment}
	closed := bytes.Contains(a.Comment, []byte("closed"))
	s := &script{start: time.Now().Truncate(time.Second)}
	files := a.Files
	config := ""
	if len(files) > 0 && files[0].Name == "config" {
		out.Files = append(out.Files, files[0])
		config, files = string(files[0].Data), files[1:]
	}
	s.rig = newRig(t, func(c *Config, sc *store.Config) {
		settings := &scriptConfig{Ingest: *c, Store: *sc}
		require.NoError(t, conf.Decode(strings.NewReader(config), settings))
		*c, *sc = settings.Ingest, settings.Store
		s.dir = sc.Dir
	})
	if bytes.Contains(a.Comment, []byte("not ready")) {
		s.rig = unready(t)
	}
	for _, f := range files {
		switch f.Name {
		case "send":
			out.Files = append(out.Files, f, txtar.File{Name: "answer", Data: []byte(s.send(t, string(f.Data)))})
		case "occupy":
			out.Files = append(out.Files, f)
			s.occupy(t, strings.Fields(string(f.Data)))
		case "apply":
			out.Files = append(out.Files, f)
			settings := &scriptConfig{Ingest: s.rig.in.cfg}
			settings.Store = store.DefaultConfig()
			require.NoError(t, conf.Decode(bytes.NewReader(f.Data), settings))
			s.rig.in.Apply(settings.Ingest)
		case "answer", "books", "stored":
		default:
			t.Fatalf("unknown file %q", f.Name)
		}
	}
	out.Files = append(out.Files, txtar.File{Name: "books", Data: []byte(s.books(t))})
	if ok, _ := s.rig.store.Ready(); ok {
		out.Files = append(out.Files, txtar.File{Name: "stored", Data: []byte(s.stored(t))})
	}
	for _, p := range s.held {
		p.leave()
	}
	if !closed {
		after := "\n{__name__=\"after\"}\nsample -1m 1\n"
		require.Contains(t, s.send(t, "1.0"+after), "204 ", "the next request")
		require.Contains(t, s.send(t, "2.0"+after), "204 ", "the next request")
	}
	require.Zero(t, s.rig.in.flight.bytes.Load())
	require.Zero(t, s.rig.in.flight.requests.Load())
	return txtar.Format(out)
}

// scriptConfig is the file config.
type scriptConfig struct {
	Ingest Config       `yaml:"ingest"`
	Store  store.Config `yaml:"store"`
}

func (c *scriptConfig) Validate(f *conf.Faults) {
	c.Ingest.Validate(f.At("ingest"))
	c.Store.Validate(f.At("store"))
}

// unready is a rig whose store was never opened.
func unready(t *testing.T) *rig {
	cfg, scfg := DefaultConfig(), store.DefaultConfig()
	scfg.Dir = t.TempDir()
	log, reg := slog.New(slog.DiscardHandler), prometheus.NewRegistry()
	limits := NewLimits(cfg.Limits, cfg.HA.ClusterLabel)
	st, err := store.New(scfg, limits, log, reg)
	require.NoError(t, err)
	in, err := New(cfg, st, limits, log, reg)
	require.NoError(t, err)
	return &rig{in: in, store: st, reg: reg}
}

func (s *script) occupy(t *testing.T, f []string) {
	require.Len(t, f, 2)
	n, err := strconv.ParseInt(f[1], 10, 64)
	require.NoError(t, err)
	if f[0] == "bytes" {
		p, err := s.rig.in.flight.enter(n)
		require.NoError(t, err)
		s.held = append(s.held, p)
		return
	}
	for range n {
		p, err := s.rig.in.flight.enter(0)
		require.NoError(t, err)
		s.held = append(s.held, p)
	}
}

// sending is a request that is being written down.
type sending struct {
	script *script
	v2     bool
	header http.Header
	method string
	body   []string
	chunks bool
	v1req  prompb.WriteRequest
	v2req  writev2.Request
	st     writev2.SymbolsTable
}

func (s *script) send(t *testing.T, text string) string {
	t.Helper()
	x := &sending{script: s, method: http.MethodPost, header: http.Header{}, st: writev2.NewSymbolTable()}
	x.header.Set("Content-Encoding", "snappy")
	for i, line := range strings.Split(strings.TrimSpace(text), "\n") {
		word, rest, _ := strings.Cut(line, " ")
		if i == 0 {
			x.v2 = word == "2.0"
			x.header.Set("Content-Type", map[bool]string{false: typeV1, true: typeV2}[x.v2])
			continue
		}
		switch word {
		case "method":
			x.method = rest
		case "content-type", "content-encoding":
			x.header.Set(word, rest)
		case "chunked":
			x.chunks = true
		case "body":
			x.body = strings.Fields(rest)
		default:
			x.line(t, word, rest, line)
		}
	}
	req := httptest.NewRequest(x.method, "/api/v1/write", bytes.NewReader(x.encode(t)))
	if x.chunks {
		req.ContentLength = -1
	}
	req.Header = x.header
	w := httptest.NewRecorder()
	s.rig.in.WriteHandler().ServeHTTP(w, req)
	return s.answer(t, w)
}

// line reads a line about series.
func (x *sending) line(t *testing.T, word, rest, line string) {
	f := strings.Fields(rest)
	switch {
	case strings.HasPrefix(line, "{"):
		x.series(parseLabels(t, line))
	case word == "many":
		n, err := strconv.Atoi(rest)
		require.NoError(t, err)
		var more [][2]string
		for i := range n {
			more = append(more, [2]string{fmt.Sprintf("label_%06d", i), "v"})
		}
		x.labels(more)
	case word == "sample":
		v, err := strconv.ParseFloat(f[1], 64)
		if strings.HasPrefix(f[1], "0x") {
			var bits uint64
			bits, err = strconv.ParseUint(f[1][2:], 16, 64)
			v = math.Float64frombits(bits)
		}
		require.NoError(t, err)
		if x.v2 {
			x.last2().Samples = append(x.last2().Samples, writev2.Sample{Timestamp: x.script.time(t, f[0]), Value: v})
		} else {
			x.last1().Samples = append(x.last1().Samples, prompb.Sample{Timestamp: x.script.time(t, f[0]), Value: v})
		}
	case word == "histogram":
		x.histogram(x.script.time(t, f[0]), f[1])
	case word == "exemplar":
		v, err := strconv.ParseFloat(f[1], 64)
		require.NoError(t, err)
		x.exemplar(x.script.time(t, f[0]), v, parseLabels(t, strings.Join(f[2:], " ")))
	case word == "refs":
		x.last2().LabelsRefs = nil
		for _, ref := range f {
			n, err := strconv.ParseUint(ref, 10, 32)
			require.NoError(t, err)
			x.last2().LabelsRefs = append(x.last2().LabelsRefs, uint32(n))
		}
	case word == "unit":
		n, err := strconv.ParseUint(rest, 10, 32)
		require.NoError(t, err)
		x.last2().Metadata.UnitRef = uint32(n)
	default:
		t.Fatalf("unknown line %q", line)
	}
}

func (x *sending) last1() *prompb.TimeSeries { return &x.v1req.Timeseries[len(x.v1req.Timeseries)-1] }
func (x *sending) last2() *writev2.TimeSeries {
	return &x.v2req.Timeseries[len(x.v2req.Timeseries)-1]
}

func (x *sending) series(ls [][2]string) {
	x.v1req.Timeseries = append(x.v1req.Timeseries, prompb.TimeSeries{})
	x.v2req.Timeseries = append(x.v2req.Timeseries, writev2.TimeSeries{})
	x.labels(ls)
}

func (x *sending) labels(ls [][2]string) {
	for _, l := range ls {
		x.last1().Labels = append(x.last1().Labels, prompb.Label{Name: l[0], Value: l[1]})
		x.last2().LabelsRefs = append(x.last2().LabelsRefs, x.st.Symbolize(l[0]), x.st.Symbolize(l[1]))
	}
}

func (x *sending) histogram(at int64, which string) {
	h := smallHistogram(1)
	switch which {
	case "broken":
		h.Count = 99
	case "fine":
		h.Schema = 12
	case "custom":
		h = &histogram.Histogram{
			Schema: histogram.CustomBucketsSchema, Count: 3, Sum: 2, CustomValues: []float64{1, 2},
			PositiveSpans: []histogram.Span{{Length: 2}}, PositiveBuckets: []int64{1, 1},
		}
	}
	h1, h2 := prompb.FromIntHistogram(at, h), writev2.FromIntHistogram(0, at, h)
	if which == "float" {
		h1, h2 = prompb.FromFloatHistogram(at, h.ToFloat(nil)), writev2.FromFloatHistogram(0, at, h.ToFloat(nil))
	}
	x.last1().Histograms = append(x.last1().Histograms, h1)
	x.last2().Histograms = append(x.last2().Histograms, h2)
}

func (x *sending) exemplar(at int64, v float64, ls [][2]string) {
	e1, e2 := prompb.Exemplar{Timestamp: at, Value: v}, writev2.Exemplar{Timestamp: at, Value: v}
	for _, l := range ls {
		e1.Labels = append(e1.Labels, prompb.Label{Name: l[0], Value: l[1]})
		e2.LabelsRefs = append(e2.LabelsRefs, x.st.Symbolize(l[0]), x.st.Symbolize(l[1]))
	}
	x.last1().Exemplars = append(x.last1().Exemplars, e1)
	x.last2().Exemplars = append(x.last2().Exemplars, e2)
}

// encode makes the body.
func (x *sending) encode(t *testing.T) []byte {
	x.v2req.Symbols = x.st.Symbols()
	raw, err := x.v1req.Marshal()
	if x.v2 {
		raw, err = x.v2req.Marshal()
	}
	require.NoError(t, err)
	enc := snappy.Encode(nil, raw)
	if len(x.body) == 0 {
		return enc
	}
	n := 0
	if len(x.body) > 1 {
		n, err = strconv.Atoi(x.body[1])
		require.NoError(t, err)
	}
	switch x.body[0] {
	case "truncate": // the compressed body ends early
		return enc[:len(enc)-3]
	case "cut": // the message ends early
		return snappy.Encode(nil, raw[:len(raw)-3])
	case "corrupt": // a back reference to before the beginning
		return append(slices.Clone(enc[:len(enc)/2]), 0xff, 0xff, 0xff, 0xff)
	case "claim":
		_, header := snappyHeader(enc)
		return append(varintBytes(uint64(n)), enc[header:]...)
	case "zeros": // few bytes that decode to many
		return snappy.Encode(nil, make([]byte, n))
	case "empty":
		return nil
	}
	t.Fatalf("unknown body %q", x.body)
	return nil
}

func snappyHeader(enc []byte) (decoded uint64, size int) {
	for i, c := range enc {
		decoded |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			return decoded, i + 1
		}
	}
	return 0, 0
}

func varintBytes(v uint64) (b []byte) {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}

// parseLabels reads {a="x", "b c"="y"} and keeps order and repetitions.
func parseLabels(t *testing.T, text string) (out [][2]string) {
	t.Helper()
	text = strings.TrimSuffix(strings.TrimPrefix(text, "{"), "}")
	for text != "" {
		var l [2]string
		var ok bool
		if q, err := strconv.QuotedPrefix(text); err == nil {
			l[0], err = strconv.Unquote(q)
			require.NoError(t, err)
			text = strings.TrimPrefix(text[len(q):], "=")
		} else if l[0], text, ok = strings.Cut(text, "="); !ok {
			t.Fatalf("label without =: %q", text)
		}
		q, err := strconv.QuotedPrefix(text)
		require.NoError(t, err, text)
		l[1], err = strconv.Unquote(q)
		require.NoError(t, err)
		text = strings.TrimPrefix(text[len(q):], ", ")
		out = append(out, l)
	}
	return out
}

// time reads an age such as -1m, or min, max or zero.
func (s *script) time(t *testing.T, text string) int64 {
	switch text {
	case "min":
		return math.MinInt64
	case "max":
		return math.MaxInt64
	case "zero":
		return 0
	}
	d, err := time.ParseDuration(text)
	require.NoError(t, err)
	return s.start.Add(d).UnixMilli()
}

var freeSpace = regexp.MustCompile(`[0-9]+[A-Za-z]* free`)

var timestamp = regexp.MustCompile(`-?\d{4,}-\d\d-\d\dT[0-9:.]+Z`)

// answer writes an answer down: status, written counts, then the body.
func (s *script) answer(t *testing.T, w *httptest.ResponseRecorder) string {
	t.Helper()
	var b strings.Builder
	fmt.Fprintf(&b, "%d ", w.Code)
	if w.Code != http.StatusMethodNotAllowed {
		n := writtenHeaders(t, w)
		fmt.Fprintf(&b, "%d samples, %d histograms, %d exemplars written", n[0], n[1], n[2])
	} else {
		fmt.Fprintf(&b, "Allow: %s", w.Header().Get("Allow"))
	}
	if after := w.Header().Get("Retry-After"); after != "" {
		n, err := strconv.Atoi(after)
		require.NoError(t, err)
		require.Positive(t, n)
		b.WriteString(", Retry-After")
	}
	b.WriteByte('\n')
	body, err := io.ReadAll(w.Body)
	require.NoError(t, err)
	text := freeSpace.ReplaceAllString(string(body), "<space> free")
	if s.dir != "" {
		text = strings.ReplaceAll(text, s.dir, "<dir>")
	}
	b.WriteString(timestamp.ReplaceAllStringFunc(text, func(m string) string {
		at, err := time.Parse(time.RFC3339Nano, m)
		if err != nil || at.Year() < 2000 {
			return m
		}
		return "<" + at.Sub(s.start).String() + ">"
	}))
	return strings.TrimRight(b.String(), "\n") + "\n"
}

// books writes the ledger's and the requests' counts, those that are not zero.
func (s *script) books(t *testing.T) string {
	var b strings.Builder
	for p := range protoOTLP {
		for k := range numKinds {
			received, by := s.rig.book(p, k)
			if received == 0 {
				continue
			}
			fmt.Fprintf(&b, "%v %v: %d received", p, k, received)
			var names []string
			var sum int64
			for o, n := range by {
				if sum += n; n != 0 {
					names = append(names, fmt.Sprintf("%d %s", n, o))
				}
			}
			slices.Sort(names)
			require.Equal(t, received, sum, "%v", by)
			fmt.Fprintf(&b, ", %s\n", strings.Join(names, ", "))
		}
	}
	found, err := s.rig.reg.Gather()
	require.NoError(t, err)
	for _, f := range found {
		if f.GetName() != "weir_ingest_remote_write_requests_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			fmt.Fprintf(&b, "requests %s: %g\n", m.GetLabel()[0].GetValue(), m.GetCounter().GetValue())
		}
	}
	return b.String()
}

func (s *script) stored(t *testing.T) string {
	var b strings.Builder
	each(t, s.rig.store, func(ls labels.Labels, x point) {
		text := ls.String()
		if len(text) > 200 {
			text = fmt.Sprintf("%s… (%d labels)", text[:60], ls.Len())
		}
		at := time.UnixMilli(x.t).Sub(s.start).String()
		if x.t == 0 {
			at = "zero"
		}
		if x.kind() == kindFloat { // the bits, of stale markers too
			fmt.Fprintf(&b, "%s %s %g %x\n", text, at, x.v, math.Float64bits(x.v))
			return
		}
		fmt.Fprintf(&b, "%s %s %v\n", text, at, x)
	})
	return b.String()
}
