package server

import (
	"math"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/keyway-proxy/keyway/loop"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
)

// readSize is the size of the loop's read buffer, its only large buffer.
const readSize = 128 << 10

// thread is one event loop with its worker and their sockets.
type thread struct {
	srv       *Server
	index     int
	weight    *weight      // its share of the host's memory
	clients   atomic.Int64 // that were admitted for it
	loop      *loop.Loop
	worker    *proxy.Worker
	newWorker func(now int64) *proxy.Worker // makes worker when the thread begins
	acceptors []*acceptor
	done      chan struct{} // closed when the loop has ended
	buf       []byte
	pipe      loop.Pipe
	greetings greetings
	// announcements are the connections of balancers whose header is not complete; nil: there
	// were none.
	announcements map[*announcement]struct{}
	waiting       waiting
	now           int64
	nextTick      int64
	late          int // read-only turns since the process was suspended; see onlyReads
	draining      bool
	drainBy       int64     // time at which draining ends at the latest
	linger        int64     // how long closed clients may linger
	lingering     []*client // in the order in which they were closed
	passage       *passage  // nil: no other process takes clients over
	inherited     inheritance
}

// waiting is the output that waits while the loop has other work. A write is the most expensive step of all,
// so each should carry much.
type waiting struct {
	clients []*client  // that expect more replies: those to a pipeline over several nodes arrive in several turns
	nodes   []*backend // if there are many of them
	turns   int        // since output was last written that had waited
}

const (
	// maxPutOff is the number of busy turns for which output may wait.
	maxPutOff = 3
	// manyNodes is the number of nodes from which on they wait for more requests. A turn has few requests for
	// each of many nodes, and the next turn has others. With fewer nodes, to wait would only delay requests.
	manyNodes = 32
)

// Pause writes all pending output before the loop sleeps.
func (t *thread) Pause() time.Duration {
	ticked := false
	if t.late > 0 { // nothing is left to read
		t.late = 0
		ticked = t.tick()
	}
	flushWaiting(t)
	if !t.finish(true) {
		return 0
	}
	return t.next(ticked)
}

// flushWaiting writes the output that has waited.
func flushWaiting(t *thread) {
	t.waiting.turns = 0
	t.Lull()
	for i, c := range t.waiting.clients {
		t.waiting.clients[i] = nil
		if c.isPutOff {
			c.flush()
		}
	}
	t.waiting.clients = t.waiting.clients[:0]
}

// flushNodes writes the requests that have waited. That may fail a node, for which other requests come in
// then: they are served by the next call of finish.
func flushNodes(t *thread) {
	for i, b := range t.waiting.nodes {
		t.waiting.nodes[i] = nil
		b.isPutOff = false
		t.serve(b.link)
	}
	t.waiting.nodes = t.waiting.nodes[:0]
}

// Lull writes the requests that have waited, unless the process was suspended: see onlyReads.
func (t *thread) Lull() {
	if len(t.waiting.nodes) > 0 && !wasSuspended(t) {
		flushNodes(t)
	}
}

// wasSuspended reports whether the process was suspended since the turn began.
func wasSuspended(t *thread) bool { return t.loop.Now()-time.Duration(t.now) > maxTurn }

// Begin, BeginTurn, EndTurn and End implement loop.Owner, as Pause and Lull do.
func (t *thread) Begin(now time.Duration, wall time.Time) {
	t.worker = t.newWorker(int64(now)) // not before: time passes while other servers are made
	t.worker.Clock = func() int64 { return int64(t.loop.Now()) }
	t.worker.WriteNow = func(s *proxy.Session, b []byte) int { return s.Bind.(*client).writeNow(b) }
	t.worker.Enlarge = func(b []byte, room int, done func([]byte)) { enlarge(t, b, room, done) }
	t.BeginTurn(now, wall)
	t.nextTick = t.now // the loop may have run for long
}

func (t *thread) BeginTurn(now time.Duration, wall time.Time) {
	t.now = int64(now)
	t.worker.Turn(t.now, wall)
}

func (t *thread) EndTurn() {
	if t.onlyReads() {
		return
	}
	ticked := t.tick()
	if t.waiting.turns++; t.waiting.turns >= maxPutOff {
		flushWaiting(t)
	}
	t.finish(false)
	if t.srv.host.budget.due(t, ticked) {
		t.srv.host.budget.weigh(t)
	}
	// A thread without clients still serves requests of its siblings, so it stops only
	// when no thread has clients.
	if t.draining && (t.srv.clients.Load() <= 0 || t.now >= t.drainBy) {
		t.loop.Stop()
	}
	t.next(ticked)
}

// tick calls the worker's Tick if the next tick is due, and reports whether it was.
func (t *thread) tick() bool {
	if t.now < t.nextTick {
		return false
	}
	t.worker.Tick()
	for _, a := range t.acceptors {
		a.tick(t.now)
	}
	if len(t.greetings.all) > 0 {
		t.greetings.tick(t.now)
	}
	tickAnnouncements(t)
	tickLingering(t)
	return true
}

// next returns the latest time at which the next turn should begin.
func (t *thread) next(ticked bool) time.Duration {
	// Under load one turn follows another. The next tick must not be postponed each time.
	if ticked {
		t.nextTick = math.MaxInt64
	}
	t.nextTick = t.worker.NextTick(t.nextTick)
	for _, a := range t.acceptors {
		if a.paused != 0 {
			t.nextTick = min(t.nextTick, a.paused)
		}
	}
	if len(t.greetings.all)+len(t.announcements) > 0 {
		t.nextTick = min(t.nextTick, t.now+greetTick)
	}
	if t.draining {
		t.nextTick = min(t.nextTick, t.now+int64(10*time.Millisecond))
	}
	return time.Duration(t.nextTick)
}

