package switching

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/keyway-proxy/keyway/register"
)

// Next returns the number for the next change: no node has a record of it or of a later one, so
// that not even a cancelled change is mistaken for it.
func Next(ctx context.Context, nodes []*Node) (epoch int64, err error) {
	read := make([]int64, len(nodes))
	err = each(nodes, func(i int, n *Node) error {
		changes, err := n.changes(ctx)
		if len(changes) > 0 {
			read[i] = changes[len(changes)-1].Epoch
		}
		return err
	})
	for _, last := range read {
		epoch = max(epoch, last)
	}
	return epoch + 1, err
}

// changes returns what the node's register says.
func (n *Node) changes(ctx context.Context) (all []register.Change, err error) {
	err = n.attempt(ctx, func(c *connection) error {
		all, err = c.changes(ctx)
		return err
	})
	return all, err
}

func (c *connection) changes(ctx context.Context) ([]register.Change, error) {
	texts, err := c.records(ctx)
	if err != nil {
		return nil, err
	}
	all, err := register.Changes(texts)
	if err != nil {
		return nil, c.node.refused("reading its register", "run the version of keyway that has written it", "%w", err)
	}
	return all, nil
}

// change returns what the register of a change's home says about it.
func (c *connection) change(ctx context.Context, epoch int64) (register.Change, error) {
	all, err := c.changes(ctx)
	for _, of := range all {
		if of.Epoch == epoch {
			return of, err
		}
	}
	return register.Change{Epoch: epoch}, err
}

// Plan plans a change at its home, and returns the plan of that epoch: the first one wins.
func (n *Node) Plan(ctx context.Context, p register.Plan) (planned register.Plan, err error) {
	code, err := p.Code()
	if err != nil {
		return planned, err
	}
	err = n.attempt(ctx, func(c *connection) error {
		all, err := c.changes(ctx)
		if err == nil {
			err = n.mayPlan(all, p)
		}
		if err == nil {
			err = c.create(ctx, code)
		}
		if err != nil {
			return err
		}
		of, err := c.change(ctx, p.Epoch)
		switch {
		case err != nil:
			return err
		case of.Plan == nil:
			return n.lost(register.PlanName(p.Epoch))
		}
		planned = *of.Plan
		return nil
	})
	return planned, err
}

// mayPlan returns an error if a change cannot follow the changes before it. While keys move, the
// only next change is back to where they come from: a key could be on three nodes otherwise. When they have
// moved, the next one begins where they are: another change may have come and gone since this one was prepared.
func (n *Node) mayPlan(before []register.Change, p register.Plan) error {
	last := current(before)
	if last == nil {
		return nil
	}
	latest := before[len(before)-1].Epoch
	was := last.Entered
	if was == nil && last.Plan != nil && last.Decision == register.Go {
		was = &last.Plan.Record
	}
	reverse := was != nil &&
		p.Old.Hash == was.New.Hash && p.New.Hash == was.Old.Hash
	switch {
	case latest > p.Epoch:
		return n.refused("planning a change", "look at its state, and begin anew",
			"there is a change to epoch %d, so none to epoch %d can begin", latest, p.Epoch)
	case last.Epoch == p.Epoch || last.Plan == nil && last.Entered == nil || reverse:
		return nil
	case last.Over() && was != nil && p.Old.Hash != was.New.Hash:
		return n.refused("planning a change", "look at its state, and begin anew",
			"the layout of epoch %d is in force, and this change begins with another one", last.Epoch)
	case last.Over():
		return nil
	}
	return n.refused("planning a change", "wait until that is done, cancel it, or reverse it",
		"the change to epoch %d is under way", last.Epoch)
}

// lost returns the error of a record that is not there although it could not be created.
func (n *Node) lost(name string) error {
	return n.refused("creating the record "+name, "look for a library with such a function, and remove it",
		"the node has a function of that name, but not the record")
}

// Hold asks keyways to hold their commands, in the attempt-th try to change to an epoch.
func (n *Node) Hold(ctx context.Context, epoch int64, attempt int) error {
	return n.note(ctx, register.HoldName(epoch, attempt))
}

// Drained says at a change's home that a node of the old layout has no keys any more that the
// change moves.
func (n *Node) Drained(ctx context.Context, epoch int64, source string) error {
	return n.note(ctx, register.DrainedName(epoch, source))
}

// Finish says at the home, and at all nodes of the new layout, that the change to an epoch is over.
// A keyway that starts with a file of the new layout may not know the home.
func Finish(ctx context.Context, home *Node, nodes []*Node, epoch int64) error {
	if err := home.note(ctx, register.DoneName(epoch)); err != nil {
		return err
	}
	return each(nodes, func(_ int, n *Node) error { return n.note(ctx, register.DoneName(epoch)) })
}

