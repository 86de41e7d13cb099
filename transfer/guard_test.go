package transfer_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/transfer"
)

// converse moves key0 with a guard between two nodes, and returns the commands for the destination.
// before is called before each command there.
func converse(from, to *node, before func(args []string)) (sent string, b *transfer.Batch) {
	w := from.w
	conns := map[transfer.Side]*conn{
		transfer.Source: w.connect(from, nil, nil), transfer.Destination: w.connect(to, nil, nil),
	}
	for _, c := range conns {
		c.copies = true
	}
	b = new(transfer.Batch)
	b.Begin(&transfer.Pair{Fenced: true, Label: "7", Guard: "G"}, "key0")
	var lines []string
	for now := int64(1); ; {
		step := b.Next(now)
		switch {
		case step.To == transfer.None && step.Until == 0:
			return strings.Join(lines, ", "), b
		case step.To == transfer.None:
			now = step.Until
			continue
		}
		frames := step.Frames
		for range step.Replies {
			var p resp.Parser
			n, _, _ := p.Next(frames, &resp.DefaultLimits)
			frames = frames[n:]
			var args []string
			for i := range p.Len() {
				args = append(args, string(p.Arg(i)))
			}
			if step.To == transfer.Destination && args[0] != "TIME" {
				before(args)
				lines = append(lines, strings.Join(args[:min(len(args), 3)], " "))
			}
			reply, _ := conns[step.To].n.execute(conns[step.To], args)
			b.Reply(reply)
		}
	}
}

// newPair returns two nodes of a world in which nothing happens by itself.
func newPair() (from, to *node) {
	w := &world{
		worldKind: worldKind{fenced: true}, rand: rand.New(rand.NewPCG(1, 2)), calm: true,
		ran: map[string]bool{}, deadlines: map[string]int64{},
	}
	for i := range 2 {
		w.nodes = append(w.nodes, &node{
			w: w, name: fmt.Sprint("n", i), ahead: int64(time.Hour),
			data: map[string]entry{}, replica: map[string]entry{},
		})
	}
	return w.nodes[0], w.nodes[1]
}

// TestGuardIsThere: a copy creates its guard before it reads, makes sure that it is there, and
// removes it in the end, whatever becomes of the key.
func TestGuardIsThere(t *testing.T) {
	const guard = "keyway:guard:G:{key0}"
	look := strings.ReplaceAll("MULTI, EXEC, SET G , WATCH key0 G, EXISTS key0, EXISTS G", "G", guard)
	moved := strings.ReplaceAll(", MULTI, RESTORE key0 0, DEL G, EXEC", "G", guard)
	value := entry{"string", "a", 0}
	flushed := false
	for _, c := range []struct {
		name, want string
		prepare    func(from, to *node)
		before     func(to *node, args []string)
		outcome    transfer.Outcome
	}{
		{name: "moves", want: look + moved, outcome: transfer.Moved},
		{name: "is not there", want: look + ", DEL " + guard, outcome: transfer.Absent,
			prepare: func(from, _ *node) { delete(from.data, "key0") }},
		{name: "is on both", want: look + ", TYPE key0, PTTL key0, DUMP key0, DEL " + guard, outcome: transfer.Joined,
			prepare: func(_, to *node) { to.data["key0"] = value }},
		{name: "is removed at once", want: look + ", " + look + moved, outcome: transfer.Moved,
			before: func(to *node, args []string) {
				if args[0] == "WATCH" && !flushed {
					flushed = true
					to.runForClients(to.w.connect(to, nil, nil), []string{"FLUSHALL"})
				}
			}},
		{name: "is full", want: look, outcome: transfer.Again, prepare: func(_, to *node) { to.full = true }},
	} {
		from, to := newPair()
		from.data["key0"] = value
		if c.prepare != nil {
			c.prepare(from, to)
		}
		got, b := converse(from, to, func(args []string) {
			if c.before != nil {
				c.before(to, args)
			}
		})
		if got != c.want || b.Keys()[0].Outcome != c.outcome {
			t.Errorf("%s: outcome %d, sent %s", c.name, b.Keys()[0].Outcome, got)
		}
		if f := b.Failure(); to.full != (f != nil && f.IsReply && strings.HasPrefix(f.Text, "OOM ")) {
			t.Errorf("%s: %+v", c.name, f)
		}
		if _, left := to.data[guard]; left {
			t.Errorf("%s: the guard is left", c.name)
		}
	}
}

// TestGuardIsInTheSlot: a node of a cluster executes a transaction only if all its keys are in one
// slot.
func TestGuardIsInTheSlot(t *testing.T) {
	for _, key := range []string{"key0", "{tag}key", "", "a}b", "a{}b", "}", strings.Repeat("x", 1000)} {
		p := transfer.Pair{Fenced: true, Guard: "G"}
		var b transfer.Batch
		b.Begin(&p, key)
		guard := ""
		for step := b.Next(1); guard == ""; step = b.Next(1) {
			for _, arg := range strings.Split(string(step.Frames), "\r\n") {
				if transfer.IsGuard(arg) {
					guard = arg
				}
			}
			for range step.Replies {
				b.Reply([]byte("*2\r\n$1\r\n1\r\n$1\r\n2\r\n"))
			}
		}
		if slots.Of([]byte(guard)) != slots.Of([]byte(key)) {
			t.Errorf("the guard of %q is %q", key, guard)
		}
	}
}

// TestGuardsAreLeftOut: clients do not see the guards.
func TestGuardsAreLeftOut(t *testing.T) {
	keys := resp.AppendCommand(nil, "a", "keyway:guard:x:{a}", "keyway:stray:1:b")
	if got := string(transfer.WithoutGuards(keys)); got != string(resp.AppendCommand(nil, "a", "keyway:stray:1:b")) {
		t.Errorf("%q", got)
	}
}
