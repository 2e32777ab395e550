package fsm

import (
	"go/ast"
	"go/build"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// packageSource is the code of this package as it is built: without its tests, and without the bugs that a build tag plants.
func packageSource(t *testing.T) (*token.FileSet, []*ast.File) {
	t.Helper()
	built, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	positions, files := token.NewFileSet(), []*ast.File{}
	for _, path := range built.GoFiles {
		parsed, err := parser.ParseFile(positions, path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, parsed)
	}
	if len(files) < 10 {
		t.Fatalf("only %d files found", len(files))
	}
	return positions, files
}

// TestImports is an allow-list: whoever wants a clock, randomness, files, a network or Raft in here has to change it.
func TestImports(t *testing.T) {
	allowed := []string{
		"bytes", "cmp", "crypto/sha256", "encoding/binary", "errors", "fmt", "hash/crc32", "io", "math/bits", "slices", "strconv",
		"time", // for the times in commands; TestNoClockAndNoGoroutine sees to the rest
		"dems", "github.com/tidwall/btree", "github.com/zeebo/xxh3",
		"dems/internal/planted", // nothing, in this build
	}
	positions, files := packageSource(t)
	for _, file := range files {
		for _, spec := range file.Imports {
			if path := strings.Trim(spec.Path.Value, `"`); !slices.Contains(allowed, path) {
				t.Errorf("%s imports %s", positions.Position(spec.Pos()), path)
			}
		}
	}
}

// checked returns the package with its types. The compiler's export data of what it imports comes from the go command.
func checked(t *testing.T) (*token.FileSet, []*ast.File, *types.Info) {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}}={{.Export}}", ".").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), "=")
		exports[path] = file
	}
	positions, files := packageSource(t)
	open := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	info := &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: importer.ForCompiler(positions, "gc", open)}
	if _, err := config.Check("dems/fsm", positions, files, info); err != nil {
		t.Fatal(err)
	}
	return positions, files, info
}

// TestDeterministicByConstruction refuses what can give two machines different states from the same entries: a loop over
// a Go map (whose order is random), a select, a goroutine, a channel, a clock, floating point, and variables of the
// package that code assigns to. There is no Go map in the package at all, so the first rule costs nothing.
func TestDeterministicByConstruction(t *testing.T) {
	positions, files, info := checked(t)
	refuse := func(node ast.Node, what string) { t.Errorf("%s: %s", positions.Position(node.Pos()), what) }
	clock := []string{"Now", "Since", "Until", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick", "Sleep", "Local", "LoadLocation"}
	for _, file := range files {
		ast.Inspect(file, func(node ast.Node) bool {
			switch node := node.(type) {
			case *ast.GoStmt:
				refuse(node, "starts a goroutine")
			case *ast.SelectStmt:
				refuse(node, "selects")
			case *ast.ChanType:
				refuse(node, "uses a channel")
			case *ast.MapType:
				refuse(node, "uses a Go map")
			case *ast.RangeStmt:
				if _, isMap := info.TypeOf(node.X).Underlying().(*types.Map); isMap {
					refuse(node, "ranges over a map")
				}
			case *ast.Ident:
				used := info.Uses[node]
				if used == nil {
					return true
				}
				if basic, ok := used.Type().(*types.Basic); ok && basic.Info()&(types.IsFloat|types.IsComplex) != 0 {
					refuse(node, "uses floating point")
				}
				if used.Pkg() != nil && used.Pkg().Path() == "time" && slices.Contains(clock, used.Name()) {
					refuse(node, "uses time."+used.Name())
				}
			}
			return true
		})
		refuseAssignments(file, info, refuse)
	}
}

// refuseAssignments finds assignments to variables of the package: state outside of Machine.
func refuseAssignments(file *ast.File, info *types.Info, refuse func(ast.Node, string)) {
	ast.Inspect(file, func(node ast.Node) bool {
		assignment, ok := node.(*ast.AssignStmt)
		if !ok {
			return true
		}
		for _, left := range assignment.Lhs {
			if name, ok := left.(*ast.Ident); ok {
				if used := info.Uses[name]; used != nil && used.Parent() != nil && used.Parent() == used.Pkg().Scope() {
					refuse(name, "assigns to a variable of the package")
				}
			}
		}
		return true
	})
}
