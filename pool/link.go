package pool

import (
	"time"

	"github.com/keyway-proxy/keyway/metrics"
)

// State is the state of a link.
//
//	Idle --Open/Send--> Dialing --Connected--> Greeting --last reply--> Ready
//	  ^                    |                      |                       |
//	  |                    +------failed----------+---> Down <--useless---+
//	  +------------------------- Tick, after back-off --+      (a Conn that got a
//	                                                            reply goes to Idle instead)
type State uint8

const (
	Idle     State = iota // no socket, no error
	Dialing               // the caller is connecting a socket
	Greeting              // connected; AUTH and PING are not answered yet
	Ready                 // requests may be written
	Down                  // no socket until the back-off ends
	Closed                // permanently
)

func (s State) String() string {
	return [...]string{"idle", "dialing", "greeting", "ready", "down", "closed"}[s]
}

// Duty is what the caller must do with a link's socket besides writing bytes.
type Duty uint8

const (
	Nothing Duty = iota
	Dial         // connect to Addr, then call Connected or Fail
	Hangup       // close the socket if there is one
)

const (
	// minLife is how long a link must be Ready to end without a back-off, if no request
	// was answered.
	minLife = time.Second

	backoffMin = 50 * time.Millisecond
	backoffMax = 2 * time.Second
)

// Link is the connection to a node below its requests or messages: it dials, greets the
// node, moves bytes, and dials again after the link has ended. It uses one socket after
// another. The caller that owns the sockets knows links alone; each belongs to a [Conn]
// or a [Feed].
type Link struct {
	Addr  string
	Owner any // for the caller of Set.Conn or Set.Feed; this package does not read it
	Bind  any // the caller's socket; this package does not read it
	Setup
	Stats    metrics.Connection // belongs to the link's thread
	ClientID int64              // the id that the node gave this connection; 0: not known
	Epoch    int64              // of the node, as its register said in the last greeting; 0: it has none

	// Securing is set by the caller while it does a TLS handshake, before it calls Connected.
	Securing bool

	set     *Set
	traffic traffic

	state      State
	since      int64 // time at which the state was entered
	reason     string
	duty       Duty
	dirty      bool
	readPaused bool
	served     bool // a request has been answered in this Ready state
	// passwordRefused says that the node has refused the password at the last attempt.
	passwordRefused bool
	refusedCommand  string // of the greeting, at the last attempt that the node has refused

	queue    sendQueue
	input    input
	greeting greeting
	dialing  dialing

	lastReceived int64 // time of the node's last bytes
	progress     progress
}

// traffic is what passes over a Ready link: a Conn's requests or a Feed's messages. Its
// methods are called from within the link's own.
type traffic interface {
	// up is called when the node has accepted the greeting.
	up(now int64)
	// received processes bytes until all are processed or the link has ended.
	received(b []byte, now int64)
	// push processes a piece of a push message. It returns an error text if no push
	// message is allowed here, otherwise "".
	push(piece []byte, done bool) (wrong string)
	// drop discards all that the link has queued and buffered.
	drop(reason string)
	// ended is called after drop, when the link has ended and may be dialed again.
	ended(was State)
	// busy reports whether the node has to answer anything.
	busy() bool
	// wrote is called when bytes of the queue have been written.
	wrote(now int64)
	// worksWhileBusy reports whether answerAll may be called.
	worksWhileBusy() bool
	// answerAll answers all requests, none of which has been written, with an error of the node.
	answerAll(reply []byte)
}

// dialing is the record of the attempts to connect.
type dialing struct {
	at       int64 // time of the last attempt
	retryAt  int64
	failures int   // since the link was last Ready for minLife or got a reply
	awaits   int   // attempts since it was last Ready that have met a node of another epoch
	epoch    int64 // of the layout by which the oldest request was placed that waits for the link
	refused  bool  // the last attempt has failed
	silent   bool  // requests have timed out, and the node has not answered a greeting since
}

// progress is the record of bytes that pass. While some do, nothing times out.
type progress struct {
	at           int64 // time at which bytes of a reply or request last passed, or the node was busy
	partialWrite bool  // the last write took fewer bytes than it was offered
	written      bool  // since the last tick, bytes were written after a partial write
}

// State returns the state of the link.
func (l *Link) State() State { return l.state }

