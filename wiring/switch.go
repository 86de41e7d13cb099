package wiring

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/switching"
)

// Home returns the node whose register has the records of the next change of a configuration's
// layout, by its present table. It is nil if the table has no nodes yet.
func Home(c *config.Config, t *router.Table) *switching.Node {
	nodes := mastersOf(c, t)
	if len(nodes) == 0 {
		return nil
	}
	return slices.MinFunc(nodes, byName)
}

// mastersOf returns the masters of a table, apart from those that only an older layout has.
func mastersOf(c *config.Config, t *router.Table) (nodes []*switching.Node) {
	as := accounts(c)
	for _, id := range t.Owners() {
		n := t.Nodes[id]
		if n.Addr == "" || !c.Clustered() && c.Node(n.Name) < 0 {
			continue
		}
		of := &switching.Node{
			Name: n.Name, Addr: n.Addr, Account: as(n), ConnectTimeout: c.Backend.ConnectTimeout,
		}
		for _, r := range n.Replicas {
			of.Replicas = append(of.Replicas, t.Nodes[r].Addr)
		}
		nodes = append(nodes, of)
	}
	return nodes
}

// MemberName returns the name of a connection that says how far a keyway is, and which other layout its
// file has; see guard.StateName.
func MemberName(c *config.Config, epoch int64, state string) string {
	wish := ""
	if file := c.Replaced(); file != nil {
		wish = file.PlacementHash()
	}
	return guard.StateName(Instance(c), epoch, guard.WithWish(state, wish), c.PlacementHash())
}

// Preparation is what a keyway needs to serve while the keys of a plan move, so that clients do not wait
// until nodes have been asked and tables have been made.
type Preparation struct {
	*Prepared
	Old, Next *config.Config
}

// PrepareChange prepares a running server, whose configuration is old, for a plan. It is an error if the
// server could not serve it. What it returns is of no use any more when the server has got another
// configuration.
func PrepareChange(
	ctx context.Context, srv *server.Server, old *config.Config, p *register.Plan, log *slog.Logger,
) (*Preparation, error) {
	next, err := served(config.File(old), p.Record, "the plan", false)
	if err != nil {
		return nil, err
	}
	var tables []*router.Table
	for _, side := range []*config.Config{config.Older(next), next} {
		t, err := fetchTable(ctx, side)
		if err != nil {
			return nil, err
		}
		for _, r := range Inspect(ctx, side, t) {
			if problem, remedy := r.Unfit(t); problem != "" {
				return nil, fmt.Errorf("node %s %s; %s", r.Name, problem, remedy)
			}
		}
		tables = append(tables, t)
	}
	prepared, err := prepareReload(ctx, srv, old, next, router.Moving(tables[0], tables[1]), true, log)
	if err != nil {
		return nil, err
	}
	return &Preparation{prepared, old, next}, nil
}

// Switch is a change from the layout of one configuration to that of another, while keyways serve.
type Switch struct {
	switching.Driver
	older, newer *config.Config
	plan         register.Plan
	from         migrate.Layout
	to           migrate.Layout
	all          []*switching.Node // of the newer layout
}

// NewSwitch prepares a change.
func NewSwitch(ctx context.Context, older, newer *config.Config) (*Switch, error) {
	in, err := InForce(ctx, older, nil, slog.New(slog.DiscardHandler))
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
	if older.PlacementHash() == newer.PlacementHash() {
		return nil, errors.New("both files place all keys alike: nothing has to move")
	}
	s := &Switch{older: older, newer: newer, plan: register.Plan{Record: register.Record{
		Old: register.Layout{Hash: older.PlacementHash(), Config: older.PlacementText()},
		New: register.Layout{Hash: newer.PlacementHash(), Config: newer.PlacementText()},
	}}}
	if s.from, err = scanned(ctx, older); err != nil {
		return nil, err
	}
	if s.to, err = scanned(ctx, newer); err != nil {
		return nil, err
	}
	s.Home = Home(older, s.from.Table)
	s.Nodes, s.all = mastersOf(older, s.from.Table), mastersOf(newer, s.to.Table)
	for _, n := range s.all {
		if !slices.ContainsFunc(s.Nodes, func(o *switching.Node) bool { return o.Addr == n.Addr }) {
			s.Nodes = append(s.Nodes, n)
		}
	}
	return s, nil
}

// Plan says what stands in the way of the change, as keyway plan does. It returns nil if the change has
// begun, or takes back one that is under way.
func (s *Switch) Plan(ctx context.Context, accept []string) (*plan.Report, error) {
	at, err := switching.Read(ctx, s.Home, s.Nodes)
	if err != nil || at.State == switching.Flipping || at.State == switching.Moving {
		return nil, err
	}
	accept = append([]string{plan.CheckKeyways}, accept...) // Begin asks them
	return Plan(ctx, s.older, s.newer, plan.Options{Accept: accept})
}

// Run carries the change out: it begins, moves all keys and verifies. If the change is under way
// already, because another Run was interrupted, it goes on.
func (s *Switch) Run(ctx context.Context, o migrate.Options) (sum migrate.Summary, err error) {
	at, err := switching.Read(ctx, s.Home, s.Nodes)
	if err != nil {
		return sum, err
	}
	isThis := at.Plan != nil && at.Plan.Old.Hash == s.plan.Old.Hash && at.Plan.New.Hash == s.plan.New.Hash
	var to *switching.Commitment
	if isThis && !at.Over() && at.Decision != register.Undecided {
		if to, err = s.Home.Decide(ctx, at.Epoch, register.Go); err != nil {
			return sum, err
		}
		s.Report("the change to epoch %d goes on", at.Epoch)
		err = s.Flip(ctx, to)
	} else {
		to, err = s.begin(ctx, at, o)
	}
	if err != nil {
		return sum, err
	}
	o.Keyways, o.WhileServing, o.Epoch = keyways, true, to.Epoch
	if sum, err = migrate.Migrate(ctx, s.from, s.to, o); err != nil || !sum.After.Clean() {
		return sum, err
	}
	return sum, switching.Finish(ctx, s.Home, s.all, to.Epoch)
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
	case at.State == switching.Steady || at.State == switching.Done:
		before, err := migrate.Verify(ctx, s.from, o)
		if err != nil {
			return nil, err
		}
		if !before.Clean() {
			return nil, errors.New("keys lie on other nodes than the old layout says, where they would hide those " +
				"that clients see; see keyway verify, and keyway verify --repair")
		}
	}
	return s.Begin(ctx, s.plan)
}

// Cancel cancels a planned change. It returns false if that was decided before.
func (s *Switch) Cancel(ctx context.Context) (bool, error) {
	at, err := switching.Read(ctx, s.Home, s.Nodes)
	if err != nil || at.Over() || at.State == switching.Steady {
		return false, err
	}
	decided, err := s.Home.Decide(ctx, at.Epoch, register.Cancelled)
	return err == nil && decided == nil, err
}
