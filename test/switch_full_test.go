package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestSwitchAwayFromFullNode: a node is full and evicts nothing, so the layout gets another one. The plan is ready,
// and the change goes through. Where keyway may not raise the node's limit for the moment, no change begins: the
// node could not enter the epoch, and nobody could use it. Both commands say what to do, and that helps.
func TestSwitchAwayFromFullNode(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{
		"with CONFIG": "", "without CONFIG": "backend: {username: limited, password: pw}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := redistest.Three(t)
			for _, n := range nodes {
				n.Do("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-config", "+config|get")
			}
			older := options + "layout: slots\nslots: {static: {a: 0, b: 1-16383}}\n" + redistest.NodesYAML(nodes[:2])
			newer := options + "layout: slots\nslots: {static: {a: 0, b: 1-8191, c: 8192-16383}}\n" +
				redistest.NodesYAML(nodes)
			k, full := redistest.ServeProcess(t, older), nodes[1]
			fillUp(t, full)
			out, status := keyway(t, "plan", older, newer)
			if options != "" {
				raise, back := commandsIn(t, out)
				if status != 2 {
					t.Errorf("keyway plan: %d %s", status, out)
				}
				out, status = keyway(t, "switch", "--wait", older, newer)
				if status != 2 || hasRecord(nodes[0], register.PlanName(1)) {
					t.Errorf("the change begins: %d %s", status, out)
				}
				full.Do(raise...)
				defer full.Do(back...)
			} else if status != 0 || !strings.Contains(out, "node b refuses new keys, and none move to it: OOM") {
				t.Errorf("keyway plan: %d %s", status, out)
			}
			if out, status = keyway(t, "switch", "--wait", older, newer); status != 0 {
				t.Errorf("keyway switch: %d %s", status, out)
			}
			if options == "" && full.Do("CONFIG", "GET", "maxmemory").String() != fullLimit {
				t.Errorf("the limit is %s", full.Do("CONFIG", "GET", "maxmemory"))
			}
			if b, c := len(full.Keys()), len(nodes[2].Keys()); b+c != 100 || c < 20 {
				t.Errorf("b has %d keys, and c %d", b, c)
			}
			c := redistest.Dial(t, k.Addr)
			for i := range 100 {
				c.Expect("10000", "STRLEN", fmt.Sprint(i))
			}
		})
	}
}

// commandsIn returns the commands that an error of a full node names: one that raises the limit, and one that
// sets it as it was.
func commandsIn(t *testing.T, text string) (raise, back []string) {
	t.Helper()
	_, command, _ := strings.Cut(text, "; CONFIG SET")
	command, last, ok := strings.Cut(command, ", run the command again, and then ")
	if !ok {
		t.Fatalf("it does not say what to do: %s", text)
	}
	last, _, _ = strings.Cut(last, "\n")
	return strings.Fields("CONFIG SET" + command), strings.Fields(last)
}

// TestSwitchToNodeThatIsFull: a node to which keys should move is full before the change. Neither plan nor switch
// finds that ready, and nothing is planned. Both say why. When the node has more memory, the change goes
// through.
func TestSwitchToNodeThatIsFull(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
	layout := "layout: slots\nslots: {static: {a: 0-%d, b: %d-16383}}\n" + redistest.NodesYAML(nodes)
	older, newer := fmt.Sprintf(layout, 11_999, 12_000), fmt.Sprintf(layout, 8191, 8192)
	k := redistest.ServeProcess(t, older)
	c := redistest.Dial(t, k.Addr)
	for i := range 100 {
		c.Expect("OK", "SET", fmt.Sprint(i), "x")
	}
	nodes[1].Do("CONFIG", "SET", "maxmemory", "1")
	for _, command := range []string{"plan", "switch"} {
		out, status := keyway(t, command, older, newer)
		for _, want := range []string{
			"memory: node b needs ", "it would refuse writes; give it at least ",
			"memory: node b refuses new keys: OOM ", "mend that first: keys cannot move to it",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("keyway %s lacks %q:\n%s", command, want, out)
			}
		}
		if status != 2 || hasRecord(nodes[0], register.PlanName(1)) {
			t.Errorf("keyway %s: exit status %d", command, status)
		}
	}
	nodes[1].Do("CONFIG", "SET", "maxmemory", "0")
	if out, status := keyway(t, "switch", "--wait", older, newer); status != 0 {
		t.Errorf("keyway switch: %d %s", status, out)
	}
	for i := range 100 {
		c.Expect("x", "GET", fmt.Sprint(i))
	}
}
