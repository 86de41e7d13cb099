package model

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// pair is a model and a real node, which get the same commands over as many connections.
type pair struct {
	t     *testing.T
	model *Node
	real  *redistest.Node
	conns []*connPair
	dumps [2]string // the last payloads, of the model and of the real node
	log   []string

	begun   time.Time     // of the last command
	slowest time.Duration // command so far
}

type connPair struct {
	model *Conn
	real  *redistest.Client
	late  []byte // replies of the model to commands that waited
}

func newPair(t *testing.T, options ...string) *pair {
	p := &pair{t: t, real: redistest.Redis.Start(t, options...)}
	p.model = New(func() int64 { return time.Now().UnixNano() })
	p.model.Scripts = map[string]Script{
		"return redis.call('INCR', KEYS[1])": func(call func(...string) []byte, keys, _ []string) []byte {
			return call("INCR", keys[0])
		},
	}
	return p
}

func (p *pair) open(resp3 bool) *connPair {
	c := &connPair{real: redistest.Dial(p.t, p.real.Addr)}
	c.model = p.model.Open(func(b []byte) { c.late = append(c.late, b...) }, func() {})
	if resp3 {
		c.real.Do("HELLO", "3")
		c.model.Do([]string{"HELLO", "3"})
	}
	p.conns = append(p.conns, c)
	return c
}

// volatile replies have what the nodes cannot agree on.
var volatile = regexp.MustCompile(`^(TIME|DUMP|HELLO|CLIENT (ID|LIST)|OBJECT FREQ|SCAN|ROLE|DBSIZE)`)

// do sends a command to both and compares the replies. The word $dump stands for the last payload.
func (p *pair) do(c *connPair, line string) {
	p.t.Helper()
	args := words(line, p.dumps[1])
	p.begun = time.Now()
	c.real.Send(args...)
	if err := c.real.Flush(); err != nil {
		p.t.Fatal(err)
	}
	got := string(c.model.Do(words(line, p.dumps[0])))
	p.log = append(p.log, line)
	if got == "" {
		return // both wait
	}
	p.compare(c, line, got)
}

func (p *pair) compare(c *connPair, line, got string) {
	p.t.Helper()
	want, err := c.real.ReceiveRaw()
	if err != nil {
		p.t.Fatalf("%s: the node: %v", line, err)
	}
	p.slowest = max(p.slowest, time.Since(p.begun))
	if strings.HasPrefix(line, "DUMP") && got[0] == want[0] {
		if payload, isBulk := resp.Bulk([]byte(got)); isBulk && payload != nil {
			p.dumps[0] = string(payload)
			theirs, _ := resp.Bulk([]byte(want))
			p.dumps[1] = string(theirs)
		}
	}
	if got == want || volatile.MatchString(line) && got[0] == want[0] || p.near(line, got, want) {
		return
	}
	before := strings.Join(p.log[max(0, len(p.log)-30):], "; ")
	p.t.Fatalf("%s\nmodel: %.300q\nredis: %.300q\nbefore: %s", line, got, want, before)
}

// timed replies depend on when the node executes commands.
var timed = regexp.MustCompile(`^(P?(TTL|EXPIRETIME)|OBJECT IDLETIME) `)

// near reports whether two times are the same but for the time between the commands. On a busy machine, that is as
// long as a command takes.
func (p *pair) near(line, got, want string) bool {
	a, ok1 := resp.Int([]byte(got))
	b, ok2 := resp.Int([]byte(want))
	apart := 2 + int64(p.slowest/time.Second)
	if line[0] == 'P' {
		apart = 5000 + p.slowest.Milliseconds()
	}
	return ok1 && ok2 && a >= 0 && b >= 0 && timed.MatchString(line) && max(a-b, b-a) <= apart
}

// await reads the reply of a command that waited.
func (p *pair) await(c *connPair) {
	p.t.Helper()
	redistest.Eventually(p.t, 10*time.Second, "the model ends the wait", func() bool {
		p.model.Serve()
		return len(c.late) > 0
	})
	got := string(c.late)
	c.late = nil
	p.compare(c, "the end of a wait", got)
}

// words returns the words of a line. ” is an empty word.
func words(line, dump string) []string {
	all := strings.Fields(line)
	for i, w := range all {
		switch {
		case w == "$dump":
			all[i] = dump
		case w == "''":
			all[i] = ""
		case strings.HasPrefix(w, "lib:"):
			all[i] = library(w[4:])
		case w == "$incr":
			all[i] = "return redis.call('INCR', KEYS[1])"
		}
	}
	return all
}

// library returns the text of a library with one function.
func library(name string) string {
	return "#!lua name=" + name + "\nredis.register_function{function_name='" + name +
		"', callback=function() return '' end, flags={'no-writes', 'allow-stale'}}"
}

