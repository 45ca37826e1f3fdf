package conf

import (
	"bytes"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v3"
)

// Print returns cfg, a struct or a pointer to one, as YAML in the order of its
// fields. Secrets read "<redacted>".
func Print(cfg any) ([]byte, error) {
	return write(tree(deref(cfg), reflect.Value{}))
}

// Diff returns as YAML only the settings of cfg that differ from defaults, which
// has the same type. Read over the defaults it gives cfg again, save for secrets.
// Without any difference it is empty.
func Diff(cfg, defaults any) ([]byte, error) {
	c, d := deref(cfg), deref(defaults)
	if c.Type() != d.Type() {
		return nil, fmt.Errorf("compare config of type %s with defaults of type %s", c.Type(), d.Type())
	}
	return write(tree(c, d))
}

func deref(cfg any) reflect.Value {
	return reflect.Indirect(reflect.ValueOf(cfg))
}

// tree returns the section v as a mapping, without what equals base, unless base
// is the zero Value.
func tree(v, base reflect.Value) (*yaml.Node, error) {
	section := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		name, inline := Key(v.Type().Field(i))
		if name == "" && !inline {
			continue
		}
		var was reflect.Value
		if base.IsValid() {
			was = base.Field(i)
		}
		value, err := leafOrTree(v.Field(i), was)
		switch {
		case err != nil:
			return nil, fmt.Errorf("print %s: %w", name, err)
		case value == nil:
		case inline:
			section.Content = append(section.Content, value.Content...)
		default:
			section.Content = append(section.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: name}, value)
		}
	}
	return section, nil
}

// leafOrTree returns nil when v equals base.
func leafOrTree(v, base reflect.Value) (*yaml.Node, error) {
	if Section(v.Type()) {
		n, err := tree(v, base)
		if err == nil && base.IsValid() && len(n.Content) == 0 {
			return nil, nil
		}
		return n, err
	}
	if base.IsValid() && same(v, base) {
		return nil, nil
	}
	n := new(yaml.Node)
	return n, n.Encode(v.Interface())
}

// same reports whether two settings are written alike: an empty list is as good
// as none.
func same(a, b reflect.Value) bool {
	switch a.Kind() {
	case reflect.Slice, reflect.Map:
		if a.Len() == 0 && b.Len() == 0 {
			return true
		}
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func write(n *yaml.Node, err error) ([]byte, error) {
	if err != nil || len(n.Content) == 0 {
		return nil, err
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return nil, err
	}
	return b.Bytes(), enc.Close()
}
