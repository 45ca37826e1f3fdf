package measure

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

const (
	// readyTimeout bounds the wait for the first ready answer. An empty data
	// directory takes under a second everywhere, 90 days of blocks some more.
	readyTimeout = 2 * time.Minute
	// stopTimeout bounds the wait after SIGTERM: Prometheus at 1M series needs
	// some seconds to close its head.
	stopTimeout = 60 * time.Second
)

// Program is a running program under test.
type Program struct {
	Argv []string // as run

	name    string
	logPath string
	cmd     *exec.Cmd
	done    chan struct{} // closed once the process is gone
}

// OnCore puts a command line on one core. The program becomes the process: taskset
// leaves none of its own.
func OnCore(core int, argv ...string) []string {
	return append([]string{"taskset", "-c", fmt.Sprint(core)}, argv...)
}

// Start runs argv in dir with GOMAXPROCS=1 and both outputs appended to logPath.
// name is for messages. The caller stops it.
func Start(name, dir, logPath string, argv []string) (*Program, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	p := &Program{Argv: argv, name: name, logPath: logPath, done: make(chan struct{})}
	p.cmd = exec.Command(argv[0], argv[1:]...)
	p.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.Dir = dir
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", strings.Join(argv, " "), err)
	}
	go func() {
		defer close(p.done)
		_ = p.cmd.Wait() // how it ended is in cmd.ProcessState
	}()
	return p, nil
}

// Pid is the number of the process.
func (p *Program) Pid() int { return p.cmd.Process.Pid }

// Done is closed once the process is gone.
func (p *Program) Done() <-chan struct{} { return p.done }

// State is how the process ended, for when Done is closed.
func (p *Program) State() *os.ProcessState { return p.cmd.ProcessState }

// AwaitReady waits until url answers 200. If it does not, the program is stopped,
// and the error has the end of its log.
func (p *Program) AwaitReady(ctx context.Context, url string) error {
	err := p.poll(ctx, url)
	if err == nil {
		return nil
	}
	return errors.Join(fmt.Errorf("wait for %s (%s): %w; its log ends: %s", p.name, url, err, p.LogTail()), p.Stop())
}

func (p *Program) poll(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		if code, err := GetStatus(ctx, url); err == nil && code == http.StatusOK {
			return nil
		}
		select {
		case <-p.done:
			return fmt.Errorf("it ended with %s", p.cmd.ProcessState)
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop ends the program, gently first, and returns once it is gone.
func (p *Program) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // an error means it is gone: done tells
	select {
	case <-p.done:
		return nil
	case <-time.After(stopTimeout):
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	return fmt.Errorf("stop %s: still there %s after SIGTERM, killed", p.name, stopTimeout)
}

// LogTail is the end of the program's output, for an error message.
func (p *Program) LogTail() string {
	b, err := os.ReadFile(p.logPath)
	if err != nil {
		return err.Error()
	}
	return strings.TrimSpace(string(b[max(0, len(b)-1000):]))
}

// FreePorts returns n loopback addresses nobody listens on at the moment.
func FreePorts(n int) ([]string, error) {
	var out []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = l.Close() }() // not before all are found, so that they differ
		out = append(out, l.Addr().String())
	}
	return out, nil
}

// Fetch sends req and returns the body of a 200.
func Fetch(req *http.Request) ([]byte, error) {
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", resp.Status, text[:min(len(text), 300)])
	}
	return text, err
}

// GetStatus asks for url and returns the status of the answer.
func GetStatus(ctx context.Context, url string) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, err
}
