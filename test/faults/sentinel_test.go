package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/test/redistest"
	"github.com/keyway-proxy/keyway/wiring"
)

// TestSentinelFailover kills a master of a ring under load: what the sentinels
// announce is followed within a second; nothing is lost that was acknowledged
// since, though the old master comes back as a master that takes writes; nobody
// gets a foreign reply. Then a switch on request, and sentinels that die.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	soon := time.Second
	if redistest.Race {
		soon *= 5 // nothing is as fast
	}
	w := redistest.NewWatched(t, "east", "west")
	yaml := "layout: ring\n" + w.NodesYAML()
	k := redistest.Serve(t, yaml).Ready()
	var others []*redistest.Keyway
	for _, layout := range []string{"modulo", "slots\nslots: {static: {a: 0-8191, b: 8192-16383}}", `range
range: {default: b, rules: [{from: k1, to: k5, node: a}]}`} {
		others = append(others, redistest.Serve(t, "layout: "+layout+"\n"+w.NodesYAML()).Ready())
	}
	cfg, err := config.Parse("test.yml", []byte(yaml), nil)
	if err != nil {
		t.Fatal(err)
	}
	table, err := wiring.Table(cfg)
	if err != nil {
		t.Fatal(err)
	}
	east := func(key string) bool {
		_, n := table.Place([]byte(key))
		return n == 0
	}
	keyOn := func(node bool) string {
		for i := 0; ; i++ {
			if key := fmt.Sprintf("probe%d", i); east(key) == node {
				return key
			}
		}
	}
	inEast, inWest := keyOn(true), keyOn(false)
	before := (&load{addr: k.Addr, clients: 20, pause: 2 * time.Millisecond, prefix: "before:", lossy: east}).start(t)
	before.more(t, 5_000)
	if before.errors() != 0 {
		t.Fatalf("errors before anything went wrong: %v", &before.tally)
	}
	announced := w.Announced(0, "east")
	w.Masters[0].Kill()
	probe := k.Dial()
	var at time.Time
	redistest.Eventually(t, redistest.Deliberate, "the sentinels announce another master", func() bool {
		if probe.Do("SET", inWest, "x").Text != "OK" {
			t.Fatal("the other master's keys are not served")
		}
		select {
		case at = <-announced:
		default:
		}
		return !at.IsZero()
	})
	redistest.Eventually(t, time.Until(at.Add(soon)), "the switch is followed", func() bool { return probe.Do("SET", inEast, "x").Text == "OK" })
	t.Logf("served again %s after the announcement", time.Since(at))

	// From now on nothing may be lost: what the old master acknowledges when it
	// is back would be.
	since := (&load{addr: k.Addr, clients: 20, pause: 2 * time.Millisecond, prefix: "since:"}).start(t)
	since.more(t, 5_000)
	w.Masters[0].Run()
	if role := w.Masters[0].Role(); role != "master" {
		t.Fatalf("the old master came back as %s: nothing was tested", role)
	}
	since.more(t, 5_000)
	redistest.Eventually(t, redistest.Deliberate, "the old master follows the new one", func() bool {
		return w.Masters[0].Role() == "slave"
	})
	since.more(t, 5_000)
	before.halt()
	since.halt()
	if since.errors() != 0 {
		t.Errorf("errors after the switch: %v", &since.tally)
	}
	before.settle(t, k.Addr)
	since.settle(t, k.Addr)
	w.Settle()

	// On request, while the old master lives on; two of three sentinels are
	// enough to be told.
	asked := (&load{addr: k.Addr, clients: 20, pause: 2 * time.Millisecond, prefix: "asked:", lossy: east}).start(t)
	asked.more(t, 5_000)
	announced = w.Announced(1, "east")
	w.Sentinels[2].Kill()
	w.Sentinels[1].Do("SENTINEL", "FAILOVER", "east")
	at = <-announced
	redistest.Eventually(t, time.Until(at.Add(soon)), "the switch is followed in every layout", func() bool {
		return !slices.ContainsFunc(append(others, k), func(k *redistest.Keyway) bool {
			n := k.Snapshot()[0].Nodes[0]
			return n.Addr != w.Masters[0].Addr || !n.Up
		})
	})
	asked.more(t, 5_000)
	asked.halt()
	asked.settle(t, k.Addr)
	for _, o := range others {
		c := o.Dial()
		for i := range 10 {
			c.Expect("OK", "SET", fmt.Sprint("k", i), "x")
		}
	}

	// Without any sentinel things stay as they are.
	w.Sentinels[0].Kill()
	w.Sentinels[1].Kill()
	alone := (&load{addr: k.Addr, clients: 20, pause: 2 * time.Millisecond, prefix: "alone:"}).start(t)
	time.Sleep(1500 * time.Millisecond) // keyway looks for the sentinels in vain meanwhile
	alone.more(t, 5_000)
	alone.halt()
	if alone.errors() != 0 {
		t.Errorf("errors without sentinels: %v", &alone.tally)
	}
	alone.settle(t, k.Addr)
	probe.Close()
	health(t, k)
}

// TestNoMasterWithoutSentinels: as long as no sentinel tells where a master is,
// clients are told so; keyway serves once one does.
func TestNoMasterWithoutSentinels(t *testing.T) {
	t.Parallel()
	w := redistest.NewWatched(t, "east")
	for _, s := range w.Sentinels {
		s.Kill()
	}
	k := redistest.Serve(t, "layout: ring\n"+w.NodesYAML())
	c := k.Dial()
	redistest.Eventually(t, 10*time.Second, "the reason is told", func() bool {
		r := c.Do("GET", "x")
		return strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: node a") && strings.Contains(r.Text, "no sentinel has told its address yet")
	})
	w.Sentinels[1].Run()
	k.Ready()
	c.Expect("OK", "SET", "x", "1")
}
