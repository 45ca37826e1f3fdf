package weir

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/weir-dev/weir"

// importRules is who may not import whom. Patterns are folders of the module;
// "**" at the end means the folder and all below. Tests of a package may import
// what the rule's tests field allows.
var importRules = []struct {
	from, to string
	except   []string // importers the rule does not bind
	tests    bool     // _test.go files are bound too
	why      string
}{
	{
		from: "**", to: "cmd/**", tests: true,
		why: "cmd ties the rooms together; what a room needs from it belongs in the room or in internal",
	},
	{
		from: "**", to: "internal/store/**", except: []string{"cmd/**", "internal/store/**"},
		why: "rooms see the store through storage.AppendableV2, storage.Queryable or an interface they declare, so that each can stand before another store",
	},
	{
		from: "**", to: "internal/server/**", except: []string{"cmd/**", "internal/server/**"},
		why: "rooms hand out http.Handlers; only cmd knows on which door they hang",
	},
	{
		from: "bench/**", to: "**", tests: true,
		why: "bench measures what a client feels, so it speaks HTTP and nothing else",
	},
	{
		from: "internal/conf/**", to: "**",
		why: "everybody imports conf, so conf imports nobody",
	},
	{
		from: "**", to: "internal/conf/gen", except: []string{"internal/conf/gen"},
		why: "gen reads Go source, which the binary does not have: generators and tests only",
	},
	{
		from: "**", to: "internal/testkit/**", except: []string{"internal/testkit/**"},
		why: "test code has no place in the binary",
	},
	{
		from: "**", to: "e2e/**", except: []string{"e2e/**"},
		why: "e2e starts real programs; nothing in the binary may",
	},
	{
		from: "internal/query/**", to: "ingest/**", tests: true,
		why: "data moves from left to right; the read path never calls a writer",
	},
	{
		from: "ingest/**", to: "internal/query/**",
		why: "data moves from left to right and does not turn back",
	},
}

// rooms never import each other: what two of them need is an interface of the
// field or a package in internal.
var rooms = []string{"ingest", "federation", "tracing", "rules", "dashboards"}

func TestImportRules(t *testing.T) {
	for _, file := range goFiles(t) {
		for _, imported := range file.imports {
			for _, r := range importRules {
				if file.test && !r.tests || !under(file.dir, r.from) || !under(imported, r.to) {
					continue
				}
				if inside(file.dir, imported, r.from) || slices.ContainsFunc(r.except, func(e string) bool { return under(file.dir, e) }) {
					continue
				}
				t.Errorf("%s imports %s: %s", file.path, imported, r.why)
			}
			from, to := room(file.dir), room(imported)
			if from != "" && to != "" && from != to {
				t.Errorf("%s imports %s: rooms never import each other; declare a small interface in %s and let cmd pass the other in",
					file.path, imported, from)
			}
		}
	}
}

// inside reports whether both folders are below the same narrow pattern: a rule
// about a room's imports does not bind the room's own packages.
func inside(from, to, pattern string) bool {
	return pattern != "**" && under(from, pattern) && under(to, pattern)
}

func room(dir string) string {
	top, _, _ := strings.Cut(dir, "/")
	if slices.Contains(rooms, top) {
		return top
	}
	return ""
}

func under(dir, pattern string) bool {
	root, deep := strings.CutSuffix(pattern, "**")
	root = strings.TrimSuffix(root, "/")
	return dir == root || deep && (root == "" || strings.HasPrefix(dir, root+"/"))
}

func TestEachPackageHasOneDocInDocGo(t *testing.T) {
	docs := make(map[string][]string)
	for _, file := range goFiles(t) {
		if file.test {
			continue
		}
		docs[file.dir] = append(docs[file.dir], nil...)
		if file.doc {
			docs[file.dir] = append(docs[file.dir], path.Base(file.path))
		}
	}
	for dir, files := range docs {
		if !slices.Equal(files, []string{"doc.go"}) {
			t.Errorf("%s: package comments in %q, want one, in doc.go: what comes in, what goes out, who owns the bytes, who may import it", dir, files)
		}
	}
}

func TestPackageNamesSaySomething(t *testing.T) {
	empty := []string{"util", "utils", "common", "helper", "helpers", "misc", "types", "models", "base", "shared"}
	for _, file := range goFiles(t) {
		if name := strings.TrimSuffix(file.pkg, "_test"); slices.Contains(empty, name) {
			t.Errorf("%s: package %s could hold anything; name it after what it gives", file.path, name)
		}
	}
}

