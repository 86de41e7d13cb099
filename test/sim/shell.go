package sim

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/switching"
)

// shell is what runs beside the workers: the part of each keyway that takes part in changes, and the
// commands of operators that carry changes out. All of them run in goroutines; see process. It
// reads in the records that nodes create what has been decided, and judges that.
type shell struct {
	c        *change
	parts    []*process // of the keyways, by index
	commands []*process
	dead     []*process // parts of keyways, whose last bytes may be on their way to nodes
	nextAt   int64      // when an operator acts next
	begun    int        // commands
	holds    int        // that keyways have begun
	isQuiet  bool       // the nodes and their network have no faults: clients get no errors; see mayFail

	records map[int64]*records
	decided []int64 // the epochs that take place, in order
}

// records are what the nodes have said about the change to an epoch.
type records struct {
	from, to int // layouts
	decision string
	done     bool
}

// layouts are the hashes of the two layouts.
var hashes = [2]string{"a1", "b2"}

const outage = 500 * time.Millisecond // between two attempts to take a later layout

// layoutOf returns which layout is that of an epoch.
func (s *shell) layoutOf(epoch int64) int {
	if r := s.records[epoch]; r != nil {
		return r.to
	}
	return 0
}

// before returns the epoch by whose layout keys may still lie in an epoch.
func (s *shell) before(epoch int64) int64 {
	at := slices.Index(s.decided, epoch)
	switch {
	case at < 0, s.records[epoch].done:
		return epoch
	case at == 0:
		return 0
	}
	return s.decided[at-1]
}

func (s *shell) tableOf(epoch int64) *router.Table {
	before := s.before(epoch)
	if before == epoch {
		return s.c.tables[s.layoutOf(epoch)]
	}
	return router.Moving(s.c.tables[s.layoutOf(before)], s.c.tables[s.layoutOf(epoch)])
}

// name returns the name of a keyway's connections.
func (s *shell) name(k *keyway, state string) string {
	return guard.StateName(fmt.Sprint("kw", k.index), k.epoch, state, hashes[s.layoutOf(k.epoch)])
}

// loaded sees each record that a node creates.
func (s *shell) loaded(n *node, name, code string) {
	w := s.c.world
	digits, kind, _ := strings.Cut(strings.TrimPrefix(name, "keyway_"), "_")
	epoch, _ := strconv.ParseInt(digits, 10, 64)
	r := s.records[epoch]
	w.logf("%s has the record %s", n, name)
	switch {
	case kind == "plan":
		if r != nil {
			w.failf("the change to epoch %d is planned twice", epoch)
		}
		to := 0
		if strings.Contains(code, `"new":{"hash":"`+hashes[1]) {
			to = 1
		}
		s.records[epoch] = &records{from: 1 - to, to: to}
	case r == nil:
		w.failf("%s has the record %s, and there is no plan", n, name)
	case kind == "decision":
		s.decide(n, epoch, r, code)
	case kind == "":
		if r.decision != "go" {
			w.failf("%s enters epoch %d, for which the decision is %q", n, epoch, r.decision)
		}
	case strings.HasPrefix(kind, "drained_"):
		s.checkLeft(epoch, r, name, strings.TrimPrefix(kind, "drained_"))
	case kind == "done":
		s.checkLeft(epoch, r, name, "")
		r.done = true
	}
}

// decide takes in the decision about a change.
func (s *shell) decide(n *node, epoch int64, r *records, code string) {
	w := s.c.world
	if r.decision != "" {
		w.failf("the change to epoch %d is decided twice", epoch)
	}
	if n.self != s.c.masters[r.from][0] {
		w.failf("%s decides about epoch %d, and is not its home", n, epoch)
	}
	r.decision = "cancelled"
	if strings.Contains(code, "'go'") {
		r.decision = "go"
		if s.layoutOf(s.c.epoch) != r.from || epoch <= s.c.epoch {
			w.failf("epoch %d is decided after %d, from layout %s", epoch, s.c.epoch, hashes[r.from])
		}
		s.c.epoch = epoch
		s.decided = append(s.decided, epoch)
		for _, k := range s.c.keyways {
			k.isExcused = w.now < k.sleepsUntil || !proxy.IsHeld(k.worker)
		}
	}
}

// mayFail reports whether commands of a keyway's clients may fail. If nodes and their network have no faults,
// none does, whoever else freezes and dies, if the keyway held commands when the change was decided, and
// got on with it.
func (s *shell) mayFail(k *keyway) bool { return !s.isQuiet || k.isExcused }

// checkLeft checks that a node has no key any more that moves, or none of the nodes, as a record says.
func (s *shell) checkLeft(epoch int64, r *records, name, source string) {
	c, w := s.c, s.c.world
	switch {
	case r.decision != "go":
		w.failf("%s is there, and the decision is %q", name, r.decision)
	case epoch < c.epoch: // somebody has seen that, and then the change was taken back
		return
	}
	for k := range c.truth {
		for _, n := range w.nodes {
			if (source == "" || source == n.String()) && c.has(n, k) && c.owner(epoch, k) != n.self {
				w.failf("%s is there, and %s still has %s", name, n, k)
			}
		}
	}
}

