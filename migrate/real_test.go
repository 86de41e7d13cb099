package migrate_test

import (
	"context"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestPaceOfBigKeys: the pace follows the latency also while big keys move, after all others.
func TestPaceOfBigKeys(t *testing.T) {
	t.Parallel()
	const keys = 60
	a, b := redistest.Start(t), redistest.Start(t)
	c := redistest.Dial(t, a.Addr)
	value := strings.Repeat("x", 250_000) // as much work as a hundred keys
	for i := range keys {
		c.Expect("OK", "SET", fmt.Sprint("big:", i), value)
	}
	highest := 0.0
	sum, err := migrate.Migrate(t.Context(), allOn(t, 0, a, b), allOn(t, 1, a, b), migrate.Options{
		Latency: time.Hour, BigOver: 100_000,
		Progress: func(p migrate.Progress) { highest = math.Max(highest, p.Rate) },
	})
	if err != nil || sum.Moved != keys || !sum.After.Clean() {
		t.Fatalf("%d of %d keys have moved: %v", sum.Moved, keys, err)
	}
	if highest <= migrate.LeastRate {
		t.Errorf("%.0f keys/s at most: the rate has not grown, though the nodes are quick", highest)
	}
}

// TestPaceOfLooks: to look at all keys, as before and after a change, is work for the nodes. It waits during a pause.
func TestPaceOfLooks(t *testing.T) {
	t.Parallel()
	const keys = 2000
	a, b := redistest.Start(t), redistest.Start(t)
	c := redistest.Dial(t, a.Addr)
	for i := range keys {
		c.Expect("OK", "SET", fmt.Sprint("key:", i), "v")
	}
	reports := make(chan migrate.Progress)
	pace := migrate.NewPace(migrate.Speed{Paused: true})
	ended := make(chan error, 1)
	var found *migrate.Report
	go func() {
		var err error
		found, err = migrate.Verify(t.Context(), allOn(t, 0, a, b), migrate.Options{
			Pace: pace, Progress: func(p migrate.Progress) { reports <- p },
		})
		close(reports)
		ended <- err
	}()
	for range 3 {
		if p, goesOn := <-reports; !goesOn || p.Looked > keys/2 {
			t.Fatalf("%d keys were looked at during a pause, and it goes on: %v", p.Looked, goesOn)
		}
	}
	pace.Set(migrate.Speed{})
	for range reports {
	}
	if err := <-ended; err != nil || found.Keys != keys || !found.Clean() {
		t.Errorf("%v: %+v", err, found)
	}
}

// TestNothingWaitsForWhatHasMoved: when all keys have moved, the verification does not wait until others might move.
func TestNothingWaitsForWhatHasMoved(t *testing.T) {
	t.Parallel()
	a, b := redistest.Start(t), redistest.Start(t)
	redistest.Dial(t, a.Addr).Expect("OK", "SET", "large", strings.Repeat("x", 1<<20)) // as much work as 400 keys
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	sum, err := migrate.Migrate(ctx, allOn(t, 0, a, b), allOn(t, 1, a, b), migrate.Options{Rate: 1})
	if err != nil || sum.Moved != 1 || !sum.After.Clean() {
		t.Errorf("%d keys have moved: %v", sum.Moved, err)
	}
}

// allOn returns the layout that has all keys on one of the nodes.
func allOn(t *testing.T, owner router.NodeID, on ...*redistest.Node) migrate.Layout {
	t.Helper()
	var nodes []router.Node
	for i, n := range on {
		nodes = append(nodes, router.Node{Name: string(rune('a' + i)), Addr: n.Addr, Master: true})
	}
	table, err := router.NewRange(nodes, nil, owner, "")
	if err != nil {
		t.Fatal(err)
	}
	return migrate.Layout{
		Table: table, Account: func(router.Node) control.Account { return control.Account{} },
		ConnectTimeout: 10 * time.Second,
	}
}
