package test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestDecideOnce: of twenty processes that decide at once, some that a change takes place and some
// that it is cancelled, all get the same decision, and so does everybody later.
func TestDecideOnce(t *testing.T) {
	t.Parallel()
	home := redistest.Start(t)
	redistest.Replica(t, home)
	won, next := map[bool]int{}, planOf(1)
	for epoch := int64(1); epoch <= 20; epoch++ {
		ctx := within(t, 20*time.Second)
		next.Epoch = epoch
		if _, err := nodeOf(home).Plan(ctx, next); err != nil {
			t.Fatal(err)
		}
		decided := make([]bool, 20)
		var all sync.WaitGroup
		for i := range decided {
			all.Go(func() {
				d := []register.Decision{register.Go, register.Cancelled}[(i+int(epoch))%2]
				to, err := nodeOf(home).Decide(ctx, epoch, d)
				if err != nil {
					t.Error(err)
				}
				decided[i] = to != nil
			})
		}
		all.Wait()
		for i := range decided {
			if decided[i] != decided[0] {
				t.Errorf("epoch %d: process 0 has read %v, and process %d %v", epoch, decided[0], i, decided[i])
			}
		}
		if won[decided[0]]++; decided[0] { // the next change may follow, which leads back
			next.Old, next.New = next.New, next.Old
			if err := switching.Finish(ctx, nodeOf(home), nil, epoch); err != nil {
				t.Error(err)
			}
		}
		if hasRecord(home, register.Name(epoch)) {
			t.Errorf("epoch %d: a decision puts a layout in force by itself", epoch)
		}
	}
	t.Logf("%v", won)
}

// change is a change of the layout of two nodes.
type change struct {
	t           *testing.T
	home, other *redistest.Node
	nodes       []*switching.Node // home first
	ctx         context.Context
}

func newChange(t *testing.T) *change {
	home, other := redistest.Start(t), redistest.Start(t)
	return &change{
		t: t, home: home, other: other, nodes: []*switching.Node{nodeOf(home), nodeOf(other)},
		ctx: within(t, 60*time.Second),
	}
}

// is requires that the nodes say that the change has a state.
func (c *change) is(want switching.State) switching.Status {
	c.t.Helper()
	s, err := switching.Read(c.ctx, c.nodes[0], c.nodes)
	if err != nil || s.State != want {
		c.t.Errorf("the change is %s, want %s: %+v, %v", s.State, want, s, err)
	}
	return s
}

func (c *change) plan(epoch int64) error {
	_, err := c.nodes[0].Plan(c.ctx, planOf(epoch))
	return err
}

func (c *change) do(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Error(err)
	}
}

// TestSwitchIsRead: the state of a change is what the registers and the clients of its nodes say,
// for whoever looks.
func TestSwitchIsRead(t *testing.T) {
	t.Parallel()
	c := newChange(t)
	c.is(switching.Steady)
	c.do(c.plan(1))
	control := redistest.Dial(t, c.home.Addr)
	redistest.Dial(t, c.home.Addr).MustDo("CLIENT", "SETNAME", guard.ConnectionName("kw", 0, "1a"))
	c.is(switching.Planned)
	control.MustDo("CLIENT", "SETNAME", guard.StateName("kw", 1, "prepared", "1a"))
	if s := c.is(switching.Prepared); len(s.Members) != 1 || s.Members[0].State != "prepared" ||
		s.Members[0].Serves != 0 || s.Members[0].Instance != "kw" {
		t.Errorf("members: %+v", s.Members)
	}
	c.do(c.nodes[0].Hold(c.ctx, 1, 1))
	c.do(c.nodes[0].Hold(c.ctx, 1, 2))
	if s := c.is(switching.Holding); s.Holds != 2 {
		t.Errorf("%+v", s)
	}
	to, err := c.nodes[0].Decide(c.ctx, 1, register.Go)
	c.do(err)
	c.do(c.nodes[1].Flip(c.ctx, to, switching.Fence{}))
	if s := c.is(switching.Flipping); len(s.Behind) != 1 || s.Behind[0] != c.nodes[0].Name {
		t.Errorf("%+v", s)
	}
	c.do(c.nodes[0].Flip(c.ctx, to, switching.Fence{}))
	c.is(switching.Moving)
	c.do(c.nodes[0].Drained(c.ctx, 1, "A-1:b"))
	if s := c.is(switching.Moving); len(s.Drained) != 1 || s.Drained[0] != "A-1:b" {
		t.Errorf("%+v", s)
	}
	c.do(switching.Finish(c.ctx, c.nodes[0], c.nodes, 1))
	c.is(switching.Done)
	if !hasRecord(c.other, register.DoneName(1)) {
		t.Error("a keyway that knows only the new nodes does not see that the change is done")
	}
	if err := c.plan(2); err == nil || !strings.Contains(err.Error(), "the layout of epoch 1 is in force") {
		t.Errorf("a change from the layout that was in force before: %v", err)
	}
	back := planOf(2)
	back.Old, back.New = back.New, back.Old
	_, err = c.nodes[0].Plan(c.ctx, back)
	c.do(err)
	c.is(switching.Planned)
}

