package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/proxyheader"
	"github.com/keyway-proxy/keyway/tlsconn"
)

const (
	// handshakeTimeout is how long a client may take from connecting to the end of the handshake.
	handshakeTimeout = 10 * time.Second
	// handshakeSilence is how long a client may be silent while others wait for its place.
	handshakeSilence = time.Second
	// maxHandshakes is how many handshakes of all threads have a goroutine.
	maxHandshakes = 256
	// maxUnread is how many bytes of a client wait until its handshake reads them.
	maxUnread = 64 << 10
	// greetRead is the most that is read from a client at a time during the handshake. With
	// maxUnread it is less than the thread's buffer.
	greetRead = 16 << 10
	// lingering is how long a refused client may take to read the reason.
	lingering = time.Second
	// greetTick is how often timeouts of handshakes are looked at.
	greetTick = int64(100 * time.Millisecond)
)

// greetings are the clients of one thread whose TLS handshakes are not over. Until a client has
// sent its whole first message it costs no goroutine.
type greetings struct {
	all     map[*greeting]struct{}
	queue   []*greeting // have sent their first message, and wait for a goroutine
	running int         // goroutines

	// The buffers of the thread's clients that speak TLS.
	buffer, scratch []byte // received records; sealed records
}

func (g *greetings) readBuffer() []byte {
	if g.buffer == nil {
		g.buffer = make([]byte, readSize)
	}
	return g.buffer
}

// greeting is a client whose handshake is not over.
type greeting struct {
	t         *thread
	sock      *securedClient
	cfg       *security
	from      origin
	deadline  int64
	hello     []byte             // received before the handshake began
	shake     *tlsconn.Handshake // nil: it has not begun
	out       []byte             // not written yet
	isPaused  bool               // reading is paused
	isRefused bool               // the client only has to read why
	isClosed  bool
}

// newHandshakeTokens returns the tokens of the handshakes that may compute at a time. They are
// fewer than the processors, so that handshakes do not take the loops' time.
func newHandshakeTokens(threads int) chan struct{} {
	return make(chan struct{}, max(1, runtime.GOMAXPROCS(0)-threads))
}

// greet begins a handshake with a client that was admitted. Its socket must be added to the loop
// with the returned handler.
func (t *thread) greet(cfg *security, from origin) *greeting {
	g := &greeting{
		t: t, sock: &securedClient{secured: secured{t: t}}, cfg: cfg, from: from.over(cfg.Config),
		deadline: t.now + int64(handshakeTimeout),
	}
	g.sock.greeting = g
	if t.greetings.all == nil {
		t.greetings.all = map[*greeting]struct{}{}
	}
	t.greetings.all[g] = struct{}{}
	return g
}

func (g *greeting) ready(readable, writable bool) {
	if writable {
		g.write(nil)
	}
	if readable && !g.isClosed {
		g.read()
	}
}

func (g *greeting) read() {
	b := g.t.buf[:greetRead]
	n, err := g.sock.below.Read(b)
	switch {
	case err == errAgain:
	case err != nil && (g.isRefused || len(g.hello) == 0):
		g.close() // it has only looked whether the port is open
	case err != nil:
		if err == io.EOF {
			err = errors.New("the client closed the connection")
		}
		if g.shake == nil {
			g.fail(err)
			return
		}
		g.shake.Abort(err) // it may find the client's reason in what it has received
		g.pause(true)
	case !g.isRefused:
		g.received(b[:n])
	}
}

func (g *greeting) received(b []byte) {
	if g.shake != nil {
		g.pause(g.shake.Received(b) > maxUnread)
		return
	}
	before, _ := tlsconn.Hello(g.hello)
	g.hello = append(g.hello, b...)
	g.pause(len(g.hello) > maxUnread)
	if before {
		return // it is in the queue
	}
	complete, err := tlsconn.Hello(g.hello)
	switch {
	case errors.Is(err, tlsconn.ErrPlain):
		g.refusePlain()
		g.write([]byte(notTLS))
		g.refuse()
	case err != nil:
		g.fail(err)
	case complete:
		g.t.greetings.queue = append(g.t.greetings.queue, g)
		g.t.startHandshakes()
	}
}

// startHandshakes starts as many of the waiting handshakes as may run.
func (t *thread) startHandshakes() {
	gs := &t.greetings
	for len(gs.queue) > 0 && gs.running < max(maxHandshakes/len(t.srv.threads), 1) {
		g := gs.queue[0]
		gs.queue[0] = nil
		if gs.queue = gs.queue[1:]; !g.isClosed {
			gs.running++
			g.start()
		}
	}
}

func (g *greeting) start() {
	send := func(b []byte) {
		b = slices.Clone(b)
		g.t.loop.Post(func() { g.write(b) })
	}
	g.shake = tlsconn.NewHandshake(g.cfg.Config, g.hello, g.t.srv.host.handshakes, send)
	shake := g.shake
	go func() {
		err := shake.Run()
		g.t.loop.Post(func() { g.finished(err) })
	}()
}

