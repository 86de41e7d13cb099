package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// fullLimit is the memory of a node that fillUp has made full.
const fullLimit = "[maxmemory 524288]"

// fillUp makes a node full: it refuses what takes memory.
func fillUp(t testing.TB, node *redistest.Node) {
	t.Helper()
	node.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	for i := range 100 {
		node.Do("SET", fmt.Sprint(i), strings.Repeat("x", 10000))
	}
	node.Do("CONFIG", "SET", "maxmemory", "512kb")
	r := redistest.Ask(node.Addr, "FUNCTION", "LOAD", register.Note("keyway_9_probe"))
	if !strings.HasPrefix(r.Text, "OOM ") {
		t.Fatalf("FUNCTION LOAD on a full node: %s", r)
	}
}

// hasRecord reports whether a server has a record.
func hasRecord(n *redistest.Node, name string) bool {
	return len(n.Do("FUNCTION", "LIST", "LIBRARYNAME", name).Elems) == 1
}

// TestFlipOfAFullNode: a node that is full and evicts nothing enters an epoch. Its limit is the
// same afterwards. Where keyway may not change it, the error says what to do, and that helps.
func TestFlipOfAFullNode(t *testing.T) {
	t.Parallel()
	for name, fence := range map[string]switching.Fence{"by name": {}, "all": {All: true}} {
		node := redistest.Start(t)
		to := decided(t, node, 1)
		fillUp(t, node)
		n := nodeOf(node)
		node.Do("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@all", "-config")
		n.Account = control.Account{Username: "limited", Password: "pw"}
		err := n.Flip(within(t, 20*time.Second), to, fence)
		if err == nil || !strings.Contains(err.Error(), "the node is full") ||
			!strings.Contains(err.Error(), "raise its maxmemory by 4194304 bytes for the moment") {
			t.Errorf("%s: %v", name, err)
		}
		node.Do("ACL", "SETUSER", "limited", "+config|get")
		err = n.Flip(within(t, 20*time.Second), to, fence)
		if err == nil {
			t.Fatalf("%s: a full node enters an epoch", name)
		}
		_, command, _ := strings.Cut(err.Error(), "; ")
		command, back, ok := strings.Cut(command, ", run the command again, and then ")
		if !ok {
			t.Fatalf("%s: %v", name, err)
		}
		node.Do(strings.Fields(command)...)
		if err := n.Flip(within(t, 20*time.Second), to, fence); err != nil {
			t.Errorf("%s: after %s: %v", name, command, err)
		}
		node.Do(strings.Fields(back)...)
		limit := func() string { return node.Do("CONFIG", "GET", "maxmemory").String() }
		if got := limit(); got != fullLimit {
			t.Errorf("%s: after %s: %s", name, back, got)
		}

		node.Do("FUNCTION", "FLUSH")
		if err := nodeOf(node).Flip(within(t, 20*time.Second), to, fence); err != nil || !hasRecord(node, "keyway_1") {
			t.Errorf("%s: %v", name, err)
		}
		if got := limit(); got != fullLimit {
			t.Errorf("%s: the limit is %s", name, got)
		}
	}
}

// TestFlipWaitsForReplicas: a node is in the epoch only when its replicas know of it, and its error
// names the one that does not. Keyways of earlier epochs cannot read from them any more.
func TestFlipWaitsForReplicas(t *testing.T) {
	t.Parallel()
	for name, fence := range map[string]switching.Fence{"by name": {}, "all": {All: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := redistest.Start(t)
			replica, late := redistest.Replica(t, node), redistest.Replica(t, node)
			to := decided(t, node, 1)
			reader := redistest.Dial(t, replica.Addr)
			reader.MustDo("CLIENT", "SETNAME", guard.ConnectionName("kw", 0, "1a"))
			late.Freeze()
			node.Do("SET", "x", "x") // otherwise it may have everything
			err := nodeOf(node, replica).Flip(within(t, 2*time.Second), to, fence)
			if err == nil || !strings.Contains(err.Error(), "the replica "+late.Addr+" does not have") {
				t.Errorf("%v", err)
			}
			if hasRecord(node, "keyway_1") || hasRecord(node, "keyway_1_closing") {
				t.Error("the node is closed for a replica that is late")
			}
			late.Thaw()
			if err := nodeOf(node, replica).Flip(within(t, 20*time.Second), to, fence); err != nil {
				t.Error(err)
			}
			for _, r := range []*redistest.Node{replica, late} {
				if !hasRecord(r, "keyway_1") {
					t.Errorf("replica %s does not know of the epoch", r.Addr)
				}
			}
			if r, err := reader.TryDo("GET", "x"); err == nil {
				t.Errorf("a keyway of an earlier epoch reads %s from a replica", r)
			}
			// A replica that is late when the node is in the epoch already.
			late.Freeze()
			node.Do("SET", "x", "y")
			err = nodeOf(node).Flip(within(t, time.Second), to, fence)
			if err == nil || !strings.Contains(err.Error(), late.Addr) {
				t.Errorf("%v", err)
			}
			late.Thaw()
		})
	}
}

