package jaegerv1

import (
	"compress/gzip"
	"net/http"
	"strings"
)

// compressed is w, or what compresses on the way to it if the client wants that.
// Close ends the answer.
func compressed(w http.ResponseWriter, r *http.Request) *compressor {
	w.Header().Add("Vary", "Accept-Encoding")
	c := &compressor{ResponseWriter: w}
	if r.Method == http.MethodHead {
		return c
	}
	for _, coding := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(coding), ";")
		weight = strings.ReplaceAll(weight, " ", "")
		if name == "gzip" && strings.TrimRight(weight, ".0") != "q=" {
			c.wanted = true
		}
	}
	return c
}

type compressor struct {
	http.ResponseWriter
	wanted bool
	begun  bool
	gzip   *gzip.Writer
}

// minCompressed bytes at least are worth it: about what fits into one packet.
const minCompressed = 1400

func (c *compressor) Write(p []byte) (int, error) {
	c.begin(len(p))
	if c.gzip != nil {
		return c.gzip.Write(p)
	}
	return c.ResponseWriter.Write(p)
}

// WriteHeader is called for what is not a success, whose body is short.
func (c *compressor) WriteHeader(status int) {
	c.begun = true
	c.ResponseWriter.WriteHeader(status)
}

// begin decides by the first write, which is a whole answer or its first trace.
func (c *compressor) begin(size int) {
	if c.begun {
		return
	}
	c.begun = true
	if c.wanted && size >= minCompressed {
		c.Header().Set("Content-Encoding", "gzip")
		c.gzip, _ = gzip.NewWriterLevel(c.ResponseWriter, gzip.BestSpeed) // the level is one it knows
	}
}

// Close ends what was compressed.
func (c *compressor) Close() {
	if c.gzip != nil {
		_ = c.gzip.Close() // the client is gone
	}
}
