package test

import (
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestHousePicture: the picture in docs/architecture.md has every package of the product
// once, and each package imports only packages below it. The rule in the picture parts the
// core from the shell.
func TestHousePicture(t *testing.T) {
	text, err := os.ReadFile("../docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, picture, _ := strings.Cut(string(text), "```\n")
	picture, _, _ = strings.Cut(picture, "```")
	shell, _, hasRule := strings.Cut(picture, "====")
	if !hasRule {
		t.Fatal("docs/architecture.md has no picture with a rule between shell and core")
	}
	row := regexp.MustCompile(`(?m)^(?:[ |]*[|+]--)? ([a-z/]+) `)
	height, drawn := map[string]int{}, row.FindAllStringSubmatch(picture, -1)
	for i, m := range drawn {
		if height[m[1]] > 0 {
			t.Errorf("the picture has %s twice", m[1])
		}
		height[m[1]] = len(drawn) - i
	}
	all := packages(t)
	for name := range height {
		if all[name] == nil {
			t.Errorf("the picture has %s, which is no package", name)
		}
		isShell := strings.Contains(shell, " "+name+" ")
		if isCore := strings.Contains(" "+core+" ", " "+name+" "); isCore == isShell {
			t.Errorf("the picture has %s on the wrong side of the rule: in the core: %v", name, isCore)
		}
	}
	for name, p := range all {
		if name == "test" || strings.HasPrefix(name, "test/") || strings.HasSuffix(name, "/gen") {
			continue
		}
		if height[name] == 0 {
			t.Errorf("docs/architecture.md does not draw package %s: add it to the picture", name)
			continue
		}
		for _, path := range p.Imports {
			below, ours := strings.CutPrefix(path, module)
			if ours && height[below] >= height[name] {
				t.Errorf("%s imports %s, which the picture of docs/architecture.md draws above it", name, below)
			}
		}
	}
}