const (
	// maxTurn is the longest turn, and the longest delay of a tick, of a running process.
	// If it takes longer, the process was suspended.
	maxTurn = 100 * time.Millisecond
	// maxLate is the maximum number of read-only turns after that.
	maxLate = 32
)

// onlyReads reports whether the process was suspended and has not yet read everything
// that arrived meanwhile. Until it has, no timeouts run, because a reply that has arrived
// is in time. Nothing is sent either, because clients have already given up overdue
// commands.
func (t *thread) onlyReads() bool {
	if t.late == 0 && t.now-t.nextTick <= int64(maxTurn) {
		return false
	}
	if t.late++; t.late <= maxLate {
		return true
	}
	t.late = 0
	return false
}

// finish serves the worker's links and sessions until none is left. If everything
// is false, the output of a client that expects more replies waits for them, and requests for many
// nodes wait for others. If the process was suspended since the turn began, finish does nothing and
// returns false.
func (t *thread) finish(everything bool) bool {
	if wasSuspended(t) {
		return false
	}
	for {
		r := t.worker.EndTurn()
		for _, l := range r.Links {
			b, _ := l.Bind.(*backend)
			switch {
			case everything || b == nil || l.State() != pool.Ready: // otherwise it has no duty
				t.serve(l)
			case !b.isPutOff:
				b.isPutOff = true
				t.waiting.nodes = append(t.waiting.nodes, b)
			}
		}
		if len(t.waiting.nodes) < manyNodes {
			flushNodes(t)
		}
		for _, s := range r.Sessions {
			c := s.Bind.(*client)
			switch {
			case everything || !s.Expecting():
				c.flush()
			case !c.isPutOff:
				c.isPutOff = true
				t.waiting.clients = append(t.waiting.clients, c)
			}
		}
		busy := len(r.Links) > 0 || len(r.Sessions) > 0
		t.relay(r)
		if !busy {
			return true
		}
	}
}

// relay delivers the worker's messages to the other threads, the log and the server.
func (t *thread) relay(r *proxy.Ready) {
	switch asked := r.Look; {
	case asked != 0:
		t.srv.refresh(func() { t.loop.Post(func() { t.worker.Looked(asked) }) })
	case r.Refresh:
		t.srv.refresh(nil)
	}
	for _, ask := range r.Asks {
		for _, other := range t.srv.threads {
			if ask.Only == 0 && other == t || ask.Only > 0 && ask.Only != other.index+1 {
				continue
			}
			other.loop.Post(func() {
				answer := ask.Do(other.worker)
				if ask.Token != 0 {
					t.loop.Post(func() { t.worker.Answered(ask.Token, answer) })
				}
			})
		}
	}
	for _, task := range r.Users {
		t.doUsersTask(task)
	}
	for _, text := range r.Notes {
		t.srv.reports.warn(text)
	}
	for _, e := range r.Events {
		t.srv.reports.event(e)
	}
	for _, d := range r.Deeds {
		t.srv.reports.deed(d)
	}
	for _, of := range r.Refusals {
		t.srv.reports.refused(of)
	}
	for _, of := range r.Limited {
		t.srv.reports.limited(of)
	}
	for _, a := range r.Alarms {
		t.srv.reports.lock(a)
	}
	if follow := t.srv.o.Follow; follow != nil && !r.Followed.IsEmpty() {
		follow(&r.Followed)
	}
	if r.Garbage > 0 {
		t.srv.host.memory.add(r.Garbage)
	}
	t.worker.Taken()
}

// drain closes the clients, spread over a time. After another time the loop stops even if
// clients are left. The thread must accept no more.
func (t *thread) drain(spread, timeout time.Duration) {
	t.linger = int64(lingering)
	if spread == 0 {
		t.closeGreetings()
		t.linger = int64(lingerAtOnce)
	}
	t.draining, t.drainBy = true, t.now+int64(spread+timeout)
	proxy.Drain(t.worker, spread)
}

// End closes all remaining connections and clients.
func (t *thread) End() {
	if t.worker == nil {
		return // the loop has failed before the thread began
	}
	t.worker.Shut()
	for _, l := range t.worker.EndTurn().Links {
		if b, _ := l.Bind.(*backend); b != nil {
			b.hangup()
		}
	}
	t.closeGreetings()
	t.worker.Each(func(s *proxy.Session) {
		if t.draining {
			proxy.Left(s, false)
		}
		s.Bind.(*client).close()
	})
	for _, c := range t.lingering {
		c.depart()
	}
	t.pipe.Close()
	t.srv.host.budget.leave(t.weight)
}

// run takes part in the loop until the thread is stopped.
func (t *thread) run() error {
	defer close(t.done)
	if run := t.loop.Join(t); run != nil {
		go run()
	}
	return t.loop.Wait()
}

// enlarge copies b to a larger buffer beside the loop, which would serve nobody else for 50 ms or more if it copied
// 128 MB. See [proxy.Worker].
func enlarge(t *thread, b []byte, room int, done func(bigger []byte)) {
	const piece = 64 << 10
	go func() {
		t.srv.host.copies <- struct{}{}
		bigger := make([]byte, len(b), room)
		for i := 0; i < len(b); i += piece {
			copyPiece(bigger[i:], b[i:min(i+piece, len(b))])
			runtime.Gosched() // a loop may wait for this processor
		}
		<-t.srv.host.copies
		t.loop.Post(func() { done(bigger) })
	}()
}

// copyPiece is a function because the garbage collector can stop a goroutine when it calls one, and hardly while it
// copies. Until the goroutine stops, the collector and the loops wait.
//
//go:noinline
func copyPiece(to, from []byte) { copy(to, from) }
