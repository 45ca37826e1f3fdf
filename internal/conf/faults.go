package conf

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Faults collects what is wrong with a configuration. The zero value is an empty
// collector at the root. It is not safe for concurrent use.
type Faults struct {
	root *Faults // nil in the root itself
	path string
	list []fault // in the root only
}

// fault is one mistake.
type fault struct {
	path   string
	line   int // of the file; 0 when it does not name the setting
	text   string
	unread bool // the setting has not the value that the file gives it
}

func (x fault) String() string {
	s := x.text
	if x.path != "" {
		s = x.path + ": " + s
	}
	if x.line > 0 {
		s += " (line " + strconv.Itoa(x.line) + ")"
	}
	return s
}

// At returns a collector for the section or list element named path, which may
// be empty, a key ("limits"), several ("limits.cluster") or an index ("[2]").
// What is added there is reported by the collector it came from.
func (f *Faults) At(path string) *Faults {
	return &Faults{root: f.top(), path: join(f.path, path)}
}

// Add records that field, below the collector's path, holds got where want was
// wanted: "ingest.limits.max_series: got -1, want 0 (no limit) or more". Write
// want so that it can be read after the word "want". An empty field means the
// collector's own path.
func (f *Faults) Add(field string, got any, want string) {
	f.add(fault{path: field, text: "got " + show(got) + ", want " + want})
}

// Err returns nil when nothing was added, else an error whose text is one line a
// fault, in the order of the file.
func (f *Faults) Err() error {
	list := slices.Clone(f.top().list)
	if len(list) == 0 {
		return nil
	}
	slices.SortStableFunc(list, func(a, b fault) int {
		if a.line == 0 || b.line == 0 { // what the file does not name comes last
			return b.line - a.line
		}
		return a.line - b.line
	})
	return &faultsError{list}
}

// add records x, whose path is below the collector's.
func (f *Faults) add(x fault) {
	top := f.top()
	x.path = join(f.path, x.path)
	top.list = append(top.list, x)
}

func (f *Faults) top() *Faults {
	if f.root != nil {
		return f.root
	}
	return f
}

// settle takes the first n faults as found by reading, the others by validation:
// it gives these the line of the setting they name, and drops those about a
// setting that could not be read, whose value is not the user's.
func (f *Faults) settle(n int, lines map[string]int) {
	read, valid := f.list[:n:n], f.list[n:]
	f.list = read
	for _, x := range valid {
		if slices.ContainsFunc(read, func(r fault) bool { return r.unread && within(x.path, r.path) }) {
			continue
		}
		x.line = lines[x.path]
		f.list = append(f.list, x)
	}
}

// within reports whether path is at or below the section or element top.
func within(path, top string) bool {
	rest, ok := strings.CutPrefix(path, top)
	return ok && (top == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

type faultsError struct{ list []fault }

func (e *faultsError) Error() string {
	lines := make([]string, len(e.list))
	for i, x := range e.list {
		lines[i] = x.String()
	}
	return strings.Join(lines, "\n")
}

func join(path, field string) string {
	if path == "" || field == "" || strings.HasPrefix(field, "[") {
		return path + field
	}
	return path + "." + field
}

// show prints a value as it would stand in the file, text in quotes so that an
// empty one is seen.
func show(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	}
	if r := reflect.ValueOf(v); r.Kind() == reflect.String {
		return strconv.Quote(r.String())
	}
	return fmt.Sprint(v)
}
