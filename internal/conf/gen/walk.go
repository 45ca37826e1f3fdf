package gen

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/weir-dev/weir/internal/conf"
)

// Setting is one field of a configuration struct.
type Setting struct {
	// Path is the place in the file: "ingest.limits.max_series"; "peers[].url"
	// in the elements of a list, "clusters.<name>.url" in those of a map.
	Path string
	// Section says that the setting only holds others, which follow it.
	Section bool
	// Type is the Go type.
	Type reflect.Type
	// Default is the value when the file does not give one; in the elements of
	// lists and maps the zero value.
	Default any
	// Doc is the comment without its last word, on one line.
	Doc string
	// Change is "reload" or "restart": what makes a change effective. Empty for
	// a section that leaves it to its settings.
	Change string
}

// Walk lists the settings below defaults, a struct, section by section. Source
// says where the comments are. The error names every field that lacks one.
func Walk(defaults any, src Source) ([]Setting, error) {
	w := walker{comments: comments{src: src}}
	w.section(reflect.Indirect(reflect.ValueOf(defaults)), "")
	return w.list, errors.Join(w.faults...)
}

type walker struct {
	comments comments
	list     []Setting
	faults   []error
}

func (w *walker) section(v reflect.Value, path string) {
	t := v.Type()
	doc, err := w.comments.of(t)
	if err != nil {
		w.faults = append(w.faults, err)
		return
	}
	for i := range t.NumField() {
		f := t.Field(i)
		key, inline := conf.Key(f)
		switch {
		case inline:
			w.section(v.Field(i), path)
		case key != "":
			w.field(f, v.Field(i), strings.TrimPrefix(path+"."+key, "."), doc.fields[f.Name])
		}
	}
}

func (w *walker) field(f reflect.StructField, v reflect.Value, path, comment string) {
	s := Setting{Path: path, Section: conf.Section(f.Type) && w.comments.src.own(f.Type), Type: f.Type, Default: v.Interface()}
	if s.Section && comment == "" {
		if doc, err := w.comments.of(f.Type); err == nil {
			comment = doc.text
		}
	}
	s.Doc, s.Change = cutChange(comment)
	fault := func(text string) {
		w.faults = append(w.faults, fmt.Errorf("%s (field %s): %s", path, f.Name, text))
	}
	switch {
	case s.Doc == "":
		fault("want a comment above it: what it is, its unit, what zero means")
	case s.Change == "" && !s.Section:
		fault(`want the comment to end with "Reload." or "Restart."`)
	}
	if !strings.Contains(string(f.Tag), `yaml:"`) {
		fault("want a yaml tag")
	}
	if f.Type == reflect.TypeFor[time.Duration]() {
		fault("want type conf.Duration, which the file can write in days")
	}
	w.list = append(w.list, s)
	if inner, below := w.elements(f.Type, path); inner != nil {
		if s.Section {
			w.section(v, path)
		} else {
			w.section(reflect.Zero(inner), below)
		}
	}
}

// elements returns the struct of ours that a setting of type t holds, if any, and
// the path of its fields.
func (w *walker) elements(t reflect.Type, path string) (reflect.Type, string) {
	switch {
	case t.Kind() == reflect.Pointer:
		return w.elements(t.Elem(), path)
	case t.Kind() == reflect.Slice:
		return w.elements(t.Elem(), path+"[]")
	case t.Kind() == reflect.Map:
		return w.elements(t.Elem(), path+".<name>")
	case conf.Section(t) && w.comments.src.own(t):
		return t, path
	}
	return nil, ""
}

// cutChange separates the last word, which says how a change takes effect.
func cutChange(comment string) (doc, change string) {
	comment = strings.Join(strings.Fields(comment), " ")
	for _, word := range [...]string{"Reload", "Restart"} {
		if doc, ok := strings.CutSuffix(comment, word+"."); ok && (doc == "" || strings.HasSuffix(doc, " ")) {
			return strings.TrimSpace(doc), strings.ToLower(word)
		}
	}
	return comment, ""
}
