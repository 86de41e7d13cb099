package router

import (
	"errors"
	"testing"

	"github.com/keyway-proxy/keyway/slots"
)

var three = []Node{
	{Name: "a", Addr: "a:1", Master: true}, {Name: "b", Addr: "b:1", Master: true},
	{Name: "c", Addr: "c:1", Master: true},
}

func number(node NodeID, prefix string, from, to int64) Rule {
	return Rule{Node: node, Numeric: true, Prefix: prefix, From: from, To: to}
}

func text(node NodeID, from, to string) Rule { return Rule{Node: node, Text: from, TextTo: to} }

func TestRange(t *testing.T) {
	table, err := NewRange(three, []Rule{
		number(0, "user:", 1, 1000), number(1, "user:", 1001, 2000), number(2, "user:vip:", 0, 9),
		text(2, "a", "m"), text(1, "m", "n"),
	}, None, "{}")
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]NodeID{
		"user:1": 0, "user:1000": 0, "user:1001": 1, "user:2000:cart": 1, "user:0001": 0,
		"user:2001": None, "user:0": None, "user:vip:5": 2, "user:vip:10": None,
		"user:": None, "user:99999999999999999999": None,
		"apple": 2, "a": 2, "m": 1, "lzz": 2, "mzz": 1, "n": None, "zebra": None, "A": None, "": None,
		"cart:{user:7}": 0, "{}x": None, "m{}": 1,
	} {
		if _, got := table.Place([]byte(key)); got != want {
			t.Errorf("%q is on %d, want %d", key, got, want)
		}
	}
	e := table.ExplainKey([]byte("cart:{user:7}"))
	if e.Tag != "user:7" || e.Rule != "user:1..1000" || e.Node != "a" || e.Addr != "a:1" {
		t.Errorf("explanation: %+v", e)
	}
	if e := table.ExplainKey([]byte("M")); e.Rule != "no rule" || e.Node != "" {
		t.Errorf("explanation of a key without a rule: %+v", e)
	}
}

func TestRangeOverlaps(t *testing.T) {
	for name, rules := range map[string][]Rule{
		"numbers":  {number(0, "u:", 1, 10), number(1, "u:", 10, 20)},
		"inside":   {number(0, "u:", 1, 100), number(1, "u:", 10, 20)},
		"same":     {number(0, "u:", 1, 2), number(0, "u:", 1, 2)},
		"text":     {text(0, "a", "m"), text(1, "l", "z")},
		"endless":  {text(0, "a", ""), text(1, "b", "c")},
		"reversed": {text(1, "l", "z"), text(0, "a", "m")},
	} {
		var overlap *OverlapError
		if _, err := NewRange(three, rules, None, ""); !errors.As(err, &overlap) {
			t.Errorf("%s: %v", name, err)
		}
	}
	rules := []Rule{number(0, "u:", 1, 10), number(1, "v:", 1, 10), number(1, "u:", 11, 20),
		text(0, "a", "b"), text(1, "b", "c")}
	if _, err := NewRange(three, rules, 2, ""); err != nil {
		t.Errorf("rules that only touch: %v", err)
	}
}

