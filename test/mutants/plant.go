package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strconv"
	"strings"
)

// switchVariable names the environment variable that switches one of the planted bugs on, by
// its number. switchSource reads it in each package that has planted bugs.
const (
	switchVariable = "PLANTED_BUG"
	switchSource   = `package %s

import (
	"os"
	"strconv"
	"strings"
)

var plantedBug, _ = strconv.Atoi(os.Getenv("` + switchVariable + `"))

func plantedText(number int, old, new, text string) string {
	if plantedBug == number {
		return strings.Replace(text, old, new, 1)
	}
	return text
}
`
)

// source is a Go file of keyway that gets bugs planted.
type source struct {
	text     string
	file     *ast.File
	edits    []edit
	variants strings.Builder // goes to the end of the file
}

// edit replaces the length bytes at an offset of a source.
type edit struct {
	at, length int
	text       string
}

func parse(text string) (*source, error) {
	file, err := parser.ParseFile(token.NewFileSet(), "", text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	return &source{text: text, file: file}, nil
}

// plant adds a copy of the function that the bug is in, which has the bug. The function
// begins with a call of the copy, which it makes if the bug with this number is switched on:
//
//	func (c *conn) close(err error) { if plantedBug == 7 { c.close_7(err); return }; ...
//
// A constant text becomes a variable, which has the bug from the beginning of the program:
//
//	var script = plantedText(7, "old", "new", `the text`)
//
// It returns false, and has changed nothing, if the bug is neither inside one function nor in such
// a text, or in a function that is more than its body when it is called: then the bug needs a
// build of its own.
func (s *source) plant(m *bug, number int) bool {
	begin := strings.Index(s.text, m.old)
	end := begin + len(m.old)
	for _, d := range s.file.Decls {
		if keyword, text := constantText(d); text != nil && begin > offset(text.Pos()) && end < offset(text.End()) {
			s.replace(edit{at: offset(keyword), length: len("const"), text: "var"})
			head := fmt.Sprintf("plantedText(%d, %q, %q, ", number, m.old, m.new)
			s.edits = append(s.edits, edit{at: offset(text.Pos()), text: head}, edit{at: offset(text.End()), text: ")"})
			return true
		}
		f, ok := d.(*ast.FuncDecl)
		if !ok || begin < offset(f.Pos()) || begin >= offset(f.End()) {
			continue
		}
		if strings.TrimSpace(s.text[min(end, offset(f.End())):end]) != "" || !canBeCopied(f) {
			return false
		}
		bad := s.text[offset(f.Pos()):begin] + m.new + s.text[end:max(end, offset(f.End()))]
		const head = "package p\n"
		c, err := parse(head + bad)
		if err != nil || len(c.file.Decls) != 1 {
			return false
		}
		copied, ok := c.file.Decls[0].(*ast.FuncDecl)
		if !ok || copied.Name.Name != f.Name.Name {
			return false
		}
		after := offset(copied.Name.End()) - len(head)
		// The compiler names the bug where it would name a file.
		fmt.Fprintf(&s.variants, "\n//line %s:1\n%s_%d%s\n", m.name, bad[:after], number, bad[after:])
		s.edits = append(s.edits, edit{at: offset(f.Body.Lbrace) + 1, text: s.call(f, number)})
		return true
	}
	return false
}

// constantText returns the keyword and the value of a declaration of one constant that is a text
// in backquotes, or nil.
func constantText(d ast.Decl) (keyword token.Pos, text *ast.BasicLit) {
	g, ok := d.(*ast.GenDecl)
	if !ok || g.Tok != token.CONST || g.Lparen.IsValid() {
		return 0, nil
	}
	values := g.Specs[0].(*ast.ValueSpec).Values
	if len(values) != 1 {
		return 0, nil
	}
	if text, ok = values[0].(*ast.BasicLit); !ok || !strings.HasPrefix(text.Value, "`") {
		return 0, nil
	}
	return g.TokPos, text
}

// offset is where a position is in the only file of its set.
func offset(p token.Pos) int { return int(p) - 1 }

// canBeCopied reports whether a copy of the function can be called in its place.
func canBeCopied(f *ast.FuncDecl) bool {
	can := f.Name.Name != "init" && f.Body != nil
	ast.Inspect(f, func(n ast.Node) bool {
		// recover works in a deferred function, but not in one that this calls.
		if name, ok := n.(*ast.Ident); ok && name.Name == "recover" {
			can = false
		}
		return can
	})
	return can
}

// call returns the statement that calls the copy of f with f's own arguments. It gives
// names to those that have none.
func (s *source) call(f *ast.FuncDecl, number int) string {
	callee := fmt.Sprintf("%s_%d", f.Name.Name, number)
	if f.Recv != nil {
		callee = s.names(f.Recv)[0] + "." + callee
	}
	if f.Type.TypeParams != nil {
		callee += "[" + strings.Join(s.names(f.Type.TypeParams), ", ") + "]"
	}
	callee += "(" + strings.Join(s.names(f.Type.Params), ", ") + ")"
	if f.Type.Results == nil {
		return fmt.Sprintf(" if plantedBug == %d { %s; return };", number, callee)
	}
	return fmt.Sprintf(" if plantedBug == %d { return %s };", number, callee)
}

// names returns the names of parameters as a call passes them on.
func (s *source) names(list *ast.FieldList) (names []string) {
	for _, field := range list.List {
		given := field.Names
		if len(given) == 0 {
			given = []*ast.Ident{nil}
		}
		for _, id := range given {
			name := "unnamed" + strconv.Itoa(offset(field.Pos()))
			switch {
			case id == nil:
				s.replace(edit{at: offset(field.Type.Pos()), text: name + " "})
			case id.Name == "_":
				s.replace(edit{at: offset(id.Pos()), length: 1, text: name})
			default:
				name = id.Name
			}
			if _, ok := field.Type.(*ast.Ellipsis); ok {
				name += "..."
			}
			names = append(names, name)
		}
	}
	return names
}

// replace makes an edit that another bug in the same function may have made before.
func (s *source) replace(e edit) {
	if !slices.Contains(s.edits, e) {
		s.edits = append(s.edits, e)
	}
}

// planted returns the file with its bugs.
func (s *source) planted() string {
	slices.SortStableFunc(s.edits, func(a, b edit) int { return a.at - b.at })
	var b strings.Builder
	done := 0
	for _, e := range s.edits {
		b.WriteString(s.text[done:e.at])
		b.WriteString(e.text)
		done = e.at + e.length
	}
	b.WriteString(s.text[done:])
	b.WriteString(s.variants.String())
	return b.String()
}
