package structure

import (
	"bytes"
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
	"sync"
	"testing"
)

const (
	module                = "dems"
	mostLinesInFile       = 500
	mostLinesInTestFile   = 800
	functionLineLimit     = 70 // a function has fewer
	root                  = "../.."
	everythingOfTheModule = "*"
)

// imports says which packages of this module the code (not the tests) of each directory may import. A directory's
// entry holds for everything below it too; a package may always import what is below its own entry's directory.
var imports = map[string][]string{
	".":                    {},
	"fsm":                  {".", "internal/planted"},
	"backup":               {".", "fsm"},
	"transport":            {"."},
	"frontend":             {".", "internal/planted"},
	"node":                 {".", "fsm", "backup", "transport"},
	"client":               {".", "backup"},
	"cmd/demsctl":          {".", "client"},
	"cmd/demsd":            {".", "frontend", "node", "transport"},
	"test":                 {everythingOfTheModule},
	"internal/structure":   {},
	"internal/faultnet":    {},
	"internal/conformance": {".", "fsm"},
	"internal/onenode":     {".", "frontend", "fsm", "backup"},
	"internal/planted":     {},
	// What tests are made of; nothing that ships may import it. The exception is internal/planted, of which nothing is left
	// in a program that ships: TestNothingIsPlanted shows that.
	"internal": {everythingOfTheModule},
	// What decides and is pure, and nothing that has goroutines or connections: the rest of a cluster is played.
	"internal/simulation": {".", "fsm", "frontend/voting", "node/storage", "node/verdict"},
}

// raftUsers are the directories whose code may name hashicorp/raft. Everything else knows consensus by its effects only.
var raftUsers = []string{"node", "transport"}

// file is one Go file of the module.
type file struct {
	path      string // relative to the root, with slashes
	directory string
	test      bool
	generated bool
	lines     int
	syntax    *ast.File
	positions *token.FileSet
}

var generatedMark = regexp.MustCompile(`(?m)^// Code generated .* DO NOT EDIT\.$`)

// files parses every Go file of the module once. Nested modules and testdata do not belong to it.
var files = sync.OnceValues(func() ([]file, error) {
	var all []file
	err := filepath.WalkDir(root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			_, nested := os.Stat(filepath.Join(name, "go.mod"))
			hidden := name != root && strings.HasPrefix(entry.Name(), ".")
			if entry.Name() == "testdata" || hidden || name != root && nested == nil {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		positions := token.NewFileSet()
		syntax, err := parser.ParseFile(positions, name, data, parser.ParseComments)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			return err
		}
		relative = filepath.ToSlash(relative)
		all = append(all, file{
			path: relative, directory: path.Dir(relative), test: strings.HasSuffix(relative, "_test.go"),
			generated: generatedMark.Match(data), lines: bytes.Count(data, []byte("\n")), syntax: syntax, positions: positions,
		})
		return nil
	})
	return all, err
})

func load(t *testing.T) []file {
	t.Helper()
	all, err := files()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found")
	}
	return all
}

// imported returns the paths that a file imports.
func (f file) imported(t *testing.T) []string {
	t.Helper()
	var paths []string
	for _, spec := range f.syntax.Imports {
		name, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, name)
	}
	return paths
}

// inside tells whether a directory is another one or below it.
func inside(directory, other string) bool {
	return directory == other || other != "." && strings.HasPrefix(directory, other+"/")
}

// rule returns the entry of imports that governs a directory.
func rule(directory string) (owner string, allowed []string, found bool) {
	for owner := directory; ; owner = path.Dir(owner) {
		if allowed, found := imports[owner]; found && (owner != "." || directory == ".") {
			return owner, allowed, true
		}
		if owner == "." {
			return "", nil, false
		}
	}
}

func TestImportDirections(t *testing.T) {
	for _, f := range load(t) {
		if f.test {
			continue
		}
		owner, allowed, found := rule(f.directory)
		if !found {
			t.Errorf("%s: no rule says what this directory may import; add one to imports", f.path)
			continue
		}
		for _, name := range f.imported(t) {
			target, ours := strings.CutPrefix(name, module+"/")
			if name == module {
				target, ours = ".", true
			}
			switch {
			case !ours && f.directory == "." && strings.Contains(strings.SplitN(name, "/", 2)[0], "."):
				t.Errorf("%s imports %s: the root package imports the standard library only", f.path, name)
			case !ours || slices.Contains(allowed, everythingOfTheModule) || inside(target, owner):
			case !slices.ContainsFunc(allowed, func(directory string) bool { return inside(target, directory) }):
				t.Errorf("%s imports %s, which %s may not", f.path, name, owner)
			}
		}
	}
}

func TestRaftIsNamedWhereItBelongs(t *testing.T) {
	for _, f := range load(t) {
		if f.test || slices.ContainsFunc(raftUsers, func(directory string) bool { return inside(f.directory, directory) }) {
			continue
		}
		for _, name := range f.imported(t) {
			if strings.HasPrefix(name, "github.com/hashicorp/raft") {
				t.Errorf("%s imports %s", f.path, name)
			}
		}
	}
}