// ConnectError returns the error if the last attempt to connect has failed; a request
// should then fail at once. If ConnectError returns "", a request is sent, or waits until
// the link is ready.
func (l *Link) ConnectError() string {
	if l.state == Closed {
		return l.reason
	}
	if l.dialing.refused && l.state != Ready {
		return l.reason
	}
	return ""
}

// PasswordRefused reports whether the last attempt of a link has ended because the node refuses the
// password.
func PasswordRefused(l *Link) bool { return l.passwordRefused }

// Reason returns why the link was last down.
func (l *Link) Reason() string { return l.reason }

// LastReceived returns the time at which the node last sent bytes.
func (l *Link) LastReceived() int64 { return l.lastReceived }

// Busy reports whether time matters to the link: requests are unanswered, or it is not
// ready.
func (l *Link) Busy() bool {
	return l.traffic.busy() || l.state != Ready && l.state != Closed
}

// Duty returns what the caller must do with the socket, and resets it to Nothing.
func (l *Link) Duty() Duty {
	d := l.duty
	l.duty = Nothing
	return d
}

// PauseReading asks the caller to stop reading from the socket.
func (l *Link) PauseReading() { l.setPaused(true) }

// ResumeReading asks the caller to read from the socket again.
func (l *Link) ResumeReading() { l.setPaused(false) }

func (l *Link) setPaused(paused bool) {
	if l.readPaused != paused {
		l.readPaused = paused
		l.mark()
	}
}

// Paused reports whether the caller should not read from the socket.
func (l *Link) Paused() bool { return l.readPaused }

// mark makes Set.Take return the link.
func (l *Link) mark() {
	if !l.dirty {
		l.dirty = true
		l.set.dirty = append(l.set.dirty, l)
	}
}

func (l *Link) enter(s State, now int64) { l.state, l.since = s, now }

// Open starts connecting if the link is Idle. If the node was too busy to be greeted, it is
// greeted now.
func (l *Link) Open(now int64) {
	if l.state == Idle || l.greeting.unread { // each request passes here, so this has to be inlined
		openSlowly(l, now)
	}
}

func openSlowly(l *Link, now int64) {
	switch {
	case l.state == Idle:
		l.dial(now)
	case l.greeting.unread && l.state == Ready:
		askAgain(l, now)
	}
}

// RetryNow resets the back-off and dials immediately. Callers use it when there is news of
// the node, such as a promotion to master. Requests wait for the outcome of the attempt.
func (l *Link) RetryNow(now int64) {
	switch l.state {
	case Idle, Down:
		l.dialing.failures, l.dialing.awaits, l.dialing.refused = 0, 0, false
		l.dial(now)
	case Dialing, Greeting:
		l.dialing.failures, l.dialing.awaits, l.dialing.refused = 0, 0, false
	}
}

func (l *Link) dial(now int64) {
	l.enter(Dialing, now)
	l.Securing, l.passwordRefused = false, false
	l.dialing.at = now
	if !l.traffic.busy() {
		l.dialing.epoch = l.set.Epoch
	}
	l.Stats.Dials++
	l.duty = Dial
	l.mark()
}

// NextWrite returns the bytes to write to the socket now, or none. The caller reports
// with Wrote how many of them were written.
func (l *Link) NextWrite() []byte {
	switch l.state {
	case Greeting:
		return l.greeting.unwritten()
	case Ready:
		return l.queue.next()
	}
	return nil
}

// Wrote records that n bytes of NextWrite were written to the socket.
func (l *Link) Wrote(n int, now int64) {
	l.Stats.BytesOut += uint64(n)
	if l.state == Greeting {
		l.greeting.written += n
		return
	}
	p := &l.progress
	p.written = p.written || p.partialWrite
	p.partialWrite = l.queue.wrote(n)
	l.traffic.wrote(now)
}

// Received processes bytes that the node sent. It does not keep b.
func (l *Link) Received(b []byte, now int64) {
	l.Stats.BytesIn += uint64(len(b))
	l.lastReceived = now
	for len(b) > 0 && l.state == Greeting {
		b = l.receivedGreeting(b, now)
	}
	if len(b) > 0 && l.state == Ready {
		l.traffic.received(b, now)
	}
}

// violate ends the link because the node broke the protocol.
func (l *Link) violate(now int64, reason string) {
	l.Stats.Violations++
	l.fail(now, reason)
}

