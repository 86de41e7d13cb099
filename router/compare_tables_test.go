package router

import (
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/slots"
)

// named returns nodes with these names. The address of a node is that of its name, or
// what follows the name: "a=other".
func named(text string) (nodes []Node) {
	for name := range strings.FieldsSeq(text) {
		name, addr, _ := strings.Cut(name, "=")
		if addr == "" {
			addr = name
		}
		nodes = append(nodes, Node{Name: name, Addr: addr + ":6379", Master: true})
	}
	return nodes
}

func must(t *testing.T) func(*Table, error) *Table {
	t.Helper()
	return func(table *Table, err error) *Table {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
}

// evenly returns static slots, dealt out in runs of equal length.
func evenly(t *testing.T, nodes []Node) *Table {
	t.Helper()
	owned := make([][]slots.Range, len(nodes))
	for i := range nodes {
		first, end := 16384*i/len(nodes), 16384*(i+1)/len(nodes)
		owned[i] = []slots.Range{{First: uint16(first), Last: uint16(end - 1)}}
	}
	return must(t)(NewStaticSlots(nodes, owned))
}

func hashed(t *testing.T, layout, hash, tag string, nodes []Node, weights ...int) *Table {
	t.Helper()
	for len(weights) < len(nodes) {
		weights = append(weights, 1)
	}
	h := Hashed{Hash: hash, HashTag: tag, Weights: weights}
	if layout == "ring" {
		return must(t)(NewRing(nodes, h))
	}
	return must(t)(NewModulo(nodes, h))
}

// addrOf returns the address of the node of that name.
func addrOf(table *Table, name string) string {
	for _, n := range table.Nodes {
		if n.Name == name {
			return n.Addr
		}
	}
	return ""
}

// randomKeys returns n keys of letters.
func randomKeys(n int) [][]byte {
	keys, source := make([][]byte, n), rand.New(rand.NewPCG(5, 6))
	for k := range keys {
		keys[k] = make([]byte, 16)
		for i := range keys[k] {
			keys[k][i] = 'a' + byte(source.IntN(26))
		}
	}
	return keys
}

// addresses returns the address of each key's node.
func addresses(table *Table, keys [][]byte) []string {
	all := make([]string, len(keys))
	for i, key := range keys {
		_, id := table.Place(key)
		all[i] = table.Nodes[id].Addr
	}
	return all
}

// variety returns tables of all layouts that have shares, and the hash of each.
func variety(t *testing.T) (tables []*Table, hashes []string) {
	t.Helper()
	abc, abcd, ab := named("a b c"), named("a b c d"), named("a b")
	tables = []*Table{
		evenly(t, abc), evenly(t, abcd), evenly(t, ab), evenly(t, named("x=c y=a")),
	}
	hashes = []string{"slots", "slots", "slots", "slots"}
	for _, h := range []struct {
		layout, hash, tag string
		nodes             []Node
		weights           []int
	}{
		{"ring", "murmur", "{}", abc, nil}, {"ring", "murmur", "{}", abcd, nil},
		{"ring", "murmur", "{}", abc, []int{1, 3, 2}},
		{"ring", "murmur", "{}", named("x=a b c"), nil}, {"ring", "md5", "{}", abcd, nil},
		{"ring", "crc16", "", abc, nil},
		{"modulo", "murmur", "{}", abc, nil}, {"modulo", "murmur", "{}", ab, []int{5, 2}},
		{"modulo", "crc16", "{}", abcd, nil}, {"modulo", "crc32", "{}", abcd, nil},
		{"modulo", "crc32", "{}", abc, []int{50, 100, 7}}, {"ring", "crc32", "{}", abc, nil},
		{"modulo", "fnv1_32", "{}", ab, nil}, {"modulo", "fnv1_64", "{}", ab, nil},
	} {
		tables = append(tables, hashed(t, h.layout, h.hash, h.tag, h.nodes, h.weights...))
		hashes = append(hashes, h.hash)
	}
	return tables, hashes
}

// TestCompareAgreesWithPlacingKeys: the shares are those of many random keys that are
// placed in both tables.
func TestCompareAgreesWithPlacingKeys(t *testing.T) {
	tables, hashes := variety(t)
	const keys = 100_000
	of := make([][]string, len(tables))
	random := randomKeys(keys)
	for i, table := range tables {
		of[i] = addresses(table, random)
	}
	sampled := 0
	for i, older := range tables {
		for j, newer := range tables {
			if hashes[i] != hashes[j] {
				if sampled++; sampled%16 != 0 { // these take long, and all the same way
					continue
				}
			}
			c := Compare(older, newer)
			want, sum := map[string]float64{}, 0.0
			for k := range random {
				if of[i][k] != of[j][k] {
					want[of[i][k]+" "+of[j][k]] += 1.0 / keys
					sum += 1.0 / keys
				}
			}
			tolerance := 4.5*math.Sqrt(0.25/keys) + c.Error
			if math.Abs(c.Share-sum) > tolerance {
				t.Errorf("%d to %d (%s): %v move, of random keys %v", i, j, c.Basis, c.Share, sum)
			}
			if sum > 0 && !c.Moves || i == j && (c.Moves || c.Share != 0 || len(c.Pairs) != 0) {
				t.Errorf("%d to %d: %+v", i, j, c)
			}
			got := map[string]float64{}
			for k, m := range c.Pairs {
				got[addrOf(older, m.From)+" "+addrOf(newer, m.To)] = m.Share
				if k > 0 && m.Share > c.Pairs[k-1].Share {
					t.Errorf("%d to %d: the pairs are not sorted: %v", i, j, c.Pairs)
				}
			}
			for pair, share := range want {
				if math.Abs(got[pair]-share) > tolerance {
					t.Errorf("%d to %d: from %s %v of the keys, of random keys %v", i, j, pair, got[pair], share)
				}
			}
		}
	}
}

// TestCompareSaysHowItKnows: exact where both tables divide the same slots or hash values.
func TestCompareSaysHowItKnows(t *testing.T) {
	abc, abcd := named("a b c"), named("a b c d")
	ring := hashed(t, "ring", "murmur", "{}", abc)
	ranges := must(t)(NewRange(abc, nil, 0, "{}"))
	wide := must(t)(NewRange(abc, []Rule{text(1, "m", "")}, 0, "{}"))
	alone := must(t)(NewRing(abc[:1], Hashed{Hash: "murmur", HashTag: "[]", Weights: []int{1}}))
	for name, c := range map[string]struct {
		older, newer *Table
		basis        Basis
		moves        bool
	}{
		"slots":                       {evenly(t, abc), evenly(t, abcd), Exact, true},
		"ring to modulo":              {ring, hashed(t, "modulo", "murmur", "{}", abcd), Exact, true},
		"another tag":                 {ring, hashed(t, "ring", "murmur", "", abc), Untagged, true},
		"another hash":                {ring, hashed(t, "ring", "md5", "{}", abc), Sampled, true},
		"slots to ring":               {evenly(t, abc), ring, Sampled, true},
		"ring to range":               {ring, wide, Unmeasured, true},
		"range to slots":              {wide, evenly(t, abc), Unmeasured, true},
		"range to range":              {ranges, wide, Unmeasured, true},
		"the same range":              {wide, wide, Unmeasured, false},
		"one node, whatever the hash": {alone, ranges, Exact, false},
		"one node, and all of it":     {alone, evenly(t, abc[:1]), Exact, false},
		"one node to another":         {alone, evenly(t, abc[1:2]), Sampled, true},
	} {
		got := Compare(c.older, c.newer)
		if got.Basis != c.basis || got.Moves != c.moves || (got.Basis == Sampled) != (got.Error > 0) {
			t.Errorf("%s: %+v", name, got)
		}
	}
	if c := Compare(ring, hashed(t, "ring", "murmur", "", abc)); c.Share != 0 {
		t.Errorf("another tag: %v of the keys without a tag move", c.Share)
	}
	if c := Compare(evenly(t, abc), evenly(t, abcd)); c.Share != 8191.0/16384 {
		t.Errorf("from three nodes with equal slots to four: %v", c.Share)
	}
}

// TestCompareKnowsNodesByAddress: a name is only a name, unless the layout hashes it.
func TestCompareKnowsNodesByAddress(t *testing.T) {
	abc := named("a b c")
	ring := func(nodes []Node) *Table { return hashed(t, "ring", "murmur", "{}", nodes) }
	for name, c := range map[string]struct {
		older, newer *Table
		share        float64 // negative: any but 0
	}{
		"another order":              {ring(abc), ring(named("c a b")), 0},
		"renamed in a ring":          {ring(abc), ring(named("a b z=c")), -1},
		"renamed in slots":           {evenly(t, abc), evenly(t, named("a b z=c")), 0},
		"names that change places":   {evenly(t, abc), evenly(t, named("a=b b=a c")), 2.0 / 3},
		"on another machine":         {ring(abc), ring(named("a b c=new")), 0},
		"another server and name":    {evenly(t, abc), evenly(t, named("a b z=new")), 1.0 / 3},
		"name reused elsewhere":      {evenly(t, abc), evenly(t, named("a b=c c=new")), 2.0 / 3},
		"behind sentinels, not told": {ring(abc), ring([]Node{{Name: "a"}, {Name: "b"}, {Name: "c"}}), 0},
	} {
		got := Compare(c.older, c.newer)
		if c.share >= 0 && math.Abs(got.Share-c.share) > 0.001 || c.share < 0 && got.Share == 0 {
			t.Errorf("%s: %v move: %v", name, got.Share, got.Pairs)
		}
		if got.Moves != (c.share != 0) {
			t.Errorf("%s: moves: %v", name, got.Moves)
		}
	}
	m, err := slots.NewMap([]slots.Node{{Addr: "a:7", Aliases: []string{"a:6379"}, Master: true}},
		[][]slots.Range{{{First: 0, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	if c := Compare(NewSlots(m), evenly(t, abc[:1])); c.Moves {
		t.Errorf("a node of a cluster is not known by its alias: %+v", c)
	}
}

// TestCompareKeysWithoutANode: keys that no node had cannot move, and keys that lose
// their node do.
func TestCompareKeysWithoutANode(t *testing.T) {
	ab := named("a b")
	some := must(t)(NewStaticSlots(ab, [][]slots.Range{{{First: 0, Last: 99}}, {{First: 100, Last: 199}}}))
	more := must(t)(NewStaticSlots(ab, [][]slots.Range{{{First: 0, Last: 99}}, {{First: 100, Last: 299}}}))
	if c := Compare(some, more); c.Moves || c.Share != 0 {
		t.Errorf("slots gain a node: %+v", c)
	}
	want := []Move{{From: "b", Share: 100.0 / 16384}}
	if c := Compare(more, some); !c.Moves || !reflect.DeepEqual(c.Pairs, want) {
		t.Errorf("slots lose their node: %+v", c)
	}
}

// TestCompareRanges: two range tables are compared rule by rule.
func TestCompareRanges(t *testing.T) {
	abc := named("a b c")
	base := []Rule{number(0, "user:", 1, 1000), number(1, "user:", 1001, 2000), text(2, "a", "m")}
	of := func(fallback NodeID, rules ...Rule) *Table { return must(t)(NewRange(abc, rules, fallback, "{}")) }
	split := []Rule{number(0, "user:", 1, 5), number(0, "user:", 6, 1000), base[1],
		text(2, "a", "k"), text(2, "k", "m")}
	wider := []Rule{number(0, "user:", 1, 1500), number(1, "user:", 1501, 2000), base[2]}
	for name, c := range map[string]struct {
		older, newer *Table
		want         string
	}{
		"nothing":         {of(0, base...), of(0, base...), ""},
		"split in two":    {of(0, base...), of(0, split...), ""},
		"a wider number":  {of(0, base...), of(0, wider...), "user:1001..1500 b a"},
		"a wider text":    {of(0, base...), of(0, base[0], base[1], text(2, "a", "p")), `["m", "p") a c`},
		"the default":     {of(0, base...), of(1, base...), `["", "a") a b,["m", "") a b`},
		"only a default":  {of(0), of(1), "other keys a b"},
		"said explicitly": {of(0, base...), of(0, append(base, number(0, "user:", 2001, 3000))...), ""},
		"of the default": {of(0, base...), of(0, append(base, number(1, "user:", 2001, 3000))...),
			"user:2001..3000 a b"},
		"of a text rule": {of(0, base[2]), of(0, base[2], number(1, "b:", 5, 6)), "b:5..6 c b"},
		"no default":     {of(0, base...), of(None, base...), `["", "a") a ,["m", "") a `},
		"a new default":  {of(None, base...), of(1, base...), ""},
		"shorter prefix": {of(0, number(1, "k", 0, 99)), of(0, number(1, "k", 0, 99), number(2, "k1", 5, 5)),
			"k15..5 a c,k15..5 b c"},
		"the largest id": {of(0), of(0, number(1, "k", 7, math.MaxInt64)), "k7..9223372036854775807 a b"},
	} {
		got := Compare(c.older, c.newer)
		var list []string
		for _, r := range got.Rules {
			list = append(list, fmt.Sprintf("%s %s %s", r.Keys, r.From, r.To))
		}
		if text := strings.Join(list, ","); text != c.want || got.Moves != (c.want != "") || got.Share != 0 {
			t.Errorf("%s: %s, want %s (%+v)", name, text, c.want, got)
		}
	}
	older := of(0, base...)
	if c := Compare(older, must(t)(NewRange(abc, base, 0, ""))); !c.Moves {
		t.Errorf("another hash tag moves no keys: %+v", c)
	}
}

// TestCompareRangesMissesNoKey: what Compare says does not move is at the same node, for
// random tables and the keys around their boundaries.
func TestCompareRangesMissesNoKey(t *testing.T) {
	source := rand.New(rand.NewPCG(7, 8))
	random := func() *Table {
		for {
			var rules []Rule
			for _, prefix := range []string{"", "k", "k1", "m:"} {
				at := source.Int64N(9)
				for range source.IntN(3) {
					rules = append(rules, number(NodeID(source.IntN(2)), prefix, at, at+source.Int64N(3)))
					at = rules[len(rules)-1].To + 1 + source.Int64N(2)
				}
			}
			if source.IntN(2) == 0 {
				rules = append(rules, text(NodeID(source.IntN(2)), "k", "m"))
			}
			if source.IntN(2) == 0 {
				rules = append(rules, text(NodeID(source.IntN(2)), "k12", "k2"))
			}
			if table, err := NewRange(three, rules, NodeID(source.IntN(3)-1), ""); err == nil {
				return table
			}
		}
	}
	var keys [][]byte
	for _, prefix := range []string{"", "k", "k1", "k12", "k2", "m", "m:", "a", "z"} {
		keys = append(keys, []byte(prefix), []byte(prefix+":"))
		for n := range 25 {
			keys = append(keys, fmt.Appendf(nil, "%s%d", prefix, n), fmt.Appendf(nil, "%s0%d:x", prefix, n))
		}
	}
	same := 0
	for range 20_000 {
		older, newer := random(), random()
		if Compare(older, newer).Moves {
			continue
		}
		same++
		for _, key := range keys {
			_, a := older.Place(key)
			_, b := newer.Place(key)
			if a != None && a != b {
				t.Fatalf("%q is on %d and then on %d\n%v\n%v", key, a, b, older.Rules(), newer.Rules())
			}
		}
	}
	if same < 100 {
		t.Errorf("only %d pairs of tables that move nothing", same)
	}
}

// BenchmarkCompare measures the slowest comparison, which samples.
func BenchmarkCompare(b *testing.B) {
	nodes := named("a b c")
	older, _ := NewRing(nodes, Hashed{Hash: "murmur", Weights: []int{1, 1, 1}})
	newer, _ := NewRing(nodes, Hashed{Hash: "md5", Weights: []int{1, 1, 1}})
	for b.Loop() {
		Compare(older, newer)
	}
}
