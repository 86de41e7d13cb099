package faults

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

var lockSeed = flag.Uint64("lockseed", 1, "the seed of the faults and commands of TestLocksOfQuorum")

// quorumMaxLease is the longest lease in TestLocksOfQuorum. A node that was down does not vote
// for so long.
const quorumMaxLease = time.Second

// quorumRig is five nodes that hold locks, two keyways over them, and a link from each keyway
// to each node.
type quorumRig struct {
	t     *testing.T
	h     *lockHistory
	nodes []*redistest.Node
	dirs  []string
	ways  []*redistest.Process
	links [][]*redistest.Link // by keyway, then by node
}

// TestLocksOfQuorum: clients acquire, renew and release locks through two keyways, while nodes
// are killed, frozen, cut off and come back with and without their data, and keyways are
// killed and frozen. The history of each lock is that of a lock on one Redis, and the numbers
// rise. What the clients do and which faults there are follows from the seed; their order in
// time does not.
func TestLocksOfQuorum(t *testing.T) {
	redistest.OfAProcess(t)
	t.Parallel()
	r := &quorumRig{t: t, h: &lockHistory{began: time.Now()}}
	r.start()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	for i := range 6 {
		all.Go(func() { r.client(ctx, i) })
	}
	redistest.Eventually(t, 30*time.Second, "the new nodes vote, and a client acquires a lock", func() bool {
		return r.h.acquired() > 0
	})
	for i := range r.nodes {
		all.Go(func() { r.breakNode(ctx, i) })
	}
	for i := range r.ways {
		all.Go(func() { r.breakKeyway(ctx, i) })
		all.Go(func() { r.breakLinks(ctx, i) })
	}
	time.Sleep(time.Duration(scale(4, 180)) * time.Second)
	redistest.Eventually(t, time.Minute, "locks are acquired", func() bool { return r.h.acquired() >= scale(20, 400) })
	stop()
	all.Wait()
	outcomes := map[string]int{}
	for _, e := range r.h.events {
		outcomes[e.kind+" "+e.outcome]++
	}
	t.Logf("seed %d: %d commands, %v, under %d faults", *lockSeed, len(r.h.events), outcomes, len(r.h.faults))
	r.h.check(t)
	if t.Failed() {
		t.Logf("again with: go test ./test/faults -run TestLocksOfQuorum -args -lockseed %d", *lockSeed)
	}
}

// start starts the nodes and keyways. The nodes write what they have to a file at once.
func (r *quorumRig) start() {
	for range 5 {
		dir := r.t.TempDir()
		r.dirs = append(r.dirs, dir)
		r.nodes = append(r.nodes, redistest.Start(r.t, "--dir", dir, "--appendonly", "yes", "--appendfsync", "always"))
	}
	other := redistest.Start(r.t)
	for range 2 {
		var links []*redistest.Link
		var addrs []string
		for _, n := range r.nodes {
			l := redistest.NewLink(r.t, n.Addr, 0)
			links, addrs = append(links, l), append(addrs, l.Addr)
		}
		r.links = append(r.links, links)
		r.ways = append(r.ways, redistest.ServeProcess(r.t, fmt.Sprintf("%slocks:\n  quorum:\n"+
			"    - {match: \"lock:*\", nodes: [%s], timeout: 100ms, max_lease: %s, fencing: true}\n",
			redistest.Ring(other.Addr), strings.Join(addrs, ", "), quorumMaxLease)))
	}
}

// random returns a source of choices for one participant.
func (r *quorumRig) random(who, i int) *rand.Rand {
	return rand.New(rand.NewPCG(*lockSeed, uint64(who*1000+i)))
}

// pause sleeps for a random time. It returns false once the test is over.
func pause(ctx context.Context, random *rand.Rand, from, to time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(from + time.Duration(random.Int64N(int64(to-from)))):
		return true
	}
}

// breakNode kills and freezes a node, again and again.
func (r *quorumRig) breakNode(ctx context.Context, i int) {
	n, random := r.nodes[i], r.random(1, i)
	for pause(ctx, random, 100*time.Millisecond, 3*time.Second) {
		if random.IntN(2) == 0 {
			n.Freeze()
			r.h.fault("node %d is frozen", i)
			pause(ctx, random, 50*time.Millisecond, time.Second)
			n.Thaw()
			r.h.fault("node %d goes on", i)
			continue
		}
		n.Kill()
		r.h.fault("node %d is killed", i)
		with := "with its data"
		if random.IntN(4) > 0 {
			with = "empty"
			os.RemoveAll(filepath.Join(r.dirs[i], "appendonlydir"))
		}
		pause(ctx, random, 0, 200*time.Millisecond)
		n.Run()
		r.h.fault("node %d is back %s", i, with)
	}
}

// breakKeyway kills and freezes a keyway, again and again.
func (r *quorumRig) breakKeyway(ctx context.Context, i int) {
	k, random := r.ways[i], r.random(2, i)
	for pause(ctx, random, 500*time.Millisecond, 5*time.Second) {
		if random.IntN(2) == 0 {
			k.Kill()
			r.h.fault("keyway %d is killed", i)
			k.Restart()
			r.h.fault("keyway %d starts again", i)
			continue
		}
		k.Freeze()
		r.h.fault("keyway %d is frozen", i)
		pause(ctx, random, 50*time.Millisecond, time.Second)
		k.Thaw()
		r.h.fault("keyway %d goes on", i)
	}
}