// Fail ends the link because its socket could not be connected, has ended, or has to end.
// All pending requests fail, and the caller's next duty is Hangup.
func (l *Link) Fail(now int64, reason string) {
	text := l.greeting.tolerated
	toleratedEnd := l.state == Greeting && text != ""
	noName := l.leavesOutName()
	if l.endedAt(stepRegister) {
		reason += " (at FUNCTION LIST)"
	}
	if toleratedEnd {
		l.refuse(now, []byte(text))
	} else {
		// A socket that ends during its greeting does not prove that the node is unreachable.
		// After several such failures in a row the node counts as unreachable.
		l.end(now, reason, l.state == Dialing || l.state == Greeting && l.dialing.failures > 5)
	}
	l.greeting.noName = noName
}

// Refuse ends a link because the node has refused its connection at the level of TLS.
func Refuse(l *Link, now int64, reason string) { l.fail(now, reason) }

// fail ends the link for a reason other than a failure of the socket.
func (l *Link) fail(now int64, reason string) {
	l.greeting.noName = false
	l.end(now, reason, l.state != Ready)
}

// end implements Fail and fail. refused says that the node cannot be connected to at
// the moment.
func (l *Link) end(now int64, reason string, refused bool) {
	was := l.state
	switch was {
	case Idle, Down, Closed:
		return
	case Ready:
		l.Stats.Losses++
	default:
		l.Stats.Failures++
	}
	l.duty = Hangup
	l.readPaused = false
	l.mark()
	l.reason = reason
	if was == Ready && (l.served || now-l.since >= int64(minLife)) {
		l.dialing.failures, l.dialing.refused = 0, false
		l.enter(Idle, now) // it has worked, so the next request or tick dials at once
	} else {
		l.dialing.failures++
		l.dialing.refused = l.dialing.refused || refused
		l.enter(Down, now)
		l.dialing.retryAt = now + l.backoff()
	}
	l.dialing.epoch = l.set.Epoch // requests that are sent again over this link are placed anew
	l.traffic.drop(reason)
	l.traffic.ended(was)
}

// reset forgets what was queued and received, and returns the buffers of the queue.
func (l *Link) reset() []*chunk {
	l.input, l.progress = input{}, progress{}
	l.greeting.frame = nil
	chunks := l.queue.chunks
	l.queue = sendQueue{set: l.set, pos: l.queue.pos, written: l.queue.pos}
	return chunks
}

// backoff returns the time until the next attempt in nanoseconds. It is exponential,
// with jitter over its upper half, so that many proxies do not reconnect at once.
func (l *Link) backoff() int64 {
	d := int64(backoffMax)
	if shift := l.dialing.failures - 1; shift < 6 {
		d = min(d, int64(backoffMin)<<shift)
	}
	return d/2 + l.set.Rand.Int64N(d/2+1)
}

// Close ends the link permanently. All pending requests fail.
func (l *Link) Close(now int64, reason string) {
	if l.state == Closed {
		return
	}
	if l.state != Idle && l.state != Down {
		l.duty = Hangup
		l.mark()
	}
	l.reason = reason
	l.enter(Closed, now)
	l.traffic.drop(reason)
}

// tick dials after a back-off, and fails attempts to connect that take too long.
func (l *Link) tick(now int64) {
	switch l.state {
	case Idle:
		if l.Stats.Losses > 0 {
			l.dial(now)
		}
	case Down:
		if now >= l.dialing.retryAt {
			l.dial(now)
		}
	case Dialing, Greeting:
		if limit := l.greetingTimeout(); now-l.dialing.at >= int64(limit) {
			reason := noAnswerWithin(limit)
			if l.state == Dialing && l.Securing {
				reason = "TLS handshake: " + reason
			}
			l.fail(now, reason)
		}
	case Ready:
		if l.dialing.failures > 0 && now-l.since >= int64(minLife) {
			l.dialing.failures = 0
		}
	}
}

// greetingTimeout returns how long an attempt to connect may take. A node that executes
// a slow command answers a greeting as late as any request, so a greeting gets at least
// the request timeout. It gets only the connect timeout if requests have just timed out or
// an attempt has failed, and so does dialing.
func (l *Link) greetingTimeout() time.Duration {
	if l.state == Dialing || l.dialing.silent || l.dialing.failures > 0 {
		return l.set.ConnectTimeout
	}
	return max(l.set.ConnectTimeout, l.set.RequestTimeout)
}
