package server

import (
	"io"
	"net/netip"
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
	loop      *loop.Loop
	worker    *proxy.Worker
	acceptors []*acceptor
	done      chan struct{} // closed when the loop has ended
	buf       []byte
	putOff    []*client // clients whose output waits for more replies
	turns     int       // turns since putOff was last written
	now       int64
	nextTick  int64
	late      int // read-only turns since the process was suspended; see onlyReads
	draining  bool
	drainBy   int64 // time at which draining ends at the latest
}

// client is a client's socket and its session.
type client struct {
	t        *thread
	sock     socket
	session  *proxy.Session
	gone     bool
	isPutOff bool // its output waits: it is in the thread's putOff
}

// maxPutOff is the number of busy turns for which a client's output may wait for its
// remaining replies. The write is the most expensive step. The replies to a pipeline over
// several nodes arrive in several turns, and should leave in one write.
const maxPutOff = 3

// Pause writes all pending output before the loop sleeps.
func (t *thread) Pause() time.Duration {
	ticked := false
	if t.late > 0 { // nothing is left to read
		t.late = 0
		ticked = t.tick()
	}
	t.flushPutOff()
	if !t.finish(true) {
		return 0
	}
	return t.next(ticked)
}

func (t *thread) flushPutOff() {
	t.turns = 0
	for i, c := range t.putOff {
		t.putOff[i] = nil
		if c.isPutOff {
			c.flush()
		}
	}
	t.putOff = t.putOff[:0]
}

// Ready writes the session's output to the client's socket, and passes the bytes that the
// client has sent to the session.
func (c *client) Ready(readable, writable bool) {
	if c.gone {
		return
	}
	if writable {
		c.flush()
	}
	if !readable || c.gone {
		return
	}
	n, err := c.sock.Read(c.t.buf)
	switch {
	case err == nil:
		c.t.worker.Feed(c.session, c.t.buf[:n])
	case err == io.EOF:
		c.t.worker.EOF(c.session)
	case err != errAgain:
		c.close()
	}
}

// flush writes the session's output, and watches the socket for what the session needs
// next.
func (c *client) flush() {
	s := c.session
	c.isPutOff = false
	for !c.gone && !s.Dead() {
		b := s.Output()
		if len(b) == 0 {
			break
		}
		n, err := c.sock.Write(b)
		if n > 0 {
			s.Wrote(n)
		}
		if err == errAgain || err == nil && n < len(b) {
			break
		}
		if err != nil {
			c.close()
			return
		}
	}
	if s.Finished() {
		c.close()
		return
	}
	c.sock.Watch(s.Reading(), s.Pending() > 0)
}

func (c *client) close() {
	if c.gone {
		return
	}
	c.gone = true
	c.t.srv.reports.client("client gone", c)
	c.sock.Close()
	c.t.worker.Gone(c.session)
	c.t.dismiss()
}

// backend is a node's socket and its link.
type backend struct {
	t          *thread
	link       *pool.Link
	sock       socket
	dials      uint64 // link.Stats.Dials when sock was opened
	connecting bool
	up         bool // the log has this link as reachable
}

func (b *backend) Ready(readable, writable bool) {
	if !b.current() {
		return
	}
	now := b.t.now
	if b.connecting && (writable || readable) {
		b.connecting = false
		if err := connected(b.sock); err != nil {
			b.link.Fail(now, err.Error())
			return
		}
		b.sock.Watch(true, false)
		b.link.Connected(now)
		return
	}
	if writable {
		b.flush()
	}
	if !readable || !b.current() {
		return
	}
	b.read()
}

// current reports whether the socket belongs to the link's latest attempt to dial.
// It closes the socket of an earlier attempt, whose bytes must not count for the new one.
func (b *backend) current() bool {
	if b.dials != b.link.Stats.Dials {
		b.close()
	}
	return b.sock != nil
}

// read passes received bytes to the link. It fails the link if the socket has
// ended.
func (b *backend) read() error {
	n, err := b.sock.Read(b.t.buf)
	switch {
	case err == nil:
		b.link.Received(b.t.buf[:n], b.t.now)
	case err == io.EOF:
		b.link.Fail(b.t.now, "the node closed the connection")
	case err != errAgain:
		b.link.Fail(b.t.now, err.Error())
	}
	return err
}

// readRest fails a link whose socket cannot be written any more. It first reads what
// the node has sent: a node that refuses a request sends the reason before it closes.
func (b *backend) readRest(cause error) {
	dials := b.link.Stats.Dials
	for b.link.State() == pool.Ready && b.link.Stats.Dials == dials && b.read() == nil {
	}
	if b.link.Stats.Dials == dials {
		b.link.Fail(b.t.now, cause.Error())
	}
}

func (b *backend) flush() {
	for b.sock != nil && !b.connecting {
		out := b.link.NextWrite()
		if len(out) == 0 {
			b.sock.Watch(!b.link.Paused(), false)
			return
		}
		n, err := b.sock.Write(out)
		if n > 0 {
			b.link.Wrote(n)
		}
		if err == errAgain || err == nil && n < len(out) {
			b.sock.Watch(!b.link.Paused(), true)
			return
		}
		if err != nil {
			b.readRest(err)
			return
		}
	}
}

func (b *backend) hangup() {
	b.close()
	b.connecting, b.up = false, false
}

