package test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// planOf returns a plan whose layouts are only named.
func planOf(epoch int64) register.Plan {
	return register.Plan{Record: register.Record{
		Epoch: epoch, Old: register.Layout{Hash: "1a", Config: []byte("{}")},
		New: register.Layout{Hash: "2b", Config: []byte("{}")},
	}}
}

// nodeOf returns a node for package switching.
func nodeOf(n *redistest.Node, replicas ...*redistest.Node) *switching.Node {
	s := &switching.Node{Name: "n" + fmt.Sprint(n.Port), Addr: n.Addr}
	for _, r := range replicas {
		s.Replicas = append(s.Replicas, r.Addr)
	}
	return s
}

// within returns a context for a step of a switch.
func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// decided plans and decides the change to an epoch on its home.
func decided(t testing.TB, home *redistest.Node, epoch int64) *switching.Commitment {
	t.Helper()
	ctx := within(t, 20*time.Second)
	if _, err := nodeOf(home).Plan(ctx, planOf(epoch)); err != nil {
		t.Fatal(err)
	}
	to, err := nodeOf(home).Decide(ctx, epoch, register.Go)
	if err != nil || to == nil {
		t.Fatalf("decided %v, %v", to, err)
	}
	return to
}

// flipUser is a user of nodes that only keyways use.
const flipUser = "kw"

// oldKeyways are connections of keyways that serve by epoch 0, which count up key n of a node.
type oldKeyways struct {
	t       testing.TB
	node    *redistest.Node
	user    bool // they log in as flipUser
	all     sync.WaitGroup
	stop    atomic.Bool
	alive   atomic.Int64 // connections that are used for as long as they last
	greeted atomic.Int64 // connections that the others have made
	refused atomic.Int64 // the register said that they must not be used
}

// startOldKeyways starts connections that send many commands at a time, connections that do that
// after they have subscribed with RESP3, and processes that connect, greet the node, and write.
func startOldKeyways(t testing.TB, node *redistest.Node, user bool) *oldKeyways {
	t.Helper()
	o := &oldKeyways{t: t, node: node, user: user}
	if user {
		node.Do("ACL", "SETUSER", flipUser, "on", ">pw", "~*", "&*", "+@all")
	}
	for i := range 8 {
		o.join(i >= 6)
	}
	for range 4 {
		o.all.Go(func() {
			for !o.stop.Load() {
				o.visit()
			}
		})
	}
	t.Cleanup(o.end)
	redistest.Eventually(t, 20*time.Second, "old keyways write", func() bool {
		return o.alive.Load() == 8 && o.greeted.Load() > 20
	})
	return o
}

func (o *oldKeyways) end() {
	o.stop.Store(true)
	o.all.Wait()
}

// greet connects as keyway does. It returns nil if the register says that it is too late.
func (o *oldKeyways) greet(resp3 bool) *redistest.Client {
	c, err := redistest.TryDial(o.node.Addr)
	if err != nil {
		return nil
	}
	steps := [][]string{
		{"CLIENT", "SETNAME", guard.ConnectionName("kw-1", 0, "1a")},
		{"FUNCTION", "LIST", "LIBRARYNAME", register.Pattern},
	}
	if resp3 {
		steps = append([][]string{{"HELLO", "3"}}, steps...)
	}
	if o.user {
		steps = append([][]string{{"AUTH", flipUser, "pw"}}, steps...)
	}
	for _, step := range steps {
		r, err := c.TryDo(step...)
		if err != nil || r.Kind == '-' {
			c.Close()
			return nil
		}
		for _, library := range r.Elems { // of FUNCTION LIST
			if step[0] == "FUNCTION" && strings.Contains(library.String(), "keyway_1_closing") ||
				strings.Contains(library.String(), "library_name keyway_1 ") {
				o.refused.Add(1)
				c.Close()
				return nil
			}
		}
	}
	return c
}