// TestCancelledChange: a change that is cancelled never takes place, and its number is not used
// again. There is one change at a time.
func TestCancelledChange(t *testing.T) {
	t.Parallel()
	c := newChange(t)
	c.do(c.plan(1))
	if err := c.plan(2); err == nil || !strings.Contains(err.Error(), "the change to epoch 1 is under way") {
		t.Errorf("two changes at once: %v", err)
	}
	for _, d := range []register.Decision{register.Cancelled, register.Go} {
		to, err := c.nodes[0].Decide(c.ctx, 1, d)
		if c.do(err); to != nil {
			t.Error("a cancelled change takes place")
		}
	}
	c.is(switching.Steady)
	next, err := switching.Next(c.ctx, c.nodes)
	if c.do(err); next != 2 {
		t.Errorf("the next change is to epoch %d", next)
	}
	c.do(c.plan(2))
	if _, err := c.nodes[1].Decide(c.ctx, 2, register.Go); err == nil {
		t.Error("a node that is not the home decides")
	}
}

// TestReverseIsPlanned: while keys move, the only next change is the way back.
func TestReverseIsPlanned(t *testing.T) {
	t.Parallel()
	home := redistest.Start(t)
	ctx := within(t, 20*time.Second)
	if err := nodeOf(home).Flip(ctx, decided(t, home, 1), switching.Fence{}); err != nil {
		t.Fatal(err)
	}
	third, back := planOf(2), planOf(2)
	third.New.Hash = "3c"
	back.Old, back.New = back.New, back.Old
	if _, err := nodeOf(home).Plan(ctx, third); err == nil {
		t.Error("a change to a third layout is planned")
	}
	if got, err := nodeOf(home).Plan(ctx, back); err != nil || got.New.Hash != "1a" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := nodeOf(home).Plan(ctx, third); err != nil || got.New.Hash != "1a" {
		t.Errorf("the second plan of an epoch wins: %+v, %v", got, err)
	}
}

// TestChangesPlannedAtOnce: two commands plan different changes at the same time. The one that comes second
// does not carry out the plan of the other, and one whose change is cancelled says so at once.
func TestChangesPlannedAtOnce(t *testing.T) {
	t.Parallel()
	c := newChange(t)
	c.do(c.plan(1))
	d := &switching.Driver{Home: c.nodes[0], Nodes: c.nodes[1:]} // the other node does not know of epoch 1
	d.Report = func(string, ...any) {}
	p := planOf(0)
	p.New.Hash = "3c"
	if _, err := d.Begin(c.ctx, p); err == nil || !strings.Contains(err.Error(), "somebody else has just planned") {
		t.Errorf("the plan of another command: %v", err)
	}
	c.is(switching.Planned)
	redistest.Dial(t, c.home.Addr).MustDo("CLIENT", "SETNAME", guard.StateName("kw", 0, "idle", "1a"))
	_, err := c.nodes[0].Decide(c.ctx, 1, register.Cancelled)
	c.do(err)
	if _, err := d.Begin(c.ctx, planOf(0)); !errors.Is(err, switching.ErrCancelled) { // as if it was cancelled just now
		t.Errorf("cancelled by somebody else: %v", err)
	}
}

// TestCommandIsSlow: a command that is stopped until keyways hold their commands no more asks them once more, and
// cancels the change if that does not help. Otherwise clients would not know what became of their commands.
func TestCommandIsSlow(t *testing.T) {
	t.Parallel()
	for stops, want := range map[int]string{1: "", 3: "cancelled, since this command was stopped for longer than"} {
		home := redistest.Start(t)
		redistest.Dial(t, home.Addr).MustDo("CLIENT", "SETNAME", guard.StateName("kw", 1, "held", "1a"))
		d := &switching.Driver{Home: nodeOf(home), Nodes: []*switching.Node{nodeOf(home)}}
		left := stops
		d.Report = func(format string, _ ...any) {
			if strings.Contains(format, "hold their commands") && left > 0 {
				left--
				time.Sleep(150 * time.Millisecond)
			}
		}
		p := planOf(0)
		p.Options = []byte(`{"hold": 100000000}`)
		_, err := d.Begin(within(t, 20*time.Second), p)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("stopped %d times: %v", stops, err)
		}
		hasEntered := hasRecord(home, register.Name(1))
		if !hasRecord(home, register.HoldName(1, min(stops+1, 3))) || hasEntered != (want == "") {
			t.Errorf("stopped %d times: the home has %q", stops, home.Do("FUNCTION", "LIST").Text)
		}
	}
}
