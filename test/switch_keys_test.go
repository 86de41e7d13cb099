package test

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// calls returns how often a node has executed a command.
func calls(n *redistest.Node, command string) int {
	_, rest, _ := strings.Cut(n.Do("INFO", "commandstats").Text, "cmdstat_"+command+":calls=")
	count, _, _ := strings.Cut(rest, ",")
	number, _ := strconv.Atoi(count)
	return number
}

// TestRememberedKeys: a thread asks the former node of a key again if it has seen more than
// switch.remember others since, and a reload changes that.
func TestRememberedKeys(t *testing.T) {
	t.Parallel()
	x := newExchange(t)
	r := startReloadable(t, x.older, "switch: {remember: 1000}\n")
	c := redistest.Dial(t, r.listen)
	const keys = 3000
	asked := func() (n int) {
		for _, node := range x.nodes[:2] {
			n += calls(node, "exists") + calls(node, "memory|usage") // of keys for which nobody waits yet
		}
		return n
	}
	round := func() int {
		before := asked()
		for i := range keys {
			c.Send("GET", fmt.Sprint("none:", i))
		}
		c.Flush()
		for range keys {
			if reply, err := c.Receive(); err != nil || !reply.Null {
				t.Fatal(reply, err)
			}
		}
		return asked() - before
	}
	if first, second := round(), round(); first != keys || second < keys*9/10 {
		t.Errorf("the former nodes were asked %d and %d times", first, second)
	}
	r.reload("switch: {remember: 100000}\n")
	if first, second := round(), round(); first < keys/2 || second != 0 {
		t.Errorf("after the reload, %d and %d times", first, second)
	}
}

// TestPipelineOfKeysThatMove: the keys of a pipeline move together, not one after another.
func TestPipelineOfKeysThatMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	x := newExchange(t)
	const keys = 1000
	touch(redistest.Dial(t, x.keyway().Addr), x.put("k:", keys))
	if batches := calls(x.nodes[0], "unlink") + calls(x.nodes[1], "unlink"); batches == 0 || batches > keys/10 {
		t.Errorf("%d keys have moved in %d batches", keys, batches)
	}
}

// TestBatchOfMover: a keyway moves as many keys at once as switch.batch of the new layout's file says, unless
// its own file says otherwise. Each batch has two transactions, of which the first one is empty.
func TestBatchOfMover(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	for own, want := range map[string]int{"": 10, "switch: {batch: 40}\n": 40} {
		m := newMoves(t, 1, 3000)
		m.keyways[0].End()
		m.older += own
		m.join()
		file := redistest.WriteFile(t, "new.yml", m.newer+"switch: {batch: 10}\n")
		m.must("switch", "--wait", "--latency", "0", m.oldFile, file)
		moved := calls(m.nodes[2], "restore")
		if got := float64(2*moved) / float64(calls(m.nodes[2], "exec")); got > float64(want) || got < float64(want)/2 {
			t.Errorf("batches of %.1f keys, with at most %d and %q", got, want, own)
		}
	}
}

// restored is a RESTORE that a node has executed.
type restored struct {
	key string
	at  float64 // Unix time
}

