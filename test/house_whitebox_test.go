package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"strings"
	"testing"
)

// whiteBox is how often tests of package proxy may name its unexported fields and methods,
// aside from those of rig_test.go. It may only shrink: behaviour is shown by transcripts.
const whiteBox = 25

// TestWhiteBox counts selectors by their names, so it needs no types. A name that a test
// file declares for itself does not count behind a plain identifier.
func TestWhiteBox(t *testing.T) {
	files, err := filepath.Glob("../proxy/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	rig := map[string]bool{}
	hidden := map[string]bool{}
	tests := map[string]*ast.File{}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		switch name := filepath.Base(path); {
		case name == "rig_test.go":
			addUnexported(rig, f)
		case strings.HasSuffix(name, "_test.go"):
			tests[name] = f
		default:
			addUnexported(hidden, f)
		}
	}
	all := 0
	for name, f := range tests {
		own := map[string]bool{}
		addUnexported(own, f)
		n := 0
		ast.Inspect(f, func(x ast.Node) bool {
			sel, ok := x.(*ast.SelectorExpr)
			if !ok || !hidden[sel.Sel.Name] {
				return true
			}
			if _, plain := sel.X.(*ast.Ident); !plain || !rig[sel.Sel.Name] && !own[sel.Sel.Name] {
				n++
			}
			return true
		})
		if all += n; n > 0 {
			t.Logf("%s: %d", name, n)
		}
	}
	if all > whiteBox {
		t.Errorf("tests of proxy name unexported fields and methods %d times, and may %d times", all, whiteBox)
	}
}

// addUnexported adds the names of a file's unexported fields and methods.
func addUnexported(names map[string]bool, f *ast.File) {
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			if n.Recv != nil && !n.Name.IsExported() {
				names[n.Name.Name] = true
			}
		case *ast.StructType:
			for _, field := range n.Fields.List {
				for _, id := range field.Names {
					if !id.IsExported() {
						names[id.Name] = true
					}
				}
			}
		}
		return true
	})
}
