package config

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// decoder fills a Config from YAML nodes. It is stricter than yaml.v3's own decoding,
// records the position of each key, and says in its errors what to write instead.
type decoder struct {
	config *Config
	env    func(string) (string, bool)
	refs   references
}

// ownForm is a value that decodes itself, because the file may have it in several forms.
type ownForm interface {
	decode(d *decoder, n *yaml.Node, path string) error
}

func (d *decoder) document(n *yaml.Node) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil
	}
	return d.value(n, reflect.ValueOf(d.config).Elem(), "")
}

func (d *decoder) errorf(n *yaml.Node, path, remedy, problem string, args ...any) error {
	return &Error{
		File: d.config.file, Line: n.Line, Column: n.Column,
		Path: d.config.inPool(path), Problem: fmt.Sprintf(problem, args...), Remedy: remedy,
	}
}

func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if path != "" {
		d.config.positions[path] = position{n.Line, n.Column}
	}
	switch p := v.Addr().Interface().(type) {
	case *time.Duration:
		return d.duration(n, p, path)
	case *Size:
		return d.size(n, p, path)
	case *Threads:
		return d.threads(n, p, path)
	case *SlotRanges:
		return d.slotRanges(n, p, path)
	case *[]string:
		return d.strings(n, p, path)
	case ownForm:
		return p.decode(d, n, path)
	}
	switch v.Kind() {
	case reflect.Struct:
		return d.structure(n, v, path)
	case reflect.Slice:
		return d.slice(n, v, path)
	case reflect.Map:
		return d.mapping(n, v, path)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(n, v.Elem(), path)
	}
	return d.basic(n, v, path)
}

// basic decodes a text, a number, true or false.
func (d *decoder) basic(n *yaml.Node, v reflect.Value, path string) error {
	s, err := d.scalar(n, path)
	if err != nil {
		return err
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Int:
		i, err := strconv.Atoi(s)
		if err != nil {
			return d.errorf(n, path, "write a whole number", "%q is not a whole number", s)
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return d.errorf(n, path, "write a number, such as 0.01", "%q is not a number", s)
		}
		v.SetFloat(f)
	case reflect.Bool:
		if s != "true" && s != "false" {
			return d.errorf(n, path, "write true or false", "%q is neither true nor false", s)
		}
		v.SetBool(s == "true")
	}
	return nil
}

func (d *decoder) structure(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind == yaml.ScalarNode && n.Tag == "!!null" {
		return nil // "ring:" alone keeps the defaults
	}
	if n.Kind != yaml.MappingNode {
		return d.errorf(n, path, "write keys and values: "+strings.Join(keysOf(v.Type()), ", "),
			"%s where keys are expected", kindName(n))
	}
	switch v.Type() {
	case reflect.TypeFor[Node]():
		v.Set(reflect.ValueOf(Node{Weight: 1, Login: defaultLogin}))
	case reflect.TypeFor[Sentinel]():
		v.Set(reflect.ValueOf(Sentinel{Login: defaultLogin}))
	case reflect.TypeFor[Rate]():
		v.Set(reflect.ValueOf(defaultRate))
	case reflect.TypeFor[QuorumRule]():
		v.Set(reflect.ValueOf(defaultQuorumRule))
	case reflect.TypeFor[LockScript]():
		v.Set(reflect.ValueOf(defaultLockScript))
	}
	seen := map[string]bool{}
	for i := 0; i < len(n.Content); i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		field, ok := fieldOf(v, key.Value)
		if !ok {
			return d.errorf(key, path, suggest(key.Value, keysOf(v.Type())), "unknown key %q", key.Value)
		}
		if seen[key.Value] {
			return d.errorf(key, path, "keep one of them", "the key %q appears twice", key.Value)
		}
		seen[key.Value] = true
		if err := d.value(val, field, join(path, key.Value)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) slice(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind != yaml.SequenceNode {
		return d.errorf(n, path, "write a list: [...]", "%s where a list is expected", kindName(n))
	}
	v.Set(reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content)))
	for i, c := range n.Content {
		if err := d.value(c, v.Index(i), fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) mapping(n *yaml.Node, v reflect.Value, path string) error {
	if n.Kind != yaml.MappingNode {
		return d.errorf(n, path, "write {NAME: VALUE, ...}", "%s where names and values are expected", kindName(n))
	}
	v.Set(reflect.MakeMap(v.Type()))
	for i := 0; i < len(n.Content); i += 2 {
		key := n.Content[i].Value
		elem := reflect.New(v.Type().Elem()).Elem()
		if v.MapIndex(reflect.ValueOf(key)).IsValid() {
			return d.errorf(n.Content[i], path, "keep one of them", "the key %q appears twice", key)
		}
		if err := d.value(n.Content[i+1], elem, join(path, key)); err != nil {
			return err
		}
		v.SetMapIndex(reflect.ValueOf(key), elem)
	}
	return nil
}

// strings decodes one string or a list of strings.
func (d *decoder) strings(n *yaml.Node, p *[]string, path string) error {
	if n.Kind != yaml.SequenceNode {
		s, err := d.scalar(n, path)
		if err != nil {
			return err
		}
		*p = []string{s}
		return nil
	}
	*p = make([]string, len(n.Content))
	for i, c := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, i)
		d.config.positions[at] = position{c.Line, c.Column}
		s, err := d.scalar(c, at)
		if err != nil {
			return err
		}
		(*p)[i] = s
	}
	return nil
}