// randomCommands are commands on keys K and values V.
var randomCommands = []string{
	"GET K", "SET K V", "SET K V NX", "SET K V XX GET", "SET K V PX 100000", "SET K 1 NX EX 100",
	"SET K V KEEPTTL", "SET K V EX 0", "SET K V NX XX", "SET K V PXAT 1000", "SET K V EX", "INCR K",
	"INCRBY K -7", "INCRBY K x", "APPEND K V", "STRLEN K", "MGET K K K", "MSET K V K V", "MSET K V K",
	"DEL K K", "UNLINK K", "EXISTS K K", "TYPE K", "RPUSH K a b", "LPUSH K V", "LPOP K", "RPOP K", "LLEN K",
	"LRANGE K 0 -1", "LRANGE K 1 2", "LRANGE K x 2", "TTL K", "PTTL K", "PEXPIRETIME K", "EXPIRETIME K",
	"PEXPIRE K 100000", "EXPIRE K 100", "PEXPIREAT K 1000", "EXPIRE K -1", "PEXPIREAT K 99999999999999",
	"PERSIST K", "EXPIRE K x", "RENAMENX K K", "RENAMENX K other", "UNLINK other", "DUMP K",
	"RESTORE K 0 $dump", "RESTORE K 0 $dump REPLACE", "RESTORE K 100000 $dump IDLETIME 5",
	"RESTORE K 1000 $dump ABSTTL", "RESTORE K 1000 $dump ABSTTL REPLACE",
	"RESTORE K 99999999999999 $dump ABSTTL REPLACE FREQ 9", "RESTORE K -1 $dump REPLACE",
	"RESTORE K 0 xxxxxxxxxxxxxxxxxxxx REPLACE", "RESTORE K 0 $dump FREQ 256", "RESTORE K 0 $dump IDLETIME",
	"OBJECT IDLETIME K", "OBJECT FREQ K", "OBJECT IDLETIME", "MULTI", "EXEC", "EXEC", "DISCARD", "WATCH K K",
	"UNWATCH", "BLPOP K 0.001 extra", "BLPOP K -1", "LPOP", "NOSUCH K", "EVAL $incr 1 K", "EVAL $incr x K",
	"EVAL $incr 9 K", "EVALSHA 0000 1 K", "SCRIPT EXISTS 0000 1111", "FUNCTION LOAD lib:keyway_1",
	"FUNCTION LOAD lib:keyway_2", "FUNCTION LOAD REPLACE lib:keyway_2", "FUNCTION DELETE keyway_1",
	"FUNCTION LIST LIBRARYNAME keyway_1", "FUNCTION LIST LIBRARYNAME keyway_2 WITHCODE",
	"FUNCTION LIST LIBRARYNAME none*", "FUNCTION LOAD nothing", "WAIT 0 1", "PING", "PING x", "ECHO V", "TIME",
	"DBSIZE", "CLIENT GETNAME", "CLIENT SETNAME n", "CLIENT UNBLOCK 999", "CLIENT KILL ID 999",
	"SCAN 0 MATCH x* COUNT 100", "SCAN x", "FLUSHALL",
}

// TestModelAnswersLikeRedis compares the model's replies to random commands over connections of
// both protocols with those of a real node.
func TestModelAnswersLikeRedis(t *testing.T) {
	p := newPair(t)
	conns := []*connPair{p.open(false), p.open(true), p.open(false)}
	rng := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		line := randomCommands[rng.IntN(len(randomCommands))]
		if line == "FLUSHALL" && rng.IntN(10) > 0 {
			continue
		}
		for strings.Contains(line, "K") && regexp.MustCompile(`\bK\b`).MatchString(line) {
			line = replaceFirst(line, "K", fmt.Sprintf("{k}%d", rng.IntN(4)))
		}
		line = strings.ReplaceAll(line, " V", fmt.Sprintf(" %d", rng.IntN(100)))
		c := conns[rng.IntN(len(conns))]
		if c.model.multi && (volatile.MatchString(line) || timed.MatchString(line)) {
			continue // EXEC's replies are compared as they are
		}
		p.do(c, line)
	}
}

// replaceFirst replaces the first word that is old.
func replaceFirst(line, old, with string) string {
	all := strings.Split(line, " ")
	for i, w := range all {
		if w == old {
			all[i] = with
			break
		}
	}
	return strings.Join(all, " ")
}

