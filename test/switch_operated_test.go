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

// TestOperatorChangesLayout: an operator who has the file of either layout takes a change back, and that, too, cancels
// one that has not begun, and makes the nodes forget what was before.
func TestOperatorChangesLayout(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	o := newOperated(t)
	older, newer := o.files()
	o.run(1, "name both files: keyway switch OLD.yml "+newer, "switch", newer)
	o.run(1, "these nodes know of no change of the layout", "reverse", "--wait", "-c", older)
	o.run(0, "no change is planned\n", "cancel", "-c", older)
	plan := register.Plan{Record: register.Record{Epoch: 1, Old: layoutOf(t, o.older), New: layoutOf(t, o.newer)}}
	if _, err := nodeOf(o.a).Plan(within(t, 20*time.Second), plan); err != nil {
		t.Fatal(err)
	}
	o.run(1, "the change to epoch 1 has not begun", "reverse", "--wait", "-c", older)
	o.run(0, "cancelled: the change to epoch 1 does not take place\n", "cancel", "-c", newer)
	o.run(0, "no change is planned\n", "cancel", "-c", older)
	o.run(0, "changing the layout from ring of a, b (placement ", "switch", "--wait", older, newer)
	o.run(0, "no change is planned\n", "cancel", "-c", newer)
	o.run(0, "taking the change of the layout back, to ring of a, b (placement "+layoutOf(t, o.older).Hash+")\n",
		"reverse", "--wait", "--yes", "-c", older)
	if keys := o.c.Keys(); len(keys) > 0 {
		t.Errorf("%d keys have not gone back", len(keys))
	}
	third := redistest.WriteFile(t, "third.yml", strings.Replace(o.older, "layout: ring", "layout: modulo", 1))
	o.run(1, "layout: this file has neither layout of the last change (epoch 3)", "reverse", "-c", third)
	o.run(0, "ring of 2 nodes -> modulo of 2 nodes", "plan", newer)
	o.run(0, "; that was the change of epoch 3, which took the one before back", "reverse", "--wait", "-c", newer)
	o.decide(5)
	o.run(1, "the change to epoch 5 has begun; keyway reverse takes it back\n", "cancel", "-c", newer)
	o.run(0, "all nodes are in epoch 6", "reverse", "--wait", "-c", newer)
	o.run(1, "this layout is in force since epoch 6", "switch", "-c", newer)

	o.run(1, "epoch 6 is in force, not 3", "forget", "3", "-c", newer)
	o.run(1, "has another layout (placement "+layoutOf(t, o.older).Hash+")", "forget", "6", "-c", newer)
	o.k.nodes = o.newer
	o.k.expect(o.k.reload(""), "reloaded keyway.yml\n  the layout of this file is in force\n")
	o.b.Do("SET", "keyway:guard:x:{k}", "", "EX", "600") // a mover that has died may leave one
	var out string
	redistest.Eventually(t, 20*time.Second, "the keyway's file agrees", func() bool {
		var status int
		out, status = keyway(t, "forget", "6", "-c", newer)
		return status == 0
	})
	want := "node b (" + o.b.Addr + ") may be shut down: 0 keys, no keyway is connected\n"
	if !strings.Contains(out, want) {
		t.Errorf("lacks %q:\n%s", want, out)
	}
	for _, n := range []*redistest.Node{o.a, o.b, o.c} {
		for _, name := range o.records(n) {
			if !strings.HasPrefix(name, "keyway_6") {
				t.Errorf("%s still has the record %s", n.Addr, name)
			}
		}
		if !slices.Contains(o.records(n), "keyway_6") {
			t.Errorf("%s does not know what is in force: %q", n.Addr, o.records(n))
		}
	}
	o.b.Kill()
	o.run(0, "All 100 keys are where the layout places them.", "verify", "-c", o.k.file)
}

// decide decides the change back to the older layout. No node has entered its epoch then; the keyway makes the
// home enter it some time later.
func (o *operated) decide(epoch int64) {
	o.t.Helper()
	ctx := within(o.t, 20*time.Second)
	plan := register.Plan{Record: register.Record{
		Epoch: epoch, Old: layoutOf(o.t, o.newer), New: layoutOf(o.t, o.older),
	}}
	if _, err := nodeOf(o.a).Plan(ctx, plan); err != nil {
		o.t.Fatal(err)
	}
	if to, err := nodeOf(o.a).Decide(ctx, epoch, register.Go); err != nil || to == nil {
		o.t.Fatalf("decided %v, %v", to, err)
	}
}

// wish replaces the layout in the keyway's file, reloads it, and returns the report without figures.
func (r *reloadable) wish(nodes string) string {
	r.nodes = nodes
	return withoutFigures(r.reload(r.text))
}

