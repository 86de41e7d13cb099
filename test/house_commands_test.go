package test

import (
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
)

// TestHouseComparesNoCommandNames holds proxy to asking for a command's traits: it
// compares no command's name with a text, keeps no table of names, and looks up only
// names that clients have sent.
func TestHouseComparesNoCommandNames(t *testing.T) {
	t.Parallel()
	for _, files := range []string{"../proxy/engine/*.go", "../proxy/answers/*.go", "../proxy/blocking/*.go",
		"../proxy/observe/*.go", "../proxy/pubsub/*.go", "../proxy/quorum/*.go", "../proxy/tracking/*.go",
		"../proxy/txn/*.go"} {
		o := newOurs()
		for _, bad := range o.byName(o.parse(t, files)) {
			t.Error(bad)
		}
	}
}

// TestHouseSeesCommandNames: each form that the test above forbids is found.
func TestHouseSeesCommandNames(t *testing.T) {
	t.Parallel()
	const head = `package p
import ("bytes"; "strings"; "github.com/keyway-proxy/keyway/command")
type session struct { last *command.Command }
const xread = "xread"
var _, _ = bytes.Equal, strings.ToUpper
`
	for _, bad := range []string{
		`func f(c *command.Command) bool { return c.Name == "exec" }`,
		`func f(c *command.Command) bool { return xread != c.Name }`,
		`func f(s *session) bool { return s.last.Name[:4] == "exec" }`,
		`func f(s *session) int { switch s.last.Name { case "exec": return 1 }; return 0 }`,
		`func f(c *command.Command) int { switch { case c.Name == xread: return 1 }; return 0 }`,
		`func f(c *command.Command) int { name := c.Name; if name == "exec" { return 1 }; return 0 }`,
		`func f(c *command.Command) bool { return strings.HasPrefix(c.Name, "client|") }`,
		`func f(c *command.Command) bool { return command.EqualFold([]byte(c.Name), "exec") }`,
		`func f(c *command.Command, m map[string]bool) bool { return m[c.Name] }`,
		`func f(c *command.Command) bool { return c.Group == "scripting" }`,
		`var m = map[string]int{"ping": 1, "echo": 2}`,
		`var l = []string{"hscan", "sscan", "zscan"}`,
		`var l = [][2]string{{"role"}, {"client", "id"}, {"slowlog", "get"}}`,
		`var id = command.Lookup([]byte("exec")).ID`,
		`func init() { for _, n := range []string{xread} { println(command.Lookup([]byte(n)).ID) } }`,
	} {
		o := newOurs()
		f, err := parser.ParseFile(o.fset, "sample.go", head+bad, 0)
		if err != nil {
			t.Fatalf("%s: %v", bad, err)
		}
		if found := o.byName([]*ast.File{f}); len(found) == 0 {
			t.Errorf("not found: %s", bad)
		}
	}
	for _, good := range []string{
		`func f(c *command.Command) string { return "the command is " + c.Name }`,
		`func f(c *command.Command, learned string) bool { return c.Name == learned }`,
		`func f(c *command.Command) string { container, _, _ := strings.Cut(c.Name, "|"); return container }`,
		`func f(name []byte) *command.Command { return command.Lookup(name) }`,
		`func f(word string) bool { return word == "type" }`,
		`var l = []string{"message", "subscribe", "count"}`,
	} {
		o := newOurs()
		f, err := parser.ParseFile(o.fset, "sample.go", head+good, 0)
		if err != nil {
			t.Fatalf("%s: %v", good, err)
		}
		if found := o.byName([]*ast.File{f}); len(found) != 0 {
			t.Errorf("%s: %q", good, found)
		}
	}
}

// ours type-checks the module's own packages from their source. Other packages are
// empty to it, which is enough to know the fields of ours.
type ours struct {
	fset *token.FileSet
	info *types.Info
	done map[string]*types.Package
}

func newOurs() *ours {
	return &ours{token.NewFileSet(), &types.Info{
		Types:      map[ast.Expr]types.TypeAndValue{},
		Selections: map[*ast.SelectorExpr]*types.Selection{},
		Uses:       map[*ast.Ident]types.Object{},
		Defs:       map[*ast.Ident]types.Object{},
	}, map[string]*types.Package{}}
}

func (o *ours) Import(path string) (*types.Package, error) {
	if o.done[path] == nil {
		var files []*ast.File
		if dir, isOurs := strings.CutPrefix(path, module); isOurs {
			files = o.parse(nil, "../"+dir+"/*.go")
		}
		o.check(path, files)
	}
	return o.done[path], nil
}

func (o *ours) check(path string, files []*ast.File) {
	if files == nil {
		p := types.NewPackage(path, filepath.Base(path))
		p.MarkComplete()
		o.done[path] = p
		return
	}
	ignoring := types.Config{Importer: o, Error: func(error) {}}
	o.done[path], _ = ignoring.Check(path, o.fset, files, o.info)
}

