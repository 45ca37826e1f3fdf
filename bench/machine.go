package main

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

// machine is one line on what the figures were measured with.
func machine() string {
	return fmt.Sprintf("%s, %d cores, %s RAM, Linux %s", cpuModel(), runtime.NumCPU(),
		procField("/proc/meminfo", "MemTotal"), strings.TrimSpace(readFile("/proc/sys/kernel/osrelease")))
}

func cpuModel() string { return procField("/proc/cpuinfo", "model name") }

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

// version says what a binary is: its own first line, if it has one, and what the
// Go tool wrote into it.
func version(c contestant) string {
	arg := map[kind]string{weir: "version", prometheus: "--version", victoriametrics: "-version"}[c.kind]
	out, err := exec.Command(c.binary, arg).CombinedOutput()
	if err != nil {
		return err.Error()
	}
	first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	info, err := buildinfo.ReadFile(c.binary)
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

// anonymous shortens the paths of arguments to their last element: results are
// published, and where a machine keeps its files says nothing about them.
func anonymous(args []string) string {
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
