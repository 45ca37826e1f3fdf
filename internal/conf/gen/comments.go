package gen

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strings"
)

// Source says where the Go files of the module's packages are.
type Source struct {
	Module string // import path of the module
	Root   string // its folder
	Main   string // folder below Root of the package main in whose test gen runs
}

// own reports whether t is declared in the module, so that its fields are ours to
// document.
func (s Source) own(t reflect.Type) bool {
	return t.PkgPath() == "main" || t.PkgPath() == s.Module || strings.HasPrefix(t.PkgPath(), s.Module+"/")
}

func (s Source) dir(pkg string) string {
	if pkg == "main" {
		return filepath.Join(s.Root, s.Main)
	}
	return filepath.Join(s.Root, strings.TrimPrefix(strings.TrimPrefix(pkg, s.Module), "/"))
}

// typeDoc holds the comment of a struct and those of its fields by Go name.
type typeDoc struct {
	text   string
	fields map[string]string
}

// comments reads the packages it is asked about, each once.
type comments struct {
	src  Source
	read map[string]map[string]typeDoc // package, type
}

func (c *comments) of(t reflect.Type) (typeDoc, error) {
	types, ok := c.read[t.PkgPath()]
	if !ok {
		var err error
		if types, err = parseDir(c.src.dir(t.PkgPath())); err != nil {
			return typeDoc{}, fmt.Errorf("read the comments of %s: %w", t, err)
		}
		if c.read == nil {
			c.read = make(map[string]map[string]typeDoc)
		}
		c.read[t.PkgPath()] = types
	}
	doc, ok := types[t.Name()]
	if !ok {
		return typeDoc{}, fmt.Errorf("read the comments of %s: no struct %q declared in %s", t, t.Name(), c.src.dir(t.PkgPath()))
	}
	return doc, nil
}

// parseDir returns the documented structs of the package in dir, those of its
// tests too.
func parseDir(dir string) (map[string]typeDoc, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	types := make(map[string]typeDoc)
	for _, file := range files {
		tree, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		for _, decl := range tree.Decls {
			if decl, ok := decl.(*ast.GenDecl); ok && decl.Tok == token.TYPE {
				addTypes(types, decl)
			}
		}
	}
	return types, nil
}

func addTypes(types map[string]typeDoc, decl *ast.GenDecl) {
	for _, spec := range decl.Specs {
		spec := spec.(*ast.TypeSpec)
		body, ok := spec.Type.(*ast.StructType)
		if !ok {
			continue
		}
		doc := typeDoc{text: spec.Doc.Text(), fields: make(map[string]string)}
		if doc.text == "" {
			doc.text = decl.Doc.Text()
		}
		for _, f := range body.Fields.List {
			for _, name := range f.Names {
				doc.fields[name.Name] = f.Doc.Text()
			}
		}
		types[spec.Name.Name] = doc
	}
}
