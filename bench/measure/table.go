package measure

import (
	"fmt"
	"io"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Head writes the beginning of a results file: title, time, machine, Go and the
// command that makes it again.
func Head(w io.Writer, title, command string, started time.Time) {
	fmt.Fprintf(w, "# %s, measured %s\n\n", title, started.UTC().Format("2006-01-02 15:04 MST"))
	fmt.Fprintf(w, "- machine: %s\n- go: %s\n- command: `%s`\n", Machine(), runtime.Version(), command)
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
