package command

import (
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// moduleRule corrects what a module says of its own command. A module's key
// specifications are written for one server: they may name only the first of
// several keys, or none where a command looks through all keys.
type moduleRule struct {
	handling     Handling
	specs        []KeySpec
	stride, tail int // see Command
	response     ResponsePolicy
	groups       bool // GROUPBY makes one reply out of many keys
}

// keyAt and countAt are key specifications: the keys from one argument to another,
// and as many keys as an argument says.
func keyAt(pos, lastKey, step int) KeySpec {
	return KeySpec{Begin: AtIndex, Pos: pos, Find: InRange, LastKey: lastKey, Step: step}
}

func countAt(pos int) KeySpec {
	return KeySpec{Begin: AtIndex, Pos: pos, Find: ByNumber, FirstKey: 1, Step: 1}
}

// moduleRules are the commands of known modules whose specifications are wrong or
// say too little: RedisJSON, RedisTimeSeries and RedisBloom, as of Redis Stack 7.4
// (https://redis.io/docs/latest/commands/).
var moduleRules = map[string]moduleRule{
	"json.mget": {handling: Split, specs: []KeySpec{keyAt(1, -2, 1)}, stride: 1, tail: 1},
	"json.mset": {handling: Split, specs: []KeySpec{keyAt(1, -1, 3)}, stride: 3, response: AllSucceeded},

	"cms.merge":     {handling: ByKey, specs: []KeySpec{keyAt(1, 0, 1), countAt(2)}},
	"tdigest.merge": {handling: ByKey, specs: []KeySpec{keyAt(1, 0, 1), countAt(2)}},

	"ts.madd":       {handling: Split, specs: []KeySpec{keyAt(1, -1, 3)}, stride: 3},
	"ts.createrule": {handling: ByKey, specs: []KeySpec{keyAt(1, 1, 1)}},
	"ts.deleterule": {handling: ByKey, specs: []KeySpec{keyAt(1, 1, 1)}},
	"ts.mget":       {handling: AllMasters, response: aggByName},
	"ts.mrange":     {handling: AllMasters, response: aggByName, groups: true},
	"ts.mrevrange":  {handling: AllMasters, response: aggByName, groups: true},
	"ts.queryindex": {handling: AllMasters, response: aggByName},
}

// suggestions are the commands of RediSearch whose first argument is a key like
// any other; all others concern an index, which is each node's own.
var suggestions = map[string]bool{"ft.sugadd": true, "ft.sugget": true, "ft.sugdel": true, "ft.suglen": true}

const indexOfOneNode = "an index holds only the documents of its own node, and there are several nodes; " +
	"send it to each node directly, or put the data on one node"

// correct applies what is known of a module's command.
func (c *Command) correct() {
	if strings.HasPrefix(c.Name, "ft.") && !suggestions[c.Name] {
		c.Handling, c.Refusal = Whole, indexOfOneNode
		return
	}
	r, ok := moduleRules[c.Name]
	if !ok {
		return
	}
	c.Handling, c.Specs, c.Stride, c.Tail, c.Response, c.groups = r.handling, r.specs, r.stride, r.tail, r.response, r.groups
	if r.handling == Split {
		c.Request = MultiShard
	}
	if r.groups {
		c.Refusal = "GROUPBY makes one series out of those of several nodes; leave it out, or give all of these keys a common node"
	}
}

// NeedsAll reports whether this command's reply is made of all data at once, so
// that it works only where there is one master.
func (c *Command) NeedsAll(args Args) bool {
	if c.Handling == Whole {
		return true
	}
	for i := 1; c.groups && i < args.Len(); i++ {
		if EqualFold(args.Arg(i), "groupby") {
			return true
		}
	}
	return false
}

// mergeByName merges arrays, sets or maps whose entries begin with a key's name,
// in the order of these names, as a module finds them in one index. A name that
// comes twice is told once: modules of a cluster's nodes may ask each other.
func mergeByName(dst []byte, parts [][]byte) []byte {
	type entry struct {
		name  string
		bytes []byte
	}
	var entries []entry
	for _, p := range parts {
		n, rest, ok := resp.Elements(p)
		if !ok || p[0] != parts[0][0] {
			return odd(dst, p)
		}
		for fields := perEntry(p); n > 0; n -= fields {
			from := rest
			for range fields {
				if _, rest, ok = resp.Split(rest); !ok {
					return odd(dst, p)
				}
			}
			e := from[:len(from)-len(rest)]
			entries = append(entries, entry{nameOf(e), e})
		}
	}
	slices.SortStableFunc(entries, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	entries = slices.CompactFunc(entries, func(a, b entry) bool { return a.name == b.name })
	dst = resp.AppendHeader(dst, parts[0][0], len(entries))
	for _, e := range entries {
		dst = append(dst, e.bytes...)
	}
	return dst
}

// perEntry is how many values make an entry of such a reply.
func perEntry(reply []byte) int {
	if reply[0] == '%' {
		return 2
	}
	return 1
}

// nameOf is the first string of an entry.
func nameOf(entry []byte) string {
	if _, inner, ok := resp.Elements(entry); ok {
		entry = inner
	}
	first, _, _ := resp.Split(entry)
	text, _ := resp.Bulk(first)
	return string(text)
}
