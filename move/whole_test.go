package move_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// samples are keys of each type, with what shows them whole.
var samples = []struct {
	key   string
	fill  [][]string
	shown [][]string
}{
	{"string", [][]string{{"SET", "string", "a\r\n\x00b"}}, [][]string{{"GET", "string"}}},
	{"number", [][]string{{"SET", "number", "12345"}}, [][]string{{"GET", "number"}, {"OBJECT", "ENCODING", "number"}}},
	{"list", [][]string{{"RPUSH", "list", "a", "b", "a"}}, [][]string{{"LRANGE", "list", "0", "-1"}}},
	{"long list", [][]string{many("RPUSH", "long list", 1)}, [][]string{{"LRANGE", "long list", "0", "-1"}}},
	{"set", [][]string{{"SADD", "set", "a", "b"}}, [][]string{{"SCARD", "set"}, {"SMISMEMBER", "set", "a", "b", "c"}}},
	{"large set", [][]string{many("SADD", "large set", 1)},
		[][]string{{"SCARD", "large set"}, {"SORT", "large set", "ALPHA"}}},
	{"hash", [][]string{{"HSET", "hash", "f", "v"}}, [][]string{{"HGETALL", "hash"}}},
	{"large hash", [][]string{many("HSET", "large hash", 2)},
		[][]string{{"HLEN", "large hash"}, append([]string{"HMGET", "large hash"}, many("", "", 1)[2:]...)}},
	{"zset", [][]string{{"ZADD", "zset", "1.5", "a", "-2", "b"}},
		[][]string{{"ZRANGE", "zset", "0", "-1", "WITHSCORES"}}},
	{"large zset", [][]string{many("ZADD", "large zset", 2)},
		[][]string{{"ZRANGE", "large zset", "0", "-1", "WITHSCORES"}}},
	{"hyperloglog", [][]string{{"PFADD", "hyperloglog", "a", "b", "c"}}, [][]string{{"PFCOUNT", "hyperloglog"}}},
	{"geo", [][]string{{"GEOADD", "geo", "13.36", "38.11", "x"}}, [][]string{{"ZSCORE", "geo", "x"}}},
	{"stream", [][]string{
		{"XADD", "stream", "1-1", "f", "v"}, {"XADD", "stream", "2-1", "f", "w"}, {"XADD", "stream", "3-1", "f", "x"},
		{"XGROUP", "CREATE", "stream", "g", "0"},
		{"XREADGROUP", "GROUP", "g", "c", "COUNT", "2", "STREAMS", "stream", ">"},
		{"XACK", "stream", "g", "1-1"}, {"XDEL", "stream", "3-1"},
	}, [][]string{{"XRANGE", "stream", "-", "+"}, {"XPENDING", "stream", "g"}, {"XINFO", "GROUPS", "stream"}}},
	{"", [][]string{{"SET", "", "the empty key"}}, [][]string{{"GET", ""}}},
}

// many returns a command with a thousand members, each of so many words.
func many(name, key string, words int) []string {
	all := []string{name, key}
	for i := range 1000 {
		if words == 2 {
			all = append(all, fmt.Sprint(1000+i))
		}
		all = append(all, fmt.Sprint(1000+i))
	}
	return all
}

// TestTypesTravelWhole moves keys of each type between servers of each kind, twice: the
// second time they are on both nodes.
func TestTypesTravelWhole(t *testing.T) {
	t.Parallel()
	for _, way := range [][2]redistest.Server{
		{redistest.Redis, redistest.Redis}, {redistest.Redis8, redistest.Redis8}, {redistest.Valkey, redistest.Valkey},
		{redistest.Redis, redistest.Redis8}, {redistest.Redis, redistest.Valkey},
	} {
		t.Run(way[0].Name+" to "+way[1].Name, func(t *testing.T) {
			typesTravel(t, between(t, way[0].Start(t), way[1].Start(t), 3))
		})
	}
}

