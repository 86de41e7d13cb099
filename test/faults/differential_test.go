package faults

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// tokens are what requests are made of, good and bad.
var tokens = []string{
	"*1\r\n", "*2\r\n", "*3\r\n", "*0\r\n", "*-1\r\n", "*01\r\n", "*+1\r\n", "*\r\n", "*2\n", "*x\r\n",
	"*9999999999\r\n", "*1048577\r\n",
	"$0\r\n\r\n", "$1\r\na\r\n", "$3\r\nGET\r\n", "$3\r\nget\r\n", "$3\r\nSET\r\n", "$4\r\nPING\r\n", "$4\r\nECHO\r\n",
	"$3\r\nDEL\r\n", "$4\r\nINCR\r\n", "$6\r\nAPPEND\r\n",
	"$03\r\nGET\r\n", "$-1\r\n", "$x\r\n", "$\r\n", "$3\r\nGETxx", "$600000000\r\n", "$4\r\nGET\r\n",
	"$5\r\na\r\nb\x00\r\n",
	"PING\r\n", "GET a\r\n", "SET a b\r\n", "SET a 'b c'\r\n", "ECHO \"x\\x41\\n\"\r\n", "ECHO 'x\r\n",
	"ECHO \"x\"y\r\n", "INCR n\r\n", "APPEND a \"\\xff\"\r\n", "NOPE a b\r\n", "GET\r\n", "DEL a n\r\n", "QUIT\r\n",
	"STRLEN a\n",
	"\r\n", "\n", " \t\r\n", "\x00", "\x00\r\n", ":1\r\n", "+OK\r\n", "-x\r\n", "GET ", "a", "'", "\"", "\r",
}

// generate makes a request stream: well-formed commands, tokens at random, and
// bytes changed here and there.
func generate(rng *rand.Rand) []byte {
	var b []byte
	for range 1 + rng.IntN(6) {
		switch rng.IntN(3) {
		case 0:
			for range 1 + rng.IntN(4) {
				b = append(b, tokens[rng.IntN(len(tokens))]...)
			}
		case 1:
			b = append(b, hostile[rng.IntN(len(hostile))]...)
		default:
			args := [][]string{
				{"PING"}, {"ECHO", "x\r\ny"}, {"SET", "a", "1"}, {"GET", "a"}, {"INCR", "n"},
				{"APPEND", "a", "\x00\xff"}, {"MGET", "a", "n"}, {"DEL", "a"}, {"FOO", "bar"},
			}[rng.IntN(9)]
			b = fmt.Appendf(b, "*%d\r\n", len(args))
			for _, a := range args {
				b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(a), a)
			}
		}
	}
	if len(b) > 2000 {
		b = b[:2000] // one read of Redis's takes it all
	}
	for range rng.IntN(3) {
		switch i := rng.IntN(len(b)); rng.IntN(3) {
		case 0:
			b[i] = "\r\n*$0129-+ '\"\x00a"[rng.IntN(15)]
		case 1:
			b = append(b[:i], b[i+1:]...)
			if len(b) == 0 {
				b = []byte("\r\n")
			}
		default:
			b = b[:i+1]
		}
	}
	return b
}

// converse sends b, closes its side for writing, and returns all bytes until the other side
// closes too.
func converse(addr string, b []byte) (string, error) {
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	conn.(*net.TCPConn).SetLinger(0) // thousands of them: leave no TIME_WAIT
	if _, err := conn.Write(b); err != nil {
		return "", err
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil && !errors.Is(err, syscall.ENOTCONN) {
		return "", err
	}
	conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	reply, err := io.ReadAll(conn)
	if errors.Is(err, syscall.ECONNRESET) {
		err = nil
	}
	return string(reply), err
}

// TestRandomBytesLikeRedis sends the same bytes to keyway and to a Redis of its own:
// every reply, and which commands were executed, must be the same; and whatever
// came in, no node has found fault with what keyway sent it.
func TestRandomBytesLikeRedis(t *testing.T) {
	t.Parallel()
	runs := scale(30_000, 1_000_000)
	const lanes = 4 // each with a pair of nodes, since replies depend on what is stored
	var wg sync.WaitGroup
	var same, skipped atomic.Int64
	for lane := range lanes {
		oracle, node := redistest.Start(t), redistest.Start(t)
		// Redis 7 takes as many arguments as there can be; keyway's default is Redis 6's.
		k := redistest.Serve(t, "limits: {max_args: 2147483647, max_request: 3gb}\n"+redistest.Ring(node.Addr)).Ready()
		wg.Add(1)
		go func() {
			defer wg.Done()
			for seed := lane; seed < runs && !t.Failed(); seed += lanes {
				b := generate(rand.New(rand.NewPCG(uint64(seed), 2)))
				if browser(b) {
					skipped.Add(1) // what is still sent to such a client depends on timing
					continue
				}
				want, err1 := converse(oracle.Addr, b)
				got, err2 := converse(k.Addr, b)
				if err1 != nil || err2 != nil {
					t.Errorf("seed %d: %q: %v, %v", seed, b, err1, err2)
					return
				}
				if got != want {
					t.Errorf("seed %d: %q\nkeyway says %.300q\nRedis says  %.300q", seed, b, got, want)
					return
				}
				same.Add(1)
			}
			if s := k.Snapshot()[0].Nodes[0]; s.Losses+s.Failures+s.Violations > 0 {
				t.Errorf("a node has ended keyway's connection: %+v", s)
			}
			oracleKeys, keys := fmt.Sprint(oracle.Do("MGET", "a", "n")), fmt.Sprint(node.Do("MGET", "a", "n"))
			if oracleKeys != keys {
				t.Errorf("the nodes hold %q and %q", oracleKeys, keys)
			}
		}()
	}
	wg.Wait()
	t.Logf("%d streams answered alike, %d of HTTP left out", same.Load(), skipped.Load())
}

// browser reports whether Redis would take a client for a browser.
func browser(b []byte) bool {
	s := strings.ToLower(string(b))
	return strings.Contains(s, "post") || strings.Contains(s, "host:")
}
