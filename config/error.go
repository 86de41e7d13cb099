package config

import (
	"fmt"
	"strings"
)

// Error is an error in the file: its position, what is wrong, and what to write instead.
type Error struct {
	File         string
	Line, Column int    // 0 if the error has no single position
	Path         string // the key, as in range.rules[1].node
	Problem      string
	Remedy       string
}

func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.File)
	if e.Line > 0 {
		fmt.Fprintf(&b, ":%d:%d", e.Line, e.Column)
	}
	b.WriteString(": ")
	if e.Path != "" {
		b.WriteString(e.Path + ": ")
	}
	b.WriteString(e.Problem)
	if e.Remedy != "" {
		b.WriteString("; " + e.Remedy)
	}
	return b.String()
}

type position struct{ line, column int }

// Errorf returns an error at the key path, or at the nearest key above it that the file
// has.
func (c *Config) Errorf(path, remedy, problem string, args ...any) *Error {
	e := &Error{File: c.file, Path: c.shown(path), Problem: fmt.Sprintf(problem, args...), Remedy: remedy}
	for p := path; ; {
		if pos, ok := c.positions[p]; ok {
			e.Line, e.Column = pos.line, pos.column
			return e
		}
		if p == "" {
			return e
		}
		p = p[:max(0, strings.LastIndexAny(p, ".["))]
	}
}