// breakLinks cuts one to three nodes off from a keyway, again and again. The other keyway still
// reaches them.
func (r *quorumRig) breakLinks(ctx context.Context, i int) {
	random := r.random(3, i)
	for pause(ctx, random, 200*time.Millisecond, 3*time.Second) {
		cut := random.Perm(len(r.nodes))[:1+random.IntN(3)]
		for _, n := range cut {
			r.links[i][n].Cut()
		}
		r.h.fault("keyway %d is cut off from the nodes %v", i, cut)
		pause(ctx, random, 50*time.Millisecond, 1500*time.Millisecond)
		for _, n := range cut {
			r.links[i][n].Heal()
		}
		r.h.fault("keyway %d reaches the nodes %v again", i, cut)
	}
}

// lockUser is a client.
type lockUser struct {
	r      *quorumRig
	id     int
	random *rand.Rand
	conn   *redistest.Client
	tokens int
}

func (r *quorumRig) client(ctx context.Context, id int) {
	u := &lockUser{r: r, id: id, random: r.random(0, id)}
	defer u.hangUp()
	for pause(ctx, u.random, 0, 30*time.Millisecond) {
		u.turn(ctx)
	}
}

func (u *lockUser) hangUp() {
	if u.conn != nil {
		u.conn.Close()
		u.conn = nil
	}
}

// ask sends a command through a keyway. If the connection fails, the reply is an error.
func (u *lockUser) ask(args ...string) redistest.Reply {
	if u.conn == nil {
		conn, err := redistest.TryDial(u.r.ways[u.random.IntN(len(u.r.ways))].Addr)
		if err != nil {
			return redistest.Reply{Kind: '-', Text: "not connected; not executed"}
		}
		u.conn = conn
	}
	reply, err := u.conn.TryDo(args...)
	if err != nil {
		u.hangUp()
		return redistest.Reply{Kind: '-', Text: err.Error()}
	}
	return reply
}

// do runs a command on a lock and records it.
func (u *lockUser) do(e *lockEvent, lease time.Duration, args ...string) *lockEvent {
	h := u.r.h
	e.client, e.call = u.id, h.now()
	if lease > 0 {
		e.until = e.call + int64(lease)*99/100 // clocks may differ by one part in a hundred
	}
	reply := u.ask(args...)
	e.end, e.text = h.now(), reply.String()
	switch {
	case e.text == "OK" || e.text == "1":
		e.outcome = "yes"
	case e.text == "(nil)" || e.text == "0", strings.HasSuffix(e.text, "; the lock was not acquired"):
		e.outcome = "no"
	case e.kind == "acquire" && strings.HasSuffix(e.text, "not executed"):
		e.outcome = "no"
	default:
		e.outcome = "unknown"
	}
	return e
}

// turn acquires a lock, renews it some times, and releases it or lets its lease end. The locks
// change every two seconds, since short histories are quicker to judge.
func (u *lockUser) turn(ctx context.Context) {
	h := u.r.h
	key := fmt.Sprintf("lock:%d:%d", h.now()/int64(2*time.Second), u.random.IntN(2))
	u.tokens++
	token := fmt.Sprintf("c%d-%d", u.id, u.tokens)
	lease := time.Duration(200+u.random.IntN(800)) * time.Millisecond
	ms := fmt.Sprint(lease.Milliseconds())
	var e *lockEvent
	for range 1 + u.random.IntN(3) {
		e = u.do(&lockEvent{key: key, kind: "acquire", token: token}, lease, "SET", key, token, "NX", "PX", ms)
		if e.outcome == "yes" {
			e.number = u.number(key, token)
		}
		h.add(e)
		if e.outcome != "no" || !pause(ctx, u.random, time.Millisecond, 30*time.Millisecond) {
			break // clients repeat an attempt that was refused
		}
	}
	if e.outcome == "no" {
		return
	}
	for range u.random.IntN(4) {
		if e.outcome != "yes" || !pause(ctx, u.random, 0, lease*8/10) {
			break
		}
		e = u.do(&lockEvent{key: key, kind: "renew", token: token}, lease, "EVAL", renewLock, "1", key, token, ms)
		h.add(e)
	}
	if e.outcome == "yes" && (u.random.IntN(3) == 0 || !pause(ctx, u.random, 0, lease/2)) {
		return
	}
	for range 3 { // a client that does not learn the outcome repeats the release
		e = u.do(&lockEvent{key: key, kind: "release", token: token}, 0, "EVAL", releaseLock, "1", key, token)
		h.add(e)
		if e.outcome != "unknown" || !pause(ctx, u.random, 0, 100*time.Millisecond) {
			return
		}
	}
}

// number reads the number of the lock as docs/locks.md says. It returns 0 if the number may be
// that of another holder.
func (u *lockUser) number(key, token string) int64 {
	number := u.ask("GET", key+":fence")
	if u.ask("GET", key).Text != token {
		return 0
	}
	var n int64
	fmt.Sscan(number.Text, &n)
	return n
}
