package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyway-proxy/keyway/router"
)

// nobody is a node without clients.
func nobody(context.Context, router.Node) (string, error) { return "", nil }

// client returns a line of CLIENT LIST.
func client(addr, name string) string {
	return fmt.Sprintf("id=3 addr=%s laddr=10.0.0.9:6379 fd=8 name=%s age=2 idle=0 flags=N db=0 user=default\n",
		addr, name)
}

// TestCensus: keyway counts the keyways of a cluster by the clients of one node at a time, and reports the number.
// The more there are, the less often it asks.
func TestCensus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var counts []int
		g := New(Options{Off: true, Placement: "aa", Counted: func(n int) { counts = append(counts, n) }})
		few := client("10.0.0.2:500", "keyway:kw-2:aa") + client("10.0.0.3:500", "keyway:kw-3:bb") +
			client("10.0.0.3:501", "keyway:kw-3:bb") + client("10.0.0.4:500", "")
		many := ""
		for i := range 2000 {
			many += client("10.0.0.7:1", fmt.Sprintf("keyway:many-%d:aa", i))
		}
		began := time.Now()
		g.peers.list = func(context.Context, router.Node) (string, error) {
			switch at := time.Since(began); {
			case at < 10*time.Minute:
				return few, nil
			case at < 20*time.Minute:
				return "", errors.New("NOPERM")
			}
			return many, nil
		}
		table := halves(t)
		ctx, cancel := context.WithTimeout(t.Context(), 90*time.Minute)
		defer cancel()
		g.Run(ctx, func() *router.Table { return table })
		asked := map[int]int{}
		for _, n := range counts {
			asked[n]++
		}
		if asked[2] < 8 || asked[2] > 12 || asked[2000] < 14 || asked[2000] > 30 || len(asked) != 2 {
			t.Errorf("so often each number was reported: %v", asked)
		}
		if g.Disagreeing() != 0 || len(g.Keyways()) != 0 {
			t.Error("a census judges no keyway")
		}
	})
}

func TestDisagreeingClients(t *testing.T) {
	list := client("10.0.0.1:500", "keyway:kw-1:aa") + client("10.0.0.1:501", "keyway:kw-1:e0:aa") +
		client("10.0.0.2:500", "keyway:host:6380:bb") + client("10.0.0.2:501", "keyway:host:6380:e7:bb") +
		client("[::1]:500", "keyway:kw-1:bb") + client("/run/redis.sock:0", "keyway:kw-3:bb") +
		client("10.0.0.3:1", "") + client("10.0.0.3:2", "metrics") + client("10.0.0.3:3", "keyway:odd") +
		client("10.0.0.3:4", "keyway:") +
		client("10.0.0.4:1", "keyway:reloaded:bb") + client("10.0.0.4:2", "keyway:reloaded:aa") +
		client("10.0.0.5:1", "keyway:reloaded:bb")
	want := "host:6380 at 10.0.0.2, kw-1 at ::1, kw-3 at /run/redis.sock, reloaded at 10.0.0.5"
	var got []string
	for _, p := range disagreeing("n", list, "aa") {
		got = append(got, p.String())
	}
	if strings.Join(got, ", ") != want {
		t.Errorf("%q", got)
	}
}

// TestStartBesideADisagreeingKeyway: keyway refuses to start beside one with another
// placement, unless that is allowed, or the other has gone a second later.
func TestStartBesideADisagreeingKeyway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := halves(t)
		for _, c := range []struct {
			other                 string
			refuse, staying, want bool
		}{
			{"bb", true, true, true}, {"bb", true, false, false}, {"bb", false, true, false}, {"aa", true, true, false},
		} {
			var log bytes.Buffer
			g := New(Options{Refuse: c.refuse, Placement: "aa", Log: slog.New(slog.NewTextHandler(&log, nil))})
			g.look = func(context.Context, *router.Table, []router.NodeID) []Sample { return nil }
			began := time.Now()
			g.peers.list = func(_ context.Context, n router.Node) (string, error) {
				if n.Addr == "a:1" {
					return "", errors.New("nobody answers")
				}
				if !c.staying && time.Since(began) > 0 {
					return "", nil
				}
				return client("10.0.0.2:500", "keyway:kw-2:"+c.other), nil
			}
			err := g.Start(t.Context(), table)
			var refused *disagreement
			if errors.As(err, &refused) != c.want {
				t.Errorf("%+v: %v", c, err)
			}
			if c.want && !strings.Contains(err.Error(),
				"by another placement than this file (aa), so clients of one would not find all keys of the other\n"+
					"  keyway kw-2 at 10.0.0.2, with placement bb, is connected to node b\n") {
				t.Errorf("%v", err)
			}
			warned := strings.Count(log.String(), "level=WARN msg=\"another keyway serves the same nodes")
			if warns := c.other == "bb" && c.staying && !c.refuse; warns != (warned == 1) {
				t.Errorf("%+v: %s", c, log.String())
			}
		}
	})
}

// TestLooksAtClients: keyway looks at a node's clients some seconds after its start, then
// every minute, and less often where many keyways read a long list. It logs each change once.
func TestLooksAtClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := New(Options{Refuse: true, Placement: "aa", Log: slog.New(slog.NewTextHandler(&log, nil))})
		g.look = func(context.Context, *router.Table, []router.NodeID) []Sample { return nil }
		var mu sync.Mutex
		looks := map[string][]time.Duration{}
		began := time.Now()
		crowd := ""
		for i := range 1500 {
			crowd += client(fmt.Sprintf("10.0.0.7:%d", 1+i), fmt.Sprintf("keyway:many-%d:aa", i))
		}
		g.peers.list = func(_ context.Context, n router.Node) (string, error) {
			addr := n.Addr
			at := time.Since(began)
			mu.Lock()
			defer mu.Unlock()
			looks[addr] = append(looks[addr], at)
			switch {
			case addr == "b:1":
				return crowd, nil
			case at > 20*time.Minute && at < 40*time.Minute:
				return client("10.0.0.2:500", "keyway:kw-2:bb"), nil
			}
			return "", nil
		}
		table := halves(t)
		if err := g.Start(t.Context(), table); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		g.peers.run(ctx, func() *router.Table { return table })
		if g.Disagreeing() != 1 {
			t.Errorf("%d keyways disagree", g.Disagreeing())
		}
		ctx, cancel = context.WithTimeout(t.Context(), 30*time.Minute)
		defer cancel()
		g.peers.run(ctx, func() *router.Table { return table })
		if g.Disagreeing() != 0 {
			t.Errorf("%d keyways disagree", g.Disagreeing())
		}
		if a, b := len(looks["a:1"]), len(looks["b:1"]); looks["a:1"][1] > 8*time.Second || a < 54 || a > 68 || b > 20 {
			t.Errorf("%d looks at a, %d at b: %v", a, b, looks)
		}
		if strings.Count(log.String(), "another keyway serves the same nodes") != 1 ||
			strings.Count(log.String(), "a keyway with another placement is gone") != 1 {
			t.Errorf("%s", log.String())
		}
	})
}
