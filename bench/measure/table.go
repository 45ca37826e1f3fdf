package measure

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Save replaces the file at path, if any, by what render writes: a long run that is
// cut short leaves what it has.
func Save(path string, render func(io.Writer)) error {
	if path == "" {
		return nil
	}
	var b bytes.Buffer
	render(&b)
	return os.WriteFile(path, b.Bytes(), 0o644)
}

// Head writes the beginning of a results file: title, time, machine, Go, the command
// that makes it again, and what was measured.
func Head(w io.Writer, title, command string, started time.Time, versions []string) {
	fmt.Fprintf(w, "# %s, measured %s\n\n", title, started.UTC().Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(w, "- machine: %s\n- go: %s\n- command: `%s`\n", Machine(), runtime.Version(), command)
	for _, v := range versions {
		fmt.Fprintf(w, "- %s\n", v)
	}
}

// BenchstatHead writes what benchstat reads before the figures of a package of ours.
func BenchstatHead(w io.Writer, pkg string) {
	fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/weir-dev/weir/%s\ncpu: %s\n", runtime.GOOS, runtime.GOARCH, pkg, CPUModel())
}

// Table writes a Markdown table.
func Table(w io.Writer, head []string, rows [][]string) {
	line := func(cells []string) { fmt.Fprintf(w, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	line(slices.Repeat([]string{"---"}, len(head)))
	for _, r := range rows {
		line(r)
	}
}

// Range writes lowest, median and highest of values in any order, or "-".
func Range(format string, v []float64) string {
	if len(v) == 0 {
		return "-"
	}
	v = slices.Sorted(slices.Values(v))
	return fmt.Sprintf(format+" / "+format+" / "+format, v[0], Median(v), v[len(v)-1])
}