// join adds a connection that sends 500 commands at a time until it ends, if the register permits.
// With resp3, it has subscribed.
func (o *oldKeyways) join(resp3 bool) {
	c := o.greet(resp3)
	if c == nil {
		return
	}
	if resp3 {
		c.Send("SUBSCRIBE", "channel")
		c.Flush()
		c.Receive()
	}
	o.alive.Add(1)
	o.all.Go(func() {
		defer o.alive.Add(-1)
		defer c.Close()
		for !o.stop.Load() {
			for range 500 {
				c.Send("INCR", "n")
			}
			if c.Flush() != nil {
				return
			}
			for range 500 {
				if _, err := c.Receive(); err != nil {
					return
				}
			}
		}
	})
}

// visit connects, greets the node, and writes.
func (o *oldKeyways) visit() {
	c := o.greet(false)
	o.greeted.Add(1)
	if c == nil {
		return
	}
	defer c.Close()
	for range 20 {
		c.Send("INCR", "n")
	}
	c.Flush()
	for range 20 {
		c.Receive()
	}
}

// over requires that nothing is counted any more, since the node was in epoch 1, whose count is
// at: the connections have ended, and each process has come again.
func (o *oldKeyways) over(at string) {
	o.t.Helper()
	now := o.node.Do("GET", "n").Text
	if at != "" && now != at {
		o.t.Errorf("the node was in epoch 1 when the counter was %s, and now it is %s", at, now)
	}
	greeted, refused := o.greeted.Load(), o.refused.Load()
	redistest.Eventually(o.t, 20*time.Second, "the connections of the older epoch have ended", func() bool {
		return o.alive.Load() == 0 && o.greeted.Load() > greeted+40 && o.refused.Load() > refused+20
	})
	if later := o.node.Do("GET", "n").Text; later != now {
		o.t.Errorf("keyways of the older epoch write: the counter was %s, and is %s", now, later)
	}
}

// watchEpoch looks for epoch 1 on a node all the time. seen returns the counter when it was there
// for the first time.
func watchEpoch(t testing.TB, node *redistest.Node) (seen func() string) {
	c := redistest.Dial(t, node.Addr)
	count := make(chan string, 1)
	go func() {
		for {
			r, err := c.TryDo("FUNCTION", "LIST", "LIBRARYNAME", "keyway_1")
			if err != nil {
				count <- err.Error()
				return
			}
			if len(r.Elems) > 0 {
				r, _ = c.TryDo("GET", "n")
				count <- r.Text
				return
			}
		}
	}()
	return func() string { return <-count }
}

// TestFlipEndsOlderConnections: once a node is in an epoch, it executes no command of a keyway of an
// earlier one: not over connections that send many at a time, or have subscribed, and not over new
// ones. Several processes flip it at once.
func TestFlipEndsOlderConnections(t *testing.T) {
	t.Parallel()
	fences := map[string]switching.Fence{
		"by name": {}, "by user": {Users: []string{flipUser}}, "all": {All: true},
	}
	for name, fence := range fences {
		for _, threads := range []string{"1", "4"} {
			t.Run(name+" "+threads+" threads", func(t *testing.T) {
				node := redistest.Start(t, "--io-threads", threads)
				o := startOldKeyways(t, node, len(fence.Users) > 0)
				to := decided(t, node, 1)
				seen := watchEpoch(t, node)
				flipper := nodeOf(node)
				if o.user {
					flipper.Account = control.Account{Username: flipUser, Password: "pw"}
				}
				var all sync.WaitGroup
				errs := make([]error, 4)
				for i := range errs {
					all.Go(func() { errs[i] = flipper.Flip(within(t, 20*time.Second), to, fence) })
				}
				all.Wait()
				for _, err := range errs {
					if err != nil {
						t.Error(err)
					}
				}
				if fence.All { // the watcher's connection has ended, too
					o.over("")
				} else {
					o.over(seen())
				}
			})
		}
	}
}

