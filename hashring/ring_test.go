package hashring

import (
	"math"
	"testing"
)

// Placement is compared with the real twemproxy, 100,000 keys a hash, in
// test/twemproxy_test.go. These vectors, of the hashes whose definitions are
// public, keep that from going unnoticed where twemproxy is not at hand.
func TestHashVectors(t *testing.T) {
	for name, want := range map[string]uint32{
		"crc32a":   0xcbf43926, // the CRC catalogue's check value
		"crc32":    0xcbf43926 >> 16 & 0x7fff,
		"fnv1_32":  0x24148816,
		"fnv1a_32": 0xbb86b11c,
		"md5":      0x94e7f925, // the first four bytes of its digest, least first
	} {
		h, ok := HashNamed(name)
		if !ok {
			t.Fatalf("no hash %s", name)
		}
		if got := h([]byte("123456789")); got != want {
			t.Errorf("%s: %#x, want %#x", name, got, want)
		}
	}
	if len(HashNames()) != 12 {
		t.Errorf("%d hashes, twemproxy has 12", len(HashNames()))
	}
}

func TestRing(t *testing.T) {
	h, _ := HashNamed("fnv1a_64")
	r, err := New([]Node{{"a", 1}, {"b", 2}, {"c", 1}}, h)
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, s := range r.Shares() {
		sum += s
	}
	if math.Abs(sum-1) > 1e-9 {
		t.Errorf("the shares add up to %v", sum)
	}
	if s := r.Shares(); s[1] < 0.4 || s[1] > 0.6 {
		t.Errorf("a node of half the weight has %v of the ring", s[1])
	}
	// A key's node depends on names and weights, not on the order of the list.
	other, err := New([]Node{{"c", 1}, {"a", 1}, {"b", 2}}, h)
	if err != nil {
		t.Fatal(err)
	}
	name := []string{"a", "b", "c"}
	otherName := []string{"c", "a", "b"}
	for _, k := range []string{"", "x", "user:1", "a longer key"} {
		if a, b := name[r.Node([]byte(k))], otherName[other.Node([]byte(k))]; a != b {
			t.Errorf("%q is on %s or on %s, depending on the order", k, a, b)
		}
	}
	if _, err := New([]Node{{"a", 0}}, h); err == nil {
		t.Error("a weight of 0 was accepted")
	}
	if _, err := New(nil, h); err == nil {
		t.Error("a ring of nothing was accepted")
	}
}

func TestModula(t *testing.T) {
	h, _ := HashNamed("crc32a")
	m, err := NewModula([]Node{{"a", 3}, {"b", 1}}, h)
	if err != nil {
		t.Fatal(err)
	}
	count := [2]int{}
	for i := range 4000 {
		count[m.Node([]byte{byte(i), byte(i >> 8), 'x'})]++
	}
	if count[0] < 2700 || count[0] > 3300 {
		t.Errorf("three quarters of the weight got %d of 4000 keys", count[0])
	}
	if s := m.Shares(); s[0] != 0.75 || s[1] != 0.25 {
		t.Errorf("shares: %v", s)
	}
}

func BenchmarkRing(b *testing.B) {
	h, _ := HashNamed("fnv1a_64")
	r, _ := New([]Node{{"a", 1}, {"b", 1}, {"c", 1}}, h)
	key := []byte("key:000000012345")
	b.ReportAllocs()
	for b.Loop() {
		r.Node(key)
	}
}
