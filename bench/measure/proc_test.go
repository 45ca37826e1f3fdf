package measure

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	const line = "4242 (evil ) (name) S 17 4242 4242 0 -1 4194560 1 2 3 4 150 50 7 3 20 0 12 0 1 2 3\n"
	got, err := parseStat([]byte(line))
	if want := (stat{pid: 4242, ppid: 17, cpu: 2100 * time.Millisecond}); err != nil || got != want {
		t.Errorf("parseStat: got %+v, %v, want %+v", got, err, want)
	}
	for _, bad := range []string{"", "12 cmd S 1", "x (cmd) S 1 2", "12 (cmd) S 1 2 3", "12 (c) S 1 4 4 0 -1 4 1 2 3 4 a 50 7 3 20"} {
		if s, err := parseStat([]byte(bad)); err == nil {
			t.Errorf("parseStat(%q): got %+v, want an error", bad, s)
		}
	}
}

func TestParseHWM(t *testing.T) {
	got, err := parseHWM([]byte("Name:\tx\nVmPeak:\t  99 kB\nVmHWM:\t  2048 kB\nVmRSS:\t 5 kB\n"))
	if err != nil || got != 2<<20 {
		t.Errorf("parseHWM: got %d, %v, want %d", got, err, 2<<20)
	}
	for _, bad := range []string{"", "VmHWM: 1 MB\n", "VmHWM: many kB\n"} {
		if n, err := parseHWM([]byte(bad)); err == nil {
			t.Errorf("parseHWM(%q): got %d, want an error", bad, n)
		}
	}
}

// TestCPUTimeOfChildren burns CPU in a grandchild that has ended and in a child
// that lives; both must be counted.
func TestCPUTimeOfChildren(t *testing.T) {
	burn := "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"
	cmd := exec.Command("sh", "-c", "sh -c '"+burn+"'; "+burn+"; echo done; sleep 60 & wait")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	defer func() {
		fam, _ := family(pid)
		for _, s := range fam {
			p, _ := os.FindProcess(s.pid)
			_ = p.Kill()
		}
		_ = cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	cpu, err := CPUTime(pid)
	if err != nil || cpu < 2*tick {
		t.Errorf("CPUTime: got %s, %v, want at least %s", cpu, err, 2*tick)
	}
	fam, err := family(pid)
	if err != nil || len(fam) != 2 {
		t.Errorf("family: got %+v, %v, want the shell and sleep", fam, err)
	}
	if rss, err := PeakRSS(pid); err != nil || rss < 100<<10 {
		t.Errorf("PeakRSS: got %d, %v, want at least 100 KiB", rss, err)
	}
}

func TestCPUTimeOfNobody(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	if cpu, err := CPUTime(cmd.Process.Pid); err == nil {
		t.Errorf("CPUTime of an ended process: got %s, want an error", cpu)
	}
}

func TestDiskUsageCountsLinksOnce(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "a")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(file, filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	got, err := DiskUsage(dir)
	if err != nil || got < 1<<20 || got > 1<<20+64<<10 {
		t.Errorf("DiskUsage: got %d, %v, want about %d", got, err, 1<<20)
	}
}
