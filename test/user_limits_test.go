package test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// limitedUsers are a default user without limits and one called app, with these settings.
func limitedUsers(settings string) string {
	return "users:\n  - {name: default, acl: \"on nopass ~* &* +@all\"}\n" +
		"  - {name: app, acl: \"on >pw ~* &* +@all\", " + settings + "}\n"
}

// asApp connects as the user app.
func asApp(t testing.TB, addr string) *redistest.Client {
	t.Helper()
	c := redistest.Dial(t, addr)
	c.Expect("OK", "AUTH", "app", "pw")
	return c
}

// usage returns what KEYWAY USERS says about the user app.
func usage(addr string) map[string]int64 {
	figures := map[string]int64{}
	for _, user := range redistest.Ask(addr, "KEYWAY", "USERS").Elems {
		if user.Elems[1].Text == "app" {
			for i := 2; i+1 < len(user.Elems); i += 2 {
				figures[user.Elems[i].Text] = user.Elems[i+1].Int
			}
		}
	}
	return figures
}

const tooManyClients = "-ERR max number of clients reached"

// TestMaxClientsOfUser: no more clients than max_clients are a user at a time, over all threads,
// however they become it; others are not concerned.
func TestMaxClientsOfUser(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 3\n"+redistest.Ring(node.Addr)+limitedUsers("max_clients: 4")).Ready()
	var in []*redistest.Client
	for range 4 {
		in = append(in, asApp(t, k.Addr))
	}
	in[0].Expect("OK", "AUTH", "app", "pw") // it is one already
	more := redistest.Dial(t, k.Addr)
	more.Expect(tooManyClients, "AUTH", "app", "pw")
	more.Expect(tooManyClients, "HELLO", "2", "AUTH", "app", "pw")
	more.Expect("-WRONGPASS invalid username-password pair or user is disabled.", "AUTH", "app", "wrong")
	more.Expect("default", "ACL", "WHOAMI")
	in[1].Expect("RESET", "RESET")
	more.Expect("OK", "AUTH", "app", "pw")
	in[1].Expect(tooManyClients, "AUTH", "app", "pw")
	in[2].Expect("OK", "AUTH", "default", "")
	in[1].Expect("OK", "AUTH", "app", "pw")
	in[3].Close()
	redistest.Eventually(t, 10*time.Second, "a client that has left is no longer counted", func() bool {
		return in[2].Do("AUTH", "app", "pw").Text == "OK"
	})
	var entered atomic.Int64
	var wg sync.WaitGroup
	for _, c := range append(in[:3:3], more) {
		c.Expect("OK", "AUTH", "default", "")
	}
	for range 40 {
		c := k.Dial()
		wg.Go(func() {
			if c.Do("AUTH", "app", "pw").Text == "OK" {
				entered.Add(1)
			}
		})
	}
	if wg.Wait(); entered.Load() != 4 || usage(k.Addr)["clients"] != 4 {
		t.Errorf("of 40 clients at once %d got in: %v", entered.Load(), usage(k.Addr))
	}
}

// TestMaxClientsOfDefaultUser: a client is one of the default user from its first command on, so
// clients that authenticate as others are not concerned by its limit.
func TestMaxClientsOfDefaultUser(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Ring(node.Addr)+"users:\n"+
		"  - {name: default, acl: \"on nopass ~* &* +@all\", max_clients: 3}\n"+
		"  - {name: app, acl: \"on >pw ~* &* +@all\"}\n")
	first, big := redistest.Dial(t, k.Addr), k.Dial()
	redistest.Eventually(t, 10*time.Second, "the node answers", func() bool {
		return first.Do("EXISTS", "k").Kind == ':'
	})
	big.Expect("OK", "SET", "k", strings.Repeat("v", 1<<20))
	big.Expect("RESET", "RESET")
	big.Expect("1048576", "STRLEN", "k")
	third, fourth := k.Dial(), k.Dial()
	fourth.Do("HELLO", "3")
	third.Expect("PONG", "PING")
	asApp(t, k.Addr).Expect("PONG", "PING")
	fourth.Expect("RESET", "RESET")
	fourth.Expect(tooManyClients, "PING")
	if got, err := fourth.TryDo("PING"); err == nil {
		t.Errorf("a client that is too many gets %v", got)
	}
	third.Expect("OK", "AUTH", "app", "pw")
	k.Dial().Expect("PONG", "PING")
}

