package reshard

import (
	"context"
	"fmt"
	"slices"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/wiring"
)

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
	case l.Decided > 0:
		return nil, fmt.Errorf("a change to epoch %d has begun", l.Decided)
	case l.Planned > 0:
		return nil, fmt.Errorf("a change to epoch %d is planned: keyway cancel cancels it", l.Planned)
	}
	t, err := wiring.FetchLayout(ctx, l.New)
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
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
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
