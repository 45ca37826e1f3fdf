package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// An answer of the door, as internal/query's tests have it.
const explained = `{"status":"success","data":{"query":"sum(rate(x[5m])) / quantile_over_time(scalar(y), z[1h])","start":1735776000,"end":1735862400,"step":3600,
"root":{"expr":"/","children":[
 {"expr":"sum","children":[{"expr":"rate(x[5m])","selector":{"expr":"rate(x[5m])","rollups":true,"why":"exact on aligned windows",
  "spans":[{"resolution":"5m","from":1735775700,"to":1735855199.999},{"resolution":"raw","from":1735855199.999,"to":1735862400}],
  "exact":true,"bound":"Not at all.","first":1735776000,"last":1735862400,"step":3600,"range":"5m",
  "held":[{"resolution":"raw","from":1735840000},{"resolution":"5m","to":1735855199.999,"partial":true}],
  "read":{"series":2,"samples":4,"points":6,"bytes":80,"values":10}}}]},
 {"expr":"quantile_over_time(scalar(y), z[1h])","selector":{"expr":"z","rollups":false,"why":"an argument changes","spans":[],"widened":"2h","range":"1h"},
  "children":[{"expr":"scalar","children":[{"expr":"y","selector":{"why":"w","spans":[]}}]}]}]},
"ran":{"seconds":0.25,"series":1,"samples":25}},"warnings":["PromQL warning: w"]}`

func TestQueryExplain(t *testing.T) {
	var form string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		form = r.Method + " " + r.URL.Path + " " + strings.Join([]string{
			r.PostFormValue("query"), r.PostFormValue("start"), r.PostFormValue("end"), r.PostFormValue("step"),
			r.PostFormValue("max_source_resolution"), r.PostFormValue("analyze"),
		}, " ")
		switch r.PostFormValue("query") {
		case "bad":
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"status":"error","error":"it is bad"}`))
		case "other":
			http.NotFound(w, r)
		default:
			w.Write([]byte(explained))
		}
	}))
	defer srv.Close()
	run := func(args ...string) (string, error) {
		var out strings.Builder
		c := queryCommand()
		c.SetArgs(append([]string{"explain", "--url", srv.URL}, args...))
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceUsage, c.SilenceErrors = true, true
		err := c.ExecuteContext(t.Context())
		return out.String(), err
	}

	got, err := run("--start", "1", "--end", "2", "--step", "3", "--max-source-resolution", "auto", "--analyze", "x")
	if err != nil {
		t.Fatal(err)
	}
	const want = `2025-01-02T00:00:00Z to 2025-01-03T00:00:00Z, step 1h
/
├─ sum
│  └─ rate(x[5m])
│       5m   2025-01-01T23:55:00Z to 2025-01-02T21:59:59.999Z
│       raw  2025-01-02T21:59:59.999Z to 2025-01-03T00:00:00Z
│       why: exact on aligned windows
│       bound: Not at all.
│       held: raw from 2025-01-02T17:46:40Z
│       held: 5m to 2025-01-02T21:59:59.999Z, some series only
│       read: 2 series, 6 points, 4 samples, 80 bytes; 10 values
└─ quantile_over_time(scalar(y), z[1h])
   │ nothing is held of that time
   │ why: an argument changes
   │ looks back: 2h instead of 1h where windows are wider
   └─ scalar
      └─ y
           nothing is held of that time
           why: w
ran 0.250 s: 1 series, 25 samples
PromQL warning: w
`
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if want := "POST /api/v1/query/explain x 1 2 3 auto 1"; form != want {
		t.Errorf("asked %q, want %q", form, want)
	}
	if got, err = run("-o", "json", "x"); err != nil || !strings.HasPrefix(got, "{\n  \"query\": \"sum(rate") {
		t.Errorf("got %v and %s", err, got)
	}
	for query, want := range map[string]string{"bad": "it is bad", "other": "answered 404 Not Found, not in JSON: is it a Weir server?"} {
		if _, err := run(query); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", query, err, want)
		}
	}
}
