package command

import (
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// correct applies keyway's row for a learned command, or the rule for all commands of
// RediSearch.
func (c *Command) correct() {
	if rowOf[c.Name] != nil {
		c.apply(nil)
	} else if strings.HasPrefix(c.Name, "ft.") {
		c.Handling, c.Refusal = Whole, indexOfOneNode
	}
}

// NeedsAll reports whether one server has to compute this command's reply from all data.
// Such a command works only if there is one master.
func (c *Command) NeedsAll(args Args) bool {
	if c.Handling == Whole {
		return true
	}
	for i := 1; c.Is(GroupsKeys) && i < args.Len(); i++ {
		if EqualFold(args.Arg(i), "groupby") {
			return true
		}
	}
	return false
}

// mergeByName merges arrays, sets or maps whose entries begin with the name of a key. The
// entries are sorted by name, as a module's index has them. Each name appears once, even
// if several replies contain it: the modules of a cluster's nodes may ask each other.
func mergeByName(dst []byte, replies [][]byte) []byte {
	type entry struct {
		name  string
		bytes []byte
	}
	var entries []entry
	for _, p := range replies {
		n, rest, ok := resp.Elements(p)
		if !ok || p[0] != replies[0][0] {
			return cannotMerge(dst, p)
		}
		for fields := perEntry(p); n > 0; n -= fields {
			from := rest
			for range fields {
				if _, rest, ok = resp.Split(rest); !ok {
					return cannotMerge(dst, p)
				}
			}
			e := from[:len(from)-len(rest)]
			entries = append(entries, entry{nameOf(e), e})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.name == b.name })
	dst = resp.AppendHeader(dst, replies[0][0], len(entries))
	for _, e := range entries {
		dst = append(dst, e.bytes...)
	}
	return dst
}

// perEntry returns the number of values in an entry of such a reply.
func perEntry(reply []byte) int {
	if reply[0] == '%' {
		return 2
	}
	return 1
}

// nameOf returns the first string of an entry.
func nameOf(entry []byte) string {
	if _, inner, ok := resp.Elements(entry); ok {
		entry = inner
	}
	first, _, _ := resp.Split(entry)
	text, _ := resp.Bulk(first)
	return string(text)
}
