package faults

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// hostile are byte strings that broke proxies or that Redis refuses, each sent
// on a connection of its own. Sources: Redis's unit/protocol.tcl, requirement A
// of the reliability notes, redcon's pitfalls.
var hostile = []string{
	"*1\r\n$9223372036854775807\r\n",
	"*9223372036854775807\r\n$3\r\nfoo\r\n",
	"*1\r\n$-2\r\n",
	"*0\r\n", "*-1\r\n", "*-10\r\n", "\r\n", "\n", "   \r\n", "*0\r\n*-1\r\n\r\nPING\r\n",
	"*01\r\n", "*+1\r\n", "*\r\n", "*3000000000\r\n", "*20000000000000000000\r\n", "* 1\r\n", "*1 \r\n", "*-\r\n",
	"*-0\r\n", "*00\r\n",
	"*1\r\n$04\r\nPING\r\n", "*1\r\n$\r\n", "*1\r\n$-1\r\n", "*1\r\n$blabla\r\n", "*1\r\n$+4\r\nPING\r\n",
	"*1\r\n$ 4\r\nPING\r\n",
	"*1\r\n$18446744073709551617\r\n", "*18446744073709551617\r\n", "$\r\n\r\n", "*1\r\n$536870913\r\n",
	"*1\r\n$2000000000\r\n", "*1\r\n$4294967300\r\nPING\r\n",
	"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n", "*1\r\n:4\r\n", "*1\r\n*1\r\n", "*1\r\nPING\r\n",
	"PING\r\n*1\r\n$x\r\n", "*1\r\n$4\r\nPING\r\n*1\r\n$x\r\nPING\r\n", "PING\r\nPING\r\n*x\r\nPING\r\n",
	"*1\r\n$4\r\nPINGxx", "*1\r\n$4\r\nPINGxx*1\r\n$4\r\nPING\r\n", "*1\rX$4\r\nPING\r\n", "*1\n$4\nPING\n",
	"set \"a\\x41b\" v\r\n", "get \"c\\x41b\"\r\n", "get cAb\n", "PING\t'x'\r\n", "ECHO \"a\\n\\t\\\"b\"\r\n",
	"echo 'it\\'s'\r\n", "echo \"x\"y\r\n", "echo 'x\r\n", "echo \"x\r\n", "\"\"\r\n", "echo \"\"\r\n",
	"echo \"\\xzz\"\r\n", "echo a\\x41\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\nPING\r\n", "host: x\r\nPING\r\n",
	"*1\r\n$4\r\nPOST\r\n*1\r\n$4\r\nPING\r\n",
	"\x00", "\x00\r\n", "*\x00", "*1\x00\r\n$4\r\nPING\r\n", "PI\x00NG\r\n", "*1\r\n$\x00", "*1\r\n$4\x00\r\nPING\r\n",
	strings.Repeat("a", 70000), strings.Repeat("a", 70000) + "\r\n", "*" + strings.Repeat("1", 70000),
	"*1\r\n$" + strings.Repeat("1", 70000), "\x00" + strings.Repeat("x", 70000),
	"*\x00" + strings.Repeat("1", 70000), "*1\r\n$\x00" + strings.Repeat("1", 70000),
	"QUIT\r\nPING\r\n", "*2\r\n$4\r\nECHO\r\n$0\r\n\r\n", "*1\r\n$0\r\n\r\nPING\r\n",
	"*2\r\n$3\r\nGET\r\n$3\r\na\r\n\r\n",
	"*1\r\n\r\n", "*1\r0\r0", "*2\r\n$3\r\nGET\r\n\r\n",
	"FOO\r\n", "foo bar baz\r\n", "*1\r\n$3\r\n\r\n\r\r\nPING\r\n", "*2\r\n$3\r\nFOO\r\n$4\r\na\r\nb\r\nPING\r\n",
}

