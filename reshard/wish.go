package reshard

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/wiring"
)

// Wishes says when the layout should change to that of the files of all keyways.
type Wishes struct {
	// Renewed says that the file has got another layout, which is not in force, so that what happened to earlier
	// wishes does not matter.
	Renewed atomic.Bool
	over    int64 // the epoch of the last change before that
}

// Failed says that the change has not begun, although nobody has cancelled it.
func (w *Wishes) Failed(change *Switch) { w.over = change.Epoch }

// Change returns the change from the layout by which c is served to that of its file, if the files of all
// keyways have that layout and this keyway is the first of them. Otherwise the change is nil, and reason says
// why. The reason is empty as long as keyways are about to agree.
func (w *Wishes) Change(
	ctx context.Context, c *config.Config, t *router.Table,
) (change *Switch, reason string, err error) {
	file, home := c.Replaced(), Home(c, t)
	if file == nil || home == nil || config.Older(c) != nil {
		return nil, "", nil
	}
	at, err := switching.Read(ctx, home, nil)
	if err != nil {
		return nil, "", err
	}
	if w.Renewed.Swap(false) {
		w.over = at.Latest.Epoch
	}
	hash := file.PlacementHash()
	switch {
	case at.State != switching.Steady && at.State != switching.Done:
		return nil, "", nil
	case at.Latest.Epoch > w.over && wasTakenBack(&at.Latest, hash):
		return nil, fmt.Sprintf("the same change was cancelled or taken back (epoch %d), so it does not begin by "+
			"itself again; keyway switch -c FILE begins it", at.Latest.Epoch), nil
	case !agree(at.Members, c.PlacementHash(), hash) || at.Members[0].Instance != wiring.Instance(c):
		return nil, "", nil
	}
	inForce, err := c.InEpoch(c.Epoch(), c) // as a file of its own
	if err != nil {
		return nil, "", err
	}
	change, err = NewSwitch(ctx, inForce, file)
	return change, "", err
}

// agree reports whether the files of all members have the placement wish, while they serve by another one.
func agree(members []switching.Member, serves, wish string) bool {
	for _, m := range members {
		if m.State == "" || m.Placement != serves || m.Wish != wish {
			return false
		}
	}
	return len(members) > 0
}

// wasTakenBack reports whether somebody has cancelled or taken back the last change, which led to the
// placement wish. If the plan is not on this home, as the way back from a layout with another one, a change
// away from the wish counts as its way back: to begin nothing does no harm.
func wasTakenBack(last *register.Change, wish string) bool {
	switch {
	case last.Plan == nil:
		return last.Entered != nil && last.Entered.Old.Hash == wish
	case last.Decision == register.Cancelled:
		return last.Plan.New.Hash == wish
	}
	o, err := last.Plan.ReadOptions()
	return err == nil && o.TakesBack && last.Plan.Old.Hash == wish
}
