package test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// pausedMoves is a change from a ring of a and b to slots of b and c whose keys nobody moves but clients.
func pausedMoves(t *testing.T, keys int) (m *moves, onA []string) {
	m = newMoves(t, 2, keys)
	m.must("switch", "--rate", "1", m.oldFile, m.newFile)
	m.must("pause", "-c", m.oldFile)
	redistest.Eventually(t, 30*time.Second, "the keys stay where they are", func() bool {
		s := m.status(m.oldFile)
		return s.Pace != nil && s.Pace.Paused && strings.Count(m.nodes[0].Do("CLIENT", "LIST").Text, "&pace=1") == 2
	})
	for _, k := range m.nodes[0].Keys() {
		if strings.HasPrefix(k, "key:") {
			onA = append(onA, k)
		}
	}
	return m, onA
}

// TestReadsLeaveKeysWhereTheyAre: while the layout changes, a GET without other commands before or behind it is
// answered by the former node of its key, and the key does not move. A SET brings it, and then its new node answers.
func TestReadsLeaveKeysWhereTheyAre(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m, onA := pausedMoves(t, 200)
	c := redistest.Dial(t, m.keyways[1].Addr)
	for range 2 { // the first key of each pair of nodes comes, while its former node says which instance it is
		for _, k := range onA {
			c.Expect(strings.TrimPrefix(k, "key:"), "GET", k)
		}
	}
	stayed := 0
	for _, k := range onA {
		stayed += int(m.nodes[0].Do("EXISTS", k).Int)
	}
	if stayed < len(onA)*9/10 || stayed == 0 {
		t.Errorf("%d of %d keys are still there", stayed, len(onA))
	}
	for _, k := range onA {
		c.Expect("OK", "SET", k, "new")
		c.Expect("new", "GET", k)
		if m.nodes[0].Do("EXISTS", k).Int != 0 {
			t.Errorf("%s was written to, and has not come", k)
		}
	}
	other := redistest.Dial(t, m.keyways[0].Addr)
	for _, k := range onA {
		other.Expect("new", "GET", k)
	}
}

// TestReadsAfterARestart: a former node loads an old snapshot, and so has keys again that have left. Clients of a
// keyway that does not know that they have left get what was written since.
func TestReadsAfterARestart(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m, onA := pausedMoves(t, 200)
	a := m.nodes[0]
	a.Do("SAVE")
	c := redistest.Dial(t, m.keyways[0].Addr)
	for _, k := range onA {
		c.Expect("OK", "SET", k, "new")
	}
	a.Kill()
	a.Run()
	if old := a.Do("GET", onA[0]); old.Text != strings.TrimPrefix(onA[0], "key:") {
		t.Fatalf("the former node has %s", old)
	}
	other := redistest.Dial(t, m.keyways[1].Addr)
	redistest.Eventually(t, 30*time.Second, "keyway uses the node", func() bool {
		return other.MustDo("GET", "key:absent").Null
	})
	for _, k := range onA {
		other.Expect("new", "GET", k)
	}
}