// TestModelWaitsLikeRedis compares waits, and keys that expire under WATCH.
func TestModelWaitsLikeRedis(t *testing.T) {
	p := newPair(t)
	a, b, c := p.open(false), p.open(true), p.open(false)
	blocked := func(n int) {
		redistest.Eventually(t, 10*time.Second, "clients wait", func() bool {
			return strings.Contains(c.real.Do("INFO", "clients").Text, fmt.Sprintf("blocked_clients:%d\r\n", n))
		})
	}
	p.do(a, "BLPOP q1 q2 0")
	blocked(1)
	p.do(b, "BLPOP q1 0")
	blocked(2)
	p.do(c, "RPUSH q1 x y z") // the longest wait ends first
	p.await(a)
	p.await(b)
	p.do(c, "LRANGE q1 0 -1")
	p.do(a, "BRPOP q3 q1 0")
	p.do(a, "BLPOP q9 0.01")
	p.await(a)
	p.do(b, "BLPOP q9 0.01")
	p.await(b)
	p.do(a, "WAIT 1 10")
	p.await(a)
	for _, line := range []string{"MULTI", "BLPOP q9 0", "WAIT 1 0", "EXEC"} {
		p.do(b, line)
	}
	p.do(a, "BLPOP q4 0") // a transaction pushes and pops: the client still waits
	blocked(1)
	for _, line := range []string{"MULTI", "RPUSH q4 x", "LPOP q4", "EXEC", "RPUSH q4 y"} {
		p.do(c, line)
	}
	p.await(a)
	// A key that expires after WATCH counts as changed; one that was over before does not.
	for _, line := range []string{"SET e 1 PX 1", "SET f 1 PX 30"} {
		p.do(c, line)
	}
	time.Sleep(3 * time.Millisecond)
	p.do(a, "WATCH e")
	p.do(b, "WATCH f")
	time.Sleep(35 * time.Millisecond)
	for _, conn := range []*connPair{a, b} {
		for _, line := range []string{"MULTI", "GET e", "EXEC"} {
			p.do(conn, line)
		}
	}
}

// TestModelIsFull compares what a full node refuses.
func TestModelIsFull(t *testing.T) {
	p := newPair(t, "--maxmemory", "1")
	p.model.MaxMemory = 1
	p.model.data.set("k", &entry{text: "v"})
	c := p.open(false)
	for _, line := range []string{
		"SET k 1", "INCR k", "RPUSH l 1", "MSET k 1", "FUNCTION LOAD lib:keyway_1", "FUNCTION LIST", "DEL x", "LPOP x",
		"MULTI", "SET k 1", "EXEC", "MULTI", "GET x", "EXEC", "WATCH k", "UNWATCH", "RESTORE x 0 x",
	} {
		p.do(c, line)
	}
}

// TestModelKills: CLIENT KILL ends connections with what they have sent, also inside a transaction.
func TestModelKills(t *testing.T) {
	p := newPair(t)
	a, b := p.open(false), p.open(false)
	for _, line := range []string{"MULTI", "FUNCTION LOAD lib:keyway_7", "CLIENT KILL TYPE normal SKIPME yes", "EXEC"} {
		p.do(a, line)
	}
	if _, err := b.real.TryDo("PING"); err == nil || !b.model.Closed() || a.model.Closed() {
		t.Errorf("the other connection: %v, %v in the model", err, b.model.Closed())
	}
	p.do(a, "FUNCTION LIST LIBRARYNAME keyway_*")
	if a.model.Epoch != 7 {
		t.Errorf("the connection has read epoch %d", a.model.Epoch)
	}
}

// TestScanReturnsWhatStays: SCAN returns each key that is there during the whole walk, whatever
// comes and goes meanwhile.
func TestScanReturnsWhatStays(t *testing.T) {
	n := New(func() int64 { return 1 })
	rng := rand.New(rand.NewPCG(3, 4))
	for i := range 300 {
		n.Execute("SET", fmt.Sprint("stays", i), "1")
	}
	seen := map[string]bool{}
	for cursor := "0"; ; {
		n.Execute("SET", fmt.Sprint("other", rng.IntN(100)), "1")
		n.Execute("DEL", fmt.Sprint("other", rng.IntN(100)))
		_, rest, _ := resp.Elements(n.Execute("SCAN", cursor, "COUNT", "7"))
		first, rest, _ := resp.Split(rest)
		count, keys, _ := resp.Elements(rest)
		for range count {
			var key []byte
			key, keys, _ = resp.Split(keys)
			text, _ := resp.Bulk(key)
			seen[string(text)] = true
		}
		next, _ := resp.Bulk(first)
		if cursor = string(next); cursor == "0" {
			break
		}
	}
	for i := range 300 {
		if !seen[fmt.Sprint("stays", i)] {
			t.Errorf("stays%d is missing", i)
		}
	}
}

// TestReplicasFallBack: a failover loses what the replica has not applied, and no record that it has.
func TestReplicasFallBack(t *testing.T) {
	n := New(func() int64 { return 1 })
	n.AddReplica()
	n.Execute("FUNCTION", "LOAD", library("keyway_1"))
	n.Execute("SET", "k", "1")
	n.Replicate(0, 2)
	n.Execute("SET", "k", "2")
	c := n.Open(func([]byte) {}, func() {})
	c.Do([]string{"SET", "l", "1"})
	if reply := c.Do([]string{"WAIT", "1", "0"}); reply != nil || !c.Waits() || n.Lag(0) != 2 {
		t.Errorf("WAIT is answered with %q, and the replica lacks %d", reply, n.Lag(0))
	}
	n.FailOver(0)
	if v, _ := n.Data().Text("k"); v != "1" || n.Data().Has("l") || len(n.Libraries()) != 1 || !c.Closed() {
		t.Errorf("k is %q, the libraries are %q", v, n.Libraries())
	}
}