// TestHostileInputs compares what keyway says to hostile bytes with what Redis
// says, to the letter, and whether the connection lives.
func TestHostileInputs(t *testing.T) {
	node := redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	type result struct {
		i               int
		want, got       string
		wantEnd, gotEnd bool
		cut             int
		cutGot          string
		cutEnd          bool
	}
	results := make(chan result)
	limit := make(chan struct{}, 64)
	for i := range hostile {
		go func() {
			limit <- struct{}{}
			defer func() { <-limit }()
			r := result{i: i}
			r.want, r.wantEnd = redistest.Exchange(t, node.Addr, hostile[i], nil)
			r.got, r.gotEnd = redistest.ExchangeLike(t, k.Addr, hostile[i], nil, r.want, r.wantEnd)
			r.cutGot, r.cutEnd = r.got, r.gotEnd
			// A client that sends HTTP is closed, and loses the replies that have not been
			// sent yet. Which these are depends on timing.
			if n := len(hostile[i]); n > 1 && n < 200 && !strings.Contains(hostile[i], "HTTP") {
				for cut := 1; cut < n; cut++ {
					got, end := redistest.ExchangeLike(t, k.Addr, hostile[i], []int{cut}, r.want, r.wantEnd)
					if got != r.want || end != r.wantEnd {
						r.cut, r.cutGot, r.cutEnd = cut, got, end
						break
					}
				}
			}
			results <- r
		}()
	}
	for range hostile {
		r := <-results
		name := fmt.Sprintf("%.60q", hostile[r.i])
		if r.got != r.want || r.gotEnd != r.wantEnd {
			t.Errorf("%s: keyway says %.100q (closed %v), Redis %.100q (closed %v)",
				name, r.got, r.gotEnd, r.want, r.wantEnd)
		} else if r.cut > 0 {
			t.Errorf("%s cut at %d: keyway says %.100q (closed %v), whole %.100q (closed %v)",
				name, r.cut, r.cutGot, r.cutEnd, r.want, r.wantEnd)
		}
	}
	c := k.Dial()
	c.Expect("PONG", "PING")
	if s := k.Snapshot()[0].Nodes[0]; s.Violations != 0 || s.Losses != 0 {
		t.Errorf("a client has made the node's connection end: %+v", s)
	}
}

// TestUnauthenticatedLimits: a client that has not authenticated cannot use much memory.
func TestUnauthenticatedLimits(t *testing.T) {
	node := redistest.Start(t, "--requirepass", "secret")
	yaml := "backend: {password: secret}\nclients: {password: secret}\n" + redistest.Ring(node.Addr)
	k := redistest.Serve(t, yaml).Ready()
	for _, send := range []string{
		"*11\r\n", "*1\r\n$16385\r\n", "*100\r\n", "*2\r\n$3\r\nGET\r\n$1\r\nx\r\n",
		"PING\r\n", "FOO\r\n", "HELLO 2\r\n", "HELLO 3\r\n", "QUIT\r\n", "RESET\r\n",
		"AUTH wrong\r\nPING\r\n", "AUTH secret\r\nPING\r\n", "AUTH other secret\r\n", "AUTH a b c\r\n",
		"HELLO 2 AUTH default nope\r\n",
	} {
		want, wantEnd := redistest.Exchange(t, node.Addr, send, nil)
		got, gotEnd := redistest.ExchangeLike(t, k.Addr, send, nil, want, wantEnd)
		if got != want || gotEnd != wantEnd {
			t.Errorf("%q: keyway says %.100q (closed %v), Redis %.100q (closed %v)", send, got, gotEnd, want, wantEnd)
		}
	}
}

// TestAnnouncedSizesTakeNoMemory: a thousand clients announce a value of half a gigabyte each,
// and that takes next to no memory.
func TestAnnouncedSizesTakeNoMemory(t *testing.T) {
	node := redistest.Start(t)
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	before := heap()
	for range 1000 {
		conn, err := net.Dial("tcp", k.Addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "*1048576\r\n$536870912\r\n0123456789")
	}
	redistest.Eventually(t, 10*time.Second, "keyway has read it all", func() bool {
		return k.Snapshot()[0].BytesIn >= 1000*30
	})
	if grown := heap() - before; grown > 3<<20 {
		t.Errorf("the heap has grown by %d KiB for 1,000 clients", grown>>10)
	}
	k.Dial().Expect("PONG", "PING")
}

func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestMaxClients: one client too many gets an error; the others notice nothing.
func TestMaxClients(t *testing.T) {
	node := redistest.Start(t)
	k := redistest.Serve(t, "clients: {max: 3}\n"+redistest.Ring(node.Addr)).Ready()
	var in []*redistest.Client
	for range 3 {
		c := k.Dial()
		c.Expect("PONG", "PING")
		in = append(in, c)
	}
	got, closed := redistest.Exchange(t, k.Addr, "", nil)
	if got != "-ERR max number of clients reached\r\n" || !closed {
		t.Errorf("the fourth client: %q (closed %v)", got, closed)
	}
	in[0].Close()
	redistest.Eventually(t, 20*time.Second, "there is room again", func() bool {
		return redistest.Ask(k.Addr, "PING").Text == "PONG"
	})
	in[1].Expect("PONG", "PING")
}
