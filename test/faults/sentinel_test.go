package faults

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/test/redistest"
	"github.com/keyway-proxy/keyway/wiring"
)

// TestSentinelFailover kills a master of a ring under load. keyway follows what the
// sentinels announce within a second. No write that was acknowledged since is lost, although
// the old master starts again as a master that accepts writes. No client gets another's
// reply. Then an operator requests a switch, and sentinels die.
func TestSentinelFailover(t *testing.T) {
	t.Parallel()
	s := newSwitching(t)
	before := s.load("before:", s.isEast)
	before.more(t, 5_000)
	if before.errors() != 0 {
		t.Fatalf("errors before anything went wrong: %v", &before.tally)
	}
	s.killEast()
	s.oldMasterComesBack(before)
	s.switchOnRequest()
	s.loseAllSentinels()
	s.probe.Close()
	health(t, s.k)
}

// switching is a keyway in front of the masters "east" and "west", which sentinels watch.
type switching struct {
	t      *testing.T
	w      *redistest.Watched
	k      *redistest.Keyway   // with layout ring
	others []*redistest.Keyway // with other layouts
	table  *router.Table       // of k
	probe  *redistest.Client   // of k
	soon   time.Duration       // the time that keyway has to follow a switch
}

func newSwitching(t *testing.T) *switching {
	t.Helper()
	s := &switching{t: t, w: redistest.NewWatched(t, "east", "west"), soon: time.Second}
	if redistest.Race {
		s.soon *= 5 // nothing is as fast
	}
	yaml := "layout: ring\n" + s.w.NodesYAML()
	s.k = redistest.Serve(t, yaml).Ready()
	for _, layout := range []string{
		"modulo",
		"slots\nslots: {static: {a: 0-8191, b: 8192-16383}}",
		"range\nrange: {default: b, rules: [{from: k1, to: k5, node: a}]}",
	} {
		s.others = append(s.others, redistest.Serve(t, "layout: "+layout+"\n"+s.w.NodesYAML()).Ready())
	}
	cfg, err := config.Parse("test.yml", []byte(yaml), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s.table, err = wiring.Table(cfg); err != nil {
		t.Fatal(err)
	}
	s.probe = s.k.Dial()
	return s
}

// isEast reports whether a key belongs to the master "east".
func (s *switching) isEast(key string) bool {
	_, n := s.table.Place([]byte(key))
	return n == 0
}

// keyOn returns a key of one of the masters.
func (s *switching) keyOn(east bool) string {
	for i := 0; ; i++ {
		if key := fmt.Sprintf("probe%d", i); s.isEast(key) == east {
			return key
		}
	}
}

func (s *switching) load(prefix string, lossy func(key string) bool) *load {
	s.t.Helper()
	return (&load{addr: s.k.Addr, clients: 20, pause: 2 * time.Millisecond, prefix: prefix, lossy: lossy}).start(s.t)
}

// killEast kills the master "east", and waits until keyway uses its successor. Meanwhile
// "west" is served.
func (s *switching) killEast() {
	s.t.Helper()
	inEast, inWest := s.keyOn(true), s.keyOn(false)
	announced := s.w.Announced(0, "east")
	s.w.Masters[0].Kill()
	var at time.Time
	redistest.Eventually(s.t, redistest.Deliberate, "the sentinels announce another master", func() bool {
		if s.probe.Do("SET", inWest, "x").Text != "OK" {
			s.t.Fatal("the other master's keys are not served")
		}
		select {
		case at = <-announced:
		default:
		}
		return !at.IsZero()
	})
	redistest.Eventually(s.t, time.Until(at.Add(s.soon)), "the switch is followed", func() bool {
		return s.probe.Do("SET", inEast, "x").Text == "OK"
	})
	s.t.Logf("served again %s after the announcement", time.Since(at))
}

// oldMasterComesBack starts the old master again. From now on nothing may be lost: what the
// old master acknowledges would be.
func (s *switching) oldMasterComesBack(before *load) {
	s.t.Helper()
	since := s.load("since:", nil)
	since.more(s.t, 5_000)
	old := s.w.Masters[0]
	s.w.BePatient()
	old.Run()
	if role := old.Role(); role != "master" {
		s.t.Fatalf("the old master came back as %s: nothing was tested", role)
	}
	since.more(s.t, 5_000)
	redistest.Eventually(s.t, redistest.Deliberate, "the old master follows the new one", func() bool {
		return old.Role() == "slave"
	})
	since.more(s.t, 5_000)
	before.halt()
	since.halt()
	if since.errors() != 0 {
		s.t.Errorf("errors after the switch: %v", &since.tally)
	}
	before.settle(s.t, s.k.Addr)
	since.settle(s.t, s.k.Addr)
	s.w.Settle()
}

// switchOnRequest makes the old master the master again, while the other lives on. It
// is enough for keyway that two of three sentinels are alive.
func (s *switching) switchOnRequest() {
	s.t.Helper()
	asked := s.load("asked:", s.isEast)
	asked.more(s.t, 5_000)
	announced := s.w.Announced(1, "east")
	s.w.Sentinels[2].Kill()
	s.w.Sentinels[1].Do("SENTINEL", "FAILOVER", "east")
	at := <-announced
	redistest.Eventually(s.t, time.Until(at.Add(s.soon)), "the switch is followed in every layout", func() bool {
		return !slices.ContainsFunc(append(s.others, s.k), func(k *redistest.Keyway) bool {
			n := k.Snapshot()[0].Nodes[0]
			return n.Addr != s.w.Masters[0].Addr || !n.Up
		})
	})
	asked.more(s.t, 5_000)
	asked.halt()
	asked.settle(s.t, s.k.Addr)
	for _, o := range s.others {
		c := o.Dial()
		for i := range 10 {
			c.Expect("OK", "SET", fmt.Sprint("k", i), "x")
		}
	}
}

// loseAllSentinels kills the sentinels: everything stays as it is.
func (s *switching) loseAllSentinels() {
	s.t.Helper()
	s.w.Sentinels[0].Kill()
	s.w.Sentinels[1].Kill()
	alone := s.load("alone:", nil)
	time.Sleep(1500 * time.Millisecond) // keyway looks for the sentinels in vain meanwhile
	alone.more(s.t, 5_000)
	alone.halt()
	if alone.errors() != 0 {
		s.t.Errorf("errors without sentinels: %v", &alone.tally)
	}
	alone.settle(s.t, s.k.Addr)
}

// TestNoMasterWithoutSentinels: as long as no sentinel reports a master's address, clients get
// an error that says so. keyway serves as soon as one does.
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
		return strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: node a") &&
			strings.Contains(r.Text, "no sentinel has reported its address yet")
	})
	w.Sentinels[1].Run()
	k.Ready()
	c.Expect("OK", "SET", "x", "1")
}
