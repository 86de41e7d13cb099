package main

import (
	"os"
	"path/filepath"
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
