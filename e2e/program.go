package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Program is one real program. It may be started again after Kill or Stop, with
// the same arguments. Its methods are not for use by several goroutines.
type Program struct {
	Name string
	URL  string // where it answers HTTP; "" if it does not
	Log  string // file that gets its output, of all its runs

	ready string // path below URL that answers 200 when it is ready; "" to not wait
	args  []string

	cmd    *exec.Cmd // nil when it does not run
	exited chan struct{}
}

// Start runs the program and waits until it is ready, at most until ctx ends.
func (p *Program) Start(ctx context.Context) error {
	if p.cmd != nil {
		return fmt.Errorf("start %s: it runs already", p.Name)
	}
	log, err := os.OpenFile(p.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Dir = filepath.Dir(p.Log)
	cmd.Stdout, cmd.Stderr = log, log
	// A group of its own, so that Ctrl-C reaches only who stops it in order;
	// killed with its parent, so that it never stays behind.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait() // how it ended is in cmd.ProcessState
		close(exited)
	}()
	p.cmd, p.exited = cmd, exited
	if err := p.waitReady(ctx); err != nil {
		p.Kill()
		return fmt.Errorf("start %s: %w; its log %s ends with:\n%s", p.Name, err, p.Log, p.LogTail())
	}
	return nil
}

func (p *Program) waitReady(ctx context.Context) error {
	if p.ready == "" {
		return nil
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if answers(ctx, p.URL+p.ready) {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("it ended before it was ready: %v", p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("not ready: %w", ctx.Err())
		case <-tick.C:
		}
	}
}

func answers(ctx context.Context, url string) bool {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// Kill ends the program and its children at once, as kill -9 and a power cut of
// the process would, and returns when it is gone. It may be called at any time.
func (p *Program) Kill() {
	if p.cmd == nil {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone already is what we want
	<-p.exited
	p.cmd = nil
}

// Stop asks the program to end, and kills it when it has not after timeout.
func (p *Program) Stop(timeout time.Duration) error {
	if p.cmd == nil {
		return nil
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) // if it is gone, exited says so
	select {
	case <-p.exited:
		p.cmd = nil
		return nil
	case <-time.After(timeout):
		p.Kill()
		return fmt.Errorf("stop %s: it had not ended after %s and was killed; see %s", p.Name, timeout, p.Log)
	}
}

// Exited is closed when the running program has ended, by itself or not.
func (p *Program) Exited() <-chan struct{} { return p.exited }

// PID is the process that Start made.
func (p *Program) PID() int { return p.cmd.Process.Pid }

// LogTail is the end of the log, enough to see why a program did not start.
func (p *Program) LogTail() string {
	text, err := os.ReadFile(p.Log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(text), []byte("\n"))
	return string(bytes.Join(lines[max(0, len(lines)-10):], []byte("\n")))
}

// FreeAddresses returns n loopback addresses that nobody listens on. All are held
// until the last is found, so that they differ.
func FreeAddresses(n int) (addresses []string, err error) {
	for range n {
		l, lerr := net.Listen("tcp", "127.0.0.1:0")
		if lerr != nil {
			return nil, errors.Join(err, fmt.Errorf("find a free port: %w", lerr))
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		addresses = append(addresses, l.Addr().String())
	}
	return addresses, nil
}
