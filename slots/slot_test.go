package slots

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/sigurn/crc16"
)

// The examples of the cluster specification, "Key distribution model" and "Hash
// tags"; the numbers are CLUSTER KEYSLOT's.
func TestSlotAndTag(t *testing.T) {
	for _, tc := range []struct {
		key, tag string
		slot     uint16
	}{
		{"123456789", "123456789", 0x31C3},
		{"{user1000}.following", "user1000", 3443},
		{"{user1000}.followers", "user1000", 3443},
		{"foo{}{bar}", "foo{}{bar}", 8363},
		{"foo{{bar}}zap", "{bar", 4015},
		{"foo{bar}{zap}", "bar", 5061},
		{"", "", 0},
		{"{}", "{}", 15257},
		{"foo{bar", "foo{bar", 15278},
		{"}foo{bar}", "bar", 5061},
	} {
		if got := string(Tag([]byte(tc.key), '{', '}')); got != tc.tag {
			t.Errorf("tag of %q: %q, want %q", tc.key, got, tc.tag)
		}
		if got := Of([]byte(tc.key)); got != tc.slot {
			t.Errorf("slot of %q: %d, want %d", tc.key, got, tc.slot)
		}
	}
}

// TestSlotIsTheChecksum: the slot is the CRC16 of the key, whatever its length and bytes.
func TestSlotIsTheChecksum(t *testing.T) {
	source, xmodem := rand.New(rand.NewPCG(1, 2)), crc16.MakeTable(crc16.CRC16_XMODEM)
	for n := range 1000 {
		key := make([]byte, n%40)
		for i := range key {
			key[i] = byte(source.Uint32())
		}
		if got, want := Of(key), crc16.Checksum(Tag(key, '{', '}'), xmodem)%Count; got != want {
			t.Fatalf("slot of %q: %d, want %d", key, got, want)
		}
	}
}

func TestMapHasTheOwners(t *testing.T) {
	nodes := []Node{{Addr: "a"}, {Addr: "b"}}
	m, err := NewMap(nodes, [][]Range{{{0, 99}, {200, 200}}, {{100, 199}}})
	if err != nil {
		t.Fatal(err)
	}
	for slot, want := range map[uint16]int{0: 0, 99: 0, 100: 1, 199: 1, 200: 0, 201: Unowned, 16383: Unowned} {
		if got := m.Owner(slot); got != want {
			t.Errorf("owner of %d: %d, want %d", slot, got, want)
		}
	}
	if m.Covered() != 201 {
		t.Errorf("covered: %d", m.Covered())
	}
	n := m.Clone()
	n.Move(300, 1)
	if n.Owner(300) != 1 || m.Owner(300) != Unowned || n.Same(m) || !m.Same(m) {
		t.Error("a slot that moved in a clone has moved in the map")
	}
	if _, err := NewMap(nodes, [][]Range{{{0, 10}}, {{10, 20}}}); err == nil {
		t.Error("a slot with two owners was accepted")
	}
	if _, err := NewMap(nodes, [][]Range{{{0, 16384}}}); err == nil {
		t.Error("a slot beyond the last was accepted")
	}
}

func BenchmarkOf(b *testing.B) {
	key := []byte("key:000000012345")
	b.ReportAllocs()
	for b.Loop() {
		Of(key)
	}
}

// TestChangesBetweenTwoMaps checks the differences between two maps, by nodes and slots.
func TestChangesBetweenTwoMaps(t *testing.T) {
	before, err := NewMap([]Node{{Addr: "a", Master: true}, {Addr: "b", Master: true},
		{Addr: "c", Of: "a"}, {Addr: "d", Of: "b"}}, [][]Range{{{0, 99}}, {{100, 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	after, err := NewMap([]Node{{Addr: "c", Master: true}, {Addr: "a", Of: "c"},
		{Addr: "b", Master: true}, {Addr: "e", Of: "b"}},
		[][]Range{{{0, 49}, {60, 99}, {200, 299}, {301, 301}}, nil, {{100, 199}, {300, 300}, {302, 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	for _, c := range after.Changes(before) {
		got += fmt.Sprintf("%s %s %s>%s %s %d\n", c.What, c.Node, c.From, c.To, c.Text(), c.Count())
	}
	want := `node is a master now c >  0
node is a replica now a >c  0
node joined e >  0
node left d >  0
slots moved  a>c 0-49,60-99 90
slots moved  a> 50-59 10
slots moved  b>c 200-299,301 101
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if same := after.Changes(after); len(same) != 0 {
		t.Errorf("%v", same)
	}
}