var (
	backticks  = regexp.MustCompile("`([^`\n]+)`")
	pathShape  = regexp.MustCompile(`^\.?[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_.-]+)*/?$`)
	makeTarget = regexp.MustCompile(`\bmake ([a-z][a-z0-9-]*)`)
)

// pages are the texts whose claims about the tree are checked.
func pages(t *testing.T) []string {
	t.Helper()
	var found []string
	for _, pattern := range []string{"README.md", "CONTRIBUTING.md", "docs/*.md", "docs/adr/*.md"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	if len(found) == 0 {
		t.Fatal("no pages found")
	}
	return found
}

// TestPathsNamedInDocsExist takes what stands in backticks, has a slash, and
// begins with a name found at the root, for a path. An ADR tells what was true on
// its day, but its paths must still lead somewhere.
func TestPathsNamedInDocsExist(t *testing.T) {
	top := make(map[string]bool)
	entries, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		top[e.Name()] = true
	}
	for _, page := range pages(t) {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range backticks.FindAllStringSubmatch(string(text), -1) {
			name := found[1]
			first, _, slash := strings.Cut(name, "/")
			if !slash || !pathShape.MatchString(name) || !top[first] || first == "bin" || first == "data" {
				continue
			}
			if _, err := os.Stat(name); err != nil {
				t.Errorf("%s names `%s`, which does not exist", page, name)
			}
		}
	}
}

func TestMakeTargetsNamedInDocsExist(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages(t), ".ci/run") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		spans := backticks.FindAllString(string(text), -1)
		spans = append(spans, codeLines(string(text))...)
		if page == ".ci/run" {
			spans = strings.Split(string(text), "\n")
		}
		for _, span := range spans {
			for _, found := range makeTarget.FindAllStringSubmatch(span, -1) {
				if !regexp.MustCompile(`(?m)^` + found[1] + `:`).Match(makefile) {
					t.Errorf("%s names `make %s`, which the Makefile has not", page, found[1])
				}
			}
		}
	}
}

// codeLines returns the lines of fenced blocks.
func codeLines(text string) []string {
	var lines []string
	fenced := false
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
		} else if fenced {
			lines = append(lines, line)
		}
	}
	return lines
}

func TestEachMakeTargetIsInHelp(t *testing.T) {
	makefile, err := os.ReadFile("Makefile")
	if err != nil {
		t.Fatal(err)
	}
	rules := regexp.MustCompile(`(?m)^([a-z][a-z0-9-]*):(.*)$`).FindAllStringSubmatch(string(makefile), -1)
	if len(rules) == 0 {
		t.Fatal("no targets found")
	}
	for _, rule := range rules {
		if !strings.Contains(rule[2], "## ") {
			t.Errorf("make %s has no ## comment, so `make help` does not list it", rule[1])
		}
	}
}

// goFile is what the rules need to know of a file.
type goFile struct {
	path, dir string // below the root, with slashes; dir is "." at the root
	pkg       string
	imports   []string // folders of the module only
	doc       bool     // has a package comment
	test      bool
}

// goFiles parses the imports and package comments of the whole tree.
func goFiles(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	err := filepath.WalkDir(".", func(name string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir():
			if name != "." && skipDir(name, entry.Name()) {
				return filepath.SkipDir
			}
			return nil
		case path.Ext(name) != ".go":
			return nil
		}
		tree, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		files = append(files, newGoFile(filepath.ToSlash(name), tree))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 10 {
		t.Fatalf("found %d Go files, the walk looks in the wrong place", len(files))
	}
	return files
}

// skipDir leaves out what the go command leaves out, and modules of their own.
func skipDir(name, base string) bool {
	if base == "testdata" || strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(name, "go.mod"))
	return err == nil
}

func newGoFile(name string, tree *ast.File) goFile {
	f := goFile{
		path: name, dir: path.Dir(name), pkg: tree.Name.Name,
		doc: tree.Doc.Text() != "", test: strings.HasSuffix(name, "_test.go"),
	}
	for _, spec := range tree.Imports {
		if imported, err := strconv.Unquote(spec.Path.Value); err == nil {
			if dir, ours := strings.CutPrefix(imported, module+"/"); ours {
				f.imports = append(f.imports, dir)
			}
		}
	}
	return f
}
