package conf

import (
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds the size of a configuration file in bytes. A large real file,
// with hundreds of relabelling rules, has some 100 KiB.
const maxFile = 4 << 20

// maxValues bounds the values one file may expand to through YAML aliases, which
// can repeat each other. It is a quarter of maxFile, so that no file without
// aliases meets it before it meets maxFile.
const maxValues = 1 << 20

// Config is what Load and Decode fill.
type Config interface {
	// Validate adds a fault for each setting out of bounds. It changes nothing.
	Validate(f *Faults)
}

// Load reads the file at path into cfg, which must point to a struct that holds
// the defaults, and validates the result. After an error cfg is of no use.
func Load(path string, cfg Config) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("read config: %w", err)
	}
	defer file.Close()
	err = Decode(file, cfg)
	var faults *faultsError
	if errors.As(err, &faults) {
		return fmt.Errorf("config %s has %s:\n%w", path, count(len(faults.list)), err)
	}
	if err != nil {
		return fmt.Errorf("read config %s: %w", path, err)
	}
	return nil
}

// Decode does what Load does, from a reader. Settings that cannot be read keep
// their default, so that validation still finds the faults of the others.
func Decode(r io.Reader, cfg Config) error {
	text, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return err
	}
	if len(text) > maxFile {
		return fmt.Errorf("file is larger than %s", Bytes(maxFile))
	}
	d := decoder{faults: new(Faults), lines: make(map[string]int), left: maxValues}
	if root := d.parse(string(text)); root != nil {
		d.value(root, reflect.ValueOf(cfg).Elem(), "")
	}
	unread := len(d.faults.list)
	cfg.Validate(d.faults)
	d.faults.settle(unread, d.lines)
	return d.faults.Err()
}

// decoder walks a YAML tree and a Go value side by side. The YAML library could
// fill the struct itself, but stops at the first repeated key and names lines
// without paths.
type decoder struct {
	faults *Faults
	lines  map[string]int // setting to the line that gives it
	left   int            // values that may still be read, see maxValues
}

var syntaxLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?`)

// parse returns the document's only value, or nil when there is none.
func (d *decoder) parse(text string) *yaml.Node {
	dec := yaml.NewDecoder(strings.NewReader(text))
	var doc, more yaml.Node
	if err := dec.Decode(&doc); err != nil {
		if !errors.Is(err, io.EOF) {
			d.syntax(err)
		}
		return nil
	}
	switch err := dec.Decode(&more); {
	case err == nil:
		d.faults.add(fault{path: "", line: more.Line, text: "got a second document, want one"})
	case !errors.Is(err, io.EOF):
		d.syntax(err)
	}
	return doc.Content[0]
}

func (d *decoder) syntax(err error) {
	found := syntaxLine.FindStringSubmatch(err.Error())
	line, text := 0, err.Error()
	if found != nil {
		line, _ = strconv.Atoi(found[1])
		text = strings.TrimPrefix(text, found[0])
	}
	d.faults.add(fault{path: "", line: line, text: "not YAML: " + text})
}

// value reads n into v, which is settable and holds the default.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	line := n.Line
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if _, ok := d.lines[path]; !ok {
		d.lines[path] = line
	}
	if d.left--; d.left < 0 {
		if d.left == -1 {
			d.unread(path, line, "aliases expand to more than "+strconv.Itoa(maxValues)+" values")
		}
		return
	}
	null := n.Kind == yaml.ScalarNode && n.Tag == "!!null"
	switch {
	case v.Kind() == reflect.Pointer && null:
		v.SetZero()
	case v.Kind() == reflect.Pointer:
		fresh := reflect.New(v.Type().Elem())
		d.value(n, fresh.Elem(), path)
		v.Set(fresh)
	case readsItself(v.Type()):
		d.self(n, v, path, line)
	case v.Kind() == reflect.Struct:
		if !null {
			d.section(n, v, path, line)
		}
	case v.Kind() == reflect.Slice:
		d.list(n, v, path, line, null)
	case v.Kind() == reflect.Map:
		d.dictionary(n, v, path, line, null)
	default:
		d.scalar(n, v, path, line, null)
	}
}

// section reads a mapping into a struct, key by key.
func (d *decoder) section(n *yaml.Node, v reflect.Value, path string, line int) {
	keys := sectionKeys(v.Type())
	d.pairs(n, v.Type(), path, line, func(key, value *yaml.Node) {
		index, ok := keys.index[key.Value]
		if !ok {
			d.unknown(key, keys.names, path)
			return
		}
		d.value(value, v.FieldByIndex(index), join(path, key.Value))
	})
}

// self lets a type read itself, after a look at its keys where it is a struct:
// the YAML library would pass over those it does not know.
func (d *decoder) self(n *yaml.Node, v reflect.Value, path string, line int) {
	if v.Kind() == reflect.Struct && n.Kind == yaml.MappingNode && readsYAML(v.Type()) {
		if keys := sectionKeys(v.Type()); len(keys.names) > 0 {
			known := true
			d.pairs(n, v.Type(), path, line, func(key, _ *yaml.Node) {
				if _, ok := keys.index[key.Value]; !ok {
					d.unknown(key, keys.names, path)
					known = false
				}
			})
			if !known {
				return
			}
		}
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" || !readsYAML(v.Type()) && n.Kind != yaml.ScalarNode {
		d.wrong(n, v.Type(), path, line)
		return
	}
	fresh := reflect.New(v.Type())
	fresh.Elem().Set(v)
	err := n.Decode(fresh.Interface())
	switch {
	case err == nil:
		v.Set(fresh.Elem())
	case v.Type() == reflect.TypeFor[Duration](), v.Type() == reflect.TypeFor[Bytes]():
		d.wrong(n, v.Type(), path, line)
	default:
		d.unread(path, line, syntaxLine.ReplaceAllString(err.Error(), ""))
	}
}

// list replaces v by the elements of a sequence.
func (d *decoder) list(n *yaml.Node, v reflect.Value, path string, line int, null bool) {
	if null {
		v.SetZero()
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.wrong(n, v.Type(), path, line)
		return
	}
	fresh := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, c := range n.Content {
		d.value(c, fresh.Index(i), join(path, "["+strconv.Itoa(i)+"]"))
	}
	v.Set(fresh)
}

// dictionary replaces v by the pairs of a mapping with free keys.
func (d *decoder) dictionary(n *yaml.Node, v reflect.Value, path string, line int, null bool) {
	if null {
		v.SetZero()
		return
	}
	fresh := reflect.MakeMap(v.Type())
	d.pairs(n, v.Type(), path, line, func(key, value *yaml.Node) {
		k := reflect.New(v.Type().Key()).Elem()
		if k.Kind() != reflect.String {
			d.faults.add(fault{path: path, line: key.Line, text: "keys of type " + k.Type().String() + " cannot be read"})
			return
		}
		k.SetString(key.Value)
		e := reflect.New(v.Type().Elem()).Elem()
		d.value(value, e, join(path, key.Value))
		fresh.SetMapIndex(k, e)
	})
	v.Set(fresh)
}

// scalar reads one word or number.
func (d *decoder) scalar(n *yaml.Node, v reflect.Value, path string, line int, null bool) {
	if v.Kind() == reflect.Interface {
		if err := n.Decode(v.Addr().Interface()); err != nil {
			d.unread(path, line, syntaxLine.ReplaceAllString(err.Error(), ""))
		}
		return
	}
	fresh := reflect.New(v.Type())
	if null || n.Kind != yaml.ScalarNode || n.Decode(fresh.Interface()) != nil {
		d.wrong(n, v.Type(), path, line)
		return
	}
	v.Set(fresh.Elem())
}

// pairs calls f for each key of a mapping that is not given twice.
func (d *decoder) pairs(n *yaml.Node, t reflect.Type, path string, line int, f func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		d.wrong(n, t, path, line)
		return
	}
	first := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if key.Kind != yaml.ScalarNode {
			d.faults.add(fault{path: path, line: key.Line, text: "got " + describe(key, nil) + " as a key, want a word"})
			continue
		}
		if at, again := first[key.Value]; again {
			d.faults.add(fault{path: join(path, key.Value), line: key.Line, text: "given twice, first in line " + strconv.Itoa(at)})
			continue
		}
		first[key.Value] = key.Line
		f(key, n.Content[i+1])
	}
}

func (d *decoder) unknown(key *yaml.Node, names []string, path string) {
	text := "unknown key"
	if near := nearest(key.Value, names); near != "" {
		text += `, did you mean "` + near + `"?`
	} else {
		text += ", want " + oneOf(names)
	}
	d.faults.add(fault{path: join(path, key.Value), line: key.Line, text: text})
}

func (d *decoder) wrong(n *yaml.Node, t reflect.Type, path string, line int) {
	d.unread(path, line, "got "+describe(n, t)+", want "+Want(t))
}

// unread records that the setting at path could not be read.
func (d *decoder) unread(path string, line int, text string) {
	d.faults.add(fault{path: path, line: line, text: text, unread: true})
}
