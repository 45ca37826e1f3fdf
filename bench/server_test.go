package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestStartServerTellsWhyItEnded(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "dies")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\necho data directory is locked >&2\nexit 3\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := startServer(context.Background(), contestant{kind: prometheus, binary: binary}, dir, serverCore)
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "data directory is locked") {
		t.Errorf("startServer: got %v, want the exit status and the log", err)
	}
}

func TestStartServerStopsWhatNeverGetsReady(t *testing.T) {
	dir := t.TempDir()
	binary := filepath.Join(dir, "hangs")
	pidFile := filepath.Join(dir, "pid")
	if err := os.WriteFile(binary, []byte("#!/bin/sh\necho $$ > "+pidFile+"\nexec sleep 60\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer cancel()
		for !strings.HasSuffix(readFile(pidFile), "\n") {
			time.Sleep(10 * time.Millisecond)
		}
	}()
	if _, err := startServer(ctx, contestant{kind: weir, binary: binary}, dir, serverCore); err == nil {
		t.Fatal("startServer: no error from a server that is never ready")
	}
	pid := strings.TrimSpace(readFile(pidFile))
	if _, err := os.Stat("/proc/" + pid); !os.IsNotExist(err) {
		t.Errorf("process %s: got %v, want it gone", pid, err)
	}
}

func TestConfigure(t *testing.T) {
	for _, k := range []kind{weir, prometheus, victoriametrics} {
		dir := t.TempDir()
		s, err := configure(contestant{kind: k, binary: "/bin/" + string(k)}, dir, 0)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(s.argv[:4], " "); got != "taskset -c 0 /bin/"+string(k) {
			t.Errorf("%s: command begins with %q", k, got)
		}
		if s.write[rw1] == "" || s.write[otlp] == "" || (s.write[rw2] == "") != (k == victoriametrics) {
			t.Errorf("%s: got write addresses %v", k, s.write)
		}
		if !strings.HasPrefix(s.dataDir, dir) || !strings.Contains(strings.Join(s.argv, " ")+readFile(filepath.Join(dir, "config.yaml")), s.dataDir) {
			t.Errorf("%s: data directory %s is not in its command or config", k, s.dataDir)
		}
	}
	if _, err := configure(contestant{kind: "mimir"}, t.TempDir(), 0); err == nil {
		t.Error("configure of an unknown server: no error")
	}
}

func readFile(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b)
}
