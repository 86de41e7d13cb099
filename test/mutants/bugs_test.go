package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestEveryBugHasOnePlace: every bug has the one place that it is planted in.
func TestEveryBugHasOnePlace(t *testing.T) {
	for _, m := range bugs {
		b, err := os.ReadFile(filepath.Join("..", "..", m.file))
		if err != nil {
			t.Errorf("%s: %v", m.name, err)
		} else if n := strings.Count(string(b), m.old); n != 1 {
			t.Errorf("%s: its place occurs %d times in %s", m.name, n, m.file)
		}
	}
}

// TestMistakesOfASwitch: the mistakes that decision 13 lists are planted, and noticed by the tests that it
// names.
func TestMistakesOfASwitch(t *testing.T) {
	const page = "../../docs/decisions/0013-keys-are-brought.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(b), "|---|---|---|\n")
	rows := 0
	for line := range strings.Lines(table) {
		cells := strings.Split(line, " | ")
		if len(cells) != 3 {
			break
		}
		rows++
		test := strings.Trim(cells[2], "`| \n")
		if !slices.ContainsFunc(bugs, func(m bug) bool { return m.name == cells[1] && m.test == test }) {
			t.Errorf("%s: %q, noticed by %s, is not planted", page, cells[1], test)
		}
	}
	if rows < 20 {
		t.Errorf("%s lists %d mistakes", page, rows)
	}
}