// parse parses a package without its tests.
func (o *ours) parse(t *testing.T, pattern string) (files []*ast.File) {
	paths, _ := filepath.Glob(pattern)
	for _, path := range paths {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(o.fset, path, nil, 0)
		if err != nil && t != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	return files
}

// byName returns the places at which a package compares names of commands.
func (o *ours) byName(files []*ast.File) (found []string) {
	o.check("checked", files)
	report := func(n ast.Node, what string) {
		found = append(found, o.fset.Position(n.Pos()).String()+": "+what+"; ask for a trait of its row")
	}
	named := map[types.Object]bool{} // variables that hold a command's name
	mentions := func(e ast.Expr) (yes bool) {
		if e == nil {
			return false
		}
		ast.Inspect(e, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				yes = yes || o.isName(n)
			case *ast.Ident:
				yes = yes || named[o.info.Uses[n]]
			}
			return !yes
		})
		return yes
	}
	visit := func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			for i, right := range n.Rhs {
				if sel, ok := right.(*ast.SelectorExpr); ok && o.isName(sel) && i < len(n.Lhs) {
					if id, ok := n.Lhs[i].(*ast.Ident); ok {
						named[o.info.ObjectOf(id)] = true
					}
				}
			}
		case *ast.BinaryExpr:
			if n.Op == token.EQL || n.Op == token.NEQ {
				if mentions(n.X) && o.text(n.Y) != "" || mentions(n.Y) && o.text(n.X) != "" {
					report(n, "a command's name is compared")
				}
			}
		case *ast.SwitchStmt:
			if mentions(n.Tag) {
				report(n, "a switch over commands' names")
			}
		case *ast.IndexExpr:
			if mentions(n.Index) {
				report(n, "a table is read by a command's name")
			}
		case *ast.CallExpr:
			o.call(n, mentions, report)
		case *ast.CompositeLit:
			if o.listsCommands(n) {
				report(n, "a list of commands' names")
			}
		}
		return true
	}
	for _, f := range files {
		ast.Inspect(f, visit)
	}
	return found
}

// comparing are functions of strings, bytes, slices and command that compare.
var comparing = map[string]bool{"Compare": true, "Contains": true, "CutPrefix": true, "CutSuffix": true, "Equal": true,
	"EqualFold": true, "HasPrefix": true, "HasSuffix": true, "Index": true}

// call reports a call that compares a command's name with a text, and one that looks
// a command up by a text.
func (o *ours) call(n *ast.CallExpr, mentions func(ast.Expr) bool, report func(ast.Node, string)) {
	sel, ok := n.Fun.(*ast.SelectorExpr)
	if !ok {
		return
	}
	switch pkg, _ := sel.X.(*ast.Ident); {
	case pkg == nil:
	case comparing[sel.Sel.Name]:
		named, text := false, false
		for _, arg := range n.Args {
			named = named || mentions(arg)
			text = text || o.text(arg) != ""
		}
		if named && text {
			report(n, "a command's name is compared")
		}
	case pkg.Name == "command" && sel.Sel.Name == "Lookup" && len(n.Args) == 1:
		if conversion, ok := n.Args[0].(*ast.CallExpr); ok && len(conversion.Args) == 1 {
			if id, ok := conversion.Args[0].(*ast.Ident); o.text(conversion.Args[0]) != "" || ok && isOfList(id) {
				report(n, "a command is looked up by its name")
			}
		}
	}
}

// isOfList reports whether a variable runs over a list.
func isOfList(id *ast.Ident) bool {
	if id.Obj == nil {
		return false
	}
	as, ok := id.Obj.Decl.(*ast.AssignStmt)
	if !ok || len(as.Rhs) != 1 {
		return false
	}
	u, ok := as.Rhs[0].(*ast.UnaryExpr)
	return ok && u.Op == token.RANGE
}

// isName reports whether an expression is the name, or the group, of a command.
func (o *ours) isName(sel *ast.SelectorExpr) bool {
	if sel.Sel.Name != "Name" && sel.Sel.Name != "Group" {
		return false
	}
	of := o.info.Types[sel.X].Type
	if of == nil {
		return false
	}
	return strings.TrimPrefix(of.String(), "*") == module+"command.Command"
}

// text is the value of a constant text.
func (o *ours) text(e ast.Expr) string {
	if v := o.info.Types[e].Value; v != nil && v.Kind() == constant.String {
		return constant.StringVal(v)
	}
	return ""
}

var commandNames = func() map[string]bool {
	names := map[string]bool{}
	for _, c := range command.ByID {
		names[c.Name] = true
	}
	return names
}()

// listsCommands reports whether all texts of a list, two or more, or all keys of a
// map, are commands' names.
func (o *ours) listsCommands(list *ast.CompositeLit) bool {
	n := 0
	for _, e := range list.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			e = kv.Key
		}
		if inner, ok := e.(*ast.CompositeLit); ok && len(inner.Elts) > 0 {
			e = inner.Elts[0]
		}
		text := o.text(e)
		if !commandNames[text] {
			return false
		}
		n++
	}
	return n > 1
}
