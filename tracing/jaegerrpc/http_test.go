package jaegerrpc

import (
	"cmp"
	"context"
	"errors"
	flags "flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"

	"github.com/weir-dev/weir/tracing/span"
	"github.com/weir-dev/weir/tracing/spanstore"
)

var update = flags.Bool("update", false, "write the expected answers into testdata instead of comparing them")

// TestHTTP asks what testdata/http.txtar asks. The first line of a file is the request,
// the second the status and content type of the answer, the rest its body, in which the
// arrays of JSON are broken into lines.
func TestHTTP(t *testing.T) {
	const name = "testdata/http.txtar"
	old, err := os.ReadFile(name)
	require.NoError(t, err)
	archive := txtar.Parse(old)
	require.NotEmpty(t, archive.Files)
	handler := newServer(t, nil).Handler("/")
	for i, file := range archive.Files {
		request, _, _ := strings.Cut(string(file.Data), "\n")
		method, url, _ := strings.Cut(request, " ")
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(method, url, nil))
		body := strings.ReplaceAll(strings.TrimSuffix(w.Body.String(), "\n"), "},{", "},\n{")
		got := fmt.Sprintf("%s\n%d %s\n%s\n", request, w.Code, w.Header().Get("Content-Type"), body)
		if *update {
			archive.Files[i].Data = []byte(got)
		} else {
			require.Equal(t, string(file.Data), got, file.Name)
		}
	}
	if *update {
		require.NoError(t, os.WriteFile(name, txtar.Format(archive), 0o644))
	}
}

// Quirk 14.
func TestBasePath(t *testing.T) {
	handler := newServer(t, nil).Handler("/jaeger/")
	for _, path := range []string{"services", "operations?service=odd", "traces/ab", "capabilities", "traces" + day, "trace-summaries" + day} {
		require.Equal(t, 200, ask(handler, "/jaeger/api/v3/"+path).Code, path)
		require.Equal(t, 404, ask(handler, "/api/v3/"+path).Code, path)
	}
}

const day = "?query.startTimeMin=2026-08-01T00:00:00Z&query.startTimeMax=2026-08-02T00:00:00Z"

func ask(handler http.Handler, url string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, url, nil))
	return w
}

// Quirk 15: HEAD is GET without a body; gzip is the server's around this handler.
func TestHTTPHead(t *testing.T) {
	server := httptest.NewServer(newServer(t, nil).Handler(""))
	defer server.Close()
	response, err := server.Client().Head(server.URL + "/api/v3/services")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 200, response.StatusCode)
	response, err = server.Client().Post(server.URL+"/api/v3/services", "", nil)
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, 405, response.StatusCode)
}

func TestHTTPSaysWhatIsMissing(t *testing.T) {
	server := httptest.NewServer(newServer(t, func(d *Deps) {
		d.Limits.MaxTraces = 1
		d.Reader.(*memory).partial = "a partition is broken"
	}).Handler(""))
	defer server.Close()
	for _, path := range []string{"traces", "trace-summaries"} {
		response, err := server.Client().Get(server.URL + "/api/v3/" + path + day + "&query.searchDepth=300000")
		require.NoError(t, err)
		_, err = io.Copy(io.Discard, response.Body)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, "300000 traces asked for, at most 1 are given", response.Header.Get("Weir-Note"))
		require.Equal(t, "a partition is broken", cmp.Or(response.Header.Get("Weir-Partial"), response.Trailer.Get("Weir-Partial")))
	}
}

// torn breaks after the first trace.
type torn struct{ *memory }

func (r torn) Find(ctx context.Context, q spanstore.Query, yield func(*span.Batch) error) (spanstore.Notes, error) {
	q.Limit = 1
	notes, err := r.memory.Find(ctx, q, yield)
	return notes, cmp.Or(err, errors.New("torn"))
}

// An error after the first trace must not look like the end of the answer.
func TestHTTPCutsOffWhatBroke(t *testing.T) {
	server := httptest.NewServer(newServer(t, func(d *Deps) { d.Reader = torn{d.Reader.(*memory)} }).Handler(""))
	defer server.Close()
	response, err := server.Client().Get(server.URL + "/api/v3/traces" + day)
	if err == nil {
		_, err = io.ReadAll(response.Body)
		require.NoError(t, response.Body.Close())
	}
	require.Error(t, err)
	require.Equal(t, 500, ask(newServer(t, func(d *Deps) { d.Reader.(*memory).err = errors.New("torn") }).Handler(""), "/api/v3/services").Code)
}
