package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// half returns configurations in which b takes over half of a's slots, from one at which b's first slot is
// older.
func half(nodes []*redistest.Node, older, newer int, options string) (before, after string) {
	layout := func(first int) string {
		b := fmt.Sprintf(", b: %d-16383", first)
		if first > 16383 {
			b = ""
		}
		return options + fmt.Sprintf("layout: slots\nslots: {static: {a: 0-%d%s}}\n", first-1, b) +
			redistest.NodesYAML(nodes)
	}
	return layout(older), layout(newer)
}

// TestSwitchAwayFromFullNode: a node is full and evicts nothing, so the layout gets another one. The plan is ready,
// and the change goes through. Where keyway may not raise the node's limit for the moment, it says what to do, and
// that helps.
func TestSwitchAwayFromFullNode(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{
		"with CONFIG": "", "without CONFIG": "backend: {username: limited, password: pw}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
			for _, n := range nodes {
				n.Do("ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-config", "+config|get")
			}
			older, newer := half(nodes, 16384, 8192, options)
			k := redistest.ServeProcess(t, older)
			fillUp(t, nodes[0])
			out, status := keyway(t, "plan", older, newer)
			if status != 0 || !strings.Contains(out, "node a refuses new keys, and none move to it: OOM") {
				t.Errorf("keyway plan: %d %s", status, out)
			}
			out, status = keyway(t, "switch", "--wait", older, newer)
			if options != "" {
				raise, back := commandsIn(t, out)
				if status != 1 || hasRecord(nodes[0], register.PlanName(1)) {
					t.Errorf("a full node has got a plan: %d %s", status, out)
				}
				nodes[0].Do(raise...)
				out, status = keyway(t, "switch", "--wait", older, newer)
				nodes[0].Do(back...)
			}
			if status != 0 {
				t.Errorf("keyway switch: %d %s", status, out)
			}
			if got := nodes[0].Do("CONFIG", "GET", "maxmemory").String(); got != fullLimit {
				t.Errorf("the limit is %s", got)
			}
			if a, b := len(nodes[0].Keys()), len(nodes[1].Keys()); a+b != 100 || b < 20 {
				t.Errorf("a has %d keys, b has %d", a, b)
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
	nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
	older, newer := half(nodes, 12000, 8192, "")
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
