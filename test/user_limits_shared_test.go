package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestInFlightOfUser: while max_in_flight commands of a user are under way, its other clients wait.
// They are seen, can be killed, and can leave.
func TestInFlightOfUser(t *testing.T) {
	t.Parallel()
	slow, node := redistest.Start(t), redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\nlayout: range\nrange: {default: b, rules: [{from: s, to: t, node: a}]}\n"+
		redistest.NodesYAML([]*redistest.Node{slow, node})+"backend: {request_timeout: 60s}\n"+
		limitedUsers("max_in_flight: 4")).Ready()
	var clients []*redistest.Client
	for range 7 {
		c := asApp(t, k.Addr)
		c.Expect("(nil)", "GET", "slow")
		clients = append(clients, c)
	}
	slow.Freeze()
	for i, c := range clients {
		c.Send("INCR", "slow")
		c.Flush()
		redistest.Eventually(t, 10*time.Second, "a command more is under way or waits", func() bool {
			u := usage(k.Addr)
			return u["in-flight"] == int64(min(i+1, 4)) && u["waiting-clients"] == int64(max(0, i-3))
		})
	}
	redistest.Ask(k.Addr, "SET", "other", "1") // of another user, who does not wait
	if ids := clientsWith(k.Addr, " user=app "); len(ids) != 7 {
		t.Errorf("CLIENT LIST has %d clients of the user", len(ids))
	}
	// The command of a client that has left is executed all the same, as by Redis.
	clients[4].Close()
	id := clientsWith(k.Addr, " addr="+clients[6].Conn.LocalAddr().String()+" ")[0] // it waits last
	if got := redistest.Ask(k.Addr, "CLIENT", "KILL", "ID", id); got.Int != 1 {
		t.Errorf("CLIENT KILL: %s", got)
	}
	redistest.Eventually(t, 10*time.Second, "the client does not wait any more", func() bool {
		return usage(k.Addr)["waiting-clients"] == 2
	})
	slow.Thaw()
	values := map[int64]bool{}
	for _, i := range []int{0, 1, 2, 3, 5} {
		r, err := clients[i].Receive()
		if err != nil {
			t.Fatal(err)
		}
		values[r.Int] = true
	}
	redistest.Eventually(t, 10*time.Second, "all commands have ended", func() bool {
		u := usage(k.Addr)
		return u["in-flight"] == 0 && u["waiting-clients"] == 0 && u["clients"] == 5
	})
	if len(values) != 5 || slow.Do("GET", "slow").Text != "6" {
		t.Errorf("the clients got %v, and the node has %s", values, slow.Do("GET", "slow"))
	}
}

// clientsWith returns the ids of the clients whose line in CLIENT LIST has this text.
func clientsWith(addr, text string) (ids []string) {
	for line := range strings.Lines(redistest.Ask(addr, "CLIENT", "LIST").Text) {
		if strings.Contains(line, text) {
			ids = append(ids, strings.TrimPrefix(strings.Fields(line)[0], "id="))
		}
	}
	return ids
}

// TestBlockedAreNotInFlight: clients that wait for an element or for replicas do not keep the user's
// other clients from what ends the wait.
func TestBlockedAreNotInFlight(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Ring(node.Addr)+limitedUsers("max_in_flight: 2")).Ready()
	var clients []*redistest.Client
	for i := range 8 {
		c := asApp(t, k.Addr)
		if i%2 == 0 {
			c.Send("BLPOP", "list", "0")
		} else {
			c.Send("XREAD", "BLOCK", "0", "STREAMS", "stream", "$")
		}
		c.Flush()
		clients = append(clients, c)
	}
	waits := asApp(t, k.Addr)
	waits.MustDo("SET", "k", "v")
	waits.Send("WAIT", "3", "0")
	waits.Flush()
	redistest.Eventually(t, 10*time.Second, "all clients are blocked", func() bool {
		return strings.Contains(redistest.Ask(k.Addr, "INFO", "clients").Text, "blocked_clients:9\r\n")
	})
	c := asApp(t, k.Addr)
	c.MustDo("RPUSH", "list", "1", "2", "3", "4")
	c.MustDo("XADD", "stream", "*", "f", "v")
	for _, c := range clients {
		if r, err := c.Receive(); err != nil || r.Kind != '*' {
			t.Errorf("got %v, %v", r, err)
		}
	}
}