// TestFlipOfACluster: each master of a cluster enters the epoch, and a replica that is promoted is in
// it.
func TestFlipOfACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.NewCluster(t, 3, 1)
	var masters []*switching.Node
	var home *redistest.Node
	for _, n := range cluster.Nodes {
		if n.Role() == "master" {
			home = n
			masters = append(masters, nodeOf(n))
		}
	}
	to := decided(t, home, 1)
	fence := func(*switching.Node) switching.Fence { return switching.Fence{} }
	if err := switching.FlipAll(within(t, 20*time.Second), masters, to, fence); err != nil {
		t.Fatal(err)
	}
	cluster.Failover(3)
	for i, n := range cluster.Nodes {
		if !hasRecord(n, "keyway_1") {
			t.Errorf("node %d is not in the epoch", i)
		}
	}
}

// flipRefusals are states in which a node refuses to enter an epoch, and what the error says.
var flipRefusals = []struct {
	prepare [][]string
	want    []string
}{
	{[][]string{{"ACL", "SETUSER", "limited", "-function|load"}},
		[]string{"NOPERM", "give backend.username this right with ACL SETUSER"}},
	{[][]string{{"ACL", "SETUSER", "limited", "-client|kill"}}, []string{"NOPERM", "ACL SETUSER"}},
	{[][]string{{"ACL", "SETUSER", "limited", "-client|setname"}},
		[]string{"naming a connection, by which those of keyways are found", "NOPERM"}},
	{[][]string{{"CONFIG", "SET", "min-replicas-to-write", "1"}}, []string{"NOREPLICAS", "min-replicas-to-write"}},
	{[][]string{{"REPLICAOF", "127.0.0.1", "1"}}, []string{"its role is slave", "name its master"}},
	{[][]string{{"FUNCTION", "LOAD", register.Note("keyway_2")}}, []string{"in epoch 2, which is later than 1"}},
	{[][]string{{"FUNCTION", "LOAD", register.Note("keyway_1")}}, []string{"another record of epoch 1"}},
	{[][]string{{"FUNCTION", "LOAD", strings.Replace(register.Note("keyway_1"), "name=keyway_1\n", "name=x\n", 1)}},
		[]string{"a function of that name, but not the record"}},
}

// TestFlipRefusals: what keeps a node from entering an epoch is an error that says what to do.
// Nobody is shut out then who was not before.
func TestFlipRefusals(t *testing.T) {
	t.Parallel()
	for _, c := range flipRefusals {
		home, node := redistest.Start(t), redistest.Start(t)
		to := decided(t, home, 1)
		node.Do("ACL", "SETUSER", "limited", "on", ">pw", "~*", "+@all")
		for _, args := range c.prepare {
			if r := node.Do(args...); r.Kind == '-' {
				t.Fatalf("%q: %s", args, r)
			}
		}
		old := redistest.Dial(t, node.Addr)
		old.MustDo("CLIENT", "SETNAME", guard.ConnectionName("kw", 0, "1a"))
		n := nodeOf(node)
		n.Account = control.Account{Username: "limited", Password: "pw"}
		err := n.Flip(within(t, time.Second), to, switching.Fence{})
		if err == nil {
			t.Errorf("%q: the node has entered the epoch", c.prepare)
			continue
		}
		for _, want := range append(c.want, n.Name, node.Addr) {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%q: the error lacks %q: %v", c.prepare, want, err)
			}
		}
	}
}

// TestFlipOfABusyNode: a script that runs delays the flip. If it lasts, the error says how to end it.
func TestFlipOfABusyNode(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, "--busy-reply-threshold", "20")
	to := decided(t, node, 1)
	script := redistest.Dial(t, node.Addr)
	script.Send("EVAL", "while true do end", "0")
	script.Flush()
	redistest.Eventually(t, 10*time.Second, "the node is busy", func() bool {
		return strings.HasPrefix(redistest.Ask(node.Addr, "PING").Text, "BUSY ")
	})
	for _, fence := range []switching.Fence{{}, {All: true}} {
		err := nodeOf(node).Flip(within(t, time.Second), to, fence)
		if err == nil || !strings.Contains(err.Error(), "BUSY") || !strings.Contains(err.Error(), "SCRIPT KILL") {
			t.Errorf("%v", err)
		}
	}
	flipped := make(chan error, 1)
	go func() { flipped <- nodeOf(node).Flip(within(t, 20*time.Second), to, switching.Fence{}) }()
	node.Do("SCRIPT", "KILL")
	if err := <-flipped; err != nil {
		t.Error(err)
	}
}

// TestFlipOfANodeThatCannotSave: such a node refuses to enter an epoch. The error says how it can.
func TestFlipOfANodeThatCannotSave(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	to := decided(t, node, 1)
	dir := node.Do("CONFIG", "GET", "dir").Elems[1].Text
	if err := os.Mkdir(filepath.Join(dir, "dump.rdb"), 0o700); err != nil { // the node cannot write that file
		t.Fatal(err)
	}
	node.Do("CONFIG", "SET", "save", "3600 1")
	node.Do("SET", "x", "y")
	node.Do("BGSAVE")
	redistest.Eventually(t, 20*time.Second, "the node cannot save", func() bool {
		return strings.Contains(node.Do("INFO", "persistence").Text, "rdb_last_bgsave_status:err")
	})
	err := nodeOf(node).Flip(within(t, 20*time.Second), to, switching.Fence{})
	if err == nil || !strings.Contains(err.Error(), "MISCONF") ||
		!strings.Contains(err.Error(), "set its stop-writes-on-bgsave-error to no") {
		t.Errorf("%v", err)
	}
	node.Do("CONFIG", "SET", "stop-writes-on-bgsave-error", "no")
	if err := nodeOf(node).Flip(within(t, 20*time.Second), to, switching.Fence{}); err != nil {
		t.Error(err)
	}
}
