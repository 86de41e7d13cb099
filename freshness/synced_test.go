package freshness

import "testing"

// Nodes beyond the first 63 count as all nodes: too many are asked rather than too few.
func TestNodesBeyondTheFirst63(t *testing.T) {
	var s, here Nodes
	s.Add(3)
	s.Add(62)
	if !s.Has(3) || !s.Has(62) || s.Has(4) || s.Has(63) {
		t.Errorf("%v", s)
	}
	here.Add(3)
	if !s.Keep(here) || s.Has(62) || s.Keep(here) || !s.Has(3) {
		t.Errorf("after Keep: %v", s)
	}
	s.Add(5)
	if !s.Drop(here) || s.Has(3) || s.Drop(here) || !s.Has(5) {
		t.Errorf("after Drop: %v", s)
	}
	s.Add(63)
	if s.Remove(63); !s.Has(63) || !s.Has(3) {
		t.Errorf("after node 63: %v", s)
	}
	if here.Add(99); !s.Drop(here) {
		t.Errorf("node 99 may be one of the nodes beyond the first 63: %v", s)
	}
}

// WAIT asks again about confirmed writes only if it wants more replicas, or has written to
// all of their nodes since.
func TestConfirmedWritesAreNotAskedAboutAgain(t *testing.T) {
	var wrote Nodes
	var s Synced
	wrote.Add(1)
	wrote.Add(2)
	if n := s.Count(&wrote, 1, 1, 2); n != 1 || !wrote.Has(1) {
		t.Errorf("too few replicas confirm: %d, %v", n, wrote)
	}
	if n := s.Count(&wrote, 1, 2, 2); n != 2 || wrote.Has(1) {
		t.Errorf("two replicas confirm: %d, %v", n, wrote)
	}
	if n := s.Count(&wrote, 2, 3, 2); n != 2 || wrote.Has(2) {
		t.Errorf("three replicas confirm, but node 1 has two: %d, %v", n, wrote)
	}
	wrote.Add(2)
	if s.Reopen(&wrote, 2); wrote.Has(1) {
		t.Error("the node of an older write is asked again")
	}
	if s.Reopen(&wrote, 3); !wrote.Has(1) || s != (Synced{}) {
		t.Error("a WAIT for more replicas does not ask all nodes")
	}
}