// watchRestores returns a function that returns the RESTOREs of nodes since then, in order.
func watchRestores(t *testing.T, nodes ...*redistest.Node) func() []restored {
	var mu sync.Mutex
	var all []restored
	for _, n := range nodes {
		conn, err := net.Dial("tcp", n.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		fmt.Fprint(conn, "MONITOR\r\n")
		lines := bufio.NewReader(conn)
		if line, err := lines.ReadString('\n'); line != "+OK\r\n" {
			t.Fatal(line, err)
		}
		go func() {
			for {
				line, err := lines.ReadString('\n')
				if err != nil {
					return
				}
				words := strings.SplitN(line, " ", 6) // +1700000000.123456 [0 ADDR] "RESTORE" "KEY" ...
				if len(words) > 4 && words[3] == `"RESTORE"` {
					at, _ := strconv.ParseFloat(words[0][1:], 64)
					mu.Lock()
					all = append(all, restored{strings.Trim(words[4], `"`), at})
					mu.Unlock()
				}
			}
		}()
	}
	return func() []restored {
		mu.Lock()
		defer mu.Unlock()
		slices.SortStableFunc(all, func(a, b restored) int { return int((a.at - b.at) * 1e6) })
		return all
	}
}

// TestBigKeys: keys over switch.big.over move after all others, of all nodes, or the layout does not change
// because of them. A client's command brings such a key at once.
func TestBigKeys(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m := newMoves(t, 1, 3000)
	c := redistest.Dial(t, m.keyways[0].Addr)
	const big = 20
	for i := range big {
		c.Expect("OK", "SET", fmt.Sprint("big:", i), strings.Repeat("x", 100<<10))
	}
	refusing := redistest.WriteFile(t, "refuse.yml", m.newer+"switch: {big: {over: 64kb, how: refuse}}\n")
	for _, command := range []string{"plan", "switch"} {
		out, status := m.run(command, m.oldFile, refusing)
		if status != 2 || !strings.Contains(out, "some keys take more than 64.0 KB, so both of their nodes") {
			t.Errorf("%s: status %d", command, status)
		}
	}
	file := redistest.WriteFile(t, "last.yml", m.newer+"switch: {big: {over: 64kb}}\n")
	order := watchRestores(t, m.nodes[1], m.nodes[2])
	m.must("switch", "--accept", "others", "--rate", "3000", m.oldFile, file)
	// big:0 moves from b to c, or from a.
	c.Expect(strconv.Itoa(100<<10), "STRLEN", "big:0")
	redistest.Eventually(t, 30*time.Second, "the change is done", func() bool {
		return hasRecord(m.nodes[2], "keyway_1_done")
	})
	var early, late int
	all := order()
	isBig := func(r restored) bool { return strings.HasPrefix(r.key, "big:") && r.key != "big:0" }
	for _, r := range all {
		if isBig(r) {
			late++
		} else if late > 0 && strings.HasPrefix(r.key, "key:") {
			early = late
		}
	}
	if early > 0 || late < big/3 {
		t.Errorf("%d of %d big keys before others", early, late)
	}
	for i := range big {
		c.Expect(strconv.Itoa(100<<10), "STRLEN", fmt.Sprint("big:", i))
	}
}

// TestStrictPlanNeedsReplicas: with switch.durable strict, the layout does not change while a node lacks a
// replica, nor is a change taken back, nor does a keyway become strict in the middle of one.
func TestStrictPlanNeedsReplicas(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m := newMoves(t, 1, 100)
	k := startReloadable(t, m.older, "")
	const strict = "switch: {durable: strict}\n"
	forth := redistest.WriteFile(t, "strict.yml", m.newer+strict)
	back := redistest.WriteFile(t, "back.yml", m.older+strict)
	redistest.Replica(t, m.nodes[0])
	refused := func(args ...string) {
		t.Helper()
		out, status := m.run(args...)
		if status != 2 || strings.Contains(out, "node a has no replica in step") ||
			!strings.Contains(out, "node b has no replica in step, so with switch.durable strict") ||
			!strings.HasSuffix(out, "\nNOT READY: replicas\n") {
			t.Errorf("%s: status %d", args, status)
		}
	}
	refused("plan", m.oldFile, forth)
	refused("switch", m.oldFile, forth)
	m.must("switch", "--rate", "1", m.oldFile, m.newFile)
	refused("reverse", "-c", back)
	refused("switch", m.newFile, back)
	const reload = "not reloaded: keyway.yml:7:19: switch.durable: node b has no replica in step, so with " +
		"switch.durable strict no key would move from it or to it; give it one, or write switch: {durable: auto}"
	k.logs("the layout is being changed")
	k.text = strict
	k.write()
	if out, ok := k.command(); ok || !strings.Contains(out, reload) {
		t.Errorf("a reload: %s", out)
	}
	redistest.Replica(t, m.nodes[1])
	redistest.Replica(t, m.nodes[2])
	if out := k.reload(strict); !strings.Contains(out, "switch.durable: auto -> strict\n") {
		t.Errorf("with replicas, a reload: %s", out)
	}
	m.must("rate", "unlimited", "-c", m.oldFile)
	m.awaitEnd(0)
	m.must("reverse", "--wait", "-c", back)
}

// TestVerifyRepairWhileKeysMove: keys that somebody has written past keyway, to nodes where neither layout
// places them, are set aside in the middle of a change, beside clients. Each key of a client stays as it is.
func TestVerifyRepairWhileKeysMove(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	m := newMoves(t, 2, 1000)
	atB := m.nodes[1].Keys() // of the old layout, so that neither places them on a
	m.must("switch", "--rate", "1", "--latency", "0", m.oldFile, m.newFile)
	toB := slices.DeleteFunc(m.nodes[0].Keys(), func(key string) bool { return slots.Of([]byte(key)) >= 8192 })
	for n, keys := range map[*redistest.Node][]string{m.nodes[0]: atB[:50], m.nodes[2]: toB[:50]} {
		for _, key := range keys {
			n.Do("SET", key, "stray")
		}
	}
	ended, counted := make(chan bool), make(chan int)
	go func() {
		c, count := redistest.Dial(t, m.keyways[1].Addr), 0
		for ; ; count++ {
			select {
			case <-ended:
				counted <- count
				return
			default:
			}
			if r := c.Do("INCRBY", toB[count%len(toB)]+":count", "1"); r.Kind != ':' {
				t.Errorf("after %d: %s", count, r)
			}
		}
	}()
	out, status := m.run("verify", "-c", m.oldFile)
	if status != 2 || !strings.Contains(out, "100 of ") || !strings.Contains(out, "--repair sets them aside") {
		t.Errorf("verify: status %d", status)
	}
	out, status = m.run("verify", "--repair", "-c", m.oldFile)
	if status != 2 || !strings.Contains(out, "repaired: set 100 keys aside that lay where neither layout places them") {
		t.Errorf("repair: status %d", status)
	}
	m.must("verify", "--repair", "-c", m.newFile) // nothing is left to do
	for _, key := range toB[:50] {
		if got := m.nodes[2].Do("GET", "keyway:stray:c:"+key).Text; got != "stray" {
			t.Errorf("%s was set aside as %q", key, got)
		}
	}
	m.must("rate", "unlimited", "-c", m.oldFile)
	redistest.Eventually(t, 30*time.Second, "the change is done", func() bool {
		return hasRecord(m.nodes[2], "keyway_1_done")
	})
	close(ended)
	sum, c := 0, redistest.Dial(t, m.keyways[0].Addr)
	for _, key := range toB {
		n, _ := strconv.Atoi(c.Do("GET", key+":count").Text)
		sum += n
	}
	if count := <-counted; sum != count {
		t.Errorf("%d of %d increments are left", sum, count)
	}
	m.find(0, 0, m.keys)
	m.must("verify", "-c", m.newFile)
}
