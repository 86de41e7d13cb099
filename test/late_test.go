package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// lateTransactions hold what keyway answers itself, and what concerns all nodes.
var lateTransactions = []string{
	"CLIENT SETNAME me; SET k 1; CLIENT GETNAME; INCR k",
	"CLIENT GETNAME",
	"SELECT 2; SET k two; GET k",
	"SELECT 0; GET k; SELECT 2; GET k; SELECT 99; GET k",
	"SELECT x; SELECT -1",
	"CONFIG GET maxmemory; CLIENT GETREDIR; ROLE; ACL WHOAMI",
	"CLIENT SETNAME bad\tname; CLIENT NO-EVICT on; SLOWLOG LEN; CLIENT KILL ID 99999999",
	"GET k; LATENCY RESET; LATENCY HISTORY x; GET k",
	"SET k notnumber; INCR k; CLIENT GETNAME",
	"PING; ECHO x; CLIENT GETNAME; PING",
}

// aboutAll are those that need a lone node.
var aboutAll = []string{
	"SET a 1; DBSIZE; KEYS k*; FLUSHDB; DBSIZE",
	"SCRIPT LOAD return\\1; SCRIPT EXISTS e0e1f9fabfc9d4800c877a703b823ac0578ff8db; SCRIPT FLUSH",
	"SELECT 3; SET x y; DBSIZE; SWAPDB 3 4; DBSIZE; FLUSHALL",
	"SCAN 0 MATCH none",
	"RANDOMKEY; PUBSUB CHANNELS; PUBSUB NUMSUB x; PUBSUB NUMPAT",
}

// TestLateCommandsLikeRedis: a command that keyway answers itself, sent between MULTI and
// EXEC, is executed at EXEC, in its place. So is a command for all nodes if there is only
// one node.
func TestLateCommandsLikeRedis(t *testing.T) {
	nodes := redistest.Three(t)
	for name, of := range map[string][]*redistest.Node{"lone": nodes[:1], "three": nodes} {
		for _, threads := range []int{1, 3} {
			for _, protocol := range []string{"2", "3"} {
				t.Run(fmt.Sprint(name, threads, protocol), func(t *testing.T) {
					oracle := redistest.Start(t)
					for _, n := range nodes {
						n.Do("FLUSHALL")
					}
					yaml := fmt.Sprintf("layout: ring\nslowlog: {slower_than: 1h}\nthreads: %d\n", threads)
					k := redistest.Serve(t, yaml+redistest.NodesYAML(of)).Ready()
					ours, theirs := k.Dial(), redistest.Dial(t, oracle.Addr)
					ours.MustDo("HELLO", protocol)
					theirs.MustDo("HELLO", protocol)
					same := func(words string) {
						t.Helper()
						args := strings.Fields(words)
						if len(args) > 2 && strings.HasPrefix(args[2], "return") {
							args[2] = strings.ReplaceAll(args[2], "\\", " ")
						}
						got, want := ours.Do(args...), theirs.Do(args...)
						if got.String() != want.String() || got.Kind != want.Kind {
							t.Errorf("%s:\nkeyway says %s\nRedis says  %s", words, got, want)
						}
					}
					transactions := lateTransactions
					if name == "lone" {
						transactions = append(aboutAll, transactions...)
					}
					for _, watch := range []bool{false, true} {
						for _, words := range transactions {
							if watch {
								same("WATCH k")
							}
							same("MULTI")
							for command := range strings.SplitSeq(words, "; ") {
								same(command)
							}
							same("EXEC")
							same("GET k") // in the database that was selected last
							same("CLIENT GETNAME")
							same("SELECT 0")
							same("GET k")
						}
					}
				})
			}
		}
	}
}

// TestLateCommandsKeepTheirPlace: whatever is answered where, a pipeline's replies
// come in its order.
func TestLateCommandsKeepTheirPlace(t *testing.T) {
	k, _ := threeThreads(t, "slowlog: {slower_than: 1h}\n")
	c, other := k.Dial(), k.Dial()
	c.MustDo("HELLO", "3")
	c.Expect("OK", "CLIENT", "TRACKING", "ON", "BCAST")
	for i := range 200 {
		c.Raw(fmt.Sprintf("GET x\r\nMULTI\r\nSET {x}1 %d\r\nSLOWLOG LEN\r\nCLIENT SETNAME n%d\r\nGET {x}1\r\n"+
			"SCAN 0 MATCH none COUNT 1\r\nCLIENT GETNAME\r\nEXEC\r\nECHO end\r\n", i, i))
		other.Send("SET", "y", fmt.Sprint(i)) // its invalidation must not come inside a reply
		c.Flush()
		other.Flush()
		var got []string
		for len(got) < 10 {
			r, err := c.Receive()
			if err != nil {
				t.Fatal(err)
			}
			if r.Kind != '>' {
				got = append(got, r.String())
			}
		}
		if r, err := other.Receive(); err != nil || r.Text != "OK" {
			t.Fatal(r, err)
		}
		exec := got[8]
		begin, end := fmt.Sprintf("[OK 0 OK %d [", i), fmt.Sprintf(" n%d]", i)
		if !strings.HasPrefix(exec, begin) || !strings.HasSuffix(exec, end) || got[9] != "end" {
			t.Fatalf("%d: %q", i, got)
		}
	}
}
