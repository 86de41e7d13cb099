package scan

import (
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// SlotKeys are the keys of a slot that a walk has found.
type SlotKeys struct {
	slot uint16
	most int             // how many keys the client wants; negative: it wants only their number
	keys map[string]bool // a set, since SCAN may return a key twice
}

// KeysOf returns the keys of a slot, before any is found. A negative number of keys means
// that the client wants only their number.
func KeysOf(slot uint16, most int) *SlotKeys {
	return &SlotKeys{slot: slot, most: most, keys: map[string]bool{}}
}

// Enough reports whether the client wants no more keys.
func (s *SlotKeys) Enough() bool { return len(s.keys) == s.most }

// Add adds those keys of a page that are in the slot, up to the number that the client wants.
func (s *SlotKeys) Add(page []byte) {
	n, rest, _ := resp.Elements(page)
	for range n {
		one, next, _ := resp.Split(rest)
		if key, ok := resp.Bulk(one); ok && slots.Of(key) == s.slot && !s.Enough() {
			s.keys[string(key)] = true
		}
		rest = next
	}
}

// AppendReply appends the keys, or their number.
func (s *SlotKeys) AppendReply(b []byte) []byte {
	if s.most < 0 {
		return resp.AppendInt(b, int64(len(s.keys)))
	}
	b = resp.AppendArray(b, len(s.keys))
	for key := range s.keys {
		b = resp.AppendBulkString(b, key)
	}
	return b
}