// TestDeniedToUser: no rule gives a user what the configuration denies it.
func TestDeniedToUser(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Ring(node.Addr)+
		limitedUsers(`deny: [keys, "config|set"]`)).Ready()
	admin := k.Dial()
	const denied = "-NOPERM this user has no permissions to run the 'keys' command"
	for _, change := range [][]string{
		nil, {"SETUSER", "app", "+@all", "+keys", "(+@all ~* &*)"},
		{"SETUSER", "app", "reset", "on", ">pw", "+@all", "~*"},
		{"DELUSER", "app"}, {"SETUSER", "app", "on", ">pw", "+@all", "~*"},
	} {
		if change != nil {
			admin.Do(append([]string{"ACL"}, change...)...)
		}
		if slices.Contains(change, "DELUSER") {
			continue
		}
		c := asApp(t, k.Addr)
		c.Expect(denied, "KEYS", "*")
		c.Expect("OK", "SET", "k", "v")
		if got := c.Do("CONFIG", "SET", "maxmemory", "1"); !strings.HasPrefix(got.Text, "NOPERM ") {
			t.Errorf("CONFIG SET: %v", got)
		}
		c.Expect("OK", "MULTI")
		c.Expect(denied, "KEYS", "*")
		c.Expect("-EXECABORT Transaction discarded because of previous errors.", "EXEC")
		admin.Expect("This user has no permissions to run the 'keys' command", "ACL", "DRYRUN", "app", "KEYS", "*")
	}
	admin.MustDo("KEYS", "*")
}

// floods sends INCR of a key of its own over each of n connections as app, many at a time, until
// the time is over. It returns how many were executed, and how long that took.
func floods(t *testing.T, addr string, n, pipeline int, lasts time.Duration) (executed int64, took time.Duration) {
	t.Helper()
	var wg sync.WaitGroup
	var all atomic.Int64
	begun := time.Now()
	for i := range n {
		c := asApp(t, addr)
		key := fmt.Sprintf("flood:%d", i)
		last := redistest.Ask(addr, "INCRBY", key, "0").Int
		wg.Go(func() {
			for time.Since(begun) < lasts {
				for range pipeline {
					c.Send("INCR", key)
				}
				c.Flush()
				for range pipeline {
					r, err := c.Receive()
					if last++; err != nil || r.Int != last {
						t.Errorf("INCR: %v %v, want %d", r, err, last)
						return
					}
					all.Add(1)
				}
			}
		})
	}
	wg.Wait()
	return all.Load(), time.Since(begun)
}

// TestRateOfUser: over any time, the clients of a user run as many commands as the rate allows, and
// no more: on several threads, from connections with and without pipelines. None is refused if it
// need not wait for too long, and each client's are executed in order.
func TestRateOfUser(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Ring(node.Addr)+
		limitedUsers("rate: {commands: 400/s, burst: 100ms, max_wait: 30s}")).Ready()
	for _, c := range []struct{ clients, pipeline int }{{1, 1}, {1, 50}, {6, 10}, {30, 1}} {
		var got, least, most float64
		for range 5 { // on a busy machine, any of the processes may come too late
			n, took := floods(t, k.Addr, c.clients, c.pipeline, 2*time.Second)
			got, least, most = float64(n), 100*took.Seconds(), 400*took.Seconds()
			if got > most+40+float64(c.clients) || got >= least {
				break
			}
		}
		if got > most+40+float64(c.clients) || got < least {
			t.Errorf("%d clients, %d at a time: %v commands, want %v to %v", c.clients, c.pipeline, got, least, most)
		}
	}
	if u := usage(k.Addr); u["delayed"] == 0 || u["delayed-ms"] < 1000 || u["refused-by-rate"] != 0 {
		t.Errorf("KEYWAY USERS: %v", u)
	}
}

