package server

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/weir-dev/weir/internal/conf"
)

// drip writes a byte every step until the connection refuses or n are sent.
func drip(c net.Conn, n int, step time.Duration) {
	for range n {
		if _, err := c.Write([]byte{'a'}); err != nil {
			return
		}
		time.Sleep(step)
	}
}

func TestSlowHeaders(t *testing.T) {
	s := start(t, http.NotFoundHandler(), func(c *Config, _ *Deps) {
		c.HeaderTimeout = conf.Duration(200 * time.Millisecond)
	})
	c, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nX-Loris: ")
	require.NoError(t, err)
	begin := time.Now()
	go drip(c, 1000, 20*time.Millisecond)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(5*time.Second)))
	answer, err := io.ReadAll(c)
	require.False(t, os.IsTimeout(err), "the server hangs up, not the client")
	require.NotContains(t, string(answer), "200 OK")
	require.Less(t, time.Since(begin), 3*time.Second)
}

func TestSlowBody(t *testing.T) {
	for _, head := range []string{"Content-Length: 1000", "Transfer-Encoding: chunked"} {
		got := make(chan error, 1)
		s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := io.ReadAll(r.Body)
			got <- err
			http.Error(w, "", http.StatusRequestTimeout)
		}), func(c *Config, _ *Deps) { c.BodyTimeout = conf.Duration(200 * time.Millisecond) })
		c, err := net.Dial("tcp", s.Addr().String())
		require.NoError(t, err)
		fmt.Fprintf(c, "POST /x HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", head)
		begin := time.Now()
		go func() {
			for range 1000 {
				send := "a"
				if head[0] == 'T' {
					send = "1\r\na\r\n"
				}
				if _, err := io.WriteString(c, send); err != nil {
					return
				}
				time.Sleep(20 * time.Millisecond)
			}
		}()
		err = <-got
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, head)
		require.ErrorContains(t, err, "server.body_timeout")
		require.Less(t, time.Since(begin), 3*time.Second)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, http.StatusRequestTimeout, resp.StatusCode)
		require.True(t, resp.Close, "the connection is not used again")
		c.Close()
	}
}

// What arrives at min_rate may take longer than body_timeout, and a handler may
// think longer than that after the body has arrived, also on a connection that
// had such a request before.
func TestPatientWhereDue(t *testing.T) {
	const grace = 150 * time.Millisecond
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.(http.Flusher).Flush()
		select {
		case <-time.After(2 * grace):
			fmt.Fprint(w, n)
		case <-r.Context().Done():
			fmt.Fprint(w, "cancelled")
		}
	}), func(c *Config, _ *Deps) {
		c.BodyTimeout = conf.Duration(grace)
		c.MinRate = 4 << 10
		c.H2C = true
	})
	chunk := bytes.Repeat([]byte("x"), 2<<10)
	h2 := new(http.Protocols)
	h2.SetUnencryptedHTTP2(true)
	for name, c := range map[string]*http.Client{
		"http/1.1": {Transport: &http.Transport{}},
		"h2c":      {Transport: &http.Transport{Protocols: h2}},
	} {
		for range 2 {
			pr, pw := io.Pipe()
			go func() { // 10 KiB in 0.5 s: faster than 4 KiB/s, longer than the grace
				for range 5 {
					_, _ = pw.Write(chunk)
					time.Sleep(100 * time.Millisecond)
				}
				pw.Close()
			}()
			resp, err := c.Post(s.url+"/x", "text/plain", pr)
			require.NoError(t, err, name)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err, name)
			resp.Body.Close()
			require.Equal(t, "10240", string(body), name)
		}
		c.CloseIdleConnections()
	}
}

func TestSlowReader(t *testing.T) {
	failed := make(chan error, 1)
	s := start(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		block := make([]byte, 256<<10)
		for {
			if _, err := w.Write(block); err != nil {
				failed <- err
				return
			}
		}
	}), func(c *Config, _ *Deps) {
		c.BodyTimeout = conf.Duration(100 * time.Millisecond)
		c.MinRate = 10 << 20
	})
	c, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	select {
	case err := <-failed:
		require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	case <-ctx.Done():
		t.Fatal("a peer that does not read holds its handler")
	}
}
