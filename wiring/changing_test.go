package wiring

import (
	"testing"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/register"
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
