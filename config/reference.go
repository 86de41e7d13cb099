package config

import (
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// references are the ${...} of a file, in order. Their braces and colons mean something
// else in YAML. So the YAML parser gets a mark instead of each: one rune that says which
// reference it is, then filling of the same length, which keeps lines and columns right.
type references []string

const (
	firstMark = '\U000F0000' // the mark of reference i is firstMark+i
	lastMark  = '\U000FFFFD'
	filling   = '\uE000'
)

var (
	reference = regexp.MustCompile(`\$\{[^}\n]*\}`)
	marked    = regexp.MustCompile("[\U000F0000-\U000FFFFD]\uE000*")
	// A reference has a name, and may say what to do if the variable is unset or empty.
	variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)([^{}]*))?\}$`)
)

// mark replaces each reference in the text by a mark. It does not change a text that
// contains marks itself, and leaves references beyond the last mark as they are.
func mark(text []byte) ([]byte, references) {
	var refs references
	if marked.Match(text) {
		return text, nil
	}
	out := reference.ReplaceAllFunc(text, func(ref []byte) []byte {
		if len(refs) > lastMark-firstMark {
			return ref
		}
		refs = append(refs, string(ref))
		runes := len([]rune(string(ref)))
		return []byte(string(rune(firstMark+len(refs)-1)) + strings.Repeat(string(filling), runes-1))
	})
	return out, refs
}

// restore replaces the marks in s by the references of the file.
func (r references) restore(s string) string {
	return marked.ReplaceAllStringFunc(s, func(m string) string {
		if i := int([]rune(m)[0] - firstMark); i < len(r) {
			return r[i]
		}
		return m
	})
}

// resolve returns the text of a scalar, with each reference replaced by its value.
func (d *decoder) resolve(n *yaml.Node, path string) (string, error) {
	var failed error
	s := reference.ReplaceAllStringFunc(d.refs.restore(n.Value), func(ref string) string {
		v, err := d.lookup(n, path, ref)
		if failed == nil {
			failed = err
		}
		return v
	})
	return s, failed
}

func (d *decoder) lookup(n *yaml.Node, path, ref string) (string, error) {
	parts := variable.FindStringSubmatch(ref)
	if parts == nil {
		return "", d.errorf(n, path, "write ${NAME}, ${NAME:-default} or ${NAME:?message}",
			"%q is not a reference to a variable", ref)
	}
	name, operator, rest := parts[1], parts[2], parts[3]
	v, ok := d.env(name)
	switch {
	case operator == "" && !ok:
		return "", d.errorf(n, path, "set "+name+" in keyway's environment", "the environment has no variable %s", name)
	case operator == ":-" && v == "":
		return rest, nil
	case operator == ":?" && v == "":
		if rest == "" {
			rest = "it must not be empty"
		}
		return "", d.errorf(n, path, "set "+name+" in keyway's environment", "%s: %s", name, rest)
	}
	return v, nil
}

// keys restores the references in the keys of mappings, where they are plain text.
func (r references) keys(n *yaml.Node) {
	if len(r) == 0 || n == nil {
		return
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i < len(n.Content); i += 2 {
			n.Content[i].Value = r.restore(n.Content[i].Value)
		}
	}
	for _, c := range n.Content {
		r.keys(c)
	}
}
