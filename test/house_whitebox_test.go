package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// whiteBox is how often tests of package proxy may name what package server does not use of
// the engine, aside from rig_test.go. It may only shrink: behaviour is shown by transcripts.
const whiteBox = 17

// TestWhiteBox counts selectors by their names, so it needs no types. A name that a test
// file declares for itself does not count behind a plain identifier.
func TestWhiteBox(t *testing.T) {
	shell, hidden := map[string]bool{}, map[string]bool{}
	each(t, "../server/*.go", func(_ string, f *ast.File) {
		ast.Inspect(f, func(n ast.Node) bool {
			if sel, ok := n.(*ast.SelectorExpr); ok {
				shell[sel.Sel.Name] = true
			}
			return true
		})
	})
	each(t, "../proxy/engine/*.go", func(_ string, f *ast.File) { addMembers(hidden, f) })
	rig, tests := map[string]bool{}, map[string]*ast.File{}
	each(t, "../proxy/*_test.go", func(name string, f *ast.File) {
		if name == "rig_test.go" {
			addMembers(rig, f)
		} else {
			tests[name] = f
		}
	})
	all := 0
	for name, f := range tests {
		own, imported := map[string]bool{}, map[string]bool{}
		addMembers(own, f)
		for _, i := range f.Imports {
			imported[path.Base(strings.Trim(i.Path.Value, `"`))] = true
		}
		ast.Inspect(f, func(x ast.Node) bool {
			sel, ok := x.(*ast.SelectorExpr)
			if !ok || !hidden[sel.Sel.Name] || shell[sel.Sel.Name] {
				return true
			}
			of, plain := sel.X.(*ast.Ident)
			if !plain || !rig[sel.Sel.Name] && !own[sel.Sel.Name] && !imported[of.Name] {
				all++
				t.Logf("%s: %s", name, sel.Sel.Name)
			}
			return true
		})
	}
	if all > whiteBox {
		t.Errorf("tests of proxy name what is the engine's own %d times, and may %d times", all, whiteBox)
	}
}

// each parses the files of a pattern.
func each(t *testing.T, pattern string, f func(name string, file *ast.File)) {
	t.Helper()
	paths, err := filepath.Glob(pattern)
	if err != nil || len(paths) == 0 {
		t.Fatalf("%s: %v", pattern, err)
	}
	for _, name := range paths {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		f(filepath.Base(name), file)
	}
}

// addMembers adds the names of a file's fields and methods.
func addMembers(names map[string]bool, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv != nil {
				names[n.Name.Name] = true
			}
		case *ast.StructType:
			for _, field := range n.Fields.List {
				for _, id := range field.Names {
					names[id.Name] = true
				}
			}
		}
		return true
	})
}
