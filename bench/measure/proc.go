package measure

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tick is the unit of CPU time in /proc/PID/stat: USER_HZ, 100 on every Linux
// port that Go runs on.
const tick = 10 * time.Millisecond

// stat is what bench needs of /proc/PID/stat. cpu includes children that have
// ended and were waited for.
type stat struct {
	pid, ppid int
	cpu       time.Duration
}

// parseStat reads the text of /proc/PID/stat. The command, second field, may
// hold spaces and brackets, so the rest is counted from the last bracket.
func parseStat(text []byte) (stat, error) {
	end := bytes.LastIndexByte(text, ')')
	open := bytes.IndexByte(text, '(')
	if open < 0 || end < open {
		return stat{}, fmt.Errorf("parse /proc/PID/stat %q: no command in brackets", text)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:open])))
	if err != nil {
		return stat{}, fmt.Errorf("parse /proc/PID/stat %q: %w", text, err)
	}
	f := strings.Fields(string(text[end+1:])) // f[0] is field 3 of proc(5), the state
	if len(f) < 15 {
		return stat{}, fmt.Errorf("parse /proc/PID/stat %q: %d fields after the command, want 15 or more", text, len(f))
	}
	s := stat{pid: pid}
	if s.ppid, err = strconv.Atoi(f[1]); err != nil {
		return stat{}, fmt.Errorf("parse /proc/PID/stat %q: %w", text, err)
	}
	for _, field := range f[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return stat{}, fmt.Errorf("parse /proc/PID/stat %q: %w", text, err)
		}
		s.cpu += time.Duration(n) * tick
	}
	return s, nil
}

// family returns pid and its living descendants.
func family(pid int) ([]stat, error) {
	paths, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var all []stat
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			continue // ended between Glob and here
		}
		s, err := parseStat(text)
		if err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	members := map[int]bool{pid: true}
	for grew := true; grew; {
		grew = false
		for _, s := range all {
			if members[s.ppid] && !members[s.pid] {
				members[s.pid], grew = true, true
			}
		}
	}
	var out []stat
	for _, s := range all {
		if members[s.pid] {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("read /proc/%d/stat: no such process; the server under test has ended", pid)
	}
	return out, nil
}

// CPUTime is the user and system time used so far by pid and its children.
func CPUTime(pid int) (time.Duration, error) {
	fam, err := family(pid)
	var sum time.Duration
	for _, s := range fam {
		sum += s.cpu
	}
	return sum, err
}

// CPUClock is the user and system time used so far by the threads of pid alone,
// ended ones included, in nanoseconds where CPUTime counts ticks.
func CPUClock(pid int) (time.Duration, error) {
	// The clock of another process is its inverted number and, in the lowest three
	// bits, "what the scheduler counts", see clock_getcpuclockid(3).
	id := ^int32(pid)<<3 | 2
	var ts unix.Timespec
	if err := unix.ClockGettime(id, &ts); err != nil {
		return 0, fmt.Errorf("read the CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

// PeakRSS is the largest resident size, in bytes, that pid and its living
// children have had, summed.
func PeakRSS(pid int) (int64, error) {
	fam, err := family(pid)
	var sum int64
	for _, s := range fam {
		n, err := PeakRSSAlone(s.pid)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, err
}

// PeakRSSAlone is PeakRSS without children.
func PeakRSSAlone(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read peak memory: %w", err)
	}
	return parseHWM(text)
}

// parseHWM reads VmHWM, in bytes, from the text of /proc/PID/status.
func parseHWM(text []byte) (int64, error) {
	for line := range strings.Lines(string(text)) {
		rest, ok := strings.CutPrefix(line, "VmHWM:")
		if !ok {
			continue
		}
		f := strings.Fields(rest)
		if len(f) != 2 || f[1] != "kB" {
			return 0, fmt.Errorf("parse /proc/PID/status line %q: want a number of kB", line)
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		return n << 10, err
	}
	return 0, fmt.Errorf("parse /proc/PID/status: no VmHWM line")
}

// DiskUsage is what du says of dir: allocated bytes of all files below it.
func DiskUsage(dir string) (int64, error) {
	var sum int64
	seen := map[uint64]bool{}
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return ignoreGone(err)
		}
		info, err := d.Info()
		if err != nil {
			return ignoreGone(err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if ok && !seen[st.Ino] { // snapshots are hard links
			seen[st.Ino] = true
			sum += st.Blocks * 512
		}
		return nil
	})
	return sum, err
}

// ignoreGone forgives files that a merge removed while the directory was read.
func ignoreGone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// PinSelf moves every thread of this process, and so those to come, to one core
// and tells the Go scheduler.
func PinSelf(core int) error {
	runtime.GOMAXPROCS(1)
	var set unix.CPUSet
	set.Set(core)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return fmt.Errorf("pin to core %d: %w", core, err)
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return fmt.Errorf("pin to core %d: %w", core, err)
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) { // a thread may have ended
			return fmt.Errorf("pin thread %d to core %d: %w", tid, core, err)
		}
	}
	return nil
}
