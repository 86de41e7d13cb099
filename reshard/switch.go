package reshard

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/wiring"
)

// Switch is a change from the layout of one configuration to that of another, while keyways serve.
type Switch struct {
	switching.Driver
	// Pace is how fast the keys move that clients do not use, unless that is said otherwise later.
	Pace register.Pace

	older, newer *config.Config
	takesBack    bool
	undoes       int64 // the epoch of the last change, if that took another one back and is taken back now
	plan         register.Plan
	work         *mover.Work
}

// NewSwitch prepares a change.
func NewSwitch(ctx context.Context, older, newer *config.Config) (*Switch, error) {
	in, err := wiring.InForce(ctx, older, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	before := config.Older(in)
	goesOn := before != nil && before.PlacementHash() == older.PlacementHash() &&
		in.PlacementHash() == newer.PlacementHash()
	if in.Replaced() != nil && !goesOn {
		return nil, older.Errorf("layout", "name the file of the layout that is in force; keyway check --connect "+
			"prints it", "the nodes say that another layout is in force (epoch %d)", in.Epoch())
	}
	s := &Switch{older: older, newer: newer, plan: register.Plan{Record: register.Record{
		Old: register.Layout{Hash: older.PlacementHash(), Config: older.PlacementText()},
		New: register.Layout{Hash: newer.PlacementHash(), Config: newer.PlacementText()},
	}}}
	s.takesBack = before != nil && !goesOn
	if s.work, err = workOf(ctx, 0, older, newer); err != nil {
		return nil, err
	}
	if err := areApart(older, newer, s.work.From.Table, s.work.To.Table); err != nil {
		return nil, err
	}
	s.Home, s.Nodes = s.work.Home, s.work.Nodes
	return s, nil
}

// SwitchTo returns the change to the layout of a file from the layout that its nodes say is in force. It
// is nil if they say nothing.
func SwitchTo(ctx context.Context, newer *config.Config) (*Switch, error) {
	l, err := ReadLastChange(ctx, newer)
	if err != nil || l.Epoch == 0 {
		return nil, err
	}
	switch hash := newer.PlacementHash(); {
	case l.New.PlacementHash() == hash && l.Done:
		return nil, newer.Errorf("layout", "write the new layout into the file", "this layout is in force since epoch "+
			"%d, and no key is left to move", l.Epoch)
	case l.New.PlacementHash() == hash:
		return NewSwitch(ctx, l.Old, newer)
	case !l.Done && l.Old.PlacementHash() != hash:
		return nil, newer.Errorf("layout", "wait until that is done, or take it back: keyway reverse",
			"a change of the layout is under way, to another one (epoch %d)", l.Epoch)
	}
	return NewSwitch(ctx, l.New, newer)
}

// Says returns from which layout to which a change leads, for people.
func (s *Switch) Says() string {
	return "from " + layoutText(s.older) + " to " + s.To()
}

// To returns the layout to which a change leads, for people.
func (s *Switch) To() string { return layoutText(s.newer) }

// Back returns what a change does that takes the last one back, for people.
func (s *Switch) Back() string {
	text := "the change of the layout back, to " + s.To()
	if s.undoes > 0 {
		const again = "; that was the change of epoch %d, which took the one before back: this goes forward again"
		text += fmt.Sprintf(again, s.undoes)
	}
	return text
}

// Settings returns what the new configuration says about changes of the layout.
func (s *Switch) Settings() config.Switch { return s.newer.Switch }

// enterTime is how long the first node may take to enter an epoch that is decided: if the command has died,
// keyways make it enter.
const enterTime = 10 * time.Second

// Reverse returns the change that takes the last one back, which the nodes of a file know.
func Reverse(ctx context.Context, c *config.Config) (*Switch, error) {
	l, err := ReadLastChange(ctx, c)
	if err == nil {
		err = l.isOf(c)
	}
	for end := time.Now().Add(enterTime); err == nil && l.Decided > 0 && time.Now().Before(end); {
		time.Sleep(enterTime / 100)
		l, err = ReadLastChange(ctx, c)
	}
	switch {
	case err != nil:
		return nil, err
	case l.Decided > 0:
		return nil, fmt.Errorf("the change to epoch %d takes place, and node %s has not entered the epoch yet: keyway "+
			"status says why", l.Decided, l.home.Name)
	case l.Planned > 0:
		return nil, fmt.Errorf("the change to epoch %d has not begun, so nothing has to be taken back: keyway cancel "+
			"cancels it", l.Planned)
	case l.Epoch == 0:
		return nil, c.Errorf("nodes", "nothing has to be taken back; if you mean other nodes, name their file",
			"these nodes know of no change of the layout")
	case l.Old.PlacementHash() == l.New.PlacementHash():
		return nil, c.Errorf("layout", "there is nothing to take back", "epoch %d changed no layout", l.Epoch)
	}
	change, err := NewSwitch(ctx, l.New, l.Old)
	if err == nil {
		change.takesBack = true
		change.undoes, err = undone(ctx, l)
	}
	return change, err
}

// undone returns the epoch of the last change if somebody had asked for it to take another one back, and 0 if not.
func undone(ctx context.Context, l *LastChange) (int64, error) {
	work, err := workOf(ctx, l.Epoch, l.Old, l.New)
	if err != nil {
		return 0, err
	}
	at, err := switching.Read(ctx, work.Home, nil)
	if err != nil || at.Plan == nil || at.Epoch != l.Epoch {
		return 0, err
	}
	if o, err := at.Plan.ReadOptions(); err != nil || !o.TakesBack {
		return 0, err
	}
	return l.Epoch, nil
}

// isOf returns an error if a file has neither layout of the change. It may be of other keyways, which share a node.
func (l *LastChange) isOf(c *config.Config) error {
	if hash := c.PlacementHash(); l.Epoch == 0 || hash == l.Old.PlacementHash() || hash == l.New.PlacementHash() {
		return nil
	}
	return c.Errorf("layout", "name a file with one of these layouts; keyway check --connect prints the one in force",
		"this file has neither layout of the last change (epoch %d), which leads from %s to %s", l.Epoch,
		layoutText(l.Old), layoutText(l.New))
}

// areApart returns an error if nothing tells the layouts of two files apart, or their nodes. from and to are
// their tables.
func areApart(older, newer *config.Config, from, to *router.Table) error {
	if err := sameNames(older, newer); err != nil {
		return err
	}
	switch {
	case older.PlacementHash() != newer.PlacementHash():
		return nil
	case older.Clustered() && !wiring.IsSameCluster(from, to):
		return newer.Errorf("slots.seeds", "give the new cluster a name, as in slots: {cluster: new, seeds: ...}",
			"these seeds belong to another cluster than those of the old layout, and nothing tells keyways which of "+
				"the two is meant")
	}
	return errors.New("both files place all keys alike: nothing has to move")
}

// sameNames returns an error if a name means different servers in two files. Keyways find the servers of
// both layouts by the names in one file, and would look for keys on the wrong ones.
func sameNames(older, newer *config.Config) error {
	if older.Clustered() || newer.Clustered() {
		return nil
	}
	for i, n := range newer.Nodes {
		at := older.Node(n.Name)
		if at < 0 || server(n) == server(older.Nodes[at]) {
			continue
		}
		path := fmt.Sprintf("nodes[%d]", i)
		for _, o := range older.Nodes {
			if server(n) == server(o) {
				return newer.Errorf(path, "write the address of each server at the name that it had: names decide "+
					"which keys a node has", "node %s is %s, which is node %s in the old layout",
					n.Name, server(n), o.Name)
			}
		}
		return newer.Errorf(path, "if it has the keys of the old one, as its promoted replica does, write it into the "+
			"file of each keyway first, and reload; if it is empty, give it a name that the old layout does not have, "+
			"or make it a replica of the old one first", "node %s is %s, and %s in the old layout",
			n.Name, server(n), server(older.Nodes[at]))
	}
	return nil
}

// server says which server a node is, for people.
func server(n config.Node) string {
	if s := n.Sentinel; s != nil {
		return "the master " + s.Master + " of sentinels"
	}
	return n.Addr
}

// Plan says what stands in the way of the change, as keyway plan does. It returns nil if the change has
// begun. If it takes back one that is under way, Plan only looks for replicas, if there must be some.
func (s *Switch) Plan(ctx context.Context, accept []string) (*plan.Report, error) {
	at, err := switching.Read(ctx, s.Home, s.Nodes)
	switch isUnderWay := at.State == switching.Flipping || at.State == switching.Moving; {
	case err != nil || isUnderWay && !s.takesBack:
		return nil, err
	case isUnderWay:
		return s.planBack(ctx)
	}
	accept = append([]string{plan.CheckKeyways}, accept...) // Begin asks them
	return Plan(ctx, s.older, s.newer, plan.Options{Accept: accept})
}

// Start begins the change, and returns when all nodes have entered its epoch. From then on the keyways
// move the keys, unless there is none: then served is false. If the change is under way already, because
// another Start was interrupted, it goes on; the pace is then set if setPace is true.
func (s *Switch) Start(ctx context.Context, o migrate.Options, setPace bool) (served bool, err error) {
	at, err := switching.Read(ctx, s.Home, s.Nodes)
	if err != nil {
		return false, err
	}
	served = len(at.Members) > 0
	of := at.Record()
	isThis := of != nil && of.Old.Hash == s.plan.Old.Hash && of.New.Hash == s.plan.New.Hash
	var to *switching.Commitment
	if isThis && (at.State == switching.Flipping || at.State == switching.Moving) {
		if to, err = s.Home.Decide(ctx, at.Epoch, register.Go); err != nil {
			return false, err
		}
		s.Report("the change to epoch %d goes on", at.Epoch)
		if setPace {
			_, err = s.Home.SetPace(ctx, at.Epoch, func(was register.Pace) register.Pace { return s.Pace })
		}
		if err == nil {
			err = s.Flip(ctx, to)
		}
	} else {
		to, err = s.begin(ctx, at, o)
	}
	if err != nil {
		return false, err
	}
	s.work.Epoch = to.Epoch
	return served, nil
}

// Await waits until all keys have moved, and returns what a scan of all nodes finds then. If no keyway
// moves the keys, Await does. seen gets how far the change is, about once a second.
func (s *Switch) Await(ctx context.Context, o migrate.Options, seen func(mover.View)) (*migrate.Report, error) {
	mover.Run(ctx, mover.Options{
		Find: func(ctx context.Context) (*mover.Work, error) {
			return workOf(ctx, s.work.Epoch, s.older, s.newer)
		},
		Instance: "keyway switch", Fallback: true, Keyways: keyways, Log: slog.New(slog.DiscardHandler), Seen: seen,
	})
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	now, err := workOf(ctx, s.work.Epoch, s.older, s.newer) // other nodes may be masters by now
	if err != nil {
		return nil, err
	}
	at, err := switching.Read(ctx, now.Home, nil)
	switch {
	case err != nil:
		return nil, err
	case at.Epoch != s.work.Epoch:
		return nil, fmt.Errorf("another change of the layout has begun: see keyway status (epoch %d)", at.Epoch)
	}
	o.Rate, o.Latency = s.Pace.Rate, s.Pace.Latency
	return migrate.Verify(ctx, now.To, o)
}

// begin begins the change, unless keys lie where the older layout does not place them: at their new
// nodes they would hide those that clients see.
func (s *Switch) begin(
	ctx context.Context, at switching.Status, o migrate.Options,
) (*switching.Commitment, error) {
	switch {
	case at.State == switching.Planned || at.State == switching.Prepared || at.State == switching.Holding:
		if decided, err := s.Home.Decide(ctx, at.Epoch, register.Cancelled); err != nil || decided != nil {
			return nil, cmp.Or(err, fmt.Errorf("the change to epoch %d has begun meanwhile", at.Epoch))
		}
		s.Report("the change to epoch %d, which was planned and had not begun, is cancelled", at.Epoch)
	case at.State == switching.Steady || at.State == switching.Done:
		o.Rate, o.Latency = s.Pace.Rate, s.Pace.Latency
		before, err := migrate.Verify(ctx, s.work.From, o)
		if err != nil {
			return nil, err
		}
		if !before.Clean() {
			return nil, errors.New("keys lie on other nodes than the old layout says, where they would hide those " +
				"that clients see; see keyway verify, and keyway verify --repair")
		}
	}
	loaded, err := migrate.Equip(ctx, s.work.From, s.work.To)
	for _, l := range loaded {
		s.Report("node %s has got functions: %s", l.Node, strings.Join(l.Libraries, ", "))
	}
	if err != nil {
		return nil, err
	}
	says := wiring.Planning(s.newer)
	if !s.older.Clustered() {
		if says.Incarnations, err = switching.Incarnations(ctx, mastersOf(s.older, s.work.From.Table)); err != nil {
			return nil, err
		}
	}
	says.Pace, says.Planned, says.TakesBack = s.Pace, time.Now().UTC().Truncate(time.Second), s.takesBack
	options, err := json.Marshal(says)
	if err != nil {
		return nil, fmt.Errorf("writing the options of the plan: %w", err)
	}
	p := s.plan
	p.Options = options
	return s.Begin(ctx, p)
}
