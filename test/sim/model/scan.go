package model

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// defaultCount is how many keys SCAN looks at without COUNT.
const defaultCount = 10

// place returns where SCAN meets a key. It depends on the process, so a cursor of an earlier one is
// worth nothing.
func (n *Node) place(key string) uint64 {
	h := fnv.New64a()
	_ = binary.Write(h, binary.LittleEndian, n.scanSeed)
	_, _ = h.Write([]byte(key))
	return h.Sum64() >> 24 // two keys may share a place; keyway has no room for longer cursors, nor has Redis
}

// scan walks over the keys in the order of their places. A cursor is the place where the next
// page begins. So a key that is there during the whole walk is returned, and a key that comes or
// goes meanwhile may or may not be.
func scan(c *Conn, args []string) []byte {
	n := c.node
	from, err := strconv.ParseUint(args[1], 10, 64)
	if err != nil {
		return errorReply("ERR invalid cursor")
	}
	pattern, kind, count := "*", "", defaultCount
	for i := 2; i < len(args); i += 2 {
		if i+1 == len(args) {
			return errorReply(syntax)
		}
		switch strings.ToUpper(args[i]) {
		case "MATCH":
			pattern = args[i+1]
		case "TYPE":
			kind = strings.ToLower(args[i+1])
		case "COUNT":
			if count, err = strconv.Atoi(args[i+1]); err != nil {
				return errorReply(notInteger)
			}
			if count < 1 {
				return errorReply(syntax)
			}
		default:
			return errorReply(syntax)
		}
	}
	type placed struct {
		key string
		at  uint64
	}
	var all []placed
	for k := range n.data.entries {
		if at := n.place(k); at >= from {
			all = append(all, placed{k, at})
		}
	}
	slices.SortFunc(all, func(a, b placed) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key)) })
	next, keys := uint64(0), []string{}
	for i, p := range all {
		if i >= count && p.at != all[i-1].at {
			next = p.at
			break
		}
		typed := string(typeOf(c, []string{"TYPE", p.key}))
		if matches(pattern, p.key) && (kind == "" || typed == "+"+kind+"\r\n") {
			keys = append(keys, p.key)
		}
	}
	b := resp.AppendBulkString(resp.AppendArray(nil, 2), strconv.FormatUint(next, 10))
	b = resp.AppendArray(b, len(keys))
	for _, k := range keys {
		b = resp.AppendBulkString(b, k)
	}
	return b
}

func keysLike(c *Conn, args []string) []byte {
	all := slices.DeleteFunc(c.node.data.Keys(), func(k string) bool { return !matches(args[1], k) })
	b := resp.AppendArray(nil, len(all))
	for _, k := range all {
		b = resp.AppendBulkString(b, k)
	}
	return b
}

// matches reports whether s fits a pattern with * and ?.
func matches(pattern, s string) bool {
	for i := range len(pattern) {
		switch {
		case pattern[i] == '*':
			for at := 0; at <= len(s)-i; at++ {
				if matches(pattern[i+1:], s[i+at:]) {
					return true
				}
			}
			return false
		case i >= len(s) || pattern[i] != '?' && pattern[i] != s[i]:
			return false
		}
	}
	return len(pattern) == len(s)
}
