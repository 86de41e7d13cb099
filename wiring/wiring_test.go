package wiring

import (
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/topology"
)

func parse(t *testing.T, yaml string) *config.Config {
	t.Helper()
	cfg, err := config.Parse("x.yml", []byte(yaml), func(string) (string, bool) { return "", false })
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestTableRefusesWhatTheServerRefuses: check, which needs only a table, reports the errors
// that would keep serve from starting.
func TestTableRefusesWhatTheServerRefuses(t *testing.T) {
	for _, yaml := range []string{
		"layout: ring\nring: {hash: sha512}\n",
		"layout: range\nrange: {rules: [{from: a, to: m, node: a}, {from: g, to: z, node: a}]}\n",
		"layout: ring\ncommands: {allow: [nonesuch]}\n",
		"layout: ring\nscripts: {per_key: [{sha: 6a3d}]}\n",
		"layout: ring\nring: {hash: sha512}\ncommands: {allow: [nonesuch]}\n",
	} {
		cfg := parse(t, "listen: 127.0.0.1:0\nnodes: [{name: a, addr: 127.0.0.1:1}]\n"+yaml)
		_, byTable := Table(cfg)
		_, byServer := NewServer(cfg, server.Options{})
		if byTable == nil || byServer == nil || byTable.Error() != byServer.Error() {
			t.Errorf("%q: %v, and from the server %v", yaml, byTable, byServer)
		}
	}
}

// TestSentinelsReportsBecomeTables: each new report of sentinels becomes a table with the
// masters and replicas of all reports. A report that says nothing new becomes none.
func TestSentinelsReportsBecomeTables(t *testing.T) {
	cfg := parse(t, `layout: ring
nodes:
  - {name: a, sentinel: {master: east, addrs: ["127.0.0.1:1"]}}
  - {name: b, addr: "127.0.0.1:2", replicas: ["127.0.0.1:3"]}
  - {name: c, sentinel: {master: west, addrs: ["127.0.0.1:1"]}}
`)
	f := follow(cfg, slog.New(slog.NewTextHandler(io.Discard, nil))).(*sentinels)
	var tables []string
	publish := func(t *router.Table) {
		var nodes []string
		for _, n := range t.Nodes {
			nodes = append(nodes, n.Addr)
		}
		tables = append(tables, strings.Join(nodes, " "))
	}
	east := topology.Shard{Master: "127.0.0.1:11", Replicas: []string{"127.0.0.1:12"}}
	f.update(0, east, publish)
	f.update(0, east, publish)
	f.update(2, topology.Shard{Master: "127.0.0.1:21"}, publish)
	want := []string{
		"127.0.0.1:11 127.0.0.1:2  127.0.0.1:12 127.0.0.1:3",
		"127.0.0.1:11 127.0.0.1:2 127.0.0.1:21 127.0.0.1:12 127.0.0.1:3",
	}
	if strings.Join(tables, "\n") != strings.Join(want, "\n") {
		t.Errorf("tables %q, want %q", tables, want)
	}
}