func typesTravel(t *testing.T, p *pair) {
	s, d := redistest.Dial(t, p.s.Addr), redistest.Dial(t, p.d.Addr)
	for _, c := range []*redistest.Client{s, d} {
		c.MustDo("SELECT", "3")
	}
	var keys, before []string
	for i, sample := range samples {
		fill(s, i)
		keys = append(keys, sample.key)
		for _, question := range sample.shown {
			before = append(before, s.MustDo(question...).String())
		}
	}
	fields := s.Do("HEXPIRE", "large hash", "1000", "FIELDS", "1", "1000").Kind == '*'
	if fields {
		s.MustDo("HEXPIRE", "hash", "1000", "FIELDS", "1", "f")
	}
	p.move(t, fmt.Sprintf("%d moved, 0 joined, 0 absent, 0 aside", len(keys)), keys...)
	whole(t, d, before)
	if fields {
		for _, question := range [][]string{{"hash", "f"}, {"large hash", "1000"}} {
			r := d.MustDo("HTTL", question[0], "FIELDS", "1", question[1])
			if n := r.Elems[0].Int; n < 900 || n > 1000 {
				t.Errorf("a field of %s lives %d s", question[0], n)
			}
		}
	}
	s.Expect("0", "DBSIZE")

	// On both nodes: hashes and sets are dumped in another order, and other versions dump
	// otherwise.
	s.MustDo("FLUSHALL")
	for i, key := range keys {
		if dump := d.MustDo("DUMP", key).Text; s.Do("RESTORE", key, "0", dump).Text != "OK" {
			fill(s, i) // the source is older
		}
	}
	r, err := p.Move(context.Background(), keys)
	if err != nil || r.Joined < len(keys)-2 { // a new stream and a new hyperloglog differ from the first
		t.Errorf("%+v %v", r, err)
	}
	whole(t, d, before)
}

func fill(s *redistest.Client, sample int) {
	for _, command := range samples[sample].fill {
		s.MustDo(command...)
	}
}

func whole(t *testing.T, d *redistest.Client, before []string) {
	t.Helper()
	i := 0
	for _, sample := range samples {
		for _, question := range sample.shown {
			if after := d.MustDo(question...).String(); after != before[i] {
				t.Errorf("%.60q: %.300s, was %.300s", question, after, before[i])
			}
			i++
		}
	}
}

// TestNewerValuesAreRefused: the error names the nodes, their versions and the remedy.
func TestNewerValuesAreRefused(t *testing.T) {
	t.Parallel()
	p := between(t, redistest.Valkey.Start(t), redistest.Redis.Start(t), 0)
	p.s.Do("SET", "k", "v")
	_, err := p.Move(context.Background(), []string{"k"})
	var refused *move.Refused
	if !errors.As(err, &refused) {
		t.Fatalf("%v", err)
	}
	for _, want := range []string{"node d (", "from node s", "payload version", "7.0.15", "upgrade node d"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q does not contain %q", err, want)
		}
	}
	expect(t, p.s, "v", "GET", "k")
}

// TestUseTravels: how long a key was not used, or how often it was, decides which keys a
// full node evicts.
func TestUseTravels(t *testing.T) {
	t.Parallel()
	p := between(t, redistest.Start(t), redistest.Start(t), 0)
	p.s.Do("RESTORE", "idle", "0", p.dump("v"), "IDLETIME", "5000")
	p.move(t, "1 moved, 0 joined, 0 absent, 0 aside", "idle")
	if n := p.d.Do("OBJECT", "IDLETIME", "idle").Int; n < 4990 {
		t.Errorf("idle for %d s, expected 5000", n)
	}
	policy := []string{"--maxmemory-policy", "allkeys-lfu"}
	p = between(t, redistest.Start(t, policy...), redistest.Start(t, policy...), 0)
	p.s.Do("RESTORE", "used", "0", p.dump("v"), "FREQ", "200")
	p.move(t, "1 moved, 0 joined, 0 absent, 0 aside", "used")
	if n := p.d.Do("OBJECT", "FREQ", "used").Int; n < 190 {
		t.Errorf("frequency %d, expected 200", n)
	}
}

func (p *pair) dump(value string) string {
	p.d.Do("SET", "dumped", value)
	defer p.d.Do("DEL", "dumped")
	return p.d.Do("DUMP", "dumped").Text
}

