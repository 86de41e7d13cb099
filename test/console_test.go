package test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestConsoleListsWhatClientsCanAsk: the console answers each KEYWAY subcommand as the client port does, for the
// clients of all threads. Wrong arguments get the same errors, in Redis's words.
func TestConsoleListsWhatClientsCanAsk(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	consoleAddr := freeAddr(t)
	k := redistest.ServeProcess(t, "admin: {listen: "+freeAddr(t)+", console: "+consoleAddr+"}\nthreads: 2\n"+
		"slowlog: {slower_than: 1us}\nbigkeys: {over: 1kb}\nlocks: {patterns: ['lock:*']}\n"+
		"users: [{name: app, acl: 'on nopass ~* +@all', max_clients: 5}]\n"+redistest.Layouts(nodes)["ring"])
	c := redistest.Dial(t, k.Addr)
	redistest.Eventually(t, 10*time.Second, "the nodes are ready", func() bool {
		return pairs(c.MustDo("KEYWAY", "STATUS"))["nodes-ready"].Int == 3
	})
	for i := range 4 { // on whichever threads
		other := redistest.Dial(t, k.Addr)
		other.Expect("OK", "CLIENT", "SETNAME", fmt.Sprint("other", i))
		for range i {
			other.Expect("PONG", "PING")
		}
	}
	c.Expect("OK", "CLIENT", "SETNAME", "busy")
	c.Expect("OK", "SET", "lock:1", "token", "NX", "PX", "60000")
	redistest.Eventually(t, 10*time.Second, "the lock is seen", func() bool {
		return len(c.MustDo("KEYWAY", "LOCKS").Elems) > 0
	})
	app := redistest.Dial(t, k.Addr)
	app.Expect("OK", "AUTH", "app", "any")
	app.Expect("OK", "CLIENT", "SETNAME", "app")
	c.Expect("OK", "SET", "large", strings.Repeat("v", 2048))
	console := redistest.Dial(t, consoleAddr)
	checkConsoleRows(t, c, console)
	names := func(from *redistest.Client, args ...string) (all []string) {
		for _, row := range fields(from.MustDo(args...).Elems) {
			all = append(all, row["name"])
		}
		return all
	}
	for _, from := range []*redistest.Client{c, console} {
		got := fmt.Sprint(names(from, "KEYWAY", "CLIENTS", "COUNT", "2", "BY", "Commands"),
			names(from, "KEYWAY", "CLIENTS", "BY", "name", "COUNT", "2"))
		if got != "[busy other3] [app busy]" {
			t.Errorf("KEYWAY CLIENTS: %s", got)
		}
	}
	checkConsoleErrors(t, c, console)
}

// checkConsoleRows checks that the client port and the console list the same.
func checkConsoleRows(t *testing.T, c, console *redistest.Client) {
	t.Helper()
	for _, of := range []struct {
		subcommand, names string // which fields name a row
		least             int
	}{
		{"CLIENTS", "id addr name user lib flags db", 5}, {"HOTKEYS", "key db node client-name", 2},
		{"BIGKEYS", "key db node bytes kind command client times", 1},
		{"SLOWLOG", "id time node client client-name", 1},
		{"LOCKS", "key state node token client client-name", 1}, {"USERS", "user", 1}, {"NODES", "name addr role", 3},
	} {
		var shown [2]string
		for i, from := range []*redistest.Client{c, console} {
			rows := fields(from.MustDo("KEYWAY", of.subcommand).Elems)
			if len(rows) < of.least {
				t.Errorf("KEYWAY %s has %d rows: %v", of.subcommand, len(rows), rows)
			}
			for _, row := range rows {
				for _, name := range strings.Fields(of.names) {
					if row[name] == "" && name != "client-name" && name != "name" && name != "lib" {
						t.Errorf("KEYWAY %s lacks %s: %v", of.subcommand, name, row)
					}
					shown[i] += row[name] + " "
				}
				shown[i] += fmt.Sprintln(slices.Sorted(maps.Keys(row)))
			}
		}
		if shown[0] != shown[1] {
			t.Errorf("KEYWAY %s, client port:\n%sconsole:\n%s", of.subcommand, shown[0], shown[1])
		}
	}
}

// checkConsoleErrors checks that the client port and the console refuse the same commands in the same words.
func checkConsoleErrors(t *testing.T, c, console *redistest.Client) {
	t.Helper()
	for line, want := range map[string]string{
		"":                "ERR wrong number of arguments for 'keyway' command",
		"WHAT":            "ERR unknown subcommand 'WHAT'. Try KEYWAY HELP.",
		"STATUS now":      "ERR wrong number of arguments for 'keyway|status' command",
		"NODES a":         "ERR wrong number of arguments for 'keyway|nodes' command",
		"ROUTE":           "ERR wrong number of arguments for 'keyway|route' command",
		"USERS app":       "ERR wrong number of arguments for 'keyway|users' command",
		"HELP me":         "ERR wrong number of arguments for 'keyway|help' command",
		"CLIENTS COUNT":   "ERR syntax error",
		"CLIENTS COUNT 0": "ERR count should be greater than 0",
		"CLIENTS BY size": "ERR BY must be one of commands, addr, age, bytes-in, bytes-out, db, flags, id, idle, " +
			"last-command, lib, memory, name, subscriptions, user",
		"HOTKEYS BY size":    "ERR BY must be one of commands, reads, writes, bytes",
		"HOTKEYS MATCH *":    "ERR syntax error",
		"BIGKEYS COUNT -1":   "ERR count should be greater than 0",
		"BIGKEYS BY bytes":   "ERR syntax error",
		"SLOWLOG COUNT many": "ERR count should be greater than 0",
		"SLOWLOG 10":         "ERR syntax error",
		"LOCKS SORT key":     "ERR syntax error",
		"EVENTS COUNT":       "ERR syntax error",
		"CONFIG a b":         "ERR syntax error",
	} {
		args := append([]string{"KEYWAY"}, strings.Fields(line)...)
		for at, from := range map[string]*redistest.Client{"client port": c, "console": console} {
			if got := from.Do(args...); got.Kind != '-' || got.Text != want {
				t.Errorf("KEYWAY %s at the %s: %s", line, at, got)
			}
		}
	}
	help, more := c.MustDo("KEYWAY", "HELP").String(), console.MustDo("KEYWAY", "HELP").String()
	all := "STATUS NODES ROUTE EVENTS CLIENTS HOTKEYS BIGKEYS SLOWLOG LOCKS USERS CONFIG LOG"
	for _, name := range strings.Fields(all) {
		if !strings.Contains(help, " "+name) || !strings.Contains(more, " "+name) {
			t.Errorf("KEYWAY HELP lacks %s: %s %s", name, help, more)
		}
	}
	if before, _, _ := strings.Cut(more, " POOL "); !strings.HasPrefix(help, before) {
		t.Errorf("KEYWAY HELP is %s and %s", help, more)
	}
}
