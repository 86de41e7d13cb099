package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/switching"
)

// RunSwitch simulates changes of the layout that commands carry out, of which several may run at
// once.
func RunSwitch(t *testing.T) func(seed uint64, trace *strings.Builder) (failure, summary string) {
	return func(seed uint64, trace *strings.Builder) (failure, summary string) {
		synctest.Test(t, func(*testing.T) { failure, summary = runSwitch(seed, trace) })
		return failure, summary
	}
}

// newShell returns nodes, two layouts, and a shell without keyways.
func newShell(seed uint64, trace *strings.Builder) (*world, *shell) {
	w := newNodes(seed, trace)
	w.timeouts = defaults
	s := &shell{c: w.change, records: map[int64]*records{}, nextAt: w.rng.Int64N(int64(time.Second))}
	if s.isQuiet = seed%4 == 0; seed%8 == 4 {
		w.chaos.hangup, w.chaos.stall = w.rng.IntN(10), w.rng.IntN(20)
		s.c.unrest = chaos{cut: 1 + w.rng.IntN(40), freeze: w.rng.IntN(8), crash: w.rng.IntN(8)}
	}
	w.change.shell = s
	for _, n := range w.nodes {
		n.redis.Hooks.Loaded = func(name, code string) { s.loaded(n, name, code) }
	}
	return w, s
}

func runSwitch(seed uint64, trace *strings.Builder) (failure, summary string) {
	w, s := newShell(seed, trace)
	c := w.change
	c.startAll(seed)
	for w.now < int64(8*time.Second) && w.failure == "" {
		w.turn()
	}
	w.endFaults()
	s.finish()
	w.settle()
	c.readAll()
	for range 3 {
		w.settle()
	}
	c.checkEnd()
	s.stop()
	return w.failure, fmt.Sprintf("%d replies, %d refused, %d unknown, %d executed, %d sockets, %d commands, "+
		"epoch %d, %d changes, %d keys moved, %d read before, %d keyways started", w.replies, w.refusals, w.unknowns,
		w.executed, w.redials, s.begun, c.epoch, len(s.decided), c.restored, w.stays, c.started)
}

// goOn lets one step of time pass for all processes.
func (s *shell) goOn() {
	c, w := s.c, s.c.world
	time.Sleep(time.Duration(step))
	synctest.Wait()
	for i, k := range c.keyways {
		s.parts[i].until = k.sleepsUntil
		s.parts[i].turn()
	}
	for _, p := range slices.Concat(s.commands, s.dead) {
		p.turn()
	}
	synctest.Wait()
	for _, l := range w.conns {
		at, _ := l.Bind.(*link)
		if k := c.keywayOf(at.owner); l.Epoch > k.epoch && l.Epoch > k.adopts && k.worker != nil {
			c.tell(k, l.Epoch, 30*time.Millisecond)
		}
	}
	for _, k := range c.keyways {
		if k.adopts > k.epoch && w.now >= k.adoptAt && w.now >= k.sleepsUntil {
			k.adopts = k.epoch
			s.obey(k)
		}
	}
	if w.faults {
		c.breakKeyways()
		s.breakCommands()
		s.mayBegin()
	}
}

// breakCommands lets commands freeze and die, and connections of processes end.
func (s *shell) breakCommands() {
	w, unrest := s.c.world, s.c.unrest
	if unrest.cut == 0 {
		return
	}
	for _, p := range s.commands {
		switch {
		case p.hasEnded() || w.now < p.until:
		case w.chance(3 * unrest.freeze):
			p.freeze(1500 * time.Millisecond)
		case w.chance(3 * unrest.crash):
			w.logf("%s dies", p.name)
			p.die()
		}
	}
	for _, p := range slices.Concat(s.parts, s.commands) {
		for _, x := range p.wires {
			if !x.isClosed && w.chance(unrest.cut/4) {
				w.logf("a connection of %s is cut", p.name)
				x.hangUp()
			}
		}
	}
}

// mayBegin starts commands at random: up to three that carry out one change, or one that cancels.
func (s *shell) mayBegin() {
	w := s.c.world
	if w.now < s.nextAt || s.begun >= 8 {
		return
	}
	s.nextAt = w.now + w.rng.Int64N(int64(3*time.Second))
	to := 1 - s.layoutOf(s.c.epoch)
	switch w.rng.IntN(6) {
	case 0:
		to = 1 - to // the change that has been decided goes on
	case 1:
		s.command("cancel", func(ctx context.Context, p *process) error { return s.cancel(ctx, p, to) })
		return
	}
	for range 1 + w.rng.IntN(3) {
		s.begin(to, w.rng.IntN(4) == 0, w.rng.IntN(2) == 0)
	}
}

// begin starts a command that changes to a layout.
func (s *shell) begin(to int, strict, waits bool) {
	s.command("switch to "+hashes[to], func(ctx context.Context, p *process) error {
		return s.carryOut(ctx, p, to, strict, waits)
	})
}

func (s *shell) command(name string, run func(ctx context.Context, p *process) error) {
	s.begun++
	name = fmt.Sprintf("command %d, %s,", s.begun, name)
	s.c.world.logf("%s begins", name)
	s.commands = append(s.commands, s.c.world.spawn(name, func(ctx context.Context, p *process) {
		err := run(ctx, p)
		_ = p.ask(ctx, "ended", func() { s.c.world.logf("%s has ended: %v", name, err) })
	}))
}

