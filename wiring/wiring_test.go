package wiring

import (
	"log/slog"
	"slices"
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
// masters and replicas of all reports, and lines of the log that say what has changed. A
// report that says nothing new becomes neither.
func TestSentinelsReportsBecomeTables(t *testing.T) {
	cfg := parse(t, `layout: ring
nodes:
  - {name: a, sentinel: {master: east, addrs: ["127.0.0.1:1"]}}
  - {name: b, addr: "127.0.0.1:2", replicas: ["127.0.0.1:3"]}
  - {name: c, sentinel: {master: west, addrs: ["127.0.0.1:1"]}}
`)
	var log strings.Builder
	f := follow(cfg, slog.New(slog.NewTextHandler(&log, nil))).(*sentinels)
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
	f.update(0, topology.Shard{Master: "127.0.0.1:12", Replicas: []string{"127.0.0.1:13"}}, publish)
	f.update(0, topology.Shard{Master: "127.0.0.1:12"}, publish)
	want := []string{
		"127.0.0.1:11 127.0.0.1:2  127.0.0.1:12 127.0.0.1:3",
		"127.0.0.1:11 127.0.0.1:2 127.0.0.1:21 127.0.0.1:12 127.0.0.1:3",
		"127.0.0.1:12 127.0.0.1:2 127.0.0.1:21 127.0.0.1:13 127.0.0.1:3",
		"127.0.0.1:12 127.0.0.1:2 127.0.0.1:21 127.0.0.1:3",
	}
	if strings.Join(tables, "\n") != strings.Join(want, "\n") {
		t.Errorf("tables %q, want %q", tables, want)
	}
	var got []string
	for line := range strings.Lines(log.String()) {
		_, line, _ = strings.Cut(line, "msg=")
		got = append(got, strings.TrimSpace(line))
	}
	wantLog := []string{
		"topology node=a master=127.0.0.1:11 replicas=1",
		"topology node=c master=127.0.0.1:21 replicas=0",
		`"topology changed" what="node has another master" node=a from=127.0.0.1:11 to=127.0.0.1:12`,
		`"topology changed" what="replica joined" node=a addr=127.0.0.1:13`,
		`"topology changed" what="replica left" node=a addr=127.0.0.1:13`,
	}
	if !slices.Equal(got, wantLog) {
		t.Errorf("log:\n%s", strings.Join(got, "\n"))
	}
}
