package migrate

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/router"
)

// TestStrayIsNotForgotten: the first pass remembers a stray, though another node is scanned at
// the same time whose keys an earlier migration has moved already.
func TestStrayIsNotForgotten(t *testing.T) {
	nodes := []*move.Node{{Name: "a"}, {Name: "b"}, {Name: "c"}}
	all := func(owner router.NodeID) *placement {
		table, err := router.NewRange([]router.Node{{Name: "a"}, {Name: "b"}, {Name: "c"}}, nil, owner, "")
		if err != nil {
			t.Fatal(err)
		}
		return &placement{table: table, nodes: nodes}
	}
	from, to := all(0), all(1)
	for i := range 1000 {
		p := &passes{from: from, to: to}
		scanning := make(chan struct{})
		var scans sync.WaitGroup
		scans.Go(func() {
			close(scanning)
			for range 1000 {
				p.first("moved already", nodes[1])
			}
		})
		<-scanning
		p.first("stray", nodes[2])
		scans.Wait()
		if !p.strays.Load() {
			t.Fatalf("round %d has forgotten the stray", i)
		}
	}
}

// TestWhatIsWaitedFor: while a pass waits, it says at which node and for what, such as a replica.
func TestWhatIsWaitedFor(t *testing.T) {
	r := retry{limit: time.Second}
	missing := &move.Error{Node: "b", Doing: "waiting for a replica", Err: errors.New("none has it"), Temporary: true}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- r.run(ctx, func() (bool, error) { return true, missing }) }()
	said := ""
	for end := time.Now().Add(10 * time.Second); said == "" && time.Now().Before(end); {
		said = r.failure()
	}
	stop()
	if err := <-ended; said != "node b: waiting for a replica: none has it" || !errors.Is(err, context.Canceled) {
		t.Errorf("it waits for %q, and ends with %v", said, err)
	}
}