// decode decodes one listener or a list of them. Each is an address or an object.
func (p *Listeners) decode(d *decoder, n *yaml.Node, path string) error {
	one := func(n *yaml.Node, l *Listener, path string) error {
		if n.Kind == yaml.AliasNode {
			n = n.Alias
		}
		if n.Kind == yaml.MappingNode {
			return d.value(n, reflect.ValueOf(l).Elem(), path)
		}
		d.config.positions[path] = position{n.Line, n.Column}
		s, err := d.scalar(n, path)
		l.Addr = s
		return err
	}
	if n.Kind != yaml.SequenceNode {
		*p = Listeners{{}}
		return one(n, &(*p)[0], path)
	}
	*p = make(Listeners, len(n.Content))
	for i, c := range n.Content {
		if err := one(c, &(*p)[i], fmt.Sprintf("%s[%d]", path, i)); err != nil {
			return err
		}
	}
	return nil
}

// scalar returns the text of a scalar, with references to variables replaced.
func (d *decoder) scalar(n *yaml.Node, path string) (string, error) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.ScalarNode {
		remedy := "write a single value"
		if path == "hash_tag" { // its value looks like YAML
			remedy += `, in quotes: "{}"`
		}
		return "", d.errorf(n, path, remedy, "%s where a single value is expected", kindName(n))
	}
	if n.Tag == "!!null" {
		return "", d.errorf(n, path, `write a value, or leave the key out; an empty text is ""`, "no value")
	}
	return d.resolve(n, path)
}

func (d *decoder) duration(n *yaml.Node, p *time.Duration, path string) error {
	s, err := d.scalar(n, path)
	if err != nil {
		return err
	}
	v, err := time.ParseDuration(s)
	if s == "0" {
		v, err = 0, nil
	}
	if err != nil {
		return d.errorf(n, path, "write a number and a unit: 500ms, 2s, 5m", "%q is not a duration", s)
	}
	*p = v
	return nil
}

func (d *decoder) size(n *yaml.Node, p *Size, path string) error {
	s, err := d.scalar(n, path)
	if err != nil {
		return err
	}
	v, ok := parseSize(s)
	if !ok {
		return d.errorf(n, path, "write a number of bytes or one with a unit: 64kb, 512mb, 1gb", "%q is not a size", s)
	}
	*p = v
	return nil
}

func parseSize(s string) (Size, bool) {
	s = strings.ToLower(strings.TrimSpace(s))
	unit := int64(1)
	for _, u := range []struct {
		suffix string
		bytes  int64
	}{{"kb", 1 << 10}, {"mb", 1 << 20}, {"gb", 1 << 30}, {"k", 1e3}, {"m", 1e6}, {"g", 1e9}, {"b", 1}} {
		if digits, ok := strings.CutSuffix(s, u.suffix); ok {
			s, unit = digits, u.bytes
			break
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, false
	}
	return Size(n * unit), true
}

func (d *decoder) slotRanges(n *yaml.Node, p *SlotRanges, path string) error {
	var list []string
	if err := d.strings(n, &list, path); err != nil {
		return err
	}
	for _, text := range strings.Split(strings.Join(list, ","), ",") {
		first, last, isRange := strings.Cut(strings.TrimSpace(text), "-")
		if !isRange {
			last = first
		}
		a, err1 := strconv.ParseUint(strings.TrimSpace(first), 10, 16)
		b, err2 := strconv.ParseUint(strings.TrimSpace(last), 10, 16)
		if err1 != nil || err2 != nil || b > 16383 || a > b {
			return d.errorf(n, path, "write slots from 0 to 16383, such as 0-5460 or 0-99,200",
				"%q is not a range of slots", text)
		}
		*p = append(*p, SlotRange{uint16(a), uint16(b)})
	}
	return nil
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.SequenceNode:
		return "a list"
	case yaml.MappingNode:
		return "keys and values"
	}
	return "a single value"
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func fieldOf(v reflect.Value, key string) (reflect.Value, bool) {
	for _, f := range reflect.VisibleFields(v.Type()) {
		if key != "" && f.Tag.Get("yaml") == key {
			return v.FieldByIndex(f.Index), true
		}
	}
	return reflect.Value{}, false
}

func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range reflect.VisibleFields(t) {
		if k := f.Tag.Get("yaml"); k != "" {
			keys = append(keys, k)
		}
	}
	return keys
}

// suggest names the known key that is most like key, or all known keys.
func suggest(key string, known []string) string {
	best := slices.MinFunc(known, func(a, b string) int { return cmp.Compare(distance(key, a), distance(key, b)) })
	if distance(key, best) <= 1+len(best)/3 {
		return fmt.Sprintf("did you mean %q?", best)
	}
	return "known here: " + strings.Join(known, ", ")
}

// distance returns the Levenshtein distance.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
