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

const cas = `if redis.call('GET', KEYS[1]) == ARGV[1] then
	redis.call('SET', KEYS[1], ARGV[2])
	return 1
else
	return 0
end`

// registers are keys that several clients use, and the history of all operations by key.
type registers struct {
	t     *testing.T
	began time.Time
	stop  chan struct{}

	mu      sync.Mutex
	history map[string][]porcupine.Operation
}

// use sends random operations until the end, and records them.
func (m *registers) use(conn *redistest.Client, id int) {
	defer conn.Close()
	const keys, each = 50, 60 // operations of a client on a key, at most
	rng := rand.New(rand.NewPCG(uint64(id), 17))
	counts := map[string]int{}
	for {
		select {
		case <-m.stop:
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
		asked := time.Since(m.began)
		r, err := conn.TryDo(args...)
		if err != nil {
			m.t.Errorf("%q: %v", args, err)
			return
		}
		op := porcupine.Operation{ClientId: id, Input: in, Call: int64(asked), Return: int64(time.Since(m.began))}
		out, f := m.outcome(in, r)
		switch {
		case f == refused:
			continue
		case f == unknown:
			op.Return = int64(time.Hour)
		}
		op.Output = out
		m.mu.Lock()
		m.history[key] = append(m.history[key], op)
		m.mu.Unlock()
	}
}

// outcome returns what a reply says of an operation.
func (m *registers) outcome(in call, r redistest.Reply) (result, fate) {
	var tl tally
	switch {
	case r.Kind == '-':
		f := tl.class(r.Text)
		if tl.otherErrors.Load() > 0 {
			m.t.Errorf("%+v: %s", in, r)
		}
		return result{unknown: f == unknown}, f
	case in.op == "get" && r.Null:
		return result{value: -1}, acked
	case in.op == "get":
		v, _ := strconv.Atoi(r.Text)
		return result{value: v}, acked
	}
	return result{value: int(r.Int), swapped: r.Int == 1}, acked
}

// check fails the test if no order of a key's operations explains what the clients saw.
func (m *registers) check() (total, unknowns int) {
	for key, ops := range m.history {
		total += len(ops)
		for _, op := range ops {
			if op.Output.(result).unknown {
				unknowns++
			}
		}
		verdict, info := porcupine.CheckOperationsVerbose(register, ops, 60*time.Second)
		if verdict != porcupine.Ok {
			path := filepath.Join(os.TempDir(), "keyway-"+m.t.Name()+"-"+key+".html")
			if err := porcupine.VisualizePath(register, info, path); err != nil {
				m.t.Log(err)
			}
			m.t.Errorf("%s: no order explains what the clients saw (%s); see %s",
				key, strings.ToLower(string(verdict)), path)
		}
	}
	return total, unknowns
}

// TestRegistersHaveOneOrder has eight clients use the same keys while a node freezes, is
// killed, loses slots and hands over to its replica. For each key, one order of all
// operations must explain what the clients saw.
func TestRegistersHaveOneOrder(t *testing.T) {
	t.Parallel()
	c := redistest.NewCluster(t, 3, 1, onRequest...)
	k := redistest.Serve(t, c.SeedsYAML()+"backend: {request_timeout: 500ms}\n").Ready()
	m := &registers{
		t: t, began: time.Now(), stop: make(chan struct{}), history: map[string][]porcupine.Operation{},
	}
	var wg sync.WaitGroup
	for id := range 8 {
		conn := k.Dial()
		wg.Go(func() { m.use(conn, id) })
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
	close(m.stop)
	wg.Wait()
	total, unknowns := m.check()
	moved, asked := redirects(k)
	t.Logf("%d operations, %d of unknown outcome; %d MOVED, %d ASK followed", total, unknowns, moved, asked)
	if unknowns == 0 {
		t.Error("no outcome was unknown: no fault was met")
	}
	health(t, k)
}
