package span

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"math"
	"strconv"
	"strings"
)

// StringValue is a value of one's own making, as are the following.
func StringValue(s string) Value { return Value{Type: TypeString, Str: s} }

// IntValue is an int.
func IntValue(i int64) Value { return Value{Type: TypeInt, Num: uint64(i)} }

// DoubleValue is a double.
func DoubleValue(f float64) Value { return Value{Type: TypeDouble, Num: math.Float64bits(f)} }

// BytesValue is bytes, which it copies.
func BytesValue(b []byte) Value { return Value{Type: TypeBytes, Str: string(b)} }

// BoolValue is a bool.
func BoolValue(b bool) Value {
	v := Value{Type: TypeBool}
	if b {
		v.Num = 1
	}
	return v
}

// ArrayValue is an array, which shares no memory with its elements.
func ArrayValue(elements ...Value) Value {
	size := 0
	for _, e := range elements {
		size += boundAttr + len(e.Str)
	}
	w := newWriter(size)
	for i := len(elements) - 1; i >= 0; i-- {
		w.value(1, elements[i])
	}
	return Value{Type: TypeArray, Str: string(w.b[w.i:])}
}

// MapValue is a map, which shares no memory with its entries.
func MapValue(entries ...Attr) Value {
	w := newWriter(boundAttrs(entries))
	w.attrs(1, entries)
	return Value{Type: TypeMap, Str: string(w.b[w.i:])}
}

func newWriter(size int) writer { return writer{b: make([]byte, size), i: size} }

// Bool is that of a TypeBool.
func (v Value) Bool() bool { return v.Num != 0 }

// Int is that of a TypeInt.
func (v Value) Int() int64 { return int64(v.Num) }

// Double is that of a TypeDouble.
func (v Value) Double() float64 { return math.Float64frombits(v.Num) }

// Elements are those of a TypeArray; another has none. Their strings lie in v's.
func (v Value) Elements() ([]Value, error) {
	if v.Type != TypeArray {
		return nil, nil
	}
	var elements []Value
	f := open("ArrayValue", bytesOf(v.Str), 0, len(v.Str))
	for f.next() {
		if f.num == 1 && f.is(wireLen) {
			elements = append(elements, Value{})
			f.err = anyValue(&f, &elements[len(elements)-1], 0)
		}
	}
	return elements, f.err
}

// Entries are those of a TypeMap; another has none. Their strings lie in v's.
func (v Value) Entries() ([]Attr, error) {
	if v.Type != TypeMap {
		return nil, nil
	}
	var entries []Attr
	f := open("KeyValueList", bytesOf(v.Str), 0, len(v.Str))
	for f.next() {
		if f.num == 1 && f.is(wireLen) {
			f.err = attribute(&f, &entries)
		}
	}
	return entries, f.err
}

// Text is the value as Jaeger shows and searches it: a string as it is, numbers in
// decimal, bytes in base64, arrays and maps as JSON.
func (v Value) Text() string {
	switch v.Type {
	case TypeString:
		return v.Str
	case TypeBool:
		return strconv.FormatBool(v.Bool())
	case TypeInt:
		return strconv.FormatInt(v.Int(), 10)
	case TypeDouble:
		return strconv.FormatFloat(v.Double(), 'g', -1, 64)
	case TypeBytes:
		return base64.StdEncoding.EncodeToString(bytesOf(v.Str))
	case TypeArray, TypeMap:
		return v.json()
	}
	return ""
}

// json is empty where JSON has no such number (NaN, Inf), as with the collector.
func (v Value) json() string {
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	_ = e.Encode(v.raw())
	return strings.TrimSuffix(out.String(), "\n")
}

func (v Value) raw() any {
	switch v.Type {
	case TypeString:
		return v.Str
	case TypeBool:
		return v.Bool()
	case TypeInt:
		return v.Int()
	case TypeDouble:
		return v.Double()
	case TypeBytes:
		return bytesOf(v.Str)
	case TypeArray:
		elements, _ := v.Elements() // of a value that was not decoded here; JSON has what can be read
		list := make([]any, len(elements))
		for i, e := range elements {
			list[i] = e.raw()
		}
		return list
	case TypeMap:
		entries, _ := v.Entries()
		m := make(map[string]any, len(entries))
		for _, a := range entries {
			m[a.Key] = a.Value.raw()
		}
		return m
	}
	return nil
}
