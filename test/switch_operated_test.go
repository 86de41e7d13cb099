package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// operated is a keyway whose layout an operator changes.
type operated struct {
	t            *testing.T
	a, b, c      *redistest.Node
	older, newer string // configurations: of a and b, and of a and c
	k            *reloadable
}

func newOperated(t *testing.T) *operated {
	o := &operated{t: t, a: redistest.Start(t), b: redistest.Start(t), c: redistest.Start(t)}
	o.older = redistest.Ring(o.a.Addr, o.b.Addr)
	o.newer = fmt.Sprintf("layout: modulo\nnodes: [{name: a, addr: \"%s\"}, {name: c, addr: \"%s\"}]\n",
		o.a.Addr, o.c.Addr)
	fillBy(t, o.older)
	o.k = startReloadable(t, o.older, "")
	return o
}

// files writes both configurations.
func (o *operated) files() (older, newer string) {
	return redistest.WriteFile(o.t, "old.yml", o.older), redistest.WriteFile(o.t, "new.yml", o.newer)
}

// run runs a command, and requires an exit status and texts.
func (o *operated) run(status int, want string, args ...string) string {
	o.t.Helper()
	out, got := keyway(o.t, args...)
	if got != status || !strings.Contains(out, want) {
		o.t.Errorf("keyway %s: status %d, want %d and %q:\n%s", args, got, status, want, out)
	}
	if n := lost(o.t, o.k.listen); n != 0 {
		o.t.Errorf("after keyway %s: %d keys are hidden", args, n)
	}
	return out
}

// records returns the names of the records that a node has.
func (o *operated) records(n *redistest.Node) (names []string) {
	for _, library := range n.Do("FUNCTION", "LIST", "LIBRARYNAME", register.Pattern).Elems {
		names = append(names, library.Elems[1].Text)
	}
	slices.Sort(names)
	return names
}

// TestOperatorChangesLayout: an operator who has the file of either layout takes a change back, cancels
// one that has not begun, changes the layout with one file, and makes the nodes forget what was before.
func TestOperatorChangesLayout(t *testing.T) {
	t.Parallel()
	o := newOperated(t)
	older, newer := o.files()
	o.run(1, "name both files: keyway switch OLD.yml "+newer, "switch", newer)
	o.run(1, "these nodes know of no change of the layout", "reverse", "-c", older)
	o.run(0, "no change is planned\n", "cancel", "-c", older)
	plan := register.Plan{Record: register.Record{Epoch: 1, Old: layoutOf(t, o.older), New: layoutOf(t, o.newer)}}
	if _, err := nodeOf(o.a).Plan(within(t, 20*time.Second), plan); err != nil {
		t.Fatal(err)
	}
	o.run(1, "the change to epoch 1 has not begun", "reverse", "-c", older)
	o.run(0, "cancelled: the change to epoch 1 does not take place\n", "cancel", "-c", newer)
	o.run(0, "no change is planned\n", "cancel", "-c", older)
	o.run(0, "All 100 keys are where the layout places them.", "switch", "--wait", older, newer)
	o.run(0, "no change is planned\n", "cancel", "-c", newer)
	o.run(0, "all nodes are in epoch 3", "reverse", "--wait", "-c", older)
	if keys := o.c.Keys(); len(keys) > 0 {
		t.Errorf("%d keys have not gone back", len(keys))
	}
	o.run(0, "all nodes are in epoch 4", "switch", "--wait", newer)
	o.run(1, "this layout is in force since epoch 4", "switch", "-c", newer)

	o.run(1, "epoch 4 is in force, not 3", "forget", "3", "-c", newer)
	o.run(1, "has another layout (placement "+layoutOf(t, o.older).Hash+")", "forget", "4", "-c", newer)
	o.k.nodes = o.newer
	o.k.expect(o.k.reload(""), "reloaded keyway.yml\n  the layout of this file is in force\n")
	var out string
	redistest.Eventually(t, 20*time.Second, "the keyway's file agrees", func() bool {
		var status int
		out, status = keyway(t, "forget", "4", "-c", newer)
		return status == 0
	})
	want := "node b (" + o.b.Addr + ") may be shut down: 0 keys, no keyway is connected\n"
	if !strings.Contains(out, want) {
		t.Errorf("lacks %q:\n%s", want, out)
	}
	for _, n := range []*redistest.Node{o.a, o.b, o.c} {
		for _, name := range o.records(n) {
			if !strings.HasPrefix(name, "keyway_4") {
				t.Errorf("%s still has the record %s", n.Addr, name)
			}
		}
		if !slices.Contains(o.records(n), "keyway_4") {
			t.Errorf("%s does not know what is in force: %q", n.Addr, o.records(n))
		}
	}
	o.b.Kill()
	o.run(0, "All 100 keys are where the layout places them.", "verify", "-c", o.k.file)
}
