package faults

import (
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// followed are two nodes with a replica each, from one to the other of which half of the keys move, none by
// itself. The keys are text:0 and so on.
type followed struct {
	t      *testing.T
	a, b   *redistest.Node
	ra, rb *redistest.Node
	la, lb *redistest.Link // from the replicas to their masters
	k      *redistest.Process
	s      *change
	older  string
	moving []string // keys that are still at a
	count  int
}

func newFollowed(t *testing.T, durable string) *followed {
	f := &followed{t: t, count: 200}
	a, b, older, newer := halves(t)
	f.a, f.b = a, b
	f.la, f.lb = redistest.NewLink(t, a.Addr, 0), redistest.NewLink(t, b.Addr, 0)
	f.ra, f.rb = replicaBehind(t, f.la), replicaBehind(t, f.lb)
	for _, text := range []*string{&older, &newer} { // keyway knows the replicas
		*text = strings.Replace(*text, "addr: "+b.Addr, "addr: "+b.Addr+", replicas: [\""+f.rb.Addr+"\"]", 1)
	}
	f.older = older
	f.k = redistest.ServeProcess(t, older)
	c := redistest.Dial(t, f.k.Addr)
	for i := range f.count {
		c.Expect("OK", "SET", fmt.Sprint("text:", i), fmt.Sprint(i))
	}
	newer += "switch: {batch: 1, durable: " + durable + "}\n"
	f.s = beginSwitch(t, older, newer, "--rate", "1", "--latency", "0").moves()
	for _, key := range f.a.Keys() {
		if slots.Of([]byte(key)) >= 8192 {
			f.moving = append(f.moving, key)
		}
	}
	if len(f.moving) < 50 {
		t.Fatalf("%d keys are left to move", len(f.moving))
	}
	f.moving = f.moving[5:] // the mover may take the first ones
	return f
}

// replicaBehind starts a replica of the node at the end of a link.
func replicaBehind(t *testing.T, l *redistest.Link) *redistest.Node {
	_, port, _ := strings.Cut(l.Addr, ":")
	number, _ := strconv.Atoi(port)
	return redistest.Replica(t, &redistest.Node{Addr: l.Addr, Port: number})
}

// next returns a key that has not moved.
func (f *followed) next() (key, value string) {
	key = f.moving[0]
	f.moving = f.moving[1:]
	return key, key[len("text:"):]
}

// send sends a command over a connection of its own.
func (f *followed) send(args ...string) <-chan redistest.Reply {
	c := redistest.Dial(f.t, f.k.Addr)
	got := make(chan redistest.Reply, 1)
	go func() { got <- c.Do(args...) }()
	return got
}

// waits checks that a command is not answered.
func (f *followed) waits(what string, got <-chan redistest.Reply) {
	f.t.Helper()
	select {
	case r := <-got:
		f.t.Errorf("%s: %s, and the replica is cut off", what, r)
	case <-time.After(500 * time.Millisecond):
	}
}

// failOver kills a master, and makes its replica take its place and its address.
func (f *followed) failOver(master, replica *redistest.Node) {
	master.Kill()
	replica.Do("REPLICAOF", "NO", "ONE")
	next := redistest.StartAt(f.t, "127.0.0.1", master.Port, "--repl-diskless-sync-delay", "0",
		"--replicaof", fmt.Sprint("127.0.0.1 ", replica.Port))
	redistest.Eventually(f.t, 20*time.Second, "the successor has all keys", func() bool {
		return len(next.Keys()) == len(replica.Keys()) && next.Do("FUNCTION", "LIST").String() != "[]"
	})
	next.Do("REPLICAOF", "NO", "ONE")
	replica.Do("REPLICAOF", "127.0.0.1", fmt.Sprint(master.Port))
}

// ends makes the other keys move, and returns which of all are there then.
func (f *followed) ends() map[string]bool {
	file := redistest.WriteFile(f.t, "keyway.yml", f.older)
	if out, err := exec.Command(redistest.Build(f.t), "rate", "unlimited", "-c", file).CombinedOutput(); err != nil {
		f.t.Fatalf("%s", out)
	}
	f.s.goesThrough()
	c := redistest.Dial(f.t, f.k.Addr)
	there := map[string]bool{}
	for i := range f.count {
		key := fmt.Sprint("text:", i)
		if r := c.Do("GET", key); r.Text == fmt.Sprint(i) {
			there[key] = true
		} else if !r.Null {
			f.t.Errorf("%s: %s", key, r)
		}
	}
	return there
}

// answered returns the answer to a command, which must come soon.
func (f *followed) answered(got <-chan redistest.Reply) redistest.Reply {
	f.t.Helper()
	select {
	case r := <-got:
		return r
	case <-time.After(20 * time.Second):
		f.t.Fatal("no answer")
		return redistest.Reply{}
	}
}

// TestStrictSwitch: with switch.durable strict, no command runs on a key before a replica of its new node
// has it, and one of its former node has lost it. So whichever node dies, no key is lost, and none comes
// back that a client has deleted.
func TestStrictSwitch(t *testing.T) {
	t.Parallel()
	f := newFollowed(t, "strict")
	deleted := map[string]bool{}
	for range 5 {
		key, _ := f.next()
		if r := f.answered(f.send("DEL", key)); r.Int != 1 {
			t.Fatal(key, r)
		}
		deleted[key] = true
		if r := f.ra.Do("EXISTS", key); r.Int != 0 {
			t.Errorf("%s is deleted, and the replica of its former node has it", key)
		}
		if r := f.answered(f.send("GET", key)); !r.Null {
			t.Errorf("%s: %s", key, r)
		}
	}

	f.lb.Cut()
	key, value := f.next()
	got := f.send("GET", key)
	f.waits("a key that only its new master would have", got)
	if f.a.Do("EXISTS", key).Int != 1 {
		t.Errorf("%s is at its new master alone", key)
	}
	f.failOver(f.b, f.rb)
	if r := f.answered(got); r.Text != value && !notExecuted(r) {
		t.Errorf("%s: %s", key, r)
	}

	f.la.Cut()
	key, value = f.next()
	got = f.send("GET", key)
	other, _ := f.next()
	gotOther := f.send("DEL", other)
	absent := 0
	for slots.Of(fmt.Append(nil, "none:", absent)) < 8192 {
		absent++
	}
	nothing := f.send("GET", fmt.Sprint("none:", absent))
	f.waits("a key that the former node's replica has", got)
	f.waits("a key that would come back", gotOther)
	f.waits("a key that the former node's replica may have", nothing)
	f.failOver(f.a, f.ra)
	if r := f.answered(got); r.Text != value && !notExecuted(r) {
		t.Errorf("%s: %s", key, r)
	}
	switch r := f.answered(gotOther); {
	case r.Int == 1:
		deleted[other] = true
	case !notExecuted(r):
		t.Errorf("%s: %s", other, r)
	}
	f.isLeft(deleted)
}

// notExecuted reports whether a command was refused because its key did not come in time, or because its
// node was down while another took its place.
func notExecuted(r redistest.Reply) bool {
	return strings.HasPrefix(r.Text, "TRYAGAIN keyway: ") ||
		strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: ") && strings.HasSuffix(r.Text, "; the command was not executed")
}

// isLeft ends the change. All keys must be there then but those that clients have deleted.
func (f *followed) isLeft(deleted map[string]bool) {
	f.t.Helper()
	there := f.ends()
	for i := range f.count {
		if key := fmt.Sprint("text:", i); there[key] == deleted[key] {
			f.t.Errorf("%s is there: %v, deleted by a client: %v", key, there[key], deleted[key])
		}
	}
}

// TestSwitchThatIsNotStrict: with switch.durable auto, a replica of the new node has a key before a command
// runs on it, but one of the former node may still have it. If that one takes over, the key comes back,
// which is what strict is for. With off, nobody waits for replicas.
func TestSwitchThatIsNotStrict(t *testing.T) {
	t.Parallel()
	f := newFollowed(t, "auto")
	f.lb.Cut()
	key, _ := f.next()
	got := f.send("GET", key)
	f.waits("a key that only its new master would have", got)
	f.lb.Heal()
	f.answered(got)
	f.la.Cut()
	key, _ = f.next()
	if r := f.answered(f.send("DEL", key)); r.Int != 1 {
		t.Fatal(key, r)
	}
	f.failOver(f.a, f.ra)
	f.isLeft(nil) // the deleted key is back

	f = newFollowed(t, "off")
	f.la.Cut()
	f.lb.Cut()
	key, value := f.next()
	if r := f.answered(f.send("GET", key)); r.Text != value || f.a.Do("EXISTS", key).Int != 0 {
		t.Errorf("%s: %s", key, r)
	}
	f.la.Heal()
	f.lb.Heal()
	f.isLeft(nil)
}