// TestFileWishes: a file whose layout would move keys makes keyway go on with the layout that it has, and
// wish for the change, which keyway switch then carries out. Its other keys are applied.
func TestFileWishes(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	o := newOperated(t)
	other := startReloadable(t, o.older, "")
	o.k.text = "clients: {max: 5}\n"
	report := o.k.wish(o.newer)
	for _, want := range []string{
		"reloaded keyway.yml\n  clients.max: 10000 -> 5\n  problem: the layout of this file is not in force: layout: " +
			"ring -> modulo; nodes: a, b -> a, c: this would move ",
		"; keyway serves by the layout that it had; keyway switch -c FILE changes it while clients run; to accept",
	} {
		if !strings.Contains(strings.ReplaceAll(report, "nodes[a].weight: (none) -> 1; ", ""), want) {
			t.Errorf("lacks %q:\n%s", want, report)
		}
	}
	if n := lost(t, o.k.listen); n != 0 || len(o.c.Keys()) > 0 {
		t.Errorf("%d keys are hidden, %d are on the node that only the file has", n, len(o.c.Keys()))
	}
	if text := get(t, "http://"+o.k.admin+"/metrics"); !strings.Contains(text, "keyway_layout_not_of_file 1\n") {
		t.Error("the metrics do not say that another layout is in force")
	}
	o.k.expect(o.k.wish(o.older), "reloaded keyway.yml\n  the layout of this file is in force\n")
	o.k.wish(o.newer)
	o.run(0, "All 100 keys are where the layout places them.", "switch", "--wait", "-c", o.k.file)
	if n := lost(t, other.listen); n != 0 {
		t.Errorf("%d keys are hidden at the other keyway", n)
	}
	o.run(0, "this layout is in force since epoch 1", "check", "--connect", "-c", o.k.file)
}

// epochIs waits until a keyway serves by the layout of its file in an epoch.
func (r *reloadable) epochIs(epoch int) {
	r.t.Helper()
	what := fmt.Sprint("the file's layout is in force in epoch ", epoch)
	redistest.Eventually(r.t, 30*time.Second, what, func() bool {
		text := get(r.t, "http://"+r.admin+"/metrics")
		return strings.Contains(text, fmt.Sprintf("keyway_layout_epoch %d\n", epoch)) &&
			strings.Contains(text, "keyway_layout_not_of_file 0\n")
	})
}

// TestFilesAgree: with switch.auto, the layout changes by itself when the files of all keyways have
// another one, and not before. What somebody has taken back does not begin again by itself.
func TestFilesAgree(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	o := newOperated(t)
	other := startReloadable(t, o.older, "")
	const auto = "switch: {auto: true}\n"
	o.k.text, other.text = auto, auto
	o.k.wish(o.newer)
	redistest.Eventually(t, 20*time.Second, "the wish is seen", func() bool {
		return strings.Contains(o.a.Do("CLIENT", "LIST").Text, ":e0-idle-"+layoutOf(t, o.newer).Hash+":")
	})
	if got := o.records(o.a); len(got) > 0 {
		t.Errorf("one keyway's wish is carried out: %q", got)
	}
	other.wish(o.newer)
	o.k.epochIs(1)
	other.epochIs(1)
	for _, addr := range []string{o.k.listen, other.listen} {
		if n := lost(t, addr); n != 0 {
			t.Errorf("%d keys are hidden", n)
		}
	}
	o.run(0, "all nodes are in epoch 2", "reverse", "--wait", "-c", o.k.file)
	redistest.Eventually(t, 20*time.Second, "a log says why nothing begins", func() bool {
		const want = "the same change was cancelled or taken back (epoch 2)"
		return strings.Contains(o.k.stderr.String()+other.stderr.String(), want)
	})
	o.k.wish(o.older)
	other.wish(o.older)
	o.k.epochIs(2)
	other.epochIs(2)
	o.k.wish(o.newer) // somebody wants it after all
	other.wish(o.newer)
	o.k.epochIs(3)
	other.epochIs(3)
}

// TestAutoLeavesWhatIsTakenBack: with switch.auto, what somebody has taken back or cancelled does not begin
// by itself again, although the file was reloaded while its layout was in force, and although the home of
// changes is another node by then.
func TestAutoLeavesWhatIsTakenBack(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	bc := fmt.Sprintf("layout: ring\nnodes: [{name: b, addr: \"%s\"}, {name: c, addr: \"%s\"}]\n",
		nodes[1].Addr, nodes[2].Addr)
	abc := "layout: ring\n" + redistest.NodesYAML(nodes)
	k := startReloadable(t, bc, "")
	k.text = "switch: {auto: true}\n"
	run := func(args ...string) {
		if out, status := keyway(t, args...); status != 0 {
			t.Fatalf("keyway %s: %d\n%s", args, status, out)
		}
	}
	run("switch", "--wait", bc, abc)
	k.wish(abc) // it is in force already
	run("reverse", "--wait", "-c", k.file)
	k.logs("the same change was cancelled or taken back (epoch 2)")
	home := nodeOf(nodes[1])
	_, err := home.Plan(within(t, 20*time.Second), register.Plan{Record: register.Record{
		Epoch: 3, Old: layoutOf(t, bc), New: layoutOf(t, abc),
	}})
	if err == nil {
		_, err = home.Decide(within(t, 20*time.Second), 3, register.Cancelled)
	}
	if err != nil {
		t.Fatal(err)
	}
	k.reload(k.text + "clients: {max: 5}\n") // it looks again at once
	k.logs("the same change was cancelled or taken back (epoch 3)")
}
