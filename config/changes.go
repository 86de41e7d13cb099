package config

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// Effect says what a changed key of a running keyway's file needs to take effect.
type Effect uint8

const (
	Restart        Effect = iota // the process must be restarted
	AtOnce                       // a reload applies it
	IfNothingMoves               // it decides where keys live: applied if no key moves, or if that is allowed
)

// Change is a key whose value differs between two configurations.
type Change struct {
	Path     string // as in nodes[a].addr: nodes by their names, other lists by the index
	Pool     string // empty: the file has no pools, or the key belongs to the process
	From, To string // the values as texts; empty for secrets
	Effect   Effect
	secret   bool
}

// String returns the change as a line for people. It never shows a secret.
func (c Change) String() string {
	if c.secret {
		return c.key() + ": changed (not shown)"
	}
	return c.key() + ": " + shown(c.From) + " -> " + shown(c.To)
}

// key returns the path of the key in the file.
func (c Change) key() string { return (&source{pool: c.Pool}).inPool(c.Path) }

// LogFields returns the change as key-value fields of a log line. They never show a secret.
func (c Change) LogFields() []any {
	if c.secret {
		return []any{"key", c.key(), "value", "not shown"}
	}
	return []any{"key", c.key(), "from", c.From, "to", c.To}
}

// shown returns a value as one short text.
func shown(value string) string {
	const most = 200
	if r := []rune(value); len(r) > most {
		value = string(r[:most]) + "..."
	}
	if strings.ContainsFunc(value, func(r rune) bool { return r < ' ' }) {
		return fmt.Sprintf("%q", value)
	}
	if value == "" {
		return "(none)"
	}
	return value
}

// Changes returns the keys whose values differ in next, in the order of the documentation.
// It compares the values, not the texts: a value that is written otherwise, or that is the
// default, is no change. The fields of nodes that only one of the two has are not listed:
// the names of the nodes are the value of the key nodes.
func (c *Config) Changes(next *Config) []Change {
	before, after := c.values(), next.values()
	var changes []Change
	for _, k := range keys {
		paths := slices.Sorted(slices.Values(slices.Concat(before.of[k.path], after.of[k.path])))
		for _, path := range slices.Compact(paths) {
			from, to := before.text[path], after.text[path]
			name := nodeIn(path)
			if from == to || name != "" && (c.Node(name) < 0 || next.Node(name) < 0) {
				continue
			}
			change := Change{Path: path, From: from, To: to, Effect: k.effect, secret: k.secret}
			if !ofProcess(path) {
				change.Pool = next.pool
			}
			if k.secret {
				change.From, change.To = "", ""
			}
			changes = append(changes, change)
		}
	}
	return changes
}

// Setting is a key of a configuration, and its value as a text.
type Setting struct{ Key, Value string }

// notShown stands for a secret.
const notShown = "(not shown)"

// Settings returns all keys that have a value, in the order of the documentation. They never show a secret.
func Settings(c *Config) (all []Setting) {
	v := c.values()
	for _, k := range keys {
		paths := slices.Clone(v.of[k.path])
		slices.Sort(paths)
		for _, path := range slices.Compact(paths) {
			value := v.text[path]
			if k.secret && value != "" {
				value = notShown
			}
			all = append(all, Setting{path, value})
		}
	}
	return all
}

// nodeIn returns the name of the node whose field path names, or "".
func nodeIn(path string) string {
	rest, ok := strings.CutPrefix(path, "nodes[")
	if !ok {
		return ""
	}
	return rest[:strings.LastIndex(rest, "].")]
}

// values are the values of a configuration.
type values struct {
	text map[string]string   // by path
	of   map[string][]string // the paths by the path in the table of keys
}

func (c *Config) values() values {
	found := values{map[string]string{}, map[string][]string{}}
	found.add(reflect.ValueOf(c).Elem(), "", "")
	return found
}

// add adds v and what is below it. key is its path in the table of keys.
func (f values) add(v reflect.Value, path, key string) {
	switch x := v.Interface().(type) {
	case []Node:
		names := make([]string, len(x))
		for i, n := range x {
			names[i] = n.Name
			f.add(v.Index(i), "nodes["+n.Name+"]", "nodes[]")
		}
		f.put(path, key, strings.Join(names, ", "))
		return
	case []User:
		for i, u := range x {
			f.add(v.Index(i), "users["+u.Name+"]", "users[]")
		}
		return
	case interface {
		addTo(f values, path, key string)
	}: // one that the file may have in several forms
		x.addTo(f, path, key)
		return
	case []string:
		f.put(path, key, strings.Join(x, ", "))
		return
	case fmt.Stringer: // such as a duration
		f.put(path, key, x.String())
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for _, field := range reflect.VisibleFields(v.Type()) {
			if name := field.Tag.Get("yaml"); name != "" {
				f.add(v.FieldByIndex(field.Index), join(path, name), join(key, name))
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			f.add(v.Index(i), fmt.Sprintf("%s[%d]", path, i), key+"[]")
		}
	case reflect.Map:
		for _, name := range v.MapKeys() {
			f.add(v.MapIndex(name), join(path, name.String()), join(key, "NAME"))
		}
	case reflect.Pointer:
		if !v.IsNil() {
			f.add(v.Elem(), path, key)
		}
	default:
		f.put(path, key, fmt.Sprint(v.Interface()))
	}
}

func (f values) put(path, key, text string) {
	f.text[path] = text
	f.of[key] = append(f.of[key], path)
}

// String returns the ranges as they can be written in a file.
func (r SlotRanges) String() string {
	texts := make([]string, len(r))
	for i, s := range r {
		if texts[i] = fmt.Sprintf("%d-%d", s.First, s.Last); s.First == s.Last {
			texts[i] = fmt.Sprint(s.First)
		}
	}
	return strings.Join(texts, ",")
}

// String returns the size as it can be written in a file.
func (s Size) String() string {
	for _, u := range []struct {
		name  string
		bytes Size
	}{{"gb", 1 << 30}, {"mb", 1 << 20}, {"kb", 1 << 10}} {
		if s >= u.bytes && s%u.bytes == 0 {
			return fmt.Sprintf("%d%s", s/u.bytes, u.name)
		}
	}
	return fmt.Sprintf("%d", int64(s))
}
