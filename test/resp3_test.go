package test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// ownNumbers match the numbers that differ between any two servers.
var ownNumbers = regexp.MustCompile(`(\$2\r\nid\r\n:)[0-9]*`)

// moduleList matches the modules in a reply to HELLO, whose order is not fixed.
var moduleList = regexp.MustCompile(`(?s)([*%][48]\r\n\$4\r\nname\r\n.*?args\r\n\*0\r\n)+`)

// comparable removes from replies the numbers that differ between any two servers.
func comparable(text string) string {
	return moduleList.ReplaceAllStringFunc(ownNumbers.ReplaceAllString(text, "$1"), func(list string) string {
		modules := strings.SplitAfter(list, "args\r\n*0\r\n")
		slices.Sort(modules)
		return strings.Join(modules, "")
	})
}

// sameAnswers sends the same bytes to keyway and to a Redis and compares the
// replies, except the clients' IDs.
func sameAnswers(t *testing.T, addr, oracle string, script []string, text string) {
	t.Helper()
	var want string
	var wantEnd bool
	done := make(chan bool)
	go func() {
		defer close(done)
		want, wantEnd = redistest.Exchange(t, oracle, text, nil)
	}()
	got, gotEnd := redistest.ExchangeUntil(t, addr, text, nil, func(reply string) bool {
		<-done
		return !wantEnd && len(comparable(reply)) >= len(comparable(want))
	})
	<-done
	got, want = comparable(got), comparable(want)
	if got != want || gotEnd != wantEnd {
		t.Errorf("%q:\nkeyway says %q (closed %v)\nRedis says  %q (closed %v)", script, got, gotEnd, want, wantEnd)
	}
}

// TestProtocolLikeRedis compares replies in RESP2 and RESP3, before and after a change from
// one to the other, with Redis's.
func TestProtocolLikeRedis(t *testing.T) {
	t.Parallel()
	oracle, node := redistest.Start(t), redistest.Start(t)
	scripts := [][]string{
		{"HELLO 3"}, {"HELLO 2"}, {"HELLO"}, {"HELLO 3", "HELLO"}, {"HELLO 4"}, {"HELLO x"},
		{"HELLO 3 SETNAME me", "CLIENT GETNAME"}, {"HELLO 3 AUTH default x", "PING"},
		{"HELLO 3 SETNAME", "GET a"},
		{
			"HELLO 3", "CLIENT GETNAME", "GET nothing", "HGETALL nothing", "SMEMBERS nothing", "ZSCORE nothing x",
			"BLPOP nothing 0.01", "LPOP nothing 2",
		},
		{"HELLO 3", "SET a 1", "HELLO 2", "GET nothing", "HELLO 3", "GET nothing", "RESET", "GET nothing"},
		{"HELLO 3", "MULTI", "GET {c}nothing", "HGETALL {c}nothing", "INCR c{c}", "EXEC"},
		{"HELLO 3", "WATCH w", "SET w 1", "MULTI", "GET w", "EXEC"},
		{"WATCH w", "SET w 1", "MULTI", "GET w", "EXEC"},
		{
			"HELLO 3", "SUBSCRIBE a b", "PING", "PING x", "GET nothing", "PSUBSCRIBE p*", "UNSUBSCRIBE a",
			"UNSUBSCRIBE", "PUNSUBSCRIBE", "UNSUBSCRIBE", "PING",
		},
		{"HELLO 3", "SUBSCRIBE a", "PUBLISH other hello", "HELLO 2", "GET a", "RESET", "GET nothing"},
		{
			"CLIENT REPLY OFF", "PING", "GET a", "GET", "NOSUCH", "SUBSCRIBE x", "UNSUBSCRIBE x",
			"CLIENT REPLY ON", "PING",
		},
		{"CLIENT REPLY SKIP", "PING", "PING"},
		{"CLIENT REPLY SKIP", "GET nothing", "PING", "CLIENT REPLY SKIP", "MGET a b", "PING"},
		{"CLIENT REPLY SKIP", "CLIENT REPLY SKIP", "PING", "PING"},
		{"CLIENT REPLY OFF", "CLIENT REPLY SKIP", "PING", "CLIENT REPLY ON", "PING"}, {"CLIENT REPLY x"},
		{"CLIENT REPLY"}, {"CLIENT REPLY ON"},
		{"CLIENT REPLY OFF", "MULTI", "SET a 1", "EXEC", "CLIENT REPLY ON", "GET a"},
		{"HELLO 3", "CLIENT REPLY OFF", "SUBSCRIBE a", "PING", "CLIENT REPLY ON"},
		{
			"HELLO 3", "EVAL redis.setresp(3)return(redis.call([[HGETALL]],[[h]])) 0", "EVAL return{false} 0",
			"EVAL return(redis.call([[GET]],KEYS[1])) 1 nothing", "SCRIPT EXISTS x", "DBSIZE", "RANDOMKEY",
			"KEYS nothing*", "MGET nothing more",
		},
		{
			"HELLO 3", "OBJECT HELP", "COMMAND COUNT", "LOLWUT VERSION 1000", "MEMORY USAGE nothing", "FUNCTION LIST",
			"FUNCTION STATS", "ACL WHOAMI", "CLIENT GETREDIR", "ROLE x",
		},
	}
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	version := node.Do("HELLO").Elems[3].Text
	redistest.Eventually(t, 20*time.Second, "HELLO tells the nodes' version", func() bool {
		return k.Dial().Do("HELLO").Elems[3].Text == version
	})
	for _, script := range scripts {
		oracle.Do("FLUSHALL")
		k.Dial().Do("FLUSHALL")
		text := strings.Join(script, "\r\n") + "\r\n"
		sameAnswers(t, k.Addr, oracle.Addr, script, text)
	}
}

// TestDeeplyNestedReplies: a reply may be nested as deeply as a node likes. Its
// client gets it as from Redis, and clients with commands at that node see nothing
// of it.
func TestDeeplyNestedReplies(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	const script = "local a={}; local b={a}; a[1]=b; return a" // 8,000 arrays in each other
	want := node.Do("EVAL", script, "0").String()
	if levels := strings.Count(want, "["); levels < 2000 {
		t.Fatalf("Redis nests %d levels", levels)
	}
	one, other := k.Dial(), k.Dial()
	for range 20 {
		const pings = 100
		for range pings {
			other.Send("GET", "nothing")
		}
		other.Flush()
		if got := one.Do("EVAL", script, "0").String(); got != want {
			t.Fatalf("the client got %.60q, Redis says %.60q", got, want)
		}
		for range pings {
			if r, err := other.Receive(); err != nil || !r.Null {
				t.Fatalf("another client got %s (%v)", r, err)
			}
		}
	}
}