// open sets the socket of the link's latest attempt to dial.
func (b *backend) open(s socket) {
	b.sock, b.dials = s, b.link.Stats.Dials
	b.t.srv.sockets.Add(1)
}

func (b *backend) close() {
	if b.sock != nil {
		b.sock.Close()
		b.sock = nil
		b.t.srv.sockets.Add(-1)
	}
}

// serve performs a link's duty and writes its bytes.
func (t *thread) serve(l *pool.Link) {
	b, _ := l.Bind.(*backend)
	if b == nil {
		b = &backend{t: t, link: l}
		l.Bind = b
	}
	switch l.Duty() {
	case pool.Hangup:
		b.hangup()
		t.srv.reports.lost(l)
	case pool.Dial:
		b.hangup()
		t.srv.reports.dialing(l)
		t.dial(b)
		return
	}
	b.flush()
	if b.link.State() == pool.Ready && !b.up {
		b.up = true
		t.srv.reports.found(l)
	}
}

// dial connects to the node. It looks up a host name each time, because addresses change,
// and outside the loop, because look-ups block.
func (t *thread) dial(b *backend) {
	if b.link.Addr == "" {
		b.link.Fail(t.now, "no sentinel has told its address yet")
		return
	}
	addr, err := netip.ParseAddrPort(b.link.Addr)
	if err == nil && !t.srv.o.Streams {
		t.connectTo(b, addr)
		return
	}
	link, dials := b.link, b.link.Stats.Dials
	still := func() bool { return link.State() == pool.Dialing && link.Stats.Dials == dials }
	if t.srv.o.Streams {
		t.srv.dialStream(t, b, still)
		return
	}
	t.srv.resolve(link.Addr, func(addr netip.AddrPort, err error) {
		t.loop.Post(func() {
			switch {
			case !still():
			case err != nil:
				link.Fail(t.now, err.Error())
			default:
				t.connectTo(b, addr)
			}
		})
	})
}

func (t *thread) connectTo(b *backend, addr netip.AddrPort) {
	s, err := t.connect(b, addr)
	if err != nil {
		b.link.Fail(t.now, err.Error())
		return
	}
	b.open(s)
	b.connecting = true
}

// admit counts a new client, and reports whether there is room for it. If there is not,
// the client is not counted.
func (t *thread) admit() bool {
	if t.srv.clients.Add(1) > t.srv.maxClients.Load() || !t.srv.hasRoom() {
		t.srv.clients.Add(-1)
		return false
	}
	return true
}

func (t *thread) dismiss() { t.srv.clients.Add(-1) }

// BeginTurn and EndTurn implement loop.Owner, as Pause does.
func (t *thread) BeginTurn(now time.Duration, wall time.Time) {
	t.now = int64(now)
	t.worker.Turn(t.now, wall)
}

func (t *thread) EndTurn() {
	if t.onlyReads() {
		return
	}
	ticked := t.tick()
	if t.turns++; t.turns >= maxPutOff {
		t.flushPutOff()
	}
	t.finish(false)
	if t.srv.budget.due(t, ticked) {
		t.srv.weigh(t)
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
	return true
}

// next returns the latest time at which the next turn should begin.
func (t *thread) next(ticked bool) time.Duration {
	// Under load one turn follows another. The next tick must not be postponed each time.
	if next := t.worker.NextTick(); ticked || next < t.nextTick {
		t.nextTick = next
	}
	for _, a := range t.acceptors {
		if a.paused != 0 {
			t.nextTick = min(t.nextTick, a.paused)
		}
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
// is false, the output of a client that expects more replies waits for them. If the
// process was suspended since the turn began, finish does nothing and returns false.
func (t *thread) finish(everything bool) bool {
	if t.loop.Now()-time.Duration(t.now) > maxTurn {
		return false
	}
	for {
		r := t.worker.EndTurn()
		for _, l := range r.Links {
			t.serve(l)
		}
		for _, s := range r.Sessions {
			c := s.Bind.(*client)
			switch {
			case everything || !s.Expecting():
				c.flush()
			case !c.isPutOff:
				c.isPutOff = true
				t.putOff = append(t.putOff, c)
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
			if other == t {
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
	for _, text := range r.Notes {
		t.srv.reports.warn(text)
	}
	for _, of := range r.Refusals {
		t.srv.reports.refused(of)
	}
	if r.Garbage > 0 {
		t.srv.memory.add(r.Garbage)
	}
	t.worker.Taken()
}

// drain stops accepting, and closes each client once it is answered. At the time by, the
// loop stops even if clients are left.
func (t *thread) drain(by int64) {
	for _, a := range t.acceptors {
		a.close()
	}
	t.acceptors = nil
	t.worker.Drain()
	t.draining, t.drainBy = true, by
}

// shut closes all remaining connections and clients.
func (t *thread) shut() {
	t.worker.Shut()
	for _, l := range t.worker.EndTurn().Links {
		if b, _ := l.Bind.(*backend); b != nil {
			b.hangup()
		}
	}
	t.worker.Each(func(s *proxy.Session) { s.Bind.(*client).close() })
}

// run runs the loop until it is stopped, then closes all remaining connections and
// clients.
func (t *thread) run() error {
	defer close(t.done)
	err := t.loop.Run(t)
	t.shut()
	return err
}
