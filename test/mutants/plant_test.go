package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// zoo has functions of every shape that a bug can be planted in, and some that it cannot.
const zoo = `package main

import "fmt"

type animal struct{ legs int }

func (a *animal) walk(steps ...int) { fmt.Print(" walk ", a.legs*len(steps)) }

func (animal) eat(_ string, int2 int) (left int, err error) {
	left = int2 - 1
	return
}

func choose[T, U any](a T, _ U) T { return a }

func nothing(int, string) {
	fmt.Print(" nothing")
}

func hop() (n int) {
	for range 3 {
		n++
	}
	return n
}

func rescue() { recover() }

func init() { fmt.Print("init") }

var sound = "moo"

const song = ` + "`la la li`" + `

func main() {
	a := &animal{4}
	a.walk(1, 2)
	left, _ := a.eat("", 9)
	fmt.Print(" eat ", left, " choose ", choose(5, ""))
	nothing(1, "")
	fmt.Print(" hop ", hop(), " ", sound, " ", song)
}
`

// TestPlantedBugsAreSwitchedOnOneByOne builds a program with several bugs, some of them in
// the same function, and runs it with each.
func TestPlantedBugsAreSwitchedOnOneByOne(t *testing.T) {
	s, err := parse(zoo)
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range []bug{
		{old: "a.legs*len(steps)", new: "a.legs+len(steps)"},
		{old: "int2 - 1\n	return", new: "int2\n	return"},
		{old: "T { return a }\n\nfunc nothing", new: ""}, // spans two functions
		{old: "U) T { return a }", new: "U) (t T) { return }"},
		{old: "	fmt.Print(\" nothing\")\n}\n", new: "}\n"},
		{old: "range 3", new: "range 4"},
		{old: "n++", new: "n--"},
		{old: "li", new: "lo"},
		{old: "la la", new: `la "la\n"`},
	} {
		if planted := s.plant(&m, i+1); planted != (i != 2) {
			t.Errorf("bug %d is planted: %v", i+1, planted)
		}
	}
	for _, old := range []string{"recover()", `"init"`, `"moo"`, "type animal"} {
		if s.plant(&bug{old: old, new: old}, 99) {
			t.Errorf("%s is planted, although it needs a build of its own", old)
		}
	}
	program := compileZoo(t, s.planted())
	for i, want := range []string{
		"init walk 8 eat 8 choose 5 nothing hop 3 moo la la li",
		"init walk 6 eat 8 choose 5 nothing hop 3 moo la la li",
		"init walk 8 eat 9 choose 5 nothing hop 3 moo la la li",
		"init walk 8 eat 8 choose 5 nothing hop 3 moo la la li",
		"init walk 8 eat 8 choose 0 nothing hop 3 moo la la li",
		"init walk 8 eat 8 choose 5 hop 3 moo la la li",
		"init walk 8 eat 8 choose 5 nothing hop 4 moo la la li",
		"init walk 8 eat 8 choose 5 nothing hop -3 moo la la li",
		"init walk 8 eat 8 choose 5 nothing hop 3 moo la la lo",
		"init walk 8 eat 8 choose 5 nothing hop 3 moo la \"la\\n\" li",
	} {
		c := exec.Command(program)
		c.Env = append(os.Environ(), switchVariable+"="+string(rune('0'+i)))
		if out, err := c.CombinedOutput(); err != nil || string(out) != want {
			t.Errorf("with bug %d: %q, %v; want %q", i, out, err, want)
		}
	}
}

func compileZoo(t *testing.T, text string) (program string) {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{
		"go.mod": "module zoo\n\ngo 1.26\n", "main.go": text,
		"planted_bug.go": strings.Replace(switchSource, "%s", "main", 1),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	c := exec.Command("go", "build", "-o", "zoo", ".")
	c.Dir = dir
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, out, text)
	}
	return filepath.Join(dir, "zoo")
}
