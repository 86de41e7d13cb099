package wiring

import (
	"context"
	"testing"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// TestFormerNodes: while keys move, a node that only the older layout has is a former one, in each way
// to make the table, and keyway logs in there as the older file says.
func TestFormerNodes(t *testing.T) {
	parse := func(text string) *config.Config {
		c, err := config.Parse("x.yml", []byte(text), nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	const ab = "listen: 127.0.0.1:7000\nlayout: ring\nnodes:\n" +
		"  - {name: a, addr: 127.0.0.1:1}\n  - {name: b, addr: 127.0.0.1:2}\n"
	older, newer := parse(ab+"  - {name: c, addr: 127.0.0.1:3, password: secret}\n"), parse(ab)
	layout := func(c *config.Config) register.Layout {
		return register.Layout{Hash: c.PlacementHash(), Config: c.PlacementText()}
	}
	record := register.Record{Epoch: 1, Old: layout(older), New: layout(newer)}
	next, err := served(older, record, "the plan", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	fetched, err := FetchTable(t.Context(), next)
	if err != nil {
		t.Fatal(err)
	}
	begins, err := Table(next)
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range []interface{ IsMoving() bool }{fetched, begins} {
		if !table.IsMoving() {
			t.Error("the table is not moving")
		}
	}
	for _, id := range fetched.Owners() {
		name := fetched.Nodes[id].Name
		if want := name == "c"; fetched.IsFormer(id) != want || begins.IsFormer(id) != want {
			t.Errorf("node %s is a former one: %v and %v", name, fetched.IsFormer(id), begins.IsFormer(id))
		}
	}
	alone, err := FetchLayout(t.Context(), next)
	if err != nil || len(alone.Nodes) != 2 || alone.IsMoving() {
		t.Errorf("the newer layout alone: %+v, %v", alone, err)
	}
	if _, own := nodeLogins(next); own["c"].Password != "secret" {
		t.Errorf("logins: %v", own)
	}
}

// says is a follower that learns one table.
type says struct{ table *router.Table }

func (s says) Run(_ context.Context, publish func(*router.Table)) error {
	publish(s.table)
	return nil
}

func (s says) Refresh(func()) {}

func (s says) SetKeyways(int) {}

func (s says) fetch(context.Context) (*router.Table, error) { return s.table, nil }

// TestBothClustersAreKnown: while keys move from one cluster to another, no table lacks the nodes of one
// of them, whichever answers first.
func TestBothClustersAreKnown(t *testing.T) {
	of := func(addr string) *router.Table {
		m, err := slots.NewMap([]slots.Node{{Addr: addr, Master: true}}, [][]slots.Range{{{Last: slots.Count - 1}}})
		if err != nil {
			t.Fatal(err)
		}
		return router.NewSlots(m)
	}
	older, newer := of("10.0.0.1:1"), of("10.0.0.2:1")
	check := func(f *changing, atLeast int) {
		t.Helper()
		published := 0
		f.Run(t.Context(), func(table *router.Table) {
			if published++; len(table.Nodes) != 2 || len(table.Owners()) < 1 {
				t.Errorf("a table has the nodes %+v", table.Nodes)
			}
		})
		if published < atLeast {
			t.Errorf("%d tables are published, want %d", published, atLeast)
		}
	}
	check(&changing{sides: [2]follower{says{older}, says{newer}}}, 1)
	f := &changing{sides: [2]follower{&cluster{}, &cluster{}}}
	assume(f, router.Moving(older, newer))
	f.sides = [2]follower{says{older}, says{newer}}
	check(f, 2)
}