// TestInFlightIsShared: clients of several threads take turns, so all go on while the user has always
// more commands than may be under way; and nothing is lost over many changes of that kind.
func TestInFlightIsShared(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 3\n"+redistest.Ring(node.Addr)+limitedUsers("max_in_flight: 2")).Ready()
	const clients = 18
	var done [clients]atomic.Int64
	var over atomic.Bool
	var wg sync.WaitGroup
	for i := range clients {
		c := asApp(t, k.Addr)
		wg.Go(func() {
			for j := int64(1); !over.Load(); j++ {
				for range 1 + i%3 {
					c.Send("INCR", fmt.Sprint("k", i))
				}
				c.Flush()
				for range 1 + i%3 {
					if r, err := c.Receive(); err != nil || r.Int != done[i].Load()+1 {
						t.Errorf("client %d got %v, %v", i, r, err)
						over.Store(true)
						return
					}
					done[i].Add(1)
				}
			}
		})
	}
	redistest.Eventually(t, 60*time.Second, "all clients go on", func() bool {
		slowest := int64(1 << 62)
		for i := range done {
			slowest = min(slowest, done[i].Load())
		}
		return slowest > 200
	})
	over.Store(true)
	wg.Wait()
	if u := usage(k.Addr); u["in-flight"] != 0 || u["delayed"] == 0 {
		t.Errorf("KEYWAY USERS: %v", u)
	}
}

// TestFloodOfOneUser: a user who sends as much as it can does not slow down the others much, if it
// has limits. How much it would without is measured too. It runs alone, since it compares times.
func TestFloodOfOneUser(t *testing.T) {
	node := redistest.Start(t)
	yaml := "threads: 1\n" + redistest.Ring(node.Addr)
	calm, limited, free := time.Hour, time.Hour, time.Hour
	// The shortest of several rounds says what keyway does, whatever else the machine does.
	for range 4 {
		for _, c := range []struct {
			settings string
			clients  int
			median   *time.Duration
		}{
			{"max_clients: 40", 0, &calm}, {"max_clients: 40", 40, &free},
			{"max_clients: 40, max_in_flight: 20, rate: {commands: 2000/s, burst: 20ms, max_wait: 60s}", 40, &limited},
		} {
			k := redistest.Serve(t, yaml+limitedUsers(c.settings)).Ready()
			*c.median = min(*c.median, medianBeside(t, k, c.clients))
			k.Stop()
		}
	}
	t.Logf("median: calm %s, beside a flood with limits %s, without %s", calm, limited, free)
	if limited > 8*calm || limited > free {
		t.Errorf("beside a flood with limits a command takes %s, calm %s, without limits %s", limited, calm, free)
	}
}

// medianBeside returns the median time of GETs beside so many clients of the user app that send
// pipelines as fast as they can.
func medianBeside(t *testing.T, k *redistest.Keyway, clients int) time.Duration {
	t.Helper()
	var over atomic.Bool
	var wg sync.WaitGroup
	value := strings.Repeat("v", 1000)
	for range clients {
		c := asApp(t, k.Addr)
		wg.Go(func() {
			for !over.Load() {
				for range 50 {
					c.Send("SET", "k", value)
				}
				c.Flush()
				for range 50 {
					if _, err := c.Receive(); err != nil {
						t.Errorf("a client of the flood: %v", err)
						return
					}
				}
			}
		})
	}
	c := k.Dial()
	defer c.Close()
	time.Sleep(100 * time.Millisecond) // the flood uses up what is saved
	var times []time.Duration
	for begun := time.Now(); time.Since(begun) < 500*time.Millisecond; {
		sent := time.Now()
		c.MustDo("GET", "other")
		times = append(times, time.Since(sent))
	}
	over.Store(true)
	wg.Wait()
	slices.Sort(times)
	return times[len(times)/2]
}

// TestReloadLimits: a reload gives connected clients other limits. Those that are too many now stay;
// those that wait go on by the new limits.
func TestReloadLimits(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\nthreads: 2\n")
	with := func(settings string) { r.reload("layout: ring\nthreads: 2\n" + limitedUsers(settings)) }
	with("prefix: \"\"")
	var clients []*redistest.Client
	for range 3 {
		clients = append(clients, asApp(t, r.listen))
		clients[0].Expect("OK", "SET", "k", "v")
	}
	with("max_clients: 2, rate: {commands: 1/s, burst: 1ms, max_wait: 1h}")
	redistest.Dial(t, r.listen).Expect(tooManyClients, "AUTH", "app", "pw")
	for _, c := range clients {
		for range 20 {
			c.Send("INCR", "n")
		}
		c.Flush()
	}
	redistest.Eventually(t, 10*time.Second, "the clients wait", func() bool {
		return usage(r.listen)["waiting-clients"] == 3
	})
	with("max_clients: 3, max_in_flight: 1, rate: {commands: 100000/s}")
	for _, c := range clients {
		for range 20 {
			if got, err := c.Receive(); err != nil || got.Kind != ':' {
				t.Fatalf("%v %v", got, err)
			}
		}
	}
	if n := redistest.Ask(r.listen, "GET", "n").Text; n != "60" {
		t.Errorf("60 INCR make %s", n)
	}
	redistest.Dial(t, r.listen).Expect(tooManyClients, "AUTH", "app", "pw")
	with("deny: [get]")
	for _, c := range clients {
		c.Expect("-NOPERM this user has no permissions to run the 'get' command", "GET", "n")
	}
	if u := usage(r.listen); u["delayed"]+u["waiting-clients"]+u["refused-by-max-clients"] != 0 || u["clients"] != 3 {
		t.Errorf("a user without limits: %v", u)
	}
	r.logs("user=app limit=rate.commands client=127.0.0.1:")
	text := r.stderr.String()
	if n := strings.Count(text, "clients of a user wait, since they have reached its limit"); n != 1 {
		t.Errorf("%d lines of the log say that clients wait:\n%s", n, text)
	}
}

