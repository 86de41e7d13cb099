package switching

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/register"
)

// Driver carries changes out. It has no memory, so another one can go on in its place.
type Driver struct {
	Home  *Node
	Nodes []*Node // of both layouts, with the home
	// Strict makes Begin give up if a keyway does not hold its commands. Otherwise what such a keyway
	// has in flight gets the outcome unknown: it is frozen, or cannot reach the home.
	Strict bool
	Epoch  int64                            // that Begin has planned to change to; 0: none yet
	Report func(format string, args ...any) // what has happened
}

// ErrCancelled is wrapped by the error of Begin if somebody else has cancelled the change.
var ErrCancelled = errors.New("was cancelled")

const (
	prepareTime = 10 * time.Second
	attempts    = 3 // to hold
	betweenHold = 200 * time.Millisecond
	homeWaits   = 50 * time.Millisecond // for the other nodes to enter the epoch
)

// Begin plans a change, waits until all keyways are prepared and hold their commands, decides, and
// makes all nodes enter the epoch.
func (d *Driver) Begin(ctx context.Context, p register.Plan) (*Commitment, error) {
	var err error
	if p.Epoch, err = Next(ctx, d.Nodes); err != nil {
		return nil, err
	}
	wanted := p
	if p, err = d.Home.Plan(ctx, p); err != nil {
		return nil, err
	}
	d.Epoch = p.Epoch
	if p.Old.Hash != wanted.Old.Hash || p.New.Hash != wanted.New.Hash {
		return nil, fmt.Errorf("somebody else has just planned another change (epoch %d), so this one does not begin: "+
			"see keyway status", p.Epoch)
	}
	if err := d.prepare(ctx, p.Epoch); err != nil {
		_, cancelErr := d.Home.Decide(ctx, p.Epoch, register.Cancelled)
		if cancelErr != nil {
			return nil, fmt.Errorf("%w; and it could not be cancelled: %w", err, cancelErr)
		}
		return nil, err
	}
	began := time.Now()
	if err := d.hold(ctx, p.Epoch, holdTime(&p)); err != nil {
		return nil, err
	}
	to, err := d.Home.Decide(ctx, p.Epoch, register.Go)
	if err != nil {
		return nil, err
	}
	if to == nil {
		return nil, fmt.Errorf("the change to epoch %d %w", p.Epoch, ErrCancelled)
	}
	if err := d.Flip(ctx, to); err != nil {
		return to, err
	}
	d.Report("all nodes are in epoch %d; clients waited for %d ms", to.Epoch, time.Since(began).Milliseconds())
	return to, nil
}

// Flip makes all nodes enter an epoch. Connections are ended by their names. Keyways serve by the new
// layout when the home has entered, so it does not do that before the others, unless one takes long.
func (d *Driver) Flip(ctx context.Context, to *Commitment) error {
	byName := func(*Node) Fence { return Fence{} }
	others := slices.DeleteFunc(slices.Clone(d.Nodes), func(n *Node) bool { return n.Addr == d.Home.Addr })
	var failed error
	flipped := make(chan struct{})
	go func() {
		defer close(flipped)
		failed = FlipAll(ctx, others, to, byName)
	}()
	select {
	case <-flipped:
	case <-time.After(homeWaits):
	}
	err := d.Home.Flip(ctx, to, byName(d.Home))
	<-flipped
	return errors.Join(err, failed)
}

// prepare waits until all keyways are prepared.
func (d *Driver) prepare(ctx context.Context, epoch int64) error {
	missing, err := d.await(ctx, epoch, prepareTime, prepared, held)
	if err != nil {
		return err
	}
	if len(missing) > 0 {
		return fmt.Errorf("not prepared within %s: %s; see their logs", prepareTime, strings.Join(missing, ", "))
	}
	d.Report("epoch %d is planned, and all keyways are prepared", epoch)
	return nil
}

// hold waits until all keyways hold their commands, which they do for the time atMost. It fails if this
// process is too slow to decide before that ends.
func (d *Driver) hold(ctx context.Context, epoch int64, atMost time.Duration) error {
	var missing []string
	isLate := false
	for attempt := 1; attempt <= attempts; attempt++ {
		if err := d.Home.Hold(ctx, epoch, attempt); err != nil {
			return err
		}
		began := time.Now()
		var err error
		if missing, err = d.await(ctx, epoch, atMost*3/4, held); err != nil {
			return err
		}
		if len(missing) == 0 {
			d.Report("all keyways hold their commands after %d ms", time.Since(began).Milliseconds())
		} else {
			d.Report("commands are still in flight at %s", strings.Join(missing, ", "))
		}
		// The command may have been stopped, or nobody reads what it reports.
		if isLate = time.Since(began) > atMost; len(missing) == 0 && !isLate {
			return nil
		}
		if attempt < attempts || d.Strict { // the last hold goes on
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(atMost/4 + betweenHold):
			}
		}
	}
	if !d.Strict && !isLate {
		return nil
	}
	if _, err := d.Home.Decide(ctx, epoch, register.Cancelled); err != nil {
		return err
	}
	if isLate {
		return fmt.Errorf("cancelled, since this command was stopped for longer than keyways hold theirs (%s)", atMost)
	}
	return fmt.Errorf("cancelled, since commands stayed in flight at %s", strings.Join(missing, ", "))
}

// await waits until all members are in one of the states, and returns those that are not. It is an error
// if somebody cancels the change meanwhile.
func (d *Driver) await(ctx context.Context, epoch int64, atMost time.Duration, states ...string) ([]string, error) {
	for deadline := time.Now().Add(atMost); ; time.Sleep(holdInterval) {
		members, err := d.Home.Members(ctx)
		if err != nil {
			return nil, err
		}
		var missing []string
		for _, m := range members {
			if m.Epoch != epoch || !slices.Contains(states, m.State) {
				missing = append(missing, m.Instance+" at "+m.Host)
			}
		}
		if len(missing) == 0 || !time.Now().Before(deadline) || ctx.Err() != nil {
			return missing, ctx.Err()
		}
		all, err := d.Home.changes(ctx)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(all, func(c register.Change) bool {
			return c.Epoch == epoch && c.Decision == register.Cancelled
		}) {
			return nil, fmt.Errorf("the change to epoch %d %w", epoch, ErrCancelled)
		}
	}
}
