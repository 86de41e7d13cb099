package config

import (
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// syntaxError says in plain words why text is not valid YAML, and where. The line that
// the YAML parser reports is often that of another construct.
func syntaxError(name string, text []byte, refs references, err error) error {
	e := &Error{File: name}
	if open := openAt(string(text)); len(open) > 0 && parses(string(text)+closers(open)) {
		o := open[0]
		if last := open[len(open)-1]; last.closer == '"' || last.closer == '\'' {
			o = last // the quote has swallowed the closing brackets
		}
		e.Line, e.Column = o.line, o.column
		e.Problem, e.Remedy = "what opens here is not closed", "close it with "+string(o.closer)
		return e
	}
	e.Line = badLine(text)
	line := strings.Split(string(text), "\n")[e.Line-1]
	indent := line[:len(line)-len(strings.TrimLeft(line, " \t"))]
	e.Column = len(indent) + 1
	words := strings.TrimPrefix(err.Error(), "yaml: ")
	if number, text, ok := strings.Cut(words, ": "); ok && strings.HasPrefix(number, "line ") {
		words = text
	}
	if i := strings.IndexByte(indent, '\t'); i >= 0 {
		e.Column = i + 1
		e.Problem, e.Remedy = "a tab indents this line", "indent with spaces"
		return e
	}
	if strings.HasPrefix(words, "mapping values are not allowed") && !strings.Contains(line, ":") {
		words = "could not find expected ':'"
	}
	for _, w := range plainWords {
		if strings.Contains(words, w.parser) {
			e.Problem, e.Remedy = w.problem, w.remedy
			return e
		}
	}
	e.Problem = fmt.Sprintf("this is not valid YAML (%s)", refs.restore(words))
	e.Remedy = "look at this line and the one before it"
	return e
}

// plainWords explains the YAML parser's messages.
var plainWords = []struct{ parser, problem, remedy string }{
	{"',' or '}'", "a comma or a closing } is missing", "write {key: value, key: value}"},
	{"',' or ']'", "a comma or a closing ] is missing", "write [value, value]"},
	{"mapping values are not allowed", "a colon where no key can stand",
		"indent the line like its neighbours, or put a value that contains \": \" in quotes"},
	{"could not find expected ':'", "a key without its colon",
		"write KEY: VALUE, or close the quote that was opened before"},
	{"did not find expected key", "this line does not belong to the lines above it",
		"write KEY: VALUE, indented like its neighbours"},
	{"did not find expected '-' indicator", "this line does not belong to the list above it",
		"begin it with \"- \", or indent it like its neighbours"},
	{"block sequence entries are not allowed", "a list cannot begin here", "begin the list on a line of its own"},
	{"block collection entries are not allowed", "a list cannot begin here", "begin the list on a line of its own"},
	{"unexpected end of stream", "a quote is not closed", "close it"},
	{"escape", "a backslash in double quotes begins no escape that YAML knows", "use single quotes"},
	{"cannot start any token", "a value cannot begin with this character", "put it in quotes"},
	{"unknown anchor", "a value that begins with * refers to an anchor, and there is none of that name",
		"put the value in quotes"},
	{"alphabetic or numeric character", "a value that begins with * or & needs quotes", "put it in quotes"},
	{"tag", "a value that begins with ! is a tag", "put the value in quotes"},
	{"control characters", "a control character", "write text only"},
	{"UTF-8", "these bytes are not text", "save the file as UTF-8"},
	{"UTF-16", "these bytes are not text", "save the file as UTF-8"},
}

// badLine returns the number of the first line that makes the text invalid, whatever
// may follow it: without that line, and with its brackets and quotes closed, the text
// is a YAML mapping.
func badLine(text []byte) int {
	lines := strings.SplitAfter(string(text), "\n")
	for n := len(lines) - 1; n > 0; n-- {
		begun := strings.Join(lines[:n], "")
		if parses(begun + closers(openAt(begun))) {
			return n + 1
		}
	}
	return 1
}

func parses(text string) bool {
	in := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc yaml.Node
		switch err := in.Decode(&doc); {
		case err == io.EOF:
			return true
		case err != nil, doc.Content[0].Kind != yaml.MappingNode && doc.Content[0].Tag != "!!null":
			return false
		}
	}
}

// opening is a bracket or a quote that is not closed.
type opening struct {
	closer       byte
	line, column int
}

// openAt returns the brackets and quotes that are open at the end of text, outermost
// first.
func openAt(text string) []opening {
	var open []opening
	line, column := 1, 0
	start := true // a quote or bracket here opens a value
	for i := 0; i < len(text); i++ {
		c := text[i]
		if column++; c == '\n' {
			line, column = line+1, 0
		}
		var inner byte
		if n := len(open); n > 0 {
			inner = open[n-1].closer
		}
		switch {
		case inner == '"' && c == '\\':
			i++
		case inner != 0 && c == inner:
			open, start = open[:len(open)-1], false
		case inner == '"' || inner == '\'':
		case start && (c == '"' || c == '\''):
			open = append(open, opening{c, line, column})
		case (start || inner != 0) && (c == '{' || c == '['):
			open, start = append(open, opening{c + 2, line, column}), true // ASCII: } is { + 2, ] is [ + 2
		case c == '#' && (i == 0 || strings.IndexByte(" \t\n", text[i-1]) >= 0):
			for i+1 < len(text) && text[i+1] != '\n' {
				i++
			}
		case strings.IndexByte(",:-\n", c) >= 0:
			start = true
		case c != ' ' && c != '\t':
			start = false
		}
	}
	return open
}

// closers returns the text that closes what is open.
func closers(open []opening) string {
	b := make([]byte, 0, len(open))
	for i := len(open) - 1; i >= 0; i-- {
		b = append(b, open[i].closer)
	}
	return string(b)
}
