package move

import (
	"context"
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/slots"
)

// asidePrefix begins the names of values that were set aside.
const asidePrefix = "keyway:stray:"

// IsAside reports whether a key is a value that package move has set aside. Such keys stay
// where they are, for a person to look at.
func IsAside(key string) bool { return strings.HasPrefix(key, asidePrefix) }

// setAside renames a key at the source, where its value loses against the destination's.
func (l *Link) setAside(ctx context.Context, key string, r *Result) error {
	n := l.from.node
	for i := 1; ; i++ {
		name := n.asideName(key, i)
		renamed, err := l.from.Do(ctx, "RENAMENX", key, name).Int()
		switch {
		case err != nil && strings.Contains(err.Error(), "no such key"):
			r.Absent++
			return nil
		case err != nil:
			return n.failed(fmt.Sprintf("renaming key %s to %s", errtext.Key(key), errtext.Key(name)), err)
		case renamed == 1:
			r.Aside = append(r.Aside, Aside{Node: n.Name, DB: l.db, Key: key, Name: name})
			return nil
		}
	}
}

// asideName returns the i-th name for a value of a key that is set aside:
// keyway:stray:NODE:KEY. A node of a cluster renames keys only within a slot. There the name
// gets the key's hash tag, or another hash tag of the same slot.
func (n *Node) asideName(key string, i int) string {
	prefix := asidePrefix + n.Name + ":"
	if i > 1 {
		prefix = fmt.Sprintf("%s%s:%d:", asidePrefix, n.Name, i)
	}
	if !n.cluster {
		return prefix + key
	}
	slot := slots.Of([]byte(key))
	for _, name := range []string{prefix + key, prefix + "{" + key + "}"} {
		if slots.Of([]byte(name)) == slot {
			return name
		}
	}
	for tag := 0; ; tag++ {
		if name := fmt.Sprintf("%s{%d}:%s", prefix, tag, key); slots.Of([]byte(name)) == slot {
			return name
		}
	}
}