// move takes part in moving the keys of the change to an epoch, until that is over.
func (s *shell) move(ctx context.Context, p *process, name string, to int, epoch int64, stands bool) {
	mover.Run(ctx, mover.Options{
		Instance: name, Fallback: stands, Log: slog.New(slog.DiscardHandler),
		Find: func(context.Context) (*mover.Work, error) {
			w := &mover.Work{Epoch: epoch, From: s.layout(p, 1-to), To: s.layout(p, to)}
			w.Home, w.Nodes = s.ends(p, to)
			for _, i := range s.c.masters[to] {
				w.Newer = append(w.Newer, s.nodeFor(p, i))
			}
			return w, nil
		},
	})
}

// ends returns the home of a change to a layout, and all nodes of both layouts, as a process knows
// them.
func (s *shell) ends(p *process, to int) (home *switching.Node, nodes []*switching.Node) {
	for _, i := range s.c.masters[1-to] {
		nodes = append(nodes, s.nodeFor(p, i))
	}
	for _, i := range s.c.masters[to] {
		if !slices.Contains(s.c.masters[1-to], i) {
			nodes = append(nodes, s.nodeFor(p, i))
		}
	}
	return nodes[0], nodes
}

func (s *shell) layout(p *process, i int) migrate.Layout {
	return migrate.Layout{
		Table: s.c.tables[i], ConnectTimeout: time.Second, Placement: hashes[i],
		Account: func(router.Node) control.Account { return control.Account{Network: p.connect} },
	}
}

// carryOut is what keyway switch does, also with --wait; see wiring.Switch.
func (s *shell) carryOut(ctx context.Context, p *process, to int, strict, waits bool) error {
	home, nodes := s.ends(p, to)
	d := switching.Driver{Home: home, Nodes: nodes, Strict: strict, Report: func(string, ...any) {}}
	at, err := switching.Read(ctx, home, nodes)
	if err != nil {
		return err
	}
	isThis := at.Plan != nil && at.Plan.New.Hash == hashes[to]
	inForce := 0
	if err := p.ask(ctx, "layout", func() { inForce = s.layoutOf(s.c.epoch) }); err != nil {
		return err
	}
	var in *switching.Commitment
	switch {
	case isThis && !at.Over() && at.Decision != register.Undecided:
		if in, err = home.Decide(ctx, at.Epoch, register.Go); err == nil {
			err = d.Flip(ctx, in)
		}
	case inForce == to:
		return errors.New("nothing has to move")
	case at.State == switching.Planned || at.State == switching.Prepared || at.State == switching.Holding:
		if decided, err := home.Decide(ctx, at.Epoch, register.Cancelled); err != nil || decided != nil {
			return errors.Join(err, errors.New("the change has begun meanwhile"))
		}
		fallthrough
	default:
		in, err = d.Begin(ctx, planOf(0, to))
	}
	if err != nil {
		return err
	}
	if waits {
		s.move(ctx, p, "command", to, in.Epoch, true)
	}
	return ctx.Err()
}

// planOf returns the plan of a change to a layout.
func planOf(epoch int64, to int) register.Plan {
	layout := func(i int) register.Layout {
		return register.Layout{Hash: hashes[i], Config: fmt.Appendf(nil, `"%s"`, hashes[i])}
	}
	return register.Plan{Record: register.Record{Epoch: epoch, Old: layout(1 - to), New: layout(to)}}
}

// cancel is what keyway cancel does.
func (s *shell) cancel(ctx context.Context, p *process, to int) error {
	home, nodes := s.ends(p, to)
	at, err := switching.Read(ctx, home, nodes)
	if err != nil || at.Over() || at.State == switching.Steady {
		return err
	}
	_, err = home.Decide(ctx, at.Epoch, register.Cancelled)
	return err
}

// finish lets one command after another go on, until the last change is done.
func (s *shell) finish() {
	w := s.c.world
	for end := w.now + 4*int64(w.answer); w.failure == "" && !s.isOver(); w.turn() {
		if w.now > end {
			w.failf("epoch %d is not done", s.c.epoch)
		}
		if !s.areRunning() {
			s.begin(s.layoutOf(s.c.epoch), false, true)
		}
	}
}

// areRunning reports whether a command has not ended.
func (s *shell) areRunning() bool {
	return slices.ContainsFunc(s.commands, func(p *process) bool { return !p.hasEnded() })
}

// isOver reports whether nothing is left to do for commands.
func (s *shell) isOver() bool {
	return !s.areRunning() && (s.c.epoch == 0 || s.records[s.c.epoch].done)
}

// isSettled reports whether all keyways serve by the last epoch, whose change is done.
func (s *shell) isSettled() bool {
	return s.isOver() && !slices.ContainsFunc(s.c.keyways, func(k *keyway) bool {
		return k.epoch < s.c.epoch || k.table.IsMoving()
	})
}

// stop ends all processes.
func (s *shell) stop() {
	for _, p := range slices.Concat(s.parts, s.commands) {
		p.die()
	}
	time.Sleep(time.Minute) // some goroutines look at their context now and then
}