// Inherit gives the home of the change to an epoch what the one of the nodes says that was its home before, apart
// from the epoch itself, which the home enters by Flip. What the home says already stays. It returns false if none
// has been its home. Nodes that do not answer are an error unless another one has.
func (n *Node) Inherit(ctx context.Context, nodes []*Node, epoch int64) (has bool, err error) {
	found := make([]register.Change, len(nodes))
	err = each(nodes, func(i int, n *Node) error {
		return n.once(ctx, n.Addr, func(c *connection) (err error) {
			found[i], err = c.change(ctx, epoch)
			return err
		})
	})
	var former *register.Change
	for i := range found {
		if of := &found[i]; of.Plan != nil && (former == nil || of.Paces > former.Paces) {
			former = of
		}
	}
	if former == nil {
		return false, err
	}
	return true, n.Restore(ctx, former)
}

// Restore gives the home of a change what its home has said before, apart from the epoch itself. What the home says
// already stays.
func (n *Node) Restore(ctx context.Context, former *register.Change) error {
	return n.attempt(ctx, func(c *connection) error {
		own, err := c.change(ctx, former.Epoch)
		if err != nil {
			return err
		}
		codes, err := inherited(former, &own)
		for _, code := range codes {
			if err == nil {
				err = c.create(ctx, code)
			}
		}
		return err
	})
}

// inherited returns the records of a change that its former home has and the present one lacks. Its plan is written
// before its pace. So a pace without a plan is an operator's, newer than the former ones, and becomes the last. With a
// plan, it may come from a keyway that had not seen the last one.
func inherited(former, own *register.Change) (codes []string, err error) {
	add := func(code string, failed error) { codes, err = append(codes, code), cmp.Or(err, failed) }
	if former.Decision != register.Undecided && own.Decision == register.Undecided {
		add(former.Decision.Code(former.Epoch), nil)
	}
	if former.Plan != nil && own.Plan == nil {
		add(former.Plan.Code())
	}
	switch {
	case own.Plan == nil && own.Pace != nil && former.Paces >= own.Paces:
		add(own.Pace.Code(former.Epoch, former.Paces+1))
	case former.Pace != nil && former.Paces > own.Paces:
		add(former.Pace.Code(former.Epoch, former.Paces))
	}
	for _, name := range former.Drained {
		if !slices.Contains(own.Drained, name) {
			add(register.Note(register.DrainedName(former.Epoch, name)), nil)
		}
	}
	return codes, err
}

// note creates a record that has only a name.
func (n *Node) note(ctx context.Context, name string) error {
	return n.attempt(ctx, func(c *connection) error {
		if err := c.create(ctx, register.Note(name)); err != nil {
			return err
		}
		texts, err := c.records(ctx)
		if _, ok := texts[name]; err == nil && !ok {
			err = n.lost(name)
		}
		return err
	})
}

// Commitment is the knowledge that a change takes place. Only Decide, and a node that has already
// entered the epoch, give it.
type Commitment struct {
	Epoch int64
	code  string // of the record of the epoch
}

// Decide decides at a change's home whether it takes place, if that is not decided yet, and
// returns the decision: the first one wins. It is nil if the change is cancelled. The
// replicas of the home know the decision then, so that it survives the home's death.
func (n *Node) Decide(ctx context.Context, epoch int64, d register.Decision) (decided *Commitment, err error) {
	err = n.attempt(ctx, func(c *connection) error {
		of, err := c.change(ctx, epoch)
		switch {
		case err != nil:
			return err
		case of.Entered != nil: // another node of a cluster may have been the home before
			code, err := of.Entered.Code()
			if err != nil {
				return err
			}
			decided = &Commitment{Epoch: epoch, code: code}
			return c.replicated(ctx)
		case of.Plan == nil:
			return n.refused("deciding", "ask the home of the change; keyway status names it",
				"the node has no plan of a change to epoch %d", epoch)
		}
		if err := c.create(ctx, d.Code(epoch)); err != nil {
			return err
		}
		if of, err = c.change(ctx, epoch); err != nil {
			return err
		}
		decided = nil
		switch of.Decision {
		case register.Undecided:
			return n.lost(register.DecisionName(epoch))
		case register.Go:
			code, err := of.Plan.Record.Code()
			if err != nil {
				return err
			}
			decided = &Commitment{Epoch: epoch, code: code}
		}
		return c.replicated(ctx)
	})
	if err != nil {
		return nil, err
	}
	return decided, nil
}

// Committed returns the change to the epoch that the node has entered, nil if it is in none.
func (n *Node) Committed(ctx context.Context) (last *Commitment, err error) {
	err = n.attempt(ctx, func(c *connection) error {
		texts, err := c.records(ctx)
		last = nil
		for name, code := range texts {
			if epoch := register.Number(name); epoch > 0 && (last == nil || epoch > last.Epoch) {
				last = &Commitment{Epoch: epoch, code: code}
			}
		}
		return err
	})
	return last, err
}

// Entered returns the change to an epoch that one of the nodes has entered.
func Entered(ctx context.Context, nodes []*Node, epoch int64) (*Commitment, error) {
	found := make([]*Commitment, len(nodes))
	err := each(nodes, func(i int, n *Node) (err error) {
		found[i], err = n.Committed(ctx)
		return err
	})
	for _, to := range found {
		if to != nil && to.Epoch == epoch {
			return to, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("no node is in epoch %d", epoch)
	}
	return nil, err
}
