package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/names"
)

// usersOf returns users, of which there is only the default one, with these rules and settings.
func usersOf(t *testing.T, rules string, settings acl.Settings) *acl.Users {
	t.Helper()
	users, _, err := acl.Make([]acl.Definition{{Name: acl.DefaultName, Rules: rules, Settings: settings}})
	if err != nil {
		t.Fatal(err)
	}
	return users
}

// connects sends the commands of n clients in one turn.
func (r *rig) connects(n int, in func(i int) string) (all []*Session) {
	r.w.Turn(r.now, time.Unix(1000, 0))
	for i := range n {
		s := r.w.Open(nil, fmt.Sprint("peer:", i), "")
		r.w.Received(s, []byte(in(i)))
		all = append(all, s)
	}
	r.endTurn()
	return all
}

// TestPipelineWaitsForItsKeysTogether: the keys of a pipeline come together, as if one command named
// them all. They move in one batch between two nodes.
func TestPipelineWaitsForItsKeysTogether(t *testing.T) {
	gets, mget, queued := "", []string{"MGET"}, ""
	for i := range 100 {
		key := fmt.Sprint("k:", i)
		mget = append(mget, key)
		gets += cmd("GET", key)
		queued += cmd("INCR", fmt.Sprintf("{k}:%d", i))
	}
	prefixed := usersOf(t, "on nopass ~* +@all", acl.Settings{Prefix: names.New("app:", false)})
	limited := usersOf(t, "on nopass ~k:?? +@all", acl.Settings{})
	for name, c := range map[string]struct {
		in             string
		moved, batches int
		users          *acl.Users
	}{
		"GET":              {gets, 100, 2, nil},
		"MGET":             {cmd(mget...), 100, 2, nil},
		"a transaction":    {cmd("MULTI") + queued + cmd("EXEC"), 100, 1, nil},
		"GETs behind EXEC": {cmd("MULTI") + cmd("INCR", "k:1") + cmd("EXEC") + cmd("GET", "k:2"), 2, 2, nil},
		"another database": {cmd("GET", "k:1") + cmd("SELECT", "1") + cmd("GET", "k:2"), 1, 1, nil},
		"a long MGET":      {cmd("GET", "k:1") + cmd(append(mget, "k:1")...), 100, 3, nil},
		"with a prefix":    {gets, 100, 2, prefixed},
		"without rights":   {cmd("GET", "k:10") + cmd("GET", "k:100") + cmd("GET", "k:12"), 2, 2, limited},
	} {
		r := newRig(t, Options{Permissions: Permissions{Users: c.users}})
		r.replaceLayout(movingTable(t, r))
		m := newMovers(r)
		r.feed(c.in)
		for range 20 {
			m.turn()
		}
		if batches := m.count("UNLINK"); len(m.read) != c.moved || batches != c.batches {
			t.Errorf("%s: %d keys have moved in %d batches", name, len(m.read), batches)
		}
	}
}

// TestClientsWaitTogether: the keys for which clients begin to wait in one turn move in batches of 100
// between two nodes, and each is asked for once.
func TestClientsWaitTogether(t *testing.T) {
	r := newRig(t, Options{})
	r.replaceLayout(movingTable(t, r))
	m := newMovers(r)
	const clients = 1000
	r.connects(clients, func(i int) string { return cmd("GET", fmt.Sprint("k:", i)) })
	for range 200 {
		m.turn()
	}
	if batches := m.count("UNLINK"); len(m.read) != clients || batches > clients/100+2 {
		t.Errorf("%d keys have moved in %d batches", len(m.read), batches)
	}
}

// TestLargeKeysMoveInSmallBatches: their nodes execute nothing else while a batch moves, and the client that waits
// for a small key would wait for them. Those that are very large move alone.
func TestLargeKeysMoveInSmallBatches(t *testing.T) {
	for size, most := range map[int]int{64 << 10: 5, 300 << 10: 1} {
		r := newRig(t, Options{})
		r.replaceLayout(movingTable(t, r))
		m := newMovers(r)
		m.value = strings.Repeat("x", size)
		gets, keys := "", 100
		for i := range keys {
			gets += cmd("GET", fmt.Sprint("k:", i))
		}
		r.feed(gets)
		for range 400 {
			m.turn()
		}
		if batches := m.count("UNLINK"); len(m.read) != keys || batches < keys/most || batches > keys*2/most {
			t.Errorf("%d keys of %d bytes have moved in %d batches", len(m.read), size, batches)
		}
		if asked := m.count("MEMORY"); asked > 3*keys {
			t.Errorf("the size of %d keys was asked for %d times", keys, asked)
		}
	}
}

