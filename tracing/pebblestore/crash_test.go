package pebblestore_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/weir-dev/weir/tracing/pebblestore"
	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

const childDir = "WEIR_TEST_CRASH_DIR"

// TestMain is the child that TestKilled kills, if told to be.
func TestMain(m *testing.M) {
	if dir := os.Getenv(childDir); dir != "" {
		if err := crashChild(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func crashConfig(dir string) pebblestore.Config {
	cfg := config(dir)
	cfg.Index.SegmentSpans = 1500
	cfg.Memory.Memtable = 1 << 20
	return cfg
}

// crashChild appends the batches of a seed and says the number of each it was told is
// stored. The seed and the first number are on its standard input.
func crashChild(dir string) error {
	var seed uint64
	var first int
	if _, err := fmt.Fscan(os.Stdin, &seed, &first); err != nil {
		return err
	}
	s, err := pebblestore.New(crashConfig(dir), pebblestore.Deps{Logger: quiet()})
	if err != nil {
		return err
	}
	if err := s.Open(ctx); err != nil {
		return err
	}
	for i := first; ; i++ {
		if _, err := s.Append(ctx, crashBatch(seed, i)); err != nil {
			return err
		}
		fmt.Println(i)
		time.Sleep(pace)
	}
}

// pace keeps what is to be verified afterwards small.
const pace = 4 * time.Millisecond

// wantThere is wantTraces for many: the spans are counted, and looked at of a few.
func wantThere(t *testing.T, s *pebblestore.Store, from, to int, seed uint64) {
	t.Helper()
	for i := from; i < to; i++ {
		b := crashBatch(seed, i)
		if i%16 == 0 {
			wantTraces(t, s, b)
			continue
		}
		for _, id := range ids(b) {
			if got, err := s.Trace(ctx, id, spanstore.Window{}); err != nil || len(got.Spans) != 10 {
				t.Fatalf("request %d, trace %s: %v, want 10 spans", i, id, err)
			}
		}
	}
}

func crashBatch(seed uint64, i int) *span.Batch {
	return newShop(seed<<32|uint64(i), time.Now().Truncate(time.Hour)).batch(5)
}

// TestKilled kills a process that stores spans, six times over one folder. Then every
// span that was acknowledged is there once, by its id and by search, and the request
// that was under way is stored once when it is sent again.
func TestKilled(t *testing.T) {
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	dir := t.TempDir()
	next := 0
	for round := range rounds {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		cmd.Stdin = strings.NewReader(fmt.Sprintf("7 %d\n", next))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		timer := time.AfterFunc(time.Duration(120+37*round)*time.Millisecond, func() { _ = cmd.Process.Signal(syscall.SIGKILL) })
		said, _ := io.ReadAll(out)
		_ = cmd.Wait() // it was killed
		timer.Stop()
		lines := strings.Fields(string(said))
		if n := len(lines); n > 0 {
			if _, err := fmt.Sscan(lines[n-1], &next); err != nil {
				t.Fatal(err)
			}
			next++ // the first that nobody acknowledged; the next child sends it again
		}
	}
	t.Logf("%d requests acknowledged", next)
	if next < rounds {
		t.Errorf("%d requests acknowledged in %d rounds, too few to tell anything", next, rounds)
	}
	s := open(t, crashConfig(dir), pebblestore.Deps{})
	again := put(t, s, crashBatch(7, next))
	if again.Stored != 0 && again.Duplicate != 0 {
		t.Errorf("the request under way was stored in part: %+v", again)
	}
	wantThere(t, s, 0, next+1, 7)
	found, notes, err := s.FindIDs(ctx, spanstore.Query{Service: "cart", Limit: 1 << 20})
	if err != nil || notes.Partial != "" || len(found) != 5*(next+1) {
		t.Errorf("search found %d traces, %v, %v, want %d", len(found), notes, err, 5*(next+1))
	}
}

// TestCopiedAtAnyTime opens copies of the folder of a store at work, as a crash of the
// machine may leave it; the log of each is cut somewhere besides.
func TestCopiedAtAnyTime(t *testing.T) {
	dir := t.TempDir()
	s := open(t, crashConfig(dir), pebblestore.Deps{})
	var done atomic.Int64
	stop := make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				ended <- nil
				return
			default:
			}
			if _, err := s.Append(ctx, crashBatch(8, i)); err != nil {
				ended <- err
				return
			}
			done.Store(int64(i + 1))
			time.Sleep(pace)
		}
	}()
	for round := range 5 {
		time.Sleep(60 * time.Millisecond)
		before := int(done.Load())
		copied := t.TempDir()
		if err := copyFolder(dir, copied); err != nil {
			t.Fatal(err)
		}
		c := open(t, crashConfig(copied), pebblestore.Deps{})
		if st := c.Status(); len(st.Quarantined) > 0 {
			t.Errorf("round %d: put aside: %v", round, st.Quarantined)
		}
		wantThere(t, c, 0, before, 8)
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}

// copyFolder copies logs and manifest last, so that a copy has every table they name.
func copyFolder(from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		target := filepath.Join(to, e.Name())
		if err := os.MkdirAll(target, 0o777); err != nil {
			return err
		}
		// A file that Pebble replaces meanwhile makes the copy one that no crash
		// leaves: take it again.
		for try := 0; ; try++ {
			err := copyFiles(filepath.Join(from, e.Name()), target)
			if err == nil {
				break
			}
			if try == 20 {
				return err
			}
			if err := os.RemoveAll(target); err != nil {
				return err
			}
			if err := os.MkdirAll(target, 0o777); err != nil {
				return err
			}
		}
	}
	return nil
}