// TestRangeGaps: keys between two rules have a node, or there is a default.
func TestRangeGaps(t *testing.T) {
	for missing, rules := range map[string][]Rule{
		"u:11..11":       {number(0, "u:", 1, 10), number(1, "u:", 12, 20)},
		"u:3..9":         {number(1, "u:", 10, 20), number(0, "u:", 1, 2), text(2, "a", "b")},
		`["m", "n")`:     {text(0, "a", "m"), text(1, "n", "z"), number(0, "m", 1, 2)},
		"user:5..6":      {number(0, "user:", 1, 4), number(1, "user:", 7, 9), text(1, "v", ""), number(2, "us", 1, 9)},
		`["b", "c\x00")`: {text(0, "a", "b"), text(1, "c\x00", "")},
	} {
		var gap *GapError
		if _, err := NewRange(three, rules, None, ""); !errors.As(err, &gap) || gap.Missing != missing {
			t.Errorf("%s: %v", missing, err)
		}
		if _, err := NewRange(three, rules, 0, ""); err != nil {
			t.Errorf("with a default: %v", err)
		}
	}
	for name, rules := range map[string][]Rule{
		"text rule below":    {number(0, "u:", 1, 2), number(1, "u:", 5, 9), text(2, "a", "")},
		"shorter prefix":     {number(0, "k1", 1, 2), number(1, "k1", 5, 9), number(2, "k", 0, 999)},
		"before, after":      {number(0, "u:", 5, 6), text(2, "v", "w")},
		"neighbours":         {number(0, "u:", 1, 4), number(1, "u:", 5, 6), text(0, "v", "w"), text(1, "w", "x")},
		"different prefixes": {number(0, "u:", 1, 4), number(1, "v:", 7, 9)},
	} {
		if _, err := NewRange(three, rules, None, ""); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestHashedLayouts(t *testing.T) {
	h := Hashed{Hash: "crc32a", HashTag: "$$", Weights: []int{1, 1, 1}}
	for _, build := range []func([]Node, Hashed) (*Table, error){NewRing, NewModulo} {
		table, err := build(three, h)
		if err != nil {
			t.Fatal(err)
		}
		g1, n1 := table.Place([]byte("$user1$:a"))
		g2, n2 := table.Place([]byte("$user1$:b"))
		if g1 != g2 || n1 != n2 {
			t.Error("keys of one hash tag live apart")
		}
		e := table.ExplainKey([]byte("$user1$:a"))
		if e.Tag != "user1" || e.Hash == nil || e.Node != table.Nodes[n1].Name {
			t.Errorf("explanation: %+v", e)
		}
		if table.Slotted() || table.Clustered() {
			t.Error("a hashed layout has no slots")
		}
	}
	var unknown *UnknownHashError
	if _, err := NewRing(three, Hashed{Hash: "sha"}); !errors.As(err, &unknown) {
		t.Errorf("unknown hash: %v", err)
	}
}

func TestSlotsMoved(t *testing.T) {
	m, err := slots.NewMap([]slots.Node{{Addr: "a:1", Aliases: []string{"a.example:1"}, Master: true}, {Addr: "b:1"}},
		[][]slots.Range{{{First: 0, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	table := NewSlots(m)
	if id, ok := table.ByAddr("a.example:1"); !ok || id != 0 {
		t.Error("a node is not known by its alias")
	}
	moved := table.Private()
	if !moved.Move(100, 1) || moved.Move(101, 1) {
		t.Error("the first slot makes a replica a master, and no other does")
	}
	if table.SlotOwner(100) != 0 || moved.SlotOwner(100) != 1 || moved.SlotOwner(99) != 0 {
		t.Error("the wrong thing has moved")
	}
	if table.Nodes[1].Master || !moved.Nodes[1].Master {
		t.Error("a replica that owns a slot is a master, in the new table only")
	}
	if !table.Clustered() || !table.Slotted() {
		t.Error("a cluster's table does not say so")
	}
	static, err := NewStaticSlots(three, [][]slots.Range{{{First: 0, Last: 1}}, {{First: 2, Last: 3}}, nil})
	if err != nil || static.Clustered() || !static.Slotted() {
		t.Errorf("static slots: %v", err)
	}
}

func TestPlaceAllocatesNothing(t *testing.T) {
	h := Hashed{Hash: "fnv1a_64", HashTag: "{}", Weights: []int{1, 1, 1}}
	ring, _ := NewRing(three, h)
	modulo, _ := NewModulo(three, h)
	ranges, _ := NewRange(three, []Rule{number(0, "user:", 1, 1000), text(1, "a", "m")}, 2, "{}")
	static, _ := NewStaticSlots(three, [][]slots.Range{{{First: 0, Last: 16383}}, nil, nil})
	key := []byte("{user:12}:cart")
	for _, table := range []*Table{ring, modulo, ranges, static} {
		if n := testing.AllocsPerRun(100, func() { table.Place(key) }); n > 0 {
			t.Errorf("%s: %v allocations for a key", table.Name, n)
		}
	}
}
