package test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// The goal of the house: no function over 60 lines but tables and pure state machines
// that say why, no line over 120 columns (a tab has 4), no type with more than 40
// methods or 25 fields, no package of more than 20 files. Where the goal is not met yet,
// the ceilings below apply. They may only shrink. Code that would exceed one is split, or
// moves to another place.
const (
	maxFunc    = 60
	maxColumns = 120
	maxMethods = 40
	maxFields  = 25
	maxFiles   = 20
)

// longFuncs are the functions that may be longer: the number of lines, and the reason.
var longFuncs = map[string]struct {
	lines  int
	reason string
}{
	"resp (*Scanner).Scan": {99, "a pure state machine"},
	"resp (*Parser).Next":  {73, "a pure state machine"},
}

// longTests is how many functions of tests are longer.
const longTests = 0

// longLines are how many lines of a package, its tests included, are longer.
var longLines = map[string]int{}

// largeTypes are the types that have more, with their methods and fields.
var largeTypes = map[string]struct{ methods, fields int }{}

// largePackages are the packages that have more files, tests aside.
var largePackages = map[string]int{}

// survey has the figures of the module's sources that have a budget.
type survey struct {
	funcs     map[string]int // lines, of those over maxFunc
	longTests []string
	lines     map[string]int
	methods   map[string]int
	fields    map[string]int
	files     map[string]int
}

func TestHouseBudgets(t *testing.T) {
	t.Parallel()
	s := takeSurvey(t)
	for _, name := range slices.Sorted(maps.Keys(s.funcs)) {
		if may := longFuncs[name]; s.funcs[name] > max(may.lines, maxFunc) {
			t.Errorf("%s has %d lines, and may have %d: split it", name, s.funcs[name], max(may.lines, maxFunc))
		}
	}
	if len(s.longTests) > longTests {
		t.Errorf("%d functions of tests have more than %d lines, and %d may: %q",
			len(s.longTests), maxFunc, longTests, s.longTests)
	}
	over := func(what string, have map[string]int, goal int, ceiling func(name string) int) {
		for _, name := range slices.Sorted(maps.Keys(have)) {
			switch may := ceiling(name); {
			case have[name] > max(goal, may):
				t.Errorf("%s has %d %s, and may have %d", name, have[name], what, max(goal, may))
			case have[name] < may:
				t.Logf("%s has %d %s, and may have %d: lower that", name, have[name], what, may)
			}
		}
	}
	over("lines over 120 columns", s.lines, 0, func(name string) int { return longLines[name] })
	over("methods", s.methods, maxMethods, func(name string) int { return largeTypes[name].methods })
	over("fields", s.fields, maxFields, func(name string) int { return largeTypes[name].fields })
	over("files", s.files, maxFiles, func(name string) int { return largePackages[name] })
}

func takeSurvey(t *testing.T) *survey {
	t.Helper()
	s := &survey{
		funcs: map[string]int{}, lines: map[string]int{}, methods: map[string]int{}, fields: map[string]int{},
		files: map[string]int{},
	}
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "compat"): // of other languages
			return fs.SkipDir
		case d.IsDir(), !strings.HasSuffix(path, ".go"), strings.HasSuffix(path, "_gen.go"):
			return nil
		}
		return s.read(path)
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// read adds a file to the survey.
func (s *survey) read(path string) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	dir, _ := filepath.Rel("..", filepath.Dir(path))
	isTest := strings.HasSuffix(path, "_test.go") || strings.HasPrefix(dir, "test")
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if utf8.RuneCountInString(line)+3*strings.Count(line, "\t") > maxColumns {
			s.lines[dir]++
		}
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, text, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if !isTest {
		s.files[dir]++
	}
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.FuncDecl:
			of, name := receiverOf(n), dir+" "+n.Name.Name
			if of != "" {
				name = dir + " (" + of + ")." + n.Name.Name
			}
			switch lines := fset.Position(n.End()).Line - fset.Position(n.Pos()).Line + 1; {
			case lines > maxFunc && isTest:
				s.longTests = append(s.longTests, name)
			case lines > maxFunc:
				s.funcs[name] = max(lines, s.funcs[name])
			}
			if of != "" && !isTest {
				s.methods[dir+"."+strings.TrimPrefix(of, "*")]++
			}
		case *ast.TypeSpec:
			if st, ok := n.Type.(*ast.StructType); ok && !isTest {
				for _, field := range st.Fields.List {
					s.fields[dir+"."+n.Name.Name] += max(1, len(field.Names))
				}
			}
		}
		return true
	})
	return nil
}

// receiverOf is the type of a method's receiver, "" of a function.
func receiverOf(f *ast.FuncDecl) string {
	if f.Recv == nil {
		return ""
	}
	switch of := f.Recv.List[0].Type.(type) {
	case *ast.StarExpr:
		if id, ok := of.X.(*ast.Ident); ok {
			return "*" + id.Name
		}
	case *ast.Ident:
		return of.Name
	}
	return "?"
}
