package test

import (
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// rooms are the features of package proxy, with their files. handlers.go puts them
// together. All other files are the engine.
var rooms = map[string]string{
	"answers":  "auth client emulate local monitor pause scan serverinfo slowlog valkey",
	"blocking": "blocking wait",
	"pubsub":   "feeds publish pubsub",
	"tracking": "caching tracking",
	"txn":      "late multi",
	"handlers": "handlers",
}

// TestHouseFeaturesStandApart: within package proxy, the engine names no feature, and no
// feature names another.
func TestHouseFeaturesStandApart(t *testing.T) {
	room := map[string]string{}
	for name, files := range rooms {
		for file := range strings.FieldsSeq(files) {
			room[file+".go"] = name
		}
	}
	fset, info := checked(t, "../proxy")
	in := func(pos token.Pos) string {
		if name, ok := room[filepath.Base(fset.Position(pos).Filename)]; ok {
			return name
		}
		return "engine"
	}
	for file := range room {
		if _, err := os.Stat(filepath.Join("../proxy", file)); err != nil {
			t.Error(err)
		}
	}
	for id, of := range info.Uses {
		if of.Pkg() == nil || of.Pkg().Path() != module+"proxy" || !of.Pos().IsValid() {
			continue
		}
		if from, to := in(id.Pos()), in(of.Pos()); from != to && from != "handlers" && to != "engine" {
			t.Errorf("%v: %s names %s, which is %s", fset.Position(id.Pos()), from, id.Name, to)
		}
	}
}

// checked parses a package without its tests, and checks its types.
func checked(t *testing.T, dir string) (*token.FileSet, *types.Info) {
	t.Helper()
	out, err := exec.Command("go", "list", "-export", "-deps", "-f", "{{.ImportPath}} {{.Export}}", dir).Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	exports := map[string]string{}
	for line := range strings.Lines(string(out)) {
		path, file, _ := strings.Cut(strings.TrimSpace(line), " ")
		exports[path] = file
	}
	fset := token.NewFileSet()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	from := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	conf := types.Config{Importer: importer.ForCompiler(fset, "gc", from)}
	if _, err := conf.Check(module+filepath.Base(dir), fset, files, info); err != nil {
		t.Fatal(err)
	}
	return fset, info
}
