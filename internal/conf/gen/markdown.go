package gen

import (
	"bytes"
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/weir-dev/weir/internal/conf"
)

// Markdown renders settings as one table a top-level section, below intro, which
// holds the title. Settings of one section must stand together, as Walk leaves
// them.
func Markdown(intro string, settings []Setting) ([]byte, error) {
	var b bytes.Buffer
	b.WriteString(intro)
	room := ""
	for _, s := range settings {
		if top, _, _ := strings.Cut(s.Path, "."); top != room {
			room = top
			fmt.Fprintf(&b, "\n## %s\n\n", top)
			if s.Section {
				fmt.Fprintf(&b, "%s\n\n", s.Doc)
			}
			b.WriteString("| setting | takes | default | what it is | a change needs |\n|---|---|---|---|---|\n")
		}
		switch {
		case s.Section && s.Path == room:
		case s.Section:
			fmt.Fprintf(&b, "| `%s` | section | | %s | %s |\n", s.Path, cell(s.Doc), s.Change)
		default:
			def, err := defaultText(s.Default)
			if err != nil {
				return nil, fmt.Errorf("print the default of %s: %w", s.Path, err)
			}
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", s.Path, typeText(s.Type), cell(def), cell(s.Doc), s.Change)
		}
	}
	return b.Bytes(), nil
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// typeText names a type as a user would.
func typeText(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[conf.Duration]():
		return "duration"
	case reflect.TypeFor[conf.Bytes]():
		return "size"
	case reflect.TypeFor[conf.Secret]():
		return "secret text"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeText(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "list of " + typeText(t.Elem())
	case reflect.Map:
		return "map of " + typeText(t.Key()) + " to " + typeText(t.Elem())
	case reflect.Float32, reflect.Float64:
		return "number"
	case reflect.Struct:
		if conf.Section(t) {
			return "sections"
		}
		return "Prometheus `" + t.String() + "`"
	}
	return "whole number"
}

// defaultText prints a default as it would stand in the file.
func defaultText(v any) (string, error) {
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Pointer:
		if r.IsNil() {
			return "none", nil
		}
	case reflect.Slice:
		if r.Len() == 0 {
			return "`[]`", nil
		}
	case reflect.Map:
		if r.Len() == 0 {
			return "`{}`", nil
		}
	}
	var n yaml.Node
	if err := n.Encode(v); err != nil {
		return "", err
	}
	n.Style = yaml.FlowStyle
	out, err := yaml.Marshal(&n)
	return "`" + strings.Join(strings.Fields(string(out)), " ") + "`", err
}
