package test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestScalePage: the table of docs/scale.md follows from the intervals and bounds in the code.
func TestScalePage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, row := range scaleRows(t) {
		if !strings.Contains(string(page), row) {
			t.Errorf("docs/scale.md lacks %q", row)
		}
	}
}

// The fleet of the page: its sizes, and a replica lag of the default 10 s.
const (
	fleetKeyways, fleetThreads, fleetNodes = 1000, 2, 300
	fleetMaxLag                            = 10.
	fleetLine                              = 295 // bytes of CLIENT LIST for a connection
)

// scaleRows returns the first cells of each row of the page's table.
func scaleRows(t *testing.T) (rows []string) {
	// row adds one. share is how many of a keyway's questions reach a node that gets some, in an interval.
	row := func(what string, interval, share float64) {
		rows = append(rows, fmt.Sprintf("| %s | %s | %s |", what,
			time.Duration(interval*float64(time.Second)).Round(time.Second), figure(fleetKeyways*share/interval)))
	}
	lag, member := constants(t, "freshness/lag.go"), constants(t, "switching/member.go")
	survey, watch := constants(t, "topology/survey.go"), constants(t, "topology/watch.go")
	follow := constants(t, "topology/follow.go")
	guard, peers := constants(t, "guard/guard.go"), constants(t, "guard/peers.go")
	quorum := constants(t, "proxy/quorum/member.go")
	const keyways, threads = float64(fleetKeyways), float64(fleetThreads)
	share := watch["maxAsked"] / fleetNodes
	row("how far a replica lags: `INFO replication`", min(max(lag["lookMax"], keyways*threads/lag["looksPerSecond"]),
		fleetMaxLag/2), threads)
	row("the register of the layout: `FUNCTION LIST`, at one node", max(member["lookInterval"],
		keyways/member["looksPerSecond"]), 1)
	row("whether a node can serve: `PING`, `INFO`", max(survey["repeatInterval"],
		keyways/survey["surveysPerSecond"]), 1)
	row("where keys lie: 1,000 `RANDOMKEY`s", max(guard["interval"], keyways/guard["looksPerSecond"]), 1)
	list := keyways * 2 * threads * fleetLine
	row("who else serves the node: `CLIENT LIST`", max(peers["peerInterval"], keyways*list/peers["peerBytes"]), 1)
	row("the same in a Redis Cluster, one node at a time", max(peers["peerInterval"],
		keyways*list/peers["peerBytes"]/fleetNodes), 1./fleetNodes)
	row("the topology of a cluster: `CLUSTER INFO`, `CLUSTER SHARDS`",
		max(watch["interval"], keyways*share/follow["looksPerSecond"]), share)
	row("a master of 3 at its sentinels: three questions",
		min(max(constants(t, "topology/sentinel.go")["sentinelInterval"], keyways*3/follow["looksPerSecond"]),
			follow["maxInterval"]), 3)
	row("whether a lock node has restarted: a script", min(max(quorum["lookEvery"],
		keyways*threads/quorum["looksPerSecond"]), quorum["maxLookEvery"]), threads)
	pings, hello := constants(t, "proxy/engine/node.go"), constants(t, "proxy/engine/dispatch.go")
	silent := max(pings["pingEvery"], keyways*threads/pings["pingsPerSecond"])
	row("a silent subscription: `PING`", min(silent, constants(t, "proxy/pubsub/feeds.go")["maxFeedPing"]), threads)
	row("a silent connection for client-side caching: `PING`",
		min(silent, constants(t, "proxy/tracking/tracking.go")["maxTrackPing"]), threads)
	row("the version of the nodes: `HELLO`, at one node", min(max(hello["serverRefresh"],
		keyways*threads/hello["hellosPerSecond"]), hello["maxServerRefresh"]), threads)
	return rows
}

// figure returns a number with two digits that matter.
func figure(n float64) string {
	if n >= 10 {
		return fmt.Sprintf("%.0f", n)
	}
	return strconv.FormatFloat(n, 'g', 2, 64)
}

// constants returns the numbers among the constants of a file. Durations are in seconds.
func constants(t *testing.T, file string) map[string]float64 {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../"+file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]float64{}
	for _, d := range f.Decls {
		if g, ok := d.(*ast.GenDecl); ok && g.Tok == token.CONST {
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, e := range v.Values {
					if n, ok := numberOf(e); ok {
						found[v.Names[i].Name] = n
					}
				}
			}
		}
	}
	return found
}

// numberOf returns the value of an expression of numbers and of units of time.
func numberOf(e ast.Expr) (float64, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		n, err := strconv.ParseFloat(e.Value, 64)
		return n, err == nil
	case *ast.SelectorExpr:
		d, err := time.ParseDuration(map[string]string{
			"Hour": "1h", "Minute": "1m", "Second": "1s", "Millisecond": "1ms",
		}[e.Sel.Name])
		return d.Seconds(), err == nil
	case *ast.CallExpr: // int64(...)
		return numberOf(e.Args[0])
	case *ast.BinaryExpr:
		a, ok1 := numberOf(e.X)
		b, ok2 := numberOf(e.Y)
		switch e.Op {
		case token.MUL:
			return a * b, ok1 && ok2
		case token.SHL:
			return a * float64(int(1)<<int(b)), ok1 && ok2
		}
	}
	return 0, false
}
