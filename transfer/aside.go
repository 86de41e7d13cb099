package transfer

import (
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/slots"
)

// asidePrefix begins the names of values that were set aside.
const asidePrefix = "keyway:stray:"

// IsAside reports whether a key is a value that was set aside. Such keys stay where they are,
// for a person to look at.
func IsAside(key string) bool { return strings.HasPrefix(key, asidePrefix) }

// AsideName returns the i-th name, from 1 on, for a value of a key that is set aside:
// keyway:stray:LABEL:KEY. A node of a cluster renames keys only within a slot. There the name
// gets the key's hash tag, or another hash tag of the same slot.
func AsideName(label, key string, i int, inCluster bool) string {
	prefix := asidePrefix + label + ":"
	if i > 1 {
		prefix = fmt.Sprintf("%s%s:%d:", asidePrefix, label, i)
	}
	if !inCluster {
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
