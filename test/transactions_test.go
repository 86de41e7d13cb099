package test

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestExecOutOfMemory: the client has read QUEUED, so EXEC returns the reason why the node
// refused the command.
func TestExecOutOfMemory(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	c := redistest.Serve(t, redistest.Ring(node.Addr)).Ready().Dial()
	node.Do("CONFIG", "SET", "maxmemory", "1")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "SET", "k", "v")
	c.Expect("-EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
		"EXEC")
}

// TestTransactionsLikeRedis has two clients send random sequences around MULTI,
// WATCH and EXEC, to keyway and to a Redis of its own: every reply is the same.
func TestTransactionsLikeRedis(t *testing.T) {
	t.Parallel()
	sequences := underRace(200, 20) // on each of five layouts, others on each
	eachLayout(t, func(t *testing.T, k *redistest.Keyway, _ []*redistest.Node) {
		oracle := redistest.Start(t)
		h := fnv.New64a()
		h.Write([]byte(t.Name()))
		rng := rand.New(rand.NewPCG(h.Sum64(), 6))
		for n := range sequences {
			tag := fmt.Sprintf("user:%d", 1+n%2000) // the range layout's rules are for such keys
			key := func() string { return fmt.Sprintf("%s:{%s}", tag, tag) + []string{"", ":b", ":c"}[rng.IntN(3)] }
			var ours, theirs [2]*redistest.Client
			for i := range ours {
				ours[i], theirs[i] = redistest.Dial(t, k.Addr), redistest.Dial(t, oracle.Addr)
			}
			var sent []string
			var multi [2]bool
			for range 4 + rng.IntN(14) {
				args := [][]string{
					{"MULTI"}, {"MULTI"}, {"EXEC"}, {"EXEC"}, {"EXEC"}, {"DISCARD"}, {"WATCH", key()},
					{"WATCH", key(), key()}, {"UNWATCH"},
					{"SET", key(), fmt.Sprint(n)}, {"INCR", key()}, {"GET", key()}, {"RPUSH", key(), "x"},
					{"LRANGE", key(), "0", "-1"}, {"MGET", key(), key()},
					{"DEL", key()}, {"HSET", key(), "f", "v"},
					{"EVAL", "return redis.call('GET', KEYS[1])", "1", key()}, {"BLPOP", key(), "0.01"},
					{"PING"}, {"ECHO", "x"}, {"GET"}, {"NOSUCH", "x"}, {"OBJECT", "NOSUCH"},
					{"SET", key(), "a", "NX", "XX"}, {"RESET"}, {"EXEC", "x"},
				}[rng.IntN(27)]
				who := rng.IntN(2)
				switch args[0] {
				case "MULTI":
					multi[who] = true
				case "EXEC", "DISCARD", "RESET":
					multi[who] = false
				case "BLPOP":
					if !multi[who] {
						continue // it would block
					}
				}
				sent = append(sent, fmt.Sprintf("%d: %q", who, args))
				got, want := ours[who].Do(args...), theirs[who].Do(args...)
				if got.String() != want.String() || got.Kind != want.Kind {
					t.Fatalf("after %v:\nkeyway says %s\nRedis says  %s", sent, got, want)
				}
			}
			for i := range ours {
				ours[i].Close()
				theirs[i].Close()
			}
		}
	})
}
