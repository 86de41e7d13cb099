package router

import (
	"fmt"
	"slices"
	"testing"

	"github.com/keyway-proxy/keyway/slots"
)

func ringOf(t *testing.T, nodes ...Node) *Table {
	t.Helper()
	table, err := NewRing(nodes, Hashed{Hash: "fnv1a_64", Weights: slices.Repeat([]int{1}, len(nodes))})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// clusterOf returns a cluster in which another node has an alias of node c.
func clusterOf(t *testing.T) *slots.Map {
	t.Helper()
	m, err := slots.NewMap([]slots.Node{
		{Addr: "d:1", Master: true}, {Addr: "f:1", Aliases: []string{"c:1"}, Master: true},
		{Addr: "e:1", Of: "d:1", Replica: true},
	}, [][]slots.Range{{{First: 0, Last: 8000}}, {{First: 8001, Last: slots.Count - 1}}, nil})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// halves returns a table of two nodes.
func halves(t *testing.T) *Table {
	t.Helper()
	owned := [][]slots.Range{{{First: 0, Last: 5000}}, {{First: 5001, Last: slots.Count - 1}}}
	table, err := NewStaticSlots(three[:2], owned)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func hashOver(t *testing.T, build func([]Node, Hashed) (*Table, error), hash, tag string) *Table {
	t.Helper()
	table, err := build(three, Hashed{Hash: hash, HashTag: tag, Weights: []int{1, 2, 1}})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func isOneServer(a, b Node) bool {
	return a.Addr == b.Addr || slices.Contains(a.Aliases, b.Addr) || slices.Contains(b.Aliases, a.Addr)
}

// TestMoving compares a moving table with the two that it was made of: by address, since the
// numbers and names of nodes differ.
func TestMoving(t *testing.T) {
	m := clusterOf(t)
	renamed := Node{Name: "z", Addr: "a:1", Master: true}
	for name, c := range map[string]struct {
		older, newer *Table
		nodes        []string // addresses
	}{
		"a node more":      {ringOf(t, three[:2]...), ringOf(t, three...), []string{"a:1", "b:1", "c:1"}},
		"a node fewer":     {ringOf(t, three...), ringOf(t, three[1:]...), []string{"b:1", "c:1", "a:1"}},
		"another name":     {ringOf(t, three...), ringOf(t, renamed, three[1]), []string{"a:1", "b:1", "c:1"}},
		"into a cluster":   {ringOf(t, three...), NewSlots(m), []string{"d:1", "f:1", "e:1", "a:1", "b:1"}},
		"out of one":       {NewSlots(m), ringOf(t, three...), []string{"a:1", "b:1", "c:1", "d:1"}},
		"cluster to slots": {NewSlots(m), halves(t), []string{"a:1", "b:1", "d:1", "f:1"}},
		"ring to modulo": {
			ringOf(t, three...), hashOver(t, NewModulo, "fnv1a_64", ""), []string{"a:1", "b:1", "c:1"},
		},
		"another hash": {
			ringOf(t, three...), hashOver(t, NewRing, "murmur", ""), []string{"a:1", "b:1", "c:1"},
		},
		"another hash tag": {
			hashOver(t, NewRing, "fnv1a_64", "{}"), hashOver(t, NewRing, "fnv1a_64", ""), []string{"a:1", "b:1", "c:1"},
		},
		"tagged ring into a cluster": {
			hashOver(t, NewRing, "fnv1a_64", "{}"), NewSlots(m), []string{"d:1", "f:1", "e:1", "a:1", "b:1"},
		},
		"cluster to a ring with other tags": {
			NewSlots(m), hashOver(t, NewRing, "murmur", "e{"), []string{"a:1", "b:1", "c:1", "d:1"},
		},
		"with replicas": {
			ringOf(t, three...).WithReplicas([][]string{{"r:1"}}),
			ringOf(t, three[1:]...).WithReplicas([][]string{{"s:1"}}), []string{"b:1", "c:1", "s:1", "a:1"},
		},
	} {
		t.Run(name, func(t *testing.T) { comparesMoving(t, c.older, c.newer, c.nodes) })
	}
}

// comparesMoving compares a moving table, which has nodes of these addresses, with the two that it is made of.
func comparesMoving(t *testing.T, older, newer *Table, addrs []string) {
	moving := Moving(older, newer)
	if newer.Slotted() {
		moving = moving.Private()
	}
	var got []string
	for _, n := range moving.Nodes {
		got = append(got, n.Addr)
	}
	if !slices.Equal(got, addrs) || !moving.IsMoving() || newer.IsMoving() {
		t.Errorf("nodes %v", got)
	}
	moved := 0
	for i := range 5000 {
		key := fmt.Append(nil, "key:{", i, "}")
		_, was := older.Place(key)
		_, is := newer.Place(key)
		group, got := moving.Place(key)
		if g, n, from := moving.PlaceMoving(key); g != group || n != got || from != moving.From(key) {
			t.Fatalf("%s is placed on %d in group %d, want %d in %d", key, n, g, got, group)
		}
		before, after := older.Nodes[was], newer.Nodes[is]
		if moving.Nodes[got].Addr != after.Addr {
			t.Fatalf("%s is on %s, want %s", key, moving.Nodes[got].Addr, after.Addr)
		}
		stays, from := isOneServer(before, after), moving.From(key)
		if stays != (from == None) || !stays && !isOneServer(moving.Nodes[from], before) {
			t.Fatalf("%s was on %s and is on %s, but comes from %d", key, before.Addr, after.Addr, from)
		}
		if !stays {
			moved++
		}
	}
	if shares := moving.Shares(); len(shares) != len(moving.Nodes) || moved == 0 {
		t.Errorf("shares %v of %d nodes, %d keys moved", shares, len(moving.Nodes), moved)
	}
}

// TestMovingWithoutOwner: keys that had no node before come from nowhere.
func TestMovingWithoutOwner(t *testing.T) {
	older, err := NewRange(three, []Rule{text(0, "a", "m")}, None, "")
	if err != nil {
		t.Fatal(err)
	}
	moving := Moving(older, ringOf(t, three[1:]...))
	if from := moving.From([]byte("zebra")); from != None {
		t.Errorf("a key without an owner comes from %d", from)
	}
	if from := moving.From([]byte("apple")); from == None || moving.Nodes[from].Name != "a" {
		t.Errorf("a key of node a comes from %d", from)
	}
	if moving.Shares() == nil {
		t.Error("no shares")
	}
	m, err := slots.NewMap([]slots.Node{{Addr: "d:1", Master: true}}, [][]slots.Range{{{First: 0, Last: 0}}})
	if err != nil {
		t.Fatal(err)
	}
	if from := Moving(NewSlots(m), older).From([]byte("apple")); from != Unknown {
		t.Errorf("a key whose slot no node owns comes from %d", from)
	}
}

// TestExplainMoving: while keys move, an explanation names the node that the key may still be on, and
// shows a key that is no text as redis-cli does.
func TestExplainMoving(t *testing.T) {
	a, b := Node{Name: "a", Addr: "a:1", Master: true}, Node{Name: "b", Addr: "b:1", Master: true}
	moving := Moving(ringOf(t, a), ringOf(t, b))
	if e := moving.ExplainKey([]byte("k\xff")); e.Key != `"k\xff"` || e.Node != "b" || e.From != "a" {
		t.Errorf("a key that moves: %+v", e)
	}
	moving = Moving(ringOf(t, a), ringOf(t, Node{Name: "other", Addr: "a:1", Master: true}))
	if e := moving.ExplainKey([]byte("k")); e.Node != "other" || e.From != "" {
		t.Errorf("a key that stays: %+v", e)
	}
}