// TestByteRateOfUser: requests and replies count alike.
func TestByteRateOfUser(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Ring(node.Addr)+
		limitedUsers("rate: {bytes: 2mb/s, burst: 50ms, max_wait: 30s}")).Ready()
	value := strings.Repeat("v", 100<<10)
	for _, command := range [][]string{{"SET", "k", value}, {"GET", "k"}} {
		c, begun := asApp(t, k.Addr), time.Now()
		for range 40 { // 4 MB
			c.MustDo(command...)
		}
		if took := time.Since(begun); took < 1700*time.Millisecond || took > 8*time.Second {
			t.Errorf("40 times %s of 100 KB took %s", command[0], took)
		}
	}
}

// TestRateRefuses: a client whose next command has waited for max_wait gets an error for it and for
// what else it has sent. What is refused is not executed, also in a transaction. A client can
// always leave, or become another user.
func TestRateRefuses(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Ring(node.Addr)+
		limitedUsers("rate: {commands: 4/s, burst: 1s, max_wait: 600ms}")).Ready()
	const refused = "ERR keyway: not executed: the clients of user 'app' use more commands a second than they may, " +
		"and the command has waited for 600ms; send fewer, or ask the operator to raise the user's rate"
	var clients []*redistest.Client
	for range 40 {
		clients = append(clients, asApp(t, k.Addr))
	}
	begun := time.Now()
	for _, c := range clients {
		c.Send("MULTI")
		c.Send("INCR", "n")
		c.Send("EXEC")
		c.Send("INCR", "m")
		c.Flush()
	}
	executed, incremented := repliesOrRefusals(t, clients, refused)
	if took := time.Since(begun); took < 500*time.Millisecond || took > 8*time.Second {
		t.Errorf("it took %s", took)
	}
	if n := redistest.Ask(k.Addr, "INCRBY", "n", "0").Int; n != executed {
		t.Errorf("%d transactions were executed, and n is %d", executed, n)
	}
	if m := redistest.Ask(k.Addr, "INCRBY", "m", "0").Int; m != incremented {
		t.Errorf("%d INCR were executed, and m is %d", incremented, m)
	}
	if u := usage(k.Addr); u["refused-by-rate"] < 100 || u["clients"] != 40 {
		t.Errorf("KEYWAY USERS: %v", u)
	}
	for i, c := range clients {
		switch i % 3 {
		case 0:
			c.Expect("OK", "QUIT")
		case 1:
			c.Expect("RESET", "RESET")
			c.Expect("PONG", "PING")
		case 2:
			c.Expect("OK", "AUTH", "default", "")
			c.Expect("PONG", "PING")
		}
	}
}

// repliesOrRefusals reads the replies to MULTI, INCR, EXEC and INCR of each client, and returns how
// many EXEC and INCR were executed. All others must be refused.
func repliesOrRefusals(t *testing.T, clients []*redistest.Client, refused string) (executed, incremented int64) {
	t.Helper()
	for _, c := range clients {
		var texts []string
		for range 4 {
			r, err := c.Receive()
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case r.Kind == '-' && r.Text != refused && !strings.HasPrefix(r.Text, "EXECABORT "):
				t.Errorf("got %s", r)
			case r.Kind == '*':
				executed++
			case r.Kind == ':':
				incremented++
			}
			texts = append(texts, r.Text)
		}
		if strings.HasPrefix(texts[0], "ERR ") && !strings.Contains(texts[2], "not executed") {
			t.Errorf("EXEC without MULTI: %q", texts)
		}
	}
	return executed, incremented
}
