package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestScriptOutlastsTheTimeout: a script runs for more than twice the request timeout, and for
// much longer than the node's busy threshold. Twenty clients send commands meanwhile. Each
// gets a reply that a single Redis could give, and so does the script's client.
func TestScriptOutlastsTheTimeout(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script, ends string // how its reply begins
		kill         bool
	}{
		"it ends":      {redistest.BusyScript(9 * time.Second), "done", false},
		"it is killed": {"while true do end", "ERR", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := redistest.Start(t, "--busy-reply-threshold", "300")
			k := redistest.Serve(t, "backend: {request_timeout: 4s}\n"+redistest.Ring(node.Addr)).Ready()
			var clients []*redistest.Client
			for i := range 20 {
				clients = append(clients, k.Dial())
				clients[i].Expect("OK", "SET", fmt.Sprint("own", i), fmt.Sprint(i))
			}
			blocked := later(t, k.Dial(), "BLPOP", "queue", "2")
			redistest.Eventually(t, 10*time.Second, "BLPOP waits", func() bool {
				return strings.Contains(node.Do("INFO", "clients").Text, "blocked_clients:1\r\n") || len(blocked) > 0
			})
			script := later(t, k.Dial(), "EVAL", c.script, "0")
			redistest.Eventually(t, 10*time.Second, "the script runs", func() bool {
				return k.Snapshot()[0].Nodes[0].InFlight > 0
			})
			replies := make([]<-chan redistest.Reply, len(clients))
			for i, client := range clients {
				args := []string{"GET", fmt.Sprint("own", i)}
				if i%2 == 0 {
					args = []string{"APPEND", args[1], "+"}
				}
				replies[i] = later(t, client, args...)
			}
			if c.kill {
				time.Sleep(5 * time.Second) // more than a request timeout
				admin := k.Dial()
				redistest.Eventually(t, 10*time.Second, "the script can be killed", func() bool {
					return admin.Do("SCRIPT", "KILL").Text == "OK"
				})
			}
			r := <-script
			if !strings.HasPrefix(r.Text, c.ends) || c.kill && !strings.Contains(r.Text, "killed by user") {
				t.Errorf("the script: %s", r)
			}
			if r := <-blocked; !r.Null {
				t.Errorf("BLPOP: %s", r)
			}
			answered := 0
			for i, client := range clients {
				if isAnswered(t, client, i, <-replies[i]) {
					answered++
				}
			}
			t.Logf("%d of %d are answered, the others told BUSY", answered, len(clients))
		})
	}
}

// isAnswered reports whether client i was answered, and did not get BUSY. It fails the test
// for any other reply, and if its key does not have the value of the reply.
func isAnswered(t *testing.T, c *redistest.Client, i int, r redistest.Reply) bool {
	t.Helper()
	const busy = "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE."
	value, want := fmt.Sprint(i), fmt.Sprint(i)
	if i%2 == 0 { // it has sent APPEND
		want = fmt.Sprint(len(value) + 1)
	}
	answered := r.Text == want || r.String() == want
	switch {
	case answered && i%2 == 0:
		value += "+"
	case !answered && r.Text != busy:
		t.Errorf("client %d got %s", i, r)
	}
	c.Expect(value, "GET", fmt.Sprint("own", i))
	return answered
}

// A node that is busy can be shut down through keyway, where the configuration allows it.
// The script's client gets an error of unknown outcome.
func TestShutdownOfABusyNode(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, "--busy-reply-threshold", "50")
	yaml := "backend: {request_timeout: 4s}\ncommands: {allow: [shutdown]}\n" + redistest.Ring(node.Addr)
	k := redistest.Serve(t, yaml).Ready()
	script := later(t, k.Dial(), "EVAL", "while true do end", "0")
	redistest.Eventually(t, 10*time.Second, "the script runs", func() bool {
		return k.Snapshot()[0].Nodes[0].InFlight > 0
	})
	admin := k.Dial()
	redistest.Eventually(t, 10*time.Second, "a client is told that the node is busy", func() bool {
		return strings.HasPrefix(admin.Do("GET", "a").Text, "BUSY ")
	})
	shutdown := later(t, admin, "SHUTDOWN", "NOSAVE")
	for name, reply := range map[string]<-chan redistest.Reply{"the script": script, "SHUTDOWN": shutdown} {
		if r := <-reply; !strings.Contains(r.Text, "may have been executed") {
			t.Errorf("%s: %s", name, r)
		}
	}
	node.AwaitEnd()
}
