package test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// keyway runs keyway and returns its output and exit status. It writes each argument of
// several lines into a file, and passes the file's name instead.
func keyway(t *testing.T, args ...string) (out string, status int) {
	t.Helper()
	for i, a := range args {
		if strings.Contains(a, "\n") {
			args[i] = redistest.WriteFile(t, fmt.Sprintf("keyway%d.yml", i), a)
		}
	}
	cmd := exec.Command(redistest.Build(t), args...)
	b, _ := cmd.CombinedOutput()
	return string(b), cmd.ProcessState.ExitCode()
}

// printed checks that the output has, for each list of words, exactly one line that contains
// them all.
func printed(t *testing.T, out string, want ...[]string) {
	t.Helper()
	for _, words := range want {
		if lines(out, words...) != 1 {
			t.Errorf("not one line with %q in:\n%s", words, out)
		}
	}
}

// even returns a range layout: keys n:0 to n:99 belong to node a, all others to b.
func even(nodes []*redistest.Node) string {
	return "layout: range\n" + redistest.NodesYAML(nodes[:2]) +
		"range: {rules: [{prefix: 'n:', from: 0, to: 99, node: a}], default: b}\n"
}

// TestVerify: keys on wrong nodes and on two nodes, in all databases, are found; a layout
// without such keys is clean.
func TestVerify(t *testing.T) {
	t.Parallel()
	nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
	a, b := redistest.Dial(t, nodes[0].Addr), redistest.Dial(t, nodes[1].Addr)
	a.MustDo("MSET", "n:1", "x", "n:2", "x", "keyway:stray:b:n:7", "x")
	b.MustDo("MSET", "n:100", "x", "other", "x", "keyway:mine", "x")
	out, status := keyway(t, "verify", "-c", even(nodes))
	printed(t, out, []string{"All 5 keys are where"}, []string{"a", nodes[0].Addr, "2", "0", "1"})
	if status != 0 {
		t.Errorf("status %d:\n%s", status, out)
	}

	a.MustDo("SET", "stray", "x")
	a.MustDo("SELECT", "5")
	a.MustDo("SET", "other", "y")
	b.MustDo("SELECT", "5")
	b.MustDo("MSET", "other", "z", "n:5", "x")
	out, status = keyway(t, "verify", "-c", even(nodes))
	printed(t, out, []string{`"stray" on a belongs to b`}, []string{`"n:5" on b belongs to a (database 5)`},
		[]string{`"other" on a belongs to b (database 5); it is also on b`},
		[]string{"3 of 9 keys are on another node", "1 of them on two"}, []string{"verify --repair"})
	if status != 2 {
		t.Errorf("status %d:\n%s", status, out)
	}
	out, status = keyway(t, "verify", "--json", "-c", even(nodes))
	var r struct {
		After struct {
			Keys, Misplaced, Twice int
			Findings               []struct {
				Key, Node, Belongs string
				DB                 int
				Also               []string
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &r); err != nil || status != 2 {
		t.Fatalf("%v, status %d: %s", err, status, out)
	}
	if r.After.Keys != 9 || r.After.Misplaced != 3 || r.After.Twice != 1 || len(r.After.Findings) != 3 {
		t.Errorf("%s", out)
	}
	b.Expect("2", "DBSIZE") // in database 5: nothing has changed
}

// TestVerifyRepair: misplaced keys move to their nodes, the value that loses is set aside,
// and nothing is deleted.
func TestVerifyRepair(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
	a, b := redistest.Dial(t, nodes[0].Addr), redistest.Dial(t, nodes[1].Addr)
	for _, db := range []string{"0", "9"} {
		a.MustDo("SELECT", db)
		b.MustDo("SELECT", db)
		for i := range 300 { // two thirds belong to b
			a.MustDo("SET", fmt.Sprintf("n:%d", i), db)
		}
		b.MustDo("SET", "n:150", db)      // equal
		b.MustDo("SET", "n:160", "other") // not equal
		b.MustDo("SET", "n:42", "only here")
		a.MustDo("DEL", "n:42")
	}
	out, status := keyway(t, "verify", "--repair", "-c", even(nodes))
	if status != 2 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"402 of 604 keys are on another node", "4 of them on two"},
		[]string{"repaired: moved 398 keys, and removed 2 second copies"},
		[]string{`set aside: "n:160" on a (database 9)`, `"keyway:stray:a:n:160" on a now`},
		[]string{"All 600 keys are where"})
	for _, db := range []string{"0", "9"} {
		a.MustDo("SELECT", db)
		b.MustDo("SELECT", db)
		a.Expect("101", "DBSIZE") // with n:160
		b.Expect("200", "DBSIZE")
		b.Expect("other", "GET", "n:160")
		a.Expect(db, "GET", "keyway:stray:a:n:160")
		a.Expect("only here", "GET", "n:42")
		b.Expect(db, "GET", "n:299")
	}
	a.MustDo("SET", "n:999", "again")
	if out, status = keyway(t, "verify", "--repair", "-c", even(nodes)); status != 0 {
		t.Errorf("the second time: status %d:\n%s", status, out)
	}
	b.Expect("again", "GET", "n:999")
	a.Expect("9", "GET", "keyway:stray:a:n:160")
}

// TestVerifyFails: what keeps keyway from looking is named, with its node.
func TestVerifyFails(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
	nodes[1].Kill()
	out, status := keyway(t, "verify", "-c", even(nodes))
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"node b (" + nodes[1].Addr + ")", "start the node"})

	replica := redistest.Replica(t, nodes[0])
	out, status = keyway(t, "verify", "-c", even([]*redistest.Node{nodes[0], replica}))
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"node b (" + replica.Addr + ")", "name its master " + nodes[0].Addr})
}

// TestVerifyCluster: a cluster's keys are looked at, and the cluster repairs itself.
func TestVerifyCluster(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 0)
	k := redistest.Serve(t, c.SeedsYAML()).Ready().Dial()
	for i := range 100 {
		k.MustDo("SET", fmt.Sprint("key:", i), "x")
	}
	out, status := keyway(t, "verify", "-c", c.SeedsYAML())
	if status != 0 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"All 100 keys are where"})
	out, status = keyway(t, "verify", "--repair", "-c", c.SeedsYAML())
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"redis-cli --cluster fix"})

	slot := 100
	c.Nodes[c.Owner(0, slot)].Do("CLUSTER", "SETSLOT", fmt.Sprint(slot), "MIGRATING", c.IDs[2])
	out, status = keyway(t, "verify", "-c", c.SeedsYAML())
	if status != 1 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"some of its slots are moving", "wait until that has ended"})
}
