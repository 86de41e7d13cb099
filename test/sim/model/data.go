package model

import (
	"maps"
	"slices"
)

// Data is the keys of a node.
type Data struct {
	entries  map[string]*entry
	versions map[string]int // the number of changes of each key
	expiring map[string]bool
}

// NewData returns no keys.
func NewData() *Data {
	return &Data{entries: map[string]*entry{}, versions: map[string]int{}, expiring: map[string]bool{}}
}

// entry is a key's value. An entry that is in Data never changes, but for its use.
type entry struct {
	text   string
	list   []string // nil: this is a string
	expiry int64    // in milliseconds since 1970; 0: never
	used   int64    // when it was used last, in nanoseconds by the node's clock
	count  int64    // how often it was used
}

func (e *entry) clone() *entry {
	c := *e
	c.list = slices.Clone(e.list)
	return &c
}

// size returns about how many bytes an entry takes.
func (e *entry) size() int {
	size := 64 + len(e.text)
	for _, elem := range e.list {
		size += 16 + len(elem)
	}
	return size
}

func (n *Node) isFull() bool {
	if n.MaxMemory == 0 {
		return false
	}
	used := 0
	for k, e := range n.data.entries {
		used += len(k) + e.size()
	}
	return used > n.MaxMemory
}

// lookup returns a key's value, which must not be changed, or nil.
func (n *Node) lookup(key string) *entry {
	e := n.data.entries[key]
	if e != nil {
		e.used, e.count = n.Clock(), e.count+1
	}
	return e
}

// put makes e the value of key. If e is nil, or a list without elements, the key is deleted.
func (n *Node) put(key string, e *entry) {
	before := n.data.entries[key]
	if e != nil && e.list != nil && len(e.list) == 0 {
		e = nil
	}
	if before == nil && e == nil {
		return
	}
	n.data.set(key, e)
	if e != nil && e.used == 0 {
		e.used = n.Clock()
	}
	n.data.versions[key]++
	n.stream.append(effect{key: key, entry: e})
	if n.Hooks.Changed != nil {
		n.Hooks.Changed(n.writer, key, before != nil, e != nil)
	}
}

func (d *Data) set(key string, e *entry) {
	delete(d.entries, key)
	delete(d.expiring, key)
	if e != nil {
		d.entries[key] = e
		if e.expiry > 0 {
			d.expiring[key] = true
		}
	}
}

// expire deletes the keys whose time is over. Redis may delete them later, but shows none of them.
func (n *Node) expire() {
	var over []string
	for k := range n.data.expiring {
		if n.now() > n.data.entries[k].expiry {
			over = append(over, k)
		}
	}
	slices.Sort(over)
	writer := n.writer
	n.writer = nil
	for _, k := range over {
		n.put(k, nil)
	}
	n.writer = writer
}

// Keys returns all keys, sorted.
func (d *Data) Keys() []string { return slices.Sorted(maps.Keys(d.entries)) }

// Has reports whether a key is there.
func (d *Data) Has(key string) bool { return d.entries[key] != nil }

// Text returns the value of a string.
func (d *Data) Text(key string) (text string, ok bool) {
	e := d.entries[key]
	if e == nil || e.list != nil {
		return "", false
	}
	return e.text, true
}

// List returns the elements of a list.
func (d *Data) List(key string) []string {
	if e := d.entries[key]; e != nil {
		return e.list
	}
	return nil
}

// Expiry returns when a key ends, in milliseconds since 1970; 0: never, or it is not there.
func (d *Data) Expiry(key string) int64 {
	if e := d.entries[key]; e != nil {
		return e.expiry
	}
	return 0
}

// Plant makes text the value of a string, as if that had always been so.
func (d *Data) Plant(key, text string) { d.set(key, &entry{text: text, used: 1}) }

// Migrate moves a key to another node, as MIGRATE does.
func (n *Node) Migrate(key string, to *Node) {
	if e := n.data.entries[key]; e != nil {
		to.put(key, e.clone())
		n.put(key, nil)
	}
}
