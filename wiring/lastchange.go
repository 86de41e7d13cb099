package wiring

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
)

// LastChange is what the registers of a file's nodes say about the last change of the layout.
type LastChange struct {
	Epoch int64          // 0: the nodes say nothing
	Old   *config.Config // the layout before
	New   *config.Config // the layout in force
	Done  bool           // no key is left to move
	// Planned is the epoch of a later change that is not decided, 0 if there is none. Its home has the
	// records.
	Planned int64
	home    *switching.Node
}

// ReadLastChange asks the nodes of a file. The layout of the file may be the old or the new one.
func ReadLastChange(ctx context.Context, c *config.Config) (*LastChange, error) {
	record, node, done, err := lastRecord(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	l := &LastChange{Epoch: record.Epoch, New: c, Done: done}
	if record.Epoch > 0 {
		of := "the register of node " + node
		if l.Old, err = inEpochOf(c, record.Epoch, record.Old, of); err != nil {
			return nil, err
		}
		if l.New, err = inEpochOf(c, record.Epoch, record.New, of); err != nil {
			return nil, err
		}
	}
	return l, l.findPlan(ctx)
}

// inEpochOf returns the configuration that serves c by a layout of a record.
func inEpochOf(c *config.Config, epoch int64, l register.Layout, of string) (*config.Config, error) {
	placement, err := placementOf(l, of)
	if err != nil {
		return nil, err
	}
	return c.InEpoch(epoch, placement)
}

// findPlan looks for a change that is planned. Its home is a node of the layout in force. The home
// of a first change may be another node than this file says, so all nodes are asked.
func (l *LastChange) findPlan(ctx context.Context) error {
	nodes, err := sideNodes(ctx, l.New)
	if err != nil {
		return err
	}
	var failed []error
	for _, n := range nodes {
		ctx, cancel := context.WithTimeout(ctx, registerTimeout)
		at, err := switching.Read(ctx, n, nil)
		cancel()
		switch {
		case err != nil:
			failed = append(failed, err)
		case at.Plan != nil && at.Epoch > max(l.Epoch, l.Planned) && at.Decision == register.Undecided:
			l.Planned, l.home = at.Epoch, n
		}
	}
	if l.Planned > 0 {
		return nil
	}
	return errors.Join(failed...)
}

// Cancel cancels the planned change. It returns false if it was decided before.
func (l *LastChange) Cancel(ctx context.Context) (bool, error) {
	decided, err := l.home.Decide(ctx, l.Planned, register.Cancelled)
	return err == nil && decided == nil, err
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

// To returns the layout to which a change leads, for people.
func (s *Switch) To() string {
	return fmt.Sprintf("layout %s (placement %s)", s.newer.Layout, s.newer.PlacementHash())
}

// Settings returns what the new configuration says about changes of the layout.
func (s *Switch) Settings() config.Switch { return s.newer.Switch }

// Reverse returns the change that takes the last one back, which the nodes of a file know.
func Reverse(ctx context.Context, c *config.Config) (*Switch, error) {
	l, err := ReadLastChange(ctx, c)
	switch {
	case err != nil:
		return nil, err
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
	}
	return change, err
}

// Forgotten is what Forget has done, and what is left of the old layout.
type Forgotten struct {
	Removed int        // records, on all nodes
	Left    []LeftNode // that only the old layout has
}

// LeftNode is a node that keys have left.
type LeftNode struct {
	Name, Addr string
	Keys       int64
	Keyways    []switching.Member // that are connected to it
	Err        error              // it could not be asked
}

// Forget removes the records of all changes before an epoch, which must be in force, once no key is left to
// move and the files of all keyways have its layout.
func Forget(ctx context.Context, c *config.Config, epoch int64) (*Forgotten, error) {
	l, err := ReadLastChange(ctx, c)
	switch {
	case err != nil:
		return nil, err
	case l.Epoch != epoch:
		return nil, fmt.Errorf("epoch %d is in force, not %d: keyway status shows it", l.Epoch, epoch)
	case !l.Done:
		return nil, fmt.Errorf("keys are still on their way in epoch %d: keyway status shows how far it is", epoch)
	case l.Planned > 0:
		return nil, fmt.Errorf("a change to epoch %d is planned: keyway cancel cancels it", l.Planned)
	}
	t, err := fetchTable(ctx, l.New)
	if err != nil {
		return nil, err
	}
	newer := mastersOf(l.New, t)
	older, err := sideNodes(ctx, l.Old)
	if err != nil {
		return nil, err
	}
	left := slices.DeleteFunc(older, func(n *switching.Node) bool {
		return slices.ContainsFunc(newer, func(o *switching.Node) bool { return o.Addr == n.Addr })
	})
	if err := filesAgree(ctx, Home(l.New, t), l.New); err != nil {
		return nil, err
	}
	f := &Forgotten{}
	for _, n := range newer {
		removed, err := n.Forget(ctx, epoch)
		if f.Removed += removed; err != nil {
			return f, err
		}
	}
	for _, n := range left {
		f.Left = append(f.Left, lookAtLeft(ctx, n, epoch, &f.Removed))
	}
	return f, nil
}

// lookAtLeft forgets at a node that keys have left, which may be shut down already, and looks whether it
// still has keys and keyways.
func lookAtLeft(ctx context.Context, n *switching.Node, epoch int64, removed *int) LeftNode {
	ctx, cancel := context.WithTimeout(ctx, registerTimeout)
	defer cancel()
	of := LeftNode{Name: n.Name, Addr: n.Addr}
	count, err := n.Forget(ctx, epoch)
	*removed += count
	if err == nil {
		of.Keys, err = n.Keys(ctx)
	}
	if err == nil {
		of.Keyways, err = n.Members(ctx)
	}
	of.Err = err
	return of
}

// filesAgree returns an error unless the files of all keyways have the layout that is in force.
func filesAgree(ctx context.Context, home *switching.Node, inForce *config.Config) error {
	members, err := home.Members(ctx)
	if err != nil {
		return err
	}
	for _, m := range members {
		switch {
		case m.Wish != "":
			return fmt.Errorf("the file of keyway %s at %s has another layout (placement %s) than the one in force "+
				"(%s); write that into the file, and reload", m.Instance, m.Host, m.Wish, inForce.PlacementHash())
		case m.State == "" || m.Placement != inForce.PlacementHash():
			return fmt.Errorf("keyway %s at %s does not say that its file has the layout in force; see its log",
				m.Instance, m.Host)
		}
	}
	return nil
}

// sideNodes returns the masters of a configuration's own layout.
func sideNodes(ctx context.Context, c *config.Config) ([]*switching.Node, error) {
	t, err := fetchTable(ctx, c)
	if err != nil {
		return nil, err
	}
	return mastersOf(c, t), nil
}

// byName compares nodes by their names.
func byName(a, b *switching.Node) int { return strings.Compare(a.Name, b.Name) }
