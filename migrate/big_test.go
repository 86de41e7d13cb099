package migrate_test

import (
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
	all := func(owner router.NodeID) migrate.Layout {
		nodes := []router.Node{{Name: "a", Addr: a.Addr, Master: true}, {Name: "b", Addr: b.Addr, Master: true}}
		table, err := router.NewRange(nodes, nil, owner, "")
		if err != nil {
			t.Fatal(err)
		}
		return migrate.Layout{
			Table: table, Account: func(router.Node) control.Account { return control.Account{} },
			ConnectTimeout: 10 * time.Second,
		}
	}
	highest := 0.0
	sum, err := migrate.Migrate(t.Context(), all(0), all(1), migrate.Options{
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