// finished makes the client a client like others if its handshake has succeeded.
func (g *greeting) finished(err error) {
	t := g.t
	t.greetings.running--
	t.startHandshakes()
	switch {
	case g.isClosed || g.isRefused:
		return
	case err != nil:
		g.fail(err)
		return
	}
	delete(t.greetings.all, g)
	g.isClosed = true
	s := g.sock
	s.conn, s.greeting, s.behind = g.shake.Conn(), nil, true
	if len(g.out) > 0 {
		s.keep(g.out)
	}
	t.countHandshake(s.conn.State())
	s.client = &client{t: t}
	s.owner = s.client
	s.client.open(s, g.from)
	s.client.identify(g.cfg.of, s.conn.State())
	s.client.Ready(true, false)
	s.tell()
	if !s.client.gone {
		s.client.flush() // watches for what the session needs
	}
}

// fail refuses a client whose handshake has failed.
func (g *greeting) fail(err error) {
	g.t.refuseHandshake(g.from.peer, err)
	if g.shake != nil {
		g.shake.Abort(err)
	}
	g.refuse()
}

// refuse closes the client when it has read why, or soon. If it were closed at once, bytes that
// it is still sending would reset the connection, and it might not read the reason.
func (g *greeting) refuse() {
	if g.isClosed {
		return
	}
	g.isRefused = true
	g.deadline = min(g.deadline, g.t.now+int64(lingering))
	g.pause(false)
	g.write(nil)
}

// write sends b after what was not sent yet.
func (g *greeting) write(b []byte) {
	if g.isClosed {
		return
	}
	g.out = append(g.out, b...)
	for len(g.out) > 0 {
		n, err := g.sock.below.Write(g.out)
		g.out = g.out[n:]
		if err == errAgain {
			break
		}
		if err != nil {
			g.close()
			return
		}
	}
	if g.isRefused && len(g.out) == 0 {
		g.sock.below.CloseWrite()
	}
	g.sock.below.Watch(!g.isPaused, len(g.out) > 0)
}

func (g *greeting) pause(isPaused bool) {
	g.isPaused = isPaused
	g.sock.below.Watch(!isPaused, len(g.out) > 0)
}

// tick ends handshakes that take too long, and resumes reading.
func (gs *greetings) tick(now int64) {
	wall := time.Now()
	for g := range gs.all {
		switch {
		case g.deadline <= now && g.isRefused, g.deadline <= now && len(g.hello) == 0:
			g.close()
		case g.isRefused:
		case g.deadline <= now:
			g.fail(fmt.Errorf("it was not complete after %v", handshakeTimeout))
			g.close()
		case g.shake == nil:
		case len(gs.queue) > 0 && g.shake.Waits(wall) > handshakeSilence:
			g.fail(errors.New("the client was silent, and others waited for its place"))
			g.close()
		case g.isPaused:
			g.pause(g.shake.Received(nil) > maxUnread)
		}
	}
}

func (g *greeting) close() {
	if g.isClosed {
		return
	}
	g.isClosed = true
	if g.shake != nil {
		g.shake.Abort(io.ErrClosedPipe)
	}
	g.sock.below.Close()
	g.forget()
}

// forget stops counting the client.
func (g *greeting) forget() {
	delete(g.t.greetings.all, g)
	g.t.dismiss()
}

// notTLS is the reply to a client that does not speak TLS.
const notTLS = "-ERR keyway: this port speaks TLS only\r\n"

// refusePlain counts and logs a client that does not speak TLS, or a balancer that first sends a
// header.
func (g *greeting) refusePlain() {
	if proxyheader.Begins(g.hello) {
		refuseHeader(g.t, g.from.peer, extraHeader)
		return
	}
	g.t.refusePlain(g.from.peer)
}

// refusePlain counts and logs a client that does not speak TLS.
func (t *thread) refusePlain(peer string) {
	t.worker.Stats.ClosedPlain++
	t.srv.reports.refused(proxy.Refusal{Reason: "does not speak TLS, and this port does", Client: peer})
}

// refuseHandshake counts and logs a client whose handshake has failed.
func (t *thread) refuseHandshake(peer string, err error) {
	t.worker.Stats.ClosedHandshake++
	t.srv.reports.handshake(peer, err)
}

// countHandshake counts a handshake that has succeeded.
func (t *thread) countHandshake(s tls.ConnectionState) {
	if s.DidResume {
		t.worker.Stats.TLSResumed++
	} else {
		t.worker.Stats.TLSFull++
	}
}

// closeGreetings ends all handshakes, and closes the connections of balancers without a header.
func (t *thread) closeGreetings() {
	for a := range t.announcements {
		a.close()
	}
	for g := range t.greetings.all {
		g.close()
	}
}
