package conf

import (
	"encoding"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Key returns the YAML key of a struct field, and whether the field's own fields
// stand in its place (inline). A field that is no setting has no key: it is
// unexported or tagged "-".
func Key(f reflect.StructField) (name string, inline bool) {
	if !f.IsExported() {
		return "", false
	}
	tag, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	switch {
	case tag == "-":
		return "", false
	case strings.Contains(options, "inline"):
		return "", true
	case tag == "":
		return strings.ToLower(f.Name), false
	}
	return tag, false
}

// Section reports whether values of t are written as a mapping of declared keys,
// as opposed to a value of its own.
func Section(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && !readsItself(t)
}

// Want says in words what a setting of type t takes: "a duration such as 30s".
func Want(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[Duration]():
		return "a duration such as 30s, 1h30m or 15d"
	case reflect.TypeFor[Bytes]():
		return "a size such as 512KiB, 64MiB or 1GiB"
	}
	switch t.Kind() {
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return "0.." + strconv.FormatUint(1<<t.Bits()-1, 10)
	case reflect.Float32, reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	case reflect.Struct, reflect.Map:
		return "a section of keys and values"
	case reflect.Pointer:
		return Want(t.Elem())
	}
	return "text"
}

type keys struct {
	names []string // in the order of declaration
	index map[string][]int
}

func sectionKeys(t reflect.Type) keys {
	k := keys{index: make(map[string][]int)}
	for i := range t.NumField() {
		f := t.Field(i)
		name, inline := Key(f)
		switch {
		case inline && f.Type.Kind() == reflect.Struct:
			inner := sectionKeys(f.Type)
			for _, n := range inner.names {
				k.names = append(k.names, n)
				k.index[n] = append([]int{i}, inner.index[n]...)
			}
		case name != "":
			k.names = append(k.names, name)
			k.index[name] = []int{i}
		}
	}
	return k
}

// funcUnmarshaler is the older of the two forms in which types read themselves
// from YAML; Prometheus' types have it.
type funcUnmarshaler interface {
	UnmarshalYAML(unmarshal func(any) error) error
}

func readsYAML(t reflect.Type) bool {
	p := reflect.PointerTo(t)
	return p.Implements(reflect.TypeFor[yaml.Unmarshaler]()) || p.Implements(reflect.TypeFor[funcUnmarshaler]())
}

func readsItself(t reflect.Type) bool {
	return readsYAML(t) || reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
}

// describe names what the file holds where a t was wanted. It shows no value
// where t is secret.
func describe(n *yaml.Node, t reflect.Type) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section of keys and values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Tag == "!!null":
		return "nothing"
	case t == reflect.TypeFor[Secret]():
		return redacted
	case n.Tag == "!!str":
		return strconv.Quote(n.Value)
	}
	return n.Value
}

func oneOf(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return "one of " + strings.Join(names, ", ")
}

func count(n int) string {
	if n == 1 {
		return "1 fault"
	}
	return strconv.Itoa(n) + " faults"
}

// nearest returns the name that word most likely stands for, or "".
func nearest(word string, names []string) string {
	best, least := "", 1+len(word)/4 // one slip in four letters: "storge", "max_seres"
	for _, n := range names {
		if d := distance(word, n); d <= least {
			best, least = n, d-1
		}
	}
	return best
}

// distance is the number of letters to insert, delete or replace to turn a into b.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, diagonal+1)
		}
	}
	return row[len(b)]
}