// TestKeyThatFits: the destination has no room for the keys that would move together. Each gets a try alone, so a
// client is not refused because of others' keys.
func TestKeyThatFits(t *testing.T) {
	r := newRig(t, Options{})
	r.replaceLayout(movingTable(t, r))
	m := newMovers(r)
	m.fits = 1
	r.connects(50, func(i int) string { return cmd("GET", fmt.Sprint("k:", i)) + cmd("GET", "behind") })
	for range 400 {
		m.turn()
	}
	if moved := m.count("UNLINK"); moved != 51 {
		t.Errorf("of 51 keys, %d have moved", moved)
	}
}

// TestWaitingClientsComeFirst: the destination is in a cluster, so each key of a pipeline moves alone. That of
// a client that comes later, and waits, moves before those for which nobody waits yet.
func TestWaitingClientsComeFirst(t *testing.T) {
	r := newClusterRig(t, Options{})
	m := newMovers(r)
	r.replaceLayout(movingTable(t, r))
	gets := ""
	for i := range 100 {
		gets += cmd("GET", fmt.Sprint("k:", i))
	}
	r.feed(gets)
	for range 8 {
		m.turn()
	}
	before := len(m.read)
	r.connects(1, func(int) string { return cmd("GET", "later") })
	for range 40 {
		m.turn()
	}
	if at := slices.Index(m.read, "later"); before < 2 || before > 50 || at < 0 || at > before+4 {
		t.Errorf("%d keys had moved when it came: %q", before, m.read)
	}
}

// TestDepartedClientsLeaveNothing: clients want keys of nodes that do not answer, and leave or give up. When
// the nodes answer again, only the keys of clients that still wait come.
func TestDepartedClientsLeaveNothing(t *testing.T) {
	for _, name := range []string{"GET", "EVAL"} {
		r := newRig(t, Options{})
		r.replaceLayout(movingTable(t, r))
		m := newMovers(r)
		left := r.connects(3000, func(i int) string {
			if name == "EVAL" {
				return cmd("EVAL", "return redis.call('GET', 'x')", "1", fmt.Sprintf("{left:%d}", i))
			}
			return cmd("GET", fmt.Sprint("left:", i)) + cmd("GET", fmt.Sprint("behind:", i))
		})
		for _, s := range left[:1500] {
			r.w.Gone(s)
		}
		r.pass(500 * time.Millisecond)
		r.connects(1, func(int) string { return cmd("GET", "k") })
		r.pass(600 * time.Millisecond) // the timeout is a second
		for i, s := range left[1500:] {
			if out := outputOf(s); !strings.Contains(out, "TRYAGAIN") {
				t.Fatalf("client %d got %q", i, out)
			}
			r.w.Gone(s)
		}
		r.pass(20 * time.Millisecond)
		for range 100 {
			m.turn()
		}
		// One batch for each way was on its way before they left, and one EXISTS asks for each key.
		others := slices.DeleteFunc(m.read, func(key string) bool { return key != "k" })
		if asked := m.count("EXISTS"); len(others) != 1 || asked > 2*2*100+2 || m.count("SCAN") > 2 {
			t.Errorf("%s: %d keys were asked for, %d times SCAN, and k has moved %d times",
				name, asked, m.count("SCAN"), len(others))
		}
	}
}

// TestAnyCommandBehind: whatever a client sends behind a command that waits, keyway looks at it, and goes on.
func TestAnyCommandBehind(t *testing.T) {
	clustered := newClusterRig(t, Options{})
	for _, r := range []*rig{
		newRig(t, Options{}), clustered,
		newRig(t, Options{Permissions: Permissions{Users: usersOf(t, "on nopass ~x* +@all", acl.Settings{})}}),
		newRig(t, Options{Permissions: Permissions{
			Users: usersOf(t, "on nopass ~* +@all", acl.Settings{Prefix: names.New("app:", false)}),
		}}),
	} {
		r.replaceLayout(movingTable(t, r))
		m := newMovers(r)
		for _, c := range command.ByID {
			args := strings.Split(c.Name, "|")
			var in []string
			for _, value := range []string{"1", "x", ""} {
				for n := range 4 {
					in = append(in, cmd(append(args, slices.Repeat([]string{value}, n)...)...))
				}
			}
			in = append(in, "\r\n", "*0\r\n", "*1\r\n$3\r\nGE", "*1\r\n$x\r\n", strings.ToUpper(args[0])+" x\r\n")
			all := r.connects(len(in), func(i int) string {
				fresh := cmd("GET", fmt.Sprintf("x:%s:%d", c.Name, i))
				return fresh + in[i] + fresh
			})
			m.turn()
			for _, s := range all {
				r.w.Gone(s)
			}
		}
	}
}
