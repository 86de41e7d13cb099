package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// call is one operation on a register.
type call struct {
	op       string // get, set, cas, incr
	arg, old int
}

// result is what came of it; unknown ones may have acted, then or later.
type result struct {
	value   int // of get and incr; -1: there was none
	swapped bool
	unknown bool
}

// register is one key; its state is its value, -1 for none.
var register = porcupine.Model{
	Init: func() any { return -1 },
	Step: func(state, input, output any) (bool, any) {
		v, in, out := state.(int), input.(call), output.(result)
		switch in.op {
		case "get":
			return out.unknown || out.value == v, v
		case "set":
			return true, in.arg
		case "incr":
			return out.unknown || out.value == max(v, 0)+1, max(v, 0) + 1
		default: // cas
			if v == in.old {
				return out.unknown || out.swapped, in.arg
			}
			return out.unknown || !out.swapped, v
		}
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
}

const cas = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('SET', KEYS[1], ARGV[2]) return 1 else return 0 end"

// TestRegistersHaveOneOrder has eight clients use the same keys while a node freezes, is
// killed, loses slots and hands over to its replica: what they saw must be
// explained by one order of all operations for each key.
func TestRegistersHaveOneOrder(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, onRequest...)
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {request_timeout: 500ms}\n").Ready()
	const clients, keys, each = 8, 50, 60 // operations of a client on a key, at most
	var mu sync.Mutex
	history := map[string][]porcupine.Operation{}
	began := time.Now()
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for id := range clients {
		conn := k.Dial()
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer conn.Close()
			rng := rand.New(rand.NewPCG(uint64(id), 17))
			counts := map[string]int{}
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Duration(rng.IntN(2000)) * time.Microsecond): // thinks
				}
				key := fmt.Sprintf("r%d", rng.IntN(keys))
				if counts[key]++; counts[key] > each*scale(1, 3) {
					continue
				}
				in := call{arg: rng.IntN(5), old: rng.IntN(5)}
				args := []string{"GET", key}
				switch in.op = []string{"get", "get", "set", "cas", "incr"}[rng.IntN(5)]; in.op {
				case "set":
					args = []string{"SET", key, strconv.Itoa(in.arg)}
				case "cas":
					args = []string{"EVAL", cas, "1", key, strconv.Itoa(in.old), strconv.Itoa(in.arg)}
				case "incr":
					args = []string{"INCR", key}
				}
				asked := time.Since(began)
				r, err := conn.TryDo(args...)
				if err != nil {
					t.Errorf("%q: %v", args, err)
					return
				}
				op := porcupine.Operation{ClientId: id, Input: in, Call: int64(asked), Return: int64(time.Since(began))}
				var tl tally
				switch {
				case r.Kind == '-':
					f := tl.class(r.Text)
					if tl.otherErrors.Load() > 0 {
						t.Errorf("%q: %s", args, r)
						return
					}
					if f == refused {
						continue
					}
					op.Output, op.Return = result{unknown: true}, int64(time.Hour)
				case in.op == "get" && r.Null:
					op.Output = result{value: -1}
				case in.op == "get":
					v, _ := strconv.Atoi(r.Text)
					op.Output = result{value: v}
				default:
					op.Output = result{value: int(r.Int), swapped: r.Int == 1}
				}
				mu.Lock()
				history[key] = append(history[key], op)
				mu.Unlock()
			}
		}()
	}
	rng := rand.New(rand.NewPCG(9, 9))
	for range scale(1, 6) {
		n := c.Nodes[rng.IntN(3)]
		freeze(n)
		c.Settle()
		reshard(t, c, 1, 2, 200)
		// A master whose replica takes over on request.
		swap(c)
		// A node that is back before the cluster notices has lost nothing.
		down := c.Nodes[2]
		down.Kill()
		down.Run()
		c.Settle()
	}
	close(stop)
	wg.Wait()
	total, unknowns := 0, 0
	for key, ops := range history {
		total += len(ops)
		for _, op := range ops {
			if op.Output.(result).unknown {
				unknowns++
			}
		}
		verdict, info := porcupine.CheckOperationsVerbose(register, ops, 60*time.Second)
		if verdict != porcupine.Ok {
			path := filepath.Join(os.TempDir(), "keyway-"+t.Name()+"-"+key+".html")
			if err := porcupine.VisualizePath(register, info, path); err != nil {
				t.Log(err)
			}
			t.Errorf("%s: no order explains what the clients saw (%s); see %s", key, strings.ToLower(string(verdict)), path)
		}
	}
	moved, asked := redirects(k)
	t.Logf("%d operations, %d of unknown outcome; %d MOVED, %d ASK followed", total, unknowns, moved, asked)
	if unknowns == 0 {
		t.Error("no outcome was unknown: no fault was met")
	}
	health(t, k)
}
