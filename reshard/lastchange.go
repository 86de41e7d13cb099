package reshard

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/wiring"
)

// askTimeout is the time for one node that may not answer.
const askTimeout = 2 * time.Second

// LastChange is what the registers of a file's nodes say about the last change of the layout.
type LastChange struct {
	Epoch int64          // 0: the nodes say nothing
	Old   *config.Config // the layout before
	New   *config.Config // the layout in force
	Done  bool           // no key is left to move
	// Planned is the epoch of a later change that is not decided, 0 if there is none. Its home has the
	// records.
	Planned int64
	// Decided is the epoch of a later change that takes place, and that no node had entered when it was asked, 0 if
	// there is none.
	Decided int64
	home    *switching.Node
}

// ReadLastChange asks the nodes of a file. The layout of the file may be the old or the new one.
func ReadLastChange(ctx context.Context, c *config.Config) (*LastChange, error) {
	last, err := wiring.LastRecord(ctx, c, slog.New(slog.DiscardHandler))
	if err != nil {
		return nil, err
	}
	l := &LastChange{Epoch: last.Epoch, New: c, Done: last.Done}
	if last.Epoch > 0 {
		of := "the register of node " + last.Node
		if l.Old, err = inEpochOf(c, last.Epoch, last.Old, of); err != nil {
			return nil, err
		}
		if l.New, err = inEpochOf(c, last.Epoch, last.Record.New, of); err != nil {
			return nil, err
		}
	}
	return l, l.findPlan(ctx)
}

// InForce returns the layout that the nodes of a file say is in force. It is nil if they say nothing, or
// cannot be asked.
func InForce(ctx context.Context, c *config.Config) *config.Config {
	l, err := ReadLastChange(ctx, c)
	if err != nil || l.Epoch == 0 {
		return nil
	}
	return l.New
}

// inEpochOf returns the configuration that serves c by a layout of a record.
func inEpochOf(c *config.Config, epoch int64, l register.Layout, of string) (*config.Config, error) {
	placement, err := wiring.Placement(l, of)
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
		ctx, cancel := context.WithTimeout(ctx, askTimeout)
		at, err := switching.Read(ctx, n, nil)
		cancel()
		switch {
		case err != nil:
			failed = append(failed, err)
		case at.Plan != nil && at.Epoch > max(l.Epoch, l.Planned) && at.Decision == register.Undecided:
			l.Planned, l.home = at.Epoch, n
		case at.Plan != nil && at.Epoch > l.Epoch && at.Decision == register.Go:
			l.Decided, l.home = at.Epoch, n
		}
	}
	if l.home != nil {
		return nil
	}
	return errors.Join(failed...)
}

// Cancel cancels the planned change. It returns false if it was decided before.
func (l *LastChange) Cancel(ctx context.Context) (bool, error) {
	decided, err := l.home.Decide(ctx, l.Planned, register.Cancelled)
	return err == nil && decided == nil, err
}
