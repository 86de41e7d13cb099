package test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	. "github.com/keyway-proxy/keyway/test/redistest"
)

// TestManyKeyways: once they have found out that they are many, 50 keyways ask one master no more than four questions
// a second each by themselves. docs/scale.md says what that costs on an idle machine, under two percent of a core. On
// a busy one it must not cost more than some thousand PINGs.
func TestManyKeyways(t *testing.T) {
	const keyways, each, most = 50, 4, 4000 // questions of a keyway, and PINGs, in a second
	t.Parallel()
	node := Start(t)
	replica := Replica(t, node)
	ping := costOfPing(t, node)
	yaml := fmt.Sprintf("layout: ring\nthreads: 1\nreads: prefer-replica\nshutdown: {drain: 0s}\n"+
		"nodes: [{name: a, addr: %q, replicas: [%q]}]\n", node.Addr, replica.Addr)
	for range keyways {
		file := WriteFile(t, "keyway.yml", fmt.Sprintf("listen: 127.0.0.1:%d\n%s", FreePort(t), yaml))
		StartProcess(t, "serve", "-c", file)
	}
	c := Dial(t, node.Addr)
	looks := func() int { return number(c.Do("INFO", "commandstats").Text, "cmdstat_info:calls=") }
	// One keyway looks ten times a second how far the replica is, and so do fifty until they know of each other.
	Eventually(t, time.Minute, "the keyways ask less often since they are many", func() bool {
		if strings.Count(c.Do("CLIENT", "LIST").Text, " name=keyway:") < 2*keyways {
			return false
		}
		before, began := looks(), time.Now()
		time.Sleep(time.Second)
		return float64(looks()-before)/time.Since(began).Seconds() < 3*keyways
	})
	c.Do("CONFIG", "RESETSTAT")
	spent, began := cpuOf(t, c), time.Now()
	time.Sleep(3 * time.Second) // the time that is measured
	took := time.Since(began).Seconds()
	cost := (cpuOf(t, c) - spent) / took
	questions := 0
	for line := range strings.Lines(c.Do("INFO", "commandstats").Text) {
		if strings.HasPrefix(line, "cmdstat_") && !strings.HasPrefix(line, "cmdstat_config") {
			questions += number(line, "calls=")
		}
	}
	t.Logf("%.0f questions a second cost %.2f %% of a core, or as much as %.0f PINGs",
		float64(questions)/took, 100*cost, cost/ping)
	if cost > most*ping || float64(questions)/took > each*keyways {
		t.Errorf("%d keyways ask %.0f questions a second, which cost as much as %.0f PINGs; want %d and %d at most",
			keyways, float64(questions)/took, cost/ping, each*keyways, most)
	}
}

// costOfPing returns the processor time in seconds that a node spends on a PING of a client that waits for the reply.
func costOfPing(t *testing.T, node *Node) float64 {
	const pings = 20_000
	c := Dial(t, node.Addr)
	spent := cpuOf(t, c)
	for range pings {
		c.Do("PING")
	}
	return (cpuOf(t, c) - spent) / pings
}

// cpuOf returns the processor time in seconds that the node of a client has used.
func cpuOf(t *testing.T, c *Client) (seconds float64) {
	t.Helper()
	for line := range strings.Lines(c.Do("INFO", "cpu").Text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_sys" || name == "used_cpu_user" {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			seconds += n
		}
	}
	return seconds
}

// number returns the number behind a text.
func number(text, behind string) int {
	_, rest, _ := strings.Cut(text, behind)
	end := strings.IndexFunc(rest, func(r rune) bool { return r < '0' || r > '9' })
	n, _ := strconv.Atoi(rest[:max(end, 0)])
	return n
}
