package guard

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/keyway-proxy/keyway/router"
)

// halves returns the table of two nodes: keys below "b" belong to node a, all others to b.
func halves(t *testing.T) *router.Table {
	t.Helper()
	nodes := []router.Node{{Name: "a", Addr: "a:1", Master: true}, {Name: "b", Addr: "b:1", Master: true}}
	table, err := router.NewRange(nodes, []router.Rule{{Node: 1, Text: "b"}}, 0, "")
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// TestLooks: a node is looked at once an hour, and sooner while it cannot be judged, but no
// more than once a minute if that lasts. What has changed is logged, and nothing else.
func TestLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		g := New(Options{Refuse: true, Log: slog.New(slog.NewTextHandler(&log, nil))})
		g.peers.list = nobody
		began := time.Now()
		var ofA, ofB []time.Duration
		g.look = func(_ context.Context, _ *router.Table, ids []router.NodeID) (samples []Sample) {
			at := time.Since(began)
			for _, id := range ids {
				if id == 1 {
					ofB = append(ofB, at)
					samples = append(samples, Sample{Name: "b", Err: errors.New("nobody answers")})
					continue
				}
				s := Sample{Name: "a", Keys: 1000, Sampled: 1000}
				if ofA = append(ofA, at); at > 150*time.Minute {
					s.Elsewhere, s.Examples = 500, []Example{{Key: "k", Belongs: "b"}}
				}
				samples = append(samples, s)
			}
			return samples
		}
		table := halves(t)
		if err := g.Start(t.Context(), table); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 6*time.Hour)
		defer cancel()
		g.Run(ctx, func() *router.Table { return table })
		for i, at := range ofA[1:] {
			if gap := at - ofA[i]; gap < 54*time.Minute || gap > 66*time.Minute+tick {
				t.Errorf("looks at a: %v", ofA)
			}
		}
		if ofB[1] > 5*time.Second || len(ofB) < 340 || len(ofB) > 380 {
			t.Errorf("%d looks at b: %v", len(ofB), ofB[:10])
		}
		if n := strings.Count(log.String(), "keys lie on another node"); n != 1 ||
			strings.Count(log.String(), "cannot judge") != 1 {
			t.Errorf("%s", log.String())
		}
		if f := g.Findings(); len(f) != 1 || f[0].Ratio() != 0.5 {
			t.Errorf("%+v", f)
		}
	})
}

// TestRefusal: Start refuses above a hundredth of one node's keys, unless that is allowed,
// and judges no node that could not be asked.
func TestRefusal(t *testing.T) {
	table := halves(t)
	for _, c := range []struct {
		elsewhere, sampled int
		refuse, want       bool
	}{
		{10, 1000, true, false}, {11, 1000, true, true}, {11, 1000, false, false},
		{0, 0, true, false}, {1, 1, true, true},
	} {
		g := New(Options{Refuse: c.refuse})
		g.peers.list = nobody
		g.look = func(context.Context, *router.Table, []router.NodeID) []Sample {
			away := Sample{Name: "b", Err: errors.New("away"), Sampled: 9, Elsewhere: 9}
			return []Sample{{
				Name: "a", Sampled: c.sampled, Elsewhere: c.elsewhere, Examples: []Example{{Key: "k"}},
			}, away}
		}
		err := g.Start(t.Context(), table)
		if refused := new(refusal); errors.As(err, &refused) != c.want {
			t.Errorf("%+v: %v", c, err)
		}
		if err != nil && !strings.Contains(err.Error(), "node b (): not judged: away") {
			t.Errorf("%v", err)
		}
	}
}