// TestPurity shows that the domain and the state machine cannot depend on anything but their input: no clock, no
// randomness, no I/O, no goroutines.
func TestPurity(t *testing.T) {
	impure := []string{"math/rand", "math/rand/v2", "crypto/rand", "os", "net", "net/http", "syscall", "log", "log/slog", "hash/maphash"}
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep"}
	for _, f := range load(t) {
		if f.test || f.directory != "." && !inside(f.directory, "fsm") {
			continue
		}
		for _, name := range f.imported(t) {
			if slices.Contains(impure, name) {
				t.Errorf("%s imports %s", f.path, name)
			}
		}
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.GoStmt:
				t.Errorf("%s starts a goroutine", f.positions.Position(node.Pos()))
			case *ast.SelectorExpr:
				if of, ok := node.X.(*ast.Ident); ok && of.Name == "time" && slices.Contains(clock, node.Sel.Name) {
					t.Errorf("%s uses time.%s", f.positions.Position(node.Pos()), node.Sel.Name)
				}
			}
			return true
		})
	}
}

func TestFileLength(t *testing.T) {
	for _, f := range load(t) {
		most := mostLinesInFile
		if f.test {
			most = mostLinesInTestFile
		}
		if !f.generated && f.lines > most {
			t.Errorf("%s has %d lines, at most %d", f.path, f.lines, most)
		}
	}
}

func TestFunctionLength(t *testing.T) {
	for _, f := range load(t) {
		if f.test || f.generated {
			continue
		}
		for _, declaration := range f.syntax.Decls {
			function, ok := declaration.(*ast.FuncDecl)
			if !ok {
				continue
			}
			first, last := f.positions.Position(function.Pos()), f.positions.Position(function.End())
			if lines := last.Line - first.Line + 1; lines >= functionLineLimit {
				t.Errorf("%s:%d: %s has %d lines, fewer than %d wanted", f.path, first.Line, function.Name.Name, lines, functionLineLimit)
			}
		}
	}
}

func TestPackageNames(t *testing.T) {
	empty := regexp.MustCompile(`^(util|utils|common|helper|helpers|misc|shared|base|lib)$`)
	for _, f := range load(t) {
		name := strings.TrimSuffix(f.syntax.Name.Name, "_test")
		if empty.MatchString(name) || empty.MatchString(path.Base(f.directory)) {
			t.Errorf("%s: a package is named after what it provides, not %s", f.path, name)
		}
	}
}

func TestPackageComments(t *testing.T) {
	commented, names := map[string]bool{}, map[string]string{}
	for _, f := range load(t) {
		commented[f.directory] = commented[f.directory] || f.generated
		if !strings.HasSuffix(f.syntax.Name.Name, "_test") {
			names[f.directory] = f.syntax.Name.Name
		}
		text := f.syntax.Doc.Text()
		start := "Package " + f.syntax.Name.Name + " "
		if f.syntax.Name.Name == "main" {
			start = "Command " + path.Base(f.directory) + " "
		}
		if strings.HasPrefix(text, start) {
			commented[f.directory] = true
		} else if text != "" && !f.generated {
			t.Errorf("%s: the package comment begins %.30q, not %q", f.path, text, start)
		}
	}
	for directory, found := range commented {
		if !found {
			t.Errorf("%s: package %s has no package comment", directory, names[directory])
		}
	}
}

// TestNothingLeftToDo finds the marks that people leave where work is unfinished.
func TestNothingLeftToDo(t *testing.T) {
	mark := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|XX` + `X|HA` + `CK)\b`)
	for _, f := range load(t) {
		for _, group := range f.syntax.Comments {
			for _, comment := range group.List {
				if found := mark.FindString(comment.Text); found != "" {
					t.Errorf("%s: %s", f.positions.Position(comment.Pos()), found)
				}
			}
		}
	}
}

// TestSkippingIsExplained lets a test skip itself only with a reason, and never for -short.
func TestSkippingIsExplained(t *testing.T) {
	for _, f := range load(t) {
		ast.Inspect(f.syntax, func(node ast.Node) bool {
			call, ok := node.(*ast.CallExpr)
			if !ok {
				return true
			}
			selector, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if selector.Sel.Name == "SkipNow" || selector.Sel.Name == "Skip" && f.test && len(call.Args) == 0 {
				t.Errorf("%s: skips without a reason", f.positions.Position(call.Pos()))
			}
			if of, ok := selector.X.(*ast.Ident); ok && of.Name == "testing" && selector.Sel.Name == "Short" {
				t.Errorf("%s: asks for -short; tests are short or are not tests", f.positions.Position(call.Pos()))
			}
			return true
		})
	}
}

func TestAsMuchTestAsSource(t *testing.T) {
	tests, source := 0, 0
	for _, f := range load(t) {
		switch {
		case f.generated:
		case f.test || inside(f.directory, "test") || inside(f.directory, "internal"):
			tests += f.lines
		default:
			source += f.lines
		}
	}
	if tests < source {
		t.Errorf("%d lines of test for %d lines of source", tests, source)
	}
	t.Logf("%d lines of test for %d lines of source", tests, source)
}