// TestSettingsOfUsersFile: users of users_file have the settings that the configuration has for their
// names: also if they are made later, deleted and made again, and after ACL LOAD and SAVE.
func TestSettingsOfUsersFile(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\nthreads: 2\n")
	file := filepath.Join(r.dir, "users.acl")
	if err := os.WriteFile(file, []byte("user app on >pw ~* &* +@all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.reload("layout: ring\nthreads: 2\nusers_file: users.acl\nusers:\n" +
		"  - {name: app, max_clients: 2, deny: [keys], prefix: \"app:\"}\n" +
		"  - {name: later, max_clients: 1, prefix: \"later:\"}\n")
	admin := redistest.Dial(t, r.listen)
	if got := admin.Do("AUTH", "later", "pw"); got.Kind != '-' {
		t.Fatalf("a user who is only in the settings can authenticate: %s", got)
	}
	limited := func(user, what string, most int) {
		t.Helper()
		var clients []*redistest.Client
		for range most {
			c := redistest.Dial(t, r.listen)
			defer c.Close()
			redistest.Eventually(t, 10*time.Second, what, func() bool { return c.Do("AUTH", user, "pw").Text == "OK" })
			clients = append(clients, c)
		}
		redistest.Dial(t, r.listen).Expect(tooManyClients, "AUTH", user, "pw")
		clients[0].Expect("OK", "SET", "key", "v")
		if got := admin.Do("EXISTS", user+":key"); got.Int != 1 {
			t.Errorf("%s: the prefix is lost", what)
		}
	}
	limited("app", "at first", 2)
	admin.Expect("OK", "ACL", "SETUSER", "later", "on", ">pw", "~*", "&*", "+@all")
	limited("later", "made by ACL SETUSER", 1)
	admin.Expect("1", "ACL", "DELUSER", "app")
	admin.Expect("OK", "ACL", "SETUSER", "app", "reset", "on", ">pw", "~*", "&*", "+@all")
	limited("app", "made again", 2)
	admin.Expect("OK", "ACL", "SAVE")
	admin.Expect("OK", "ACL", "LOAD")
	limited("app", "after ACL LOAD", 2)
	limited("later", "after ACL LOAD", 1)
	if text, _ := os.ReadFile(file); strings.Count(string(text), "\n") != 3 {
		t.Errorf("ACL SAVE has written %q", text)
	}
}

// TestLimitedClientsAreDrained: clients that wait do not keep keyway from ending, and none is closed
// inside of a reply.
func TestLimitedClientsAreDrained(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	node := redistest.Start(t)
	p := redistest.ServeProcess(t, "threads: 2\nshutdown: {drain: 1s, timeout: 5s}\n"+redistest.Ring(node.Addr)+
		limitedUsers("rate: {commands: 20/s, burst: 10ms, max_wait: 1h}"))
	var wg sync.WaitGroup
	answered := make([]int64, 6)
	for i := range answered {
		c := asApp(t, p.Addr)
		key := fmt.Sprint("k", i)
		wg.Go(func() {
			for range 50 {
				c.Send("INCR", key)
			}
			c.Flush()
			for {
				r, err := c.Receive()
				if err != nil {
					return
				}
				if answered[i]++; r.Int != answered[i] {
					t.Errorf("got %s, want %d", r, answered[i])
				}
			}
		})
	}
	redistest.Eventually(t, 20*time.Second, "clients wait", func() bool {
		return usage(p.Addr)["waiting-clients"] == 6
	})
	begun := time.Now()
	if err := p.Cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.Cmd.Wait(); err != nil {
		t.Errorf("keyway ends with %v", err)
	}
	if took := time.Since(begun); took > 20*time.Second {
		t.Errorf("keyway took %s to end", took)
	}
	wg.Wait()
	for i, n := range answered {
		if got := node.Do("GET", fmt.Sprint("k", i)).Text; got != fmt.Sprint(n) && n > 0 {
			t.Errorf("client %d got %d replies, and its key is %s", i, n, got)
		}
	}
}
