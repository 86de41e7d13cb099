package test

import (
	"encoding/json"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// outputOf returns what a command of keyway prints.
func outputOf(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(redistest.Build(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("keyway %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestRouteAsksARunningKeyway: with --admin, keyway route says where the running keyway has put keys, also
// those that are no text.
func TestRouteAsksARunningKeyway(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	adminAddr := freeAddr(t)
	k := redistest.ServeProcess(t, "admin: "+adminAddr+"\n"+redistest.Layouts(nodes)["ring"])
	k.Answers()
	c := redistest.Dial(t, k.Addr)
	keys := []string{"user:1", "{user:1}:cart", "Zoë&key=", "\xff\x01", `"quoted"`}
	for _, key := range keys {
		c.Expect("OK", "SET", key, "v")
	}
	out := outputOf(t, append([]string{"route", "--admin", adminAddr, "--json", "--"}, keys...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	shown := []string{"user:1", "{user:1}:cart", "Zoë&key=", `"\xff\x01"`, `"\"quoted\""`}
	if len(lines) != len(keys) {
		t.Fatalf("%d lines for %d keys: %s", len(lines), len(keys), out)
	}
	for i, line := range lines {
		var e router.Explanation
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Key != shown[i] {
			t.Errorf("%q: %v, %s", keys[i], err, line)
		}
		for _, n := range nodes {
			if found := slices.Contains(n.Keys(), keys[i]); found != (n.Addr == e.Addr) {
				t.Errorf("%s has %q: %v; keyway says %s", n.Addr, keys[i], found, e.Addr)
			}
		}
	}
	if page := outputOf(t, "route", "--admin", adminAddr, "\xff"); !strings.Contains(page, `"\xff"`) {
		t.Errorf("%q", page)
	}
	if status, body := fetch(t, "http://"+adminAddr+"/route"); status != 400 || !strings.Contains(body, "?key=") {
		t.Errorf("/route without a key: %d %s", status, body)
	}
}

// TestKeywaySaysHowItIs: KEYWAY STATUS and its like, keyway top, status and events say what is true of a
// running keyway, and show no password. Only administrators without a prefix may ask.
func TestKeywaySaysHowItIs(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	const secret = "hunter2hunter2"
	node, adminAddr := redistest.Start(t), freeAddr(t)
	console := freeAddr(t)
	k := redistest.ServeProcess(t, "admin: {listen: "+adminAddr+", console: "+console+"}\nthreads: 2\n"+
		"users: [{name: boss, acl: 'on >"+secret+" ~* +@all'}, {name: app, acl: 'on >"+secret+" ~* +@all -@admin'}, "+
		"{name: team, prefix: 'team:', acl: 'on >"+secret+" ~* +@all'}]\n"+redistest.Ring(node.Addr))
	c := redistest.Dial(t, k.Addr)
	redistest.Eventually(t, 10*time.Second, "the node is ready", func() bool {
		status := pairs(c.MustDo("KEYWAY", "STATUS"))
		return status["nodes-ready"].Int == 1 && pairs(status["now"])["clients"].Int == 1
	})
	if nodes := c.MustDo("KEYWAY", "NODES"); pairs(nodes.Elems[0])["addr"].Text != node.Addr {
		t.Errorf("KEYWAY NODES: %s", nodes)
	}
	if routes := c.MustDo("KEYWAY", "ROUTE", "k\xff"); pairs(routes.Elems[0])["key"].Text != `"k\xff"` ||
		pairs(routes.Elems[0])["addr"].Text != node.Addr {
		t.Errorf("KEYWAY ROUTE: %s", routes)
	}
	config := c.MustDo("KEYWAY", "CONFIG")
	if found := pairs(config); found["layout"].Text != "ring" || found["users[app].acl"].Text != "(not shown)" ||
		strings.Contains(config.String(), secret) {
		t.Errorf("KEYWAY CONFIG: %s", config)
	}
	c.Expect("[threads 2]", "KEYWAY", "CONFIG", "thr*")
	if events := c.MustDo("KEYWAY", "EVENTS", "COUNT", "1"); len(events.Elems) != 1 {
		t.Errorf("KEYWAY EVENTS: %s", events)
	}
	c.Expect("-ERR count should be greater than 0", "KEYWAY", "EVENTS", "COUNT", "0")
	c.Expect("-ERR syntax error", "KEYWAY", "EVENTS", "SINCE", "1")
	c.Expect("info", "KEYWAY", "LOG")
	if r := c.Do("KEYWAY", "LOG", "debug"); !strings.Contains(r.Text, "can be set by users with a password") {
		t.Errorf("KEYWAY LOG of a user without a password: %s", r)
	}
	c.Expect("OK", "AUTH", "boss", secret)
	c.Expect("OK", "KEYWAY", "LOG", "WARN")
	c.Expect("warn", "KEYWAY", "LOG")
	if r := c.Do("KEYWAY", "LOG", "loud"); r.Kind != '-' || !strings.Contains(r.Text, "write debug, info, warn") {
		t.Errorf("KEYWAY LOG loud: %s", r)
	}
	c.Expect("OK", "KEYWAY", "LOG", "file")
	c.MustDo("HELLO", "3")
	if status := c.MustDo("KEYWAY", "STATUS"); status.Kind != '%' {
		t.Errorf("KEYWAY STATUS in RESP3: %s", status)
	}
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "KEYWAY", "CONFIG", "thr*")
	c.Expect("[[threads 2]]", "EXEC")
	c.Expect("OK", "AUTH", "team", secret)
	c.Expect("-ERR keyway: 'KEYWAY STATUS' is refused, since this user's keys have a prefix: it shows or changes "+
		"what other users do; send it as a user without a prefix", "KEYWAY", "STATUS")
	c.Expect("OK", "AUTH", "app", secret)
	for _, name := range []string{"status", "nodes", "events", "config", "log"} {
		c.Expect("-NOPERM this user has no permissions to run the 'keyway|"+name+"' command", "KEYWAY", name)
	}
	checkConsole(t, console)
	checkPages(t, adminAddr, node, secret)
}

// checkConsole checks that the console answers what redis-cli would ask it.
func checkConsole(t *testing.T, console string) {
	t.Helper()
	c := redistest.Dial(t, console)
	if status := pairs(c.MustDo("KEYWAY", "STATUS")); status["nodes-ready"].Int != 1 {
		t.Errorf("KEYWAY STATUS at the console: %v", status)
	}
	if events := c.MustDo("KEYWAY", "EVENTS", "KIND", "process", "COUNT", "9"); len(events.Elems) == 0 ||
		pairs(events.Elems[0])["kind"].Text != "process" {
		t.Errorf("KEYWAY EVENTS KIND process: %s", events)
	}
	if r := c.Do("KEYWAY", "EVENTS", "KIND", "weather"); !strings.Contains(r.Text, "kind must be one of node, ") {
		t.Errorf("KEYWAY EVENTS KIND weather: %s", r)
	}
	if text := c.MustDo("INFO").Text; !strings.Contains(text, "layout:ring") {
		t.Errorf("INFO at the console: %s", text)
	}
}

// pairs returns a map, or an array of pairs.
func pairs(r redistest.Reply) map[string]redistest.Reply {
	found := map[string]redistest.Reply{}
	for i := 0; i+1 < len(r.Elems); i += 2 {
		found[r.Elems[i].Text] = r.Elems[i+1]
	}
	return found
}

// checkPages checks what commands print of a keyway with one node, before and after the node's end.
func checkPages(t *testing.T, adminAddr string, node *redistest.Node, secret string) {
	t.Helper()
	var state overview.State
	top := outputOf(t, "top", "--admin", adminAddr, "--json", "--once")
	if err := json.Unmarshal([]byte(top), &state); err != nil ||
		len(state.Nodes) != 1 || state.Nodes[0].Addr != node.Addr {
		t.Errorf("keyway top --json: %v, %+v", err, state)
	}
	if out := outputOf(t, "top", "--admin", adminAddr, "--by", "commands"); !strings.Contains(out, "keyway status") ||
		strings.Contains(out, "\x1b") {
		t.Errorf("keyway top --by commands: %q", out)
	}
	yaml := "listen: 127.0.0.1:0\nadmin: " + adminAddr + "\n" + redistest.Ring(node.Addr)
	file := redistest.WriteFile(t, "keyway.yml", yaml)
	status := outputOf(t, "status", "-c", file)
	head, tail, _ := strings.Cut(status, "No change of the layout is known")
	if !strings.Contains(head, "1 of 1 nodes ready") || tail == "" {
		t.Errorf("keyway status: %s", status)
	}
	var both struct {
		State   string
		Running *overview.State
	}
	if err := json.Unmarshal([]byte(outputOf(t, "status", "-c", file, "--json")), &both); err != nil ||
		both.Running == nil || len(both.Running.Nodes) != 1 || both.State == "" {
		t.Errorf("keyway status --json: %v, %+v", err, both)
	}
	if out := outputOf(t, "status", "--admin", adminAddr); !strings.Contains(out, "1 of 1 nodes ready") {
		t.Errorf("keyway status --admin, without a file: %s", out)
	}
	checkLists(t, adminAddr)
	node.Kill()
	redistest.Eventually(t, 10*time.Second, "events have the node's end", func() bool {
		return strings.Contains(outputOf(t, "events", "--admin", adminAddr), "node unreachable")
	})
	checkKinds(t, adminAddr)
	redistest.Eventually(t, 10*time.Second, "keyway status says what is wrong, and ends with 2", func() bool {
		out, err := exec.Command(redistest.Build(t), "status", "-c", file).Output()
		exit := new(exec.ExitError)
		return errors.As(err, &exit) && exit.ExitCode() == 2 &&
			strings.Contains(string(out), "bad: node a "+node.Addr+" cannot be reached")
	})
	for _, args := range [][]string{{"top", "--once"}, {"status", "-c", file}} {
		out, _ := exec.Command(redistest.Build(t), append(args, "--admin", adminAddr)...).CombinedOutput()
		if strings.Contains(string(out), secret) {
			t.Errorf("keyway %s shows a password", args[0])
		}
		for line := range strings.Lines(string(out)) {
			if problem := strings.HasPrefix(line, "problem:") || strings.HasPrefix(line, "next:"); !problem &&
				utf8.RuneCountInString(line) > 81 {
				t.Errorf("keyway %s prints a line of more than 80 columns: %s", args[0], line)
			}
		}
	}
}

// checkKinds checks what commands print of the events of a keyway that has lost a node.
func checkKinds(t *testing.T, adminAddr string) {
	t.Helper()
	if out := outputOf(t, "events", "--admin", adminAddr, "--kind", "process"); strings.Contains(out, "unreachable") ||
		!strings.Contains(out, "listening") {
		t.Errorf("keyway events --kind process: %s", out)
	}
	if status, body := fetch(t, "http://"+adminAddr+"/events?kind=weather"); status != 400 ||
		!strings.Contains(body, "kind must be one of") {
		t.Errorf("/events?kind=weather: %d %s", status, body)
	}
	out := outputOf(t, "events", "--admin", adminAddr, "--count", "1")
	if !strings.Contains(out, " more; --count 1000") {
		t.Errorf("keyway events --count 1: %s", out)
	}
}

// checkLists checks what commands print of the clients and keys of a keyway that has a client.
func checkLists(t *testing.T, adminAddr string) {
	t.Helper()
	for _, sort := range []string{"idle", "name"} {
		out := outputOf(t, "clients", "--admin", adminAddr, "--sort", sort)
		if !strings.Contains(out, "127.0.0.1:") || !strings.Contains(out, strings.ToUpper(sort)+"*") {
			t.Errorf("keyway clients --sort %s: %s", sort, out)
		}
	}
	var client struct{ ID int }
	line, _, _ := strings.Cut(outputOf(t, "clients", "--admin", adminAddr, "--json", "--count", "1"), "\n")
	if err := json.Unmarshal([]byte(line), &client); err != nil || client.ID == 0 {
		t.Errorf("keyway clients --json: %v, %s", err, line)
	}
	for _, of := range []string{"hotkeys", "bigkeys"} {
		for _, args := range [][]string{
			{of, "--admin", adminAddr},
			{"top", "--once", "--by", of, "--admin", adminAddr},
		} {
			if of == "hotkeys" && args[0] == "top" {
				args[3] = "keys"
			}
			if out := outputOf(t, args...); !strings.Contains(out, "keys") && !strings.Contains(out, "KEY") {
				t.Errorf("keyway %q: %s", args, out)
			}
		}
	}
}