// TestFlipMeetsLatecomers: a keyway of an earlier epoch connects before any command of a flip. Its
// connection is ended, or was never used.
func TestFlipMeetsLatecomers(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	o := startOldKeyways(t, node, false)
	late := redistest.NewFaults(t, node.Addr, func(int) redistest.Plan {
		return redistest.Plan{Reply: func(_ int, reply []byte) ([]byte, time.Duration) {
			o.join(false)
			return reply, 0
		}}
	})
	to := decided(t, node, 1)
	flipper := &switching.Node{Name: "n", Addr: late.Addr}
	if err := flipper.Flip(within(t, 20*time.Second), to, switching.Fence{}); err != nil {
		t.Error(err)
	}
	o.over("")
}

// TestFlipSparesOthers: by name, a flip ends the connections of keyways of earlier epochs, and of
// versions that know no epochs, but not those of other clients, of keyways of the new epoch, and of
// keyways that only listen.
func TestFlipSparesOthers(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	connect := func(name string, more ...[]string) *redistest.Client {
		c := redistest.Dial(t, node.Addr)
		if name != "" {
			c.MustDo("CLIENT", "SETNAME", name)
		}
		for _, args := range more {
			c.MustDo(args...)
		}
		return c
	}
	subscribe := []string{"SUBSCRIBE", "c"}
	spared := map[string]*redistest.Client{
		"another client":                 connect(""),
		"another client with a name":     connect("metrics"),
		"a keyway of the new epoch":      connect(guard.ConnectionName("kw", 1, "2b")),
		"a keyway that says how far":     connect(guard.StateName("kw", 1, "held", "1a")),
		"a keyway that only listens":     connect(guard.ConnectionName("kw", 0, "1a"), subscribe),
		"an older one that only listens": connect("keyway:kw:1a", subscribe),
	}
	ended := map[string]*redistest.Client{
		"keyway switch, moving keys":   connect("keyway-move:x:y"),
		"a keyway":                     connect(guard.ConnectionName("kw:6379", 0, "1a")),
		"an older version":             connect("keyway:kw:6379:1a"),
		"a keyway in a transaction":    connect(guard.ConnectionName("kw", 0, "1a"), []string{"MULTI"}),
		"one that listens, with RESP3": connect(guard.ConnectionName("kw", 0, "1a"), []string{"HELLO", "3"}, subscribe),
		"one that has said how far":    connect(guard.StateName("kw", 0, "done", "1a")),
	}
	if err := nodeOf(node).Flip(within(t, 20*time.Second), decided(t, node, 1), switching.Fence{}); err != nil {
		t.Fatal(err)
	}
	for what, c := range spared {
		if _, err := c.TryDo("PING"); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, c := range ended {
		if r, err := c.TryDo("PING"); err == nil {
			t.Errorf("%s goes on: %s", what, r)
		}
	}
}

// TestFlipFinishesWhatAnotherHasBegun: a process that flips a node dies before any of its
// commands. Another one finishes, and no command of an older keyway is executed after that.
func TestFlipFinishesWhatAnotherHasBegun(t *testing.T) {
	t.Parallel()
	for name, fence := range map[string]switching.Fence{"by name": {}, "all": {All: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := redistest.Start(t)
			steps := 0
			for finished := false; !finished; steps++ {
				node.Do("FUNCTION", "FLUSH")
				o := startOldKeyways(t, node, false)
				to := decided(t, node, 1)
				ctx, die := context.WithCancel(t.Context())
				dying := redistest.NewFaults(t, node.Addr, func(int) redistest.Plan {
					return redistest.Plan{Reply: func(n int, reply []byte) ([]byte, time.Duration) {
						if n < steps {
							return reply, 0
						}
						die()
						return nil, 0
					}}
				})
				first := &switching.Node{Name: "n", Addr: dying.Addr}
				finished = first.Flip(ctx, to, fence) == nil
				dying.Close()
				die()
				if err := nodeOf(node).Flip(within(t, 20*time.Second), to, fence); err != nil {
					t.Errorf("after a death at reply %d: %v", steps, err)
				}
				o.over("")
				o.end()
			}
			if steps < 6 {
				t.Errorf("a flip has only %d replies", steps)
			}
		})
	}
}