func copyFiles(from, to string) error {
	names := func() (string, error) {
		entries, err := os.ReadDir(from)
		var all []string
		for _, e := range entries {
			all = append(all, e.Name())
		}
		return strings.Join(all, "\n"), err
	}
	before, err := names()
	if err != nil {
		return err
	}
	for _, name := range strings.Split(before, "\n") {
		data, err := os.ReadFile(filepath.Join(from, name))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o666); err != nil {
			return err
		}
	}
	after, err := names()
	if err == nil && after != before {
		err = errors.New("folder changed while it was copied")
	}
	return err
}

// TestTornLog cuts the log's last bytes off: the last request is gone, or there, and
// nothing else is harmed.
func TestTornLog(t *testing.T) {
	dir := t.TempDir()
	s := open(t, crashConfig(dir), pebblestore.Deps{})
	for i := range 20 {
		put(t, s, crashBatch(9, i))
	}
	copied := t.TempDir()
	if err := copyFolder(dir, copied); err != nil {
		t.Fatal(err)
	}
	logs, err := filepath.Glob(filepath.Join(copied, "*Z", "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatal(logs, err)
	}
	tail := logs[len(logs)-1]
	info, err := os.Stat(tail)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(tail, info.Size()-100); err != nil {
		t.Fatal(err)
	}
	c := open(t, crashConfig(copied), pebblestore.Deps{})
	for i := range 19 {
		wantTraces(t, c, crashBatch(9, i))
	}
	if got := put(t, c, crashBatch(9, 19)); got.Stored != 50 {
		t.Errorf("the request that was torn: %+v, want it stored anew", got)
	}
	wantTraces(t, c, crashBatch(9, 19))
}

// TestQuarantine damages a partition so that it cannot be opened: it is put aside and
// named, and the others are served.
func TestQuarantine(t *testing.T) {
	cl := &clock{noon}
	cfg := config(t.TempDir())
	deps := pebblestore.Deps{Now: cl.now}
	s := open(t, cfg, deps)
	g := newShop(10, noon)
	old, young := g.batch(10), g.batch(10)
	put(t, s, old)
	cl.at = cl.at.Add(time.Hour)
	s.Maintain()
	s.Tidy()
	put(t, s, young)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	manifests, err := filepath.Glob(filepath.Join(cfg.Dir, "20260822T120001Z", "MANIFEST-*"))
	if err != nil || len(manifests) == 0 {
		t.Fatal(manifests, err)
	}
	for _, name := range manifests {
		if err := os.WriteFile(name, []byte("this is no manifest, and it is long enough to be none"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, cfg, deps)
	wantTraces(t, s, young)
	if _, err := s.Trace(ctx, old.Spans[0].TraceID, spanstore.Window{}); !errors.Is(err, spanstore.ErrNotFound) {
		t.Errorf("trace of the damaged partition: %v", err)
	}
	if st := s.Status(); len(st.Quarantined) != 1 || st.Quarantined[0] != "20260822T120001Z.quarantined" {
		t.Errorf("put aside: %v", st.Quarantined)
	}
}

// TestDamagedTable flips bytes of a table: what it had is not found, with an error or a
// note that says so, and the rest is served.
func TestDamagedTable(t *testing.T) {
	cl := &clock{noon}
	cfg := config(t.TempDir())
	deps := pebblestore.Deps{Now: cl.now}
	s := open(t, cfg, deps)
	g := newShop(11, noon)
	old, young := g.batch(2000), g.batch(10)
	put(t, s, old)
	cl.at = cl.at.Add(time.Hour)
	s.Maintain()
	s.Tidy()
	put(t, s, young)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(filepath.Join(cfg.Dir, "20260822T120001Z", "*.sst"))
	if err != nil || len(tables) == 0 {
		t.Fatal(tables, err)
	}
	for _, name := range tables {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) < 100_000 { // the last, which says that the partition is closed
			continue
		}
		for i := len(data) / 2; i < len(data)/2+100; i++ { // within the fragments
			data[i] ^= 0x55
		}
		if err := os.WriteFile(name, data, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	s = open(t, cfg, deps)
	wantTraces(t, s, young)
	told, whole := 0, 0
	for _, id := range ids(old) {
		switch b, err := s.Trace(ctx, id, spanstore.Window{}); {
		case err == nil && len(b.Spans) == 10:
			whole++
		case err == nil || errors.Is(err, spanstore.ErrNotFound):
			t.Fatalf("trace %s: %v, want all or an error", id, err)
		default:
			told++
		}
	}
	if told == 0 || whole == 0 {
		t.Errorf("%d traces told damaged, %d whole, want some of each", told, whole)
	}
	notes, err := s.Find(ctx, spanstore.Query{Service: "cart", Limit: 1000}, func(*span.Batch) error { return nil })
	if err != nil || notes.Partial == "" {
		t.Errorf("search of a damaged partition: %+v, %v, want a note", notes, err)
	}
	if st := s.Status(); st.Partitions[0].Damage == "" {
		t.Error("status does not tell the damage")
	}
}
