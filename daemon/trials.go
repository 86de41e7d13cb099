package daemon

import (
	"context"
	"crypto/rand"
	"log/slog"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/wiring"
)

// trials are the next layouts that a running keyway tries: the one that placement.next names
// or, for a time, the one of a keyway plan. It implements admin.NextLayout.
type trials struct {
	srv *server.Server
	log *slog.Logger

	mu    sync.Mutex
	file  *trial      // of placement.next; nil: none
	now   *trial      // that is tried; nil: none
	timer *time.Timer // ends now, unless that is the file's
}

// trial is a layout that is tried.
type trial struct {
	admin.Trial // without what was found
	table       *router.Table
}

func newTrial(c *config.Config, t *router.Table) *trial {
	return &trial{admin.Trial{ID: rand.Text(), Placement: c.PlacementHash()}, t}
}

// set begins to try a layout. ts.mu must be locked.
func (ts *trials) set(t *trial) {
	if ts.timer != nil {
		ts.timer.Stop()
		ts.timer = nil
	}
	ts.now = t
	if t == nil {
		ts.srv.TryLayout(nil)
		return
	}
	t.Since = time.Now()
	ts.srv.TryLayout(t.table)
}

// setFile tries the layout that the configuration file names, from now on. next is nil if it
// names none.
func (ts *trials) setFile(next *config.Config, t *router.Table) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	before := ts.file
	if next == nil {
		ts.file = nil
	} else {
		ts.file = newTrial(next, t)
	}
	switch {
	case before == nil && next == nil:
	case before != nil && next != nil && before.Placement == ts.file.Placement:
		ts.file = before // goes on
	case ts.now == before:
		ts.set(ts.file)
		if next == nil {
			ts.log.Info("no longer counts what a next layout would refuse")
		} else {
			ts.log.Info("counting the commands that the next layout would refuse",
				"file", next.File(), "layout", next.Layout, "placement", ts.file.Placement)
		}
	}
}

// Try implements admin.NextLayout.
func (ts *trials) Try(placement []byte, forTime time.Duration) (admin.Trial, error) {
	c, err := config.ParsePlacement("the new placement", placement)
	if err != nil {
		return admin.Trial{}, err
	}
	table, err := wiring.Table(c)
	if err != nil {
		return admin.Trial{}, err
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	t := newTrial(c, table)
	ts.set(t)
	t.Until = t.Since.Add(forTime)
	ts.timer = time.AfterFunc(forTime, func() { _ = ts.End(t.ID) }) // or it has ended before
	ts.log.Info("counting the commands that the next layout would refuse, for keyway plan",
		"layout", c.Layout, "placement", t.Placement, "until", t.Until)
	return t.Trial, nil
}

// End implements admin.NextLayout.
func (ts *trials) End(id string) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.now == nil || ts.now == ts.file || ts.now.ID != id {
		return admin.ErrNoTrial
	}
	ts.set(ts.file)
	ts.log.Info("no longer counts what the next layout of keyway plan would refuse")
	return nil
}

// Tried implements admin.NextLayout.
func (ts *trials) Tried(ctx context.Context) (admin.Trial, error) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.now == nil {
		return admin.Trial{}, admin.ErrNoTrial
	}
	found, err := ts.srv.Tried(ctx)
	t := ts.now.Trial
	t.Found = found
	return t, err
}
