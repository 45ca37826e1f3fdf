package measure

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
)

// Machine is one line on what the figures were measured with.
func Machine() string {
	return fmt.Sprintf("%s, %d cores, %s RAM, Linux %s", CPUModel(), runtime.NumCPU(),
		procField("/proc/meminfo", "MemTotal"), strings.TrimSpace(readFile("/proc/sys/kernel/osrelease")))
}

// CPUModel is what the kernel calls the processor.
func CPUModel() string { return procField("/proc/cpuinfo", "model name") }

// procField is the value behind the first "key :" of a /proc file.
func procField(path, key string) string {
	for line := range strings.Lines(readFile(path)) {
		k, v, ok := strings.Cut(line, ":")
		if ok && strings.TrimSpace(k) == key {
			return strings.Join(strings.Fields(v), " ")
		}
	}
	return "unknown"
}

func readFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Version says what a binary is: the first line it prints when asked with arg, and
// what the Go tool wrote into it.
func Version(binary, arg string) string {
	out, err := exec.Command(binary, strings.Fields(arg)...).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return first
	}
	text := fmt.Sprintf("%s built with %s from %s %s", first, info.GoVersion, info.Main.Path, info.Main.Version)
	for _, d := range info.Deps {
		if d.Path == "github.com/prometheus/prometheus" {
			text += ", " + d.Path + " " + d.Version
		}
	}
	for _, s := range info.Settings {
		if s.Key == "CGO_ENABLED" {
			text += ", cgo=" + s.Value
		}
	}
	return strings.TrimSpace(text)
}

// Anonymous shortens the paths of arguments to their last element: results are
// published, and where a machine keeps its files says nothing about them.
func Anonymous(args []string) string {
	out := make([]string, len(args))
	for i, a := range args {
		key, val, ok := strings.Cut(a, "=")
		switch {
		case ok && filepath.IsAbs(val):
			a = key + "=" + filepath.Base(val)
		case filepath.IsAbs(a):
			a = filepath.Base(a)
		case strings.ContainsAny(a, " |*"):
			a = strconv.Quote(a)
		}
		out[i] = a
	}
	return strings.Join(out, " ")
}

// LoadAverage is that of the last minute, for a reader to tell a busy machine by.
func LoadAverage() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "?"
	}
	one, _, _ := strings.Cut(string(b), " ")
	return one
}
