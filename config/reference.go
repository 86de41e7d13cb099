package config

import (
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"
)

// references are the ${...} of a file, in their order. YAML would read their braces
// and colons as its own signs, so the YAML parser sees a mark in the place of each:
// one rune that says which reference it is, then filling to the same length, so that
// lines and columns stay those of the file.
type references []string

const (
	firstMark = '\U000F0000' // the mark of reference i is firstMark+i
	lastMark  = '\U000FFFFD'
	filling   = '\uE000'
)

var (
	reference = regexp.MustCompile(`\$\{[^}\n]*\}`)
	marked    = regexp.MustCompile("[\U000F0000-\U000FFFFD]\uE000*")
	// A reference is a name, and what to do when the variable is unset or empty.
	variable = regexp.MustCompile(`^\$\{([A-Za-z_][A-Za-z0-9_]*)(?:(:-|:\?)([^{}]*))?\}$`)
)

// mark returns the text with a mark in the place of each reference. A text that
// contains marks of its own, or too many references, stays as it is.
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

// restore returns s with the references as the file has them.
func (r references) restore(s string) string {
	return marked.ReplaceAllStringFunc(s, func(m string) string {
		if i := int([]rune(m)[0] - firstMark); i < len(r) {
			return r[i]
		}
		return m
	})
}

// resolve returns the text of a scalar with each reference replaced by what the
// environment says.
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
		return "", d.errorf(n, path, "write ${NAME}, ${NAME:-default} or ${NAME:?message}", "%q names no variable", ref)
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

// keys restores the references in a mapping's keys, where they mean nothing.
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