// TestReplicaHasTheCopyFirst: nothing is removed from the source before a replica of the
// destination has it.
func TestReplicaHasTheCopyFirst(t *testing.T) {
	t.Parallel()
	s, d := redistest.Start(t), redistest.Start(t)
	replica := redistest.Replica(t, d)
	p := between(t, s, d, 0)
	s.Do("SET", "k", "v")
	p.gateS.When("UNLINK", func() { expect(t, replica, "v", "GET", "k") })
	p.move(t, "1 moved, 0 joined, 0 absent, 0 aside", "k")
	if !p.gateS.Came() {
		t.Error("no UNLINK at the source")
	}
	s.Do("SET", "l", "v")
	replica.Freeze()
	t.Cleanup(replica.Thaw)
	p.gateS.When("UNLINK", func() { t.Error("removed at the source, and no replica has it") })
	_, err := p.Move(context.Background(), []string{"l"})
	says(t, err, "node d (", "none has the moved keys")
	expect(t, s, "v", "GET", "l")

	// Now it is on both nodes, as if the one who has copied it had died.
	again := between(t, s, d, 0)
	again.gateS.When("UNLINK", func() { t.Error("removed at the source, and no replica has the copy of another") })
	_, err = again.Move(context.Background(), []string{"l"})
	says(t, err, "node d (", "none has the moved keys")
	expect(t, s, "v", "GET", "l")
	replica.Thaw()
	last := between(t, s, d, 0)
	last.move(t, "0 moved, 1 joined, 0 absent, 0 aside", "l")
	expect(t, replica, "v", "GET", "l")
}

// TestNodeThatIsAReplica is refused, with its master's address.
func TestNodeThatIsAReplica(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t)
	replica := redistest.Replica(t, master)
	_, err := move.Open(context.Background(), move.Options{Name: "b", Addr: replica.Addr, ConnectTimeout: time.Second})
	if err == nil || !strings.Contains(err.Error(), "name its master "+master.Addr) {
		t.Errorf("%v", err)
	}
}

// TestMoveInAndOutOfAClusterSlot: keys of one slot move in one transaction, and a value that is set
// aside stays in its slot.
func TestMoveInAndOutOfAClusterSlot(t *testing.T) {
	t.Parallel()
	cluster := redistest.NewCluster(t, 3, 0)
	alone := redistest.Start(t)
	for _, tag := range []string{"{a}", "b", "c}d", "{}e", "{x"} {
		keys := []string{tag}
		if tag == "{a}" {
			keys = append(keys, "{a}2", "{a}3")
		}
		owner := cluster.Nodes[cluster.Owner(0, int(slots.Of([]byte(tag))))]
		in, out := between(t, alone, owner, 0), between(t, owner, alone, 0)
		for _, k := range keys {
			alone.Do("SET", k, "v")
		}
		in.move(t, fmt.Sprintf("%d moved, 0 joined, 0 absent, 0 aside", len(keys)), keys...)
		alone.Do("SET", tag, "w")
		r := out.move(t, fmt.Sprintf("%d moved, 0 joined, 0 absent, 1 aside", len(keys)-1), keys...)
		expect(t, alone, "w", "GET", tag)
		if len(r.Aside) == 1 {
			expect(t, owner, "v", "GET", r.Aside[0].Name)
		}
	}
}

// TestRightsAreNamed: a user without a right gets an error that says which.
func TestRightsAreNamed(t *testing.T) {
	t.Parallel()
	s, d := redistest.Start(t), redistest.Start(t)
	d.Do("ACL", "SETUSER", "keyway", "on", ">secret", "~*", "+@all", "-restore")
	from := open(t, "s", s.Addr)
	o := move.Options{
		Name: "d", Addr: d.Addr, Account: control.Account{Username: "keyway", Password: "secret"},
		ConnectTimeout: time.Second,
	}
	to, err := move.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	l, err := move.Connect(context.Background(), from, to, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s.Do("SET", "k", "v")
	_, err = l.Move(context.Background(), []string{"k"})
	says(t, err, "'restore'", "ACL SETUSER")
	d.Do("ACL", "SETUSER", "keyway", "+restore", "-multi")
	_, err = l.Move(context.Background(), []string{"k"})
	says(t, err, "'multi'", "ACL SETUSER")
	expect(t, d, "0", "DBSIZE")
	o.Password = "wrong"
	_, err = move.Open(context.Background(), o)
	says(t, err, "node d ("+d.Addr+")", "backend.password")
	nowhere := move.Options{Name: "x", ConnectTimeout: time.Second}
	nowhere.Addr = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	_, err = move.Open(context.Background(), nowhere)
	says(t, err, "node x ("+nowhere.Addr+")", "start the node")
	if _, err := move.Connect(context.Background(), from, open(t, "d", d.Addr), 20); err == nil ||
		!strings.Contains(err.Error(), "database 20") {
		t.Errorf("%v", err)
	}
}
