package proxy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// movingTable returns a table that exchanges the keys of the rig's nodes.
func movingTable(t *testing.T, r *rig) *router.Table {
	owned := [][]slots.Range{{{First: 8192, Last: 16383}}, {{First: 0, Last: 8191}}}
	older, err := router.NewStaticSlots(r.w.Table.Nodes, owned)
	if err != nil {
		t.Fatal(err)
	}
	return router.Moving(older, r.w.Table)
}

func (r *rig) replaceLayout(table *router.Table) {
	r.w.Turn(r.now, time.Unix(1000, 0))
	ReplaceLayout(r.w, table)
	r.endTurn()
}

// round checks that both nodes get a command, and answers it.
func (r *rig) round(command, a, b string) {
	r.t.Helper()
	for i, reply := range []string{a, b} {
		if got := r.sent(i); got != command {
			r.t.Errorf("node %d was sent %q", i, got)
		}
		r.node(i, reply)
	}
	r.endTurn()
}

func keysReply(keys ...string) string { return string(resp.AppendCommand(nil, keys...)) }

// sorted returns the elements of an array of keys, in order.
func sorted(reply string) string {
	var keys []string
	_, rest, _ := resp.Elements([]byte(reply))
	for len(rest) > 0 {
		var one []byte
		one, rest, _ = resp.Split(rest)
		key, _ := resp.Bulk(one)
		keys = append(keys, string(key))
	}
	slices.Sort(keys)
	return strings.Join(keys, " ")
}

// TestKeysInTwoRounds: while keys move, KEYS asks all masters twice, one round after the other, and
// returns each key once, and never a guard. A round counts only if the keys of its whole time moved in
// one epoch.
func TestKeysInTwoRounds(t *testing.T) {
	keys := string(cmd("KEYS", "*"))
	for _, c := range []struct {
		name           string
		before, within bool // keys move before the command, and since its first replies
		isReplaced     bool // the layout, between these
		rounds         int
	}{
		{"never", false, false, false, 1}, {"all the time", true, true, false, 2},
		{"from now on", false, true, true, 3},
		{"no more", true, false, true, 2}, {"in between", false, false, true, 2},
	} {
		r := newRig(t, Options{})
		steady, moving := r.w.Table, movingTable(t, r)
		if c.before {
			r.replaceLayout(moving)
		}
		r.feed(keys)
		if c.isReplaced {
			if c.within {
				r.replaceLayout(moving)
			} else {
				r.replaceLayout(steady)
			}
		}
		for i := range c.rounds {
			if got := r.got(); got != "" {
				t.Fatalf("%s: the client gets %q after %d rounds", c.name, got, i)
			}
			r.round(keys, keysReply("x", "y", "keyway:guard:1:{x}"), keysReply("z"))
		}
		if got := r.got(); sorted(got) != "x y z" {
			t.Errorf("%s: the client gets %q", c.name, got)
		}
		for i := range 2 {
			if got := r.sent(i); got != "" {
				t.Errorf("%s: node %d is also sent %q", c.name, i, got)
			}
		}
	}
}

// TestFlushInTwoRounds: while keys move, FLUSHALL empties all masters twice, one round after the
// other. An error ends it.
func TestFlushInTwoRounds(t *testing.T) {
	flush := string(cmd("FLUSHALL", "ASYNC"))
	r := newRig(t, Options{})
	r.replaceLayout(movingTable(t, r))
	r.feed(flush)
	r.round(flush, "+OK\r\n", "+OK\r\n")
	if got := r.got(); got != "" {
		t.Errorf("after the first round: %q", got)
	}
	r.round(flush, "+OK\r\n", "+OK\r\n")
	if got := r.got(); got != "+OK\r\n" {
		t.Errorf("after both rounds: %q", got)
	}
	r.feed(flush)
	r.round(flush, "+OK\r\n", "-NOPERM no\r\n")
	if got := r.got(); !strings.HasPrefix(got, "-ERR keyway: FLUSHALL may have been executed on some nodes only") {
		t.Errorf("after an error: %q", got)
	}
	r.feed(flush)
	r.round(flush, "+OK\r\n", "+OK\r\n")
	r.w.Gone(r.s)
	for i := range 2 {
		if got := r.sent(i); got != flush {
			t.Errorf("node %d was sent %q", i, got)
		}
		r.node(i, "+OK\r\n") // the client has left
	}
	r.endTurn()
}
