package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/topology"
)

// registerTimeout is the time for finding the nodes whose registers are read. A keyway that
// does not find them serves by its file until a connection shows that it must not.
const registerTimeout = 2 * time.Second

// InForce returns the configuration by which to serve c: with the placement of the nodes'
// registers if they have one, otherwise c itself. If current is not nil, a keyway serves it, and
// its epoch does not end because the nodes of c do not know of it. It is an error if the
// registers cannot be understood.
func InForce(ctx context.Context, c, current *config.Config, log *slog.Logger) (*config.Config, error) {
	last, err := LastRecord(ctx, c, log)
	if err != nil {
		return nil, err
	}
	return InForceBy(c, current, last)
}

// InForceBy is InForce if a record is known to be the last one.
func InForceBy(c, current *config.Config, last Last) (*config.Config, error) {
	switch {
	case current != nil && last.Epoch < current.Epoch():
		if older := config.Older(current); older != nil {
			return config.InChange(c, current.Epoch(), older, current, config.PlanOf(current))
		}
		return c.InEpoch(current.Epoch(), current)
	case last.Epoch == 0:
		return c, nil
	}
	planned := planned(last.Plan)
	if planned == nil && current != nil && current.Epoch() == last.Epoch {
		planned = config.PlanOf(current)
	}
	return served(c, last.Record, "the register of node "+last.Node, last.Done || !last.Moves(), planned)
}

// planned returns what a plan says about how keys move. It is nil if the plan is, or says nothing.
func planned(p *register.Plan) *config.Planned {
	o, err := p.ReadOptions()
	if err != nil || o.Durable == "" {
		return nil
	}
	big := config.Big{Over: config.Size(o.BigOver), How: o.Big}
	return &config.Planned{
		Switch: config.Switch{Batch: o.Batch, Durable: o.Durable, Big: big}, Incarnations: o.Incarnations,
	}
}

// Planning returns what a plan says about how keys move to the layout of a configuration.
func Planning(c *config.Config) register.Options {
	s := c.Switch
	return register.Options{
		Hold: s.Hold, Batch: s.Batch, Durable: s.Durable, BigOver: int64(s.Big.Over), Big: s.Big.How,
	}
}

// served returns the configuration by which to serve c in the epoch of a record, while its change is
// under way, as planned says, or when it is done. of says where the record is from.
func served(
	c *config.Config, r register.Record, of string, done bool, planned *config.Planned,
) (next *config.Config, err error) {
	newer, err := Placement(r.New, of)
	if err != nil {
		return nil, err
	}
	if done {
		next, err = c.InEpoch(r.Epoch, newer)
	} else {
		var older *config.Config
		if older, err = Placement(r.Old, of); err != nil {
			return nil, err
		}
		next, err = config.InChange(c, r.Epoch, older, newer, planned)
	}
	if err != nil {
		return nil, fmt.Errorf("the layout of epoch %d, which %s has, does not go with the other keys of this file: %w",
			r.Epoch, of, err)
	}
	return next, nil
}

// Settled is InForce for those who look at where the keys lie, or move them: it is an error if a change
// of the layout is under way.
func Settled(ctx context.Context, c *config.Config) (*config.Config, error) {
	next, err := InForce(ctx, c, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	if older := config.Older(next); older != nil {
		return nil, c.Errorf("layout", "wait until that is done: keyway status says how far it is, and "+
			"keyway reverse takes it back", "the nodes say that the layout is being changed, from placement %s to %s "+
			"(epoch %d), so keys are on their way", older.PlacementHash(), next.PlacementHash(), next.Epoch())
	}
	return next, nil
}

// Last is the record of the highest epoch that the nodes of a configuration have. Without any, the epoch
// is 0.
type Last struct {
	register.Record
	Node string         // the name of one that has it
	Done bool           // no key is left to move
	Plan *register.Plan // of the change; nil: no node that was asked has it
}

// LastRecord asks the nodes of a configuration.
func LastRecord(ctx context.Context, c *config.Config, log *slog.Logger) (last Last, err error) {
	find, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	t, err := FetchTable(find, c)
	if err != nil {
		log.Debug("cannot find the nodes to read their registers", "error", err)
		return Last{Done: true}, nil
	}
	all := topology.Registers(ctx, Accounts(c), c.Backend.ConnectTimeout, t)
	text := ""
	for _, r := range all {
		if r.Err != nil {
			log.Debug("cannot read the register of a node", "node", r.Name, "addr", r.Addr, "error", r.Err)
		}
		theirs := r.Texts[register.Name(r.Epoch)]
		switch {
		case r.Epoch > last.Epoch:
			if last.Record, err = register.Parse(theirs); err != nil {
				return last, fmt.Errorf("the register of node %s (%s) cannot be read: %w; a newer keyway "+
					"may have written it, so upgrade this one", r.Name, r.Addr, err)
			}
			text, last.Node = theirs, r.Name
		case r.Epoch > 0 && r.Epoch == last.Epoch && theirs != text:
			return last, fmt.Errorf("the registers of nodes %s and %s have different records of epoch %d: "+
				"two layouts were put in force at the same time; find out by which one the keys lie (keyway verify), "+
				"and remove the other record with FUNCTION DELETE %s on its nodes", last.Node, r.Name, last.Epoch,
				register.Name(last.Epoch))
		}
	}
	for _, r := range all {
		_, says := r.Texts[register.DoneName(last.Epoch)]
		last.Done = last.Done || says
		changes, _ := register.Changes(r.Texts) // otherwise it is the plan of a newer keyway
		for _, of := range changes {
			if of.Epoch == last.Epoch && of.Plan != nil {
				last.Plan = of.Plan
			}
		}
	}
	return last, nil
}

// Placement returns the placement that a record has. of says where the record is from.
func Placement(l register.Layout, of string) (*config.Config, error) {
	c, err := config.ParsePlacement(of, l.Config)
	if err == nil {
		_, err = Table(c) // it checks more
	}
	if err != nil {
		return nil, fmt.Errorf("%w; a newer keyway may have written it, so upgrade this one", err)
	}
	if hash := c.PlacementHash(); hash != l.Hash {
		return nil, fmt.Errorf("%s has a layout whose placement is %s for this version of keyway, and %s for the one "+
			"that wrote it; run that version", of, hash, l.Hash)
	}
	return c, nil
}

// LogInForce logs by which layout keyway serves, if that is not the file's.
func LogInForce(c *config.Config, log *slog.Logger) {
	if file := c.Replaced(); file != nil {
		text := "the nodes say that another layout is in force than the file, so keyway serves by theirs; " +
			"write that layout into the file, or change the layout: keyway switch -c FILE"
		if c.Epoch() == 0 {
			text = "the file has another layout, by which keys would move, so keyway serves by the one that it had; " +
				"write that into the file, or change the layout: keyway switch -c FILE"
		}
		log.Warn(text,
			"epoch", c.Epoch(), "in_force", c.Layout, "placement", c.PlacementHash(), "in_force_config",
			string(c.PlacementText()), "file", file.Layout, "file_placement", file.PlacementHash())
	}
}

// NotInForce says that a file's layout is not the one that c serves by. c has replaced it, because the nodes
// say so.
func NotInForce(c *config.Config) string {
	return fmt.Sprintf("problem: the nodes say that another layout is in force (epoch %d, placement %s) than this "+
		"file's (placement %s); keyway serves by theirs", c.Epoch(), c.PlacementHash(), c.Replaced().PlacementHash())
}