// start starts the part of a keyway that takes part in changes.
func (s *shell) start(k *keyway) {
	for len(s.parts) <= k.index {
		s.parts = append(s.parts, nil)
	}
	s.parts[k.index] = s.c.world.spawn(fmt.Sprint("keyway ", k.index), func(ctx context.Context, p *process) {
		var both sync.WaitGroup
		both.Go(func() { s.takePart(ctx, p, k) })
		both.Go(func() { s.moveKeys(ctx, p, k) })
		both.Wait()
	})
}

// restart replaces a keyway that has died.
func (s *shell) restart(i int) {
	s.parts[i].die()
	s.dead = append(s.dead, s.parts[i])
	s.c.start(i, s.newest())
	s.c.keyways[i].isExcused = s.newest() < s.c.epoch // it has come too late
}

// newest returns the latest epoch of a node that can be reached.
func (s *shell) newest() (epoch int64) {
	for _, n := range s.c.world.nodes {
		if n.up {
			epoch = max(epoch, s.c.registerOf(n))
		}
	}
	return epoch
}

// takePart is what the process of a keyway does: it follows its home, which changes with the layout.
func (s *shell) takePart(ctx context.Context, p *process, k *keyway) {
	for ctx.Err() == nil {
		home := -1
		homeNow := func() (now int) {
			now = home
			_ = p.ask(ctx, "home", func() { now = s.c.masters[s.layoutOf(k.epoch)][0] })
			return now
		}
		home = homeNow()
		if home < 0 {
			return
		}
		of, stop := context.WithCancel(ctx)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			defer stop()
			for of.Err() == nil && homeNow() == home {
				select {
				case <-of.Done():
				case <-time.After(outage):
				}
			}
		})
		s.nodeFor(p, home).TakePart(of, &part{s: s, p: p, k: k}, slog.New(slog.DiscardHandler))
		waiting.Wait()
	}
}

// moveKeys makes a keyway one of those who move the keys of a change while it is under way.
func (s *shell) moveKeys(ctx context.Context, p *process, k *keyway) {
	now := func() (epoch int64, to int) {
		_ = p.ask(ctx, "moving", func() {
			if k.table.IsMoving() {
				epoch, to = k.epoch, s.layoutOf(k.epoch)
			}
		})
		return epoch, to
	}
	pause := func(ctx context.Context) {
		select {
		case <-ctx.Done():
		case <-time.After(outage):
		}
	}
	for ; ctx.Err() == nil; pause(ctx) {
		epoch, to := now()
		if epoch == 0 {
			continue
		}
		of, stop := context.WithCancel(ctx)
		var watching sync.WaitGroup
		watching.Go(func() {
			defer stop()
			for of.Err() == nil {
				if later, _ := now(); later != epoch {
					return
				}
				pause(of)
			}
		})
		s.move(of, p, fmt.Sprint("kw", k.index), to, epoch, false)
		watching.Wait()
	}
}

// nodeFor returns a node as a process knows it.
func (s *shell) nodeFor(p *process, i int) *switching.Node {
	n := s.c.world.nodes[i]
	return &switching.Node{
		Name: n.String(), Addr: n.addr, Account: control.Account{Network: p.connect}, ConnectTimeout: time.Second,
	}
}

// part is a keyway as package switching sees it.
type part struct {
	s *shell
	p *process
	k *keyway
}

// Name implements switching.Keyway.
func (of *part) Name(epoch int64, state string) (name string) {
	_ = of.p.ask(of.p.ctx, "name", func() {
		name = guard.StateName(fmt.Sprint("kw", of.k.index), epoch, state, hashes[of.s.layoutOf(of.k.epoch)])
	})
	return name
}

// Keyways implements switching.Keyway.
func (of *part) Keyways() int { return 1 }

// Prepare implements switching.Keyway.
func (of *part) Prepare(ctx context.Context, _ *register.Plan) (err error) {
	asked := of.p.ask(ctx, "prepare", func() {
		for _, n := range of.s.c.world.nodes {
			if !n.up {
				err = fmt.Errorf("%s cannot be reached", n)
			}
		}
	})
	if asked != nil {
		return asked
	}
	return err
}

// Hold implements switching.Keyway.
func (of *part) Hold(atMost time.Duration) {
	w := of.s.c.world
	_ = of.p.ask(of.p.ctx, "hold", func() {
		of.s.holds++
		proxy.Hold(of.k.worker, w.now+int64(atMost))
	})
}

// IsHeld implements switching.Keyway.
func (of *part) IsHeld() (held bool) {
	_ = of.p.ask(of.p.ctx, "held", func() { held = proxy.IsHeld(of.k.worker) })
	return held
}

// EndHold implements switching.Keyway.
func (of *part) EndHold() {
	_ = of.p.ask(of.p.ctx, "end hold", func() { proxy.EndHold(of.k.worker) })
}

// Obey implements switching.Keyway.
func (of *part) Obey(ctx context.Context, change *register.Change) error {
	c, k := of.s.c, of.k
	return of.p.ask(ctx, "obey", func() {
		switch {
		case change.Epoch > k.epoch, change.Epoch == k.epoch && change.Done && k.table.IsMoving():
			k.adopts = change.Epoch
			c.adopt(k)
		}
	})
}

// obey makes a keyway serve by what the nodes that it can reach say.
func (s *shell) obey(k *keyway) {
	newest := s.newest()
	switch {
	case newest > k.epoch:
		k.adopts = newest
		s.c.adopt(k)
	case k.table.IsMoving() && s.records[k.epoch].done:
		k.adopts = k.epoch
		s.c.adopt(k)
	}
}
