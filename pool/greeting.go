package pool

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/resp"
)

// The steps of the greeting. AUTH is sent if there is a password; the steps after it
// depend on the link's Setup. Then comes PING with a nonce of this
// socket, so that its reply cannot be mistaken for another. The step before it asks for the
// node's register, and its frame has the PING behind it. A User comes after that, since the
// rules of a client's user need not allow these steps.
const (
	stepAuth = iota
	stepHello
	stepName
	stepRole
	stepSelect
	stepNoTouch
	stepPrelude
	stepRegister
	stepPing
	stepID   // CLIENT ID, if another user follows, who may not be allowed to ask
	stepUser // AUTH of the Setup's User, which leaves all that the earlier steps have set
)

// Setup is the state that the greeting gives to a link. It must be set before the first
// call of a method.
type Setup struct {
	Mode
	Master bool // the greeting sends ROLE and fails if the node is not a master
	// WhileBusy says that only commands that a busy node executes are sent over the link, such as
	// SCRIPT KILL. The greeting does not ask for the register then: a busy node does not say it.
	WhileBusy bool
	// OfLayout says that the node is one of the layout, which begins no epoch later than the
	// others: the greeting fails if it is not in the epoch Config.MinEpoch yet.
	OfLayout bool
	// Account, if not nil, is used instead of that of the Config. It may be replaced at any
	// time; the next greeting uses it.
	Account *Account
	// Extra names what the link is for, if a node that refuses its greeting may serve all other
	// connections.
	Extra string
	// Prelude, if not nil, returns one more command of the greeting. While the command is
	// empty, the greeting waits for ResumeGreeting.
	Prelude func() []byte
}

// Mode is what clients must have in common to share a connection. It never changes.
type Mode struct {
	// User, if not nil, is the client's user that the link becomes once the node has accepted the
	// rest of the greeting, so that the node's rules for that user hold.
	User    *Account
	DB      int  // the database that the greeting selects
	RESP3   bool // the greeting switches to RESP3
	NoTouch bool // the greeting sends CLIENT NO-TOUCH ON
}

// Account is a user of a node, and the password. Without a user, the password is that of the
// default user; without a password, the greeting does not log in.
type Account struct {
	Username, Password string
	// Renewed says that a refused password is soon replaced, so that requests should wait.
	Renewed bool
}

// AppendAuth appends the command that logs in, or nothing if none is needed.
func (a Account) AppendAuth(frame []byte) []byte {
	switch {
	case a.Password == "":
		return frame
	case a.Username == "":
		return resp.AppendCommand(frame, "AUTH", a.Password)
	}
	return resp.AppendCommand(frame, "AUTH", a.Username, a.Password)
}

// appendLogin appends the AUTH of a client's user, whose password may be empty: a user who needs
// none accepts any.
func (a *Account) appendLogin(frame []byte) []byte {
	return resp.AppendCommand(frame, "AUTH", a.Username, a.Password)
}

// greeting is the link's dialogue with the node before it is Ready.
type greeting struct {
	frame   []byte // the current command
	written int    // bytes of frame that have been written
	step    int
	noName  bool // this attempt sends no name: the last one ended at CLIENT SETNAME
	// tolerated is the error with which the node answered the step toleratedAt, until its next
	// reply. It may work without a name, and without a register.
	tolerated   string
	toleratedAt int
	unread      bool   // the link has no name yet, or the register is not read; see askAgain
	nonce       uint64 // of this socket
}

// unwritten returns the bytes of the current command that have to be written.
func (g *greeting) unwritten() []byte { return g.frame[g.written:] }

// isWritten reports whether the node has got the whole command of the step. A PING behind it
// may have to wait.
func (g *greeting) isWritten() bool {
	return g.written == len(g.frame) || g.step == stepRegister && g.written >= len(listRegister)
}

func (g *greeting) pingNonce() string { return "keyway-" + strconv.FormatUint(g.nonce, 10) }

// Connected records that the socket is connected, and starts the greeting.
func (l *Link) Connected(now int64) {
	if l.state != Dialing {
		return
	}
	l.enter(Greeting, now)
	l.input.scan, l.Epoch, l.ClientID = resp.Scanner{}, 0, 0
	l.greeting.step, l.greeting.tolerated, l.greeting.unread = 0, "", false
	if l.WhileBusy {
		l.Epoch = l.set.Epoch // nothing says otherwise
	}
	l.set.nonce++
	l.greeting.nonce = l.set.nonce
	l.greet()
}

// greet sends the next step of the greeting that this link needs.
func (l *Link) greet() {
	g := &l.greeting
	for g.frame, g.written = g.frame[:0], 0; ; g.step++ {
		g.frame = l.command(g.frame, g.step)
		switch {
		case len(g.frame) > 0:
			l.mark()
			return
		case g.step == stepPrelude && l.Prelude != nil:
			return // until ResumeGreeting, or the connect timeout
		}
	}
}

// askAgain asks a node that was busy for its register, because there is a request. Until the node
// has answered, nothing else is sent: the script may end at any time, and the node may be in
// a later epoch. So a node that is busy answers the question instead of the request.
//
//	Greeting --BUSY--> Ready, unread --request--> Greeting --BUSY--> the request's reply is BUSY
//	                                                 |
//	                                                 +--register--> Ready
func askAgain(l *Link, now int64) {
	if l.state == Ready { // otherwise requests may wait that an earlier layout has placed
		l.dialing.epoch = l.set.Epoch
	}
	l.enter(Greeting, now)
	l.dialing.at = now
	l.greeting.step, l.greeting.tolerated, l.greeting.unread = stepName, "", false
	l.greet()
}

// listRegister asks a node for its register. The reply has no texts, so it is short.
var listRegister = resp.AppendCommand(nil, "FUNCTION", "LIST", "LIBRARYNAME", register.Pattern)

// maxRegister is the largest reply to listRegister. It has room for a thousand libraries.
const maxRegister = 16 * maxBufferedReply

// command appends the command of a step to frame, or nothing if this link does not need
// the step.
func (l *Link) command(frame []byte, step int) []byte {
	switch {
	case step == stepAuth:
		return l.account().AppendAuth(frame)
	case step == stepHello && l.RESP3:
		return resp.AppendCommand(frame, "HELLO", "3")
	case step == stepName && l.set.Names(l.Addr) && !l.greeting.noName:
		return resp.AppendCommand(frame, "CLIENT", "SETNAME", l.set.Name)
	case step == stepRole && l.Master:
		return resp.AppendCommand(frame, "ROLE")
	case step == stepSelect && l.DB > 0:
		return resp.AppendCommand(frame, "SELECT", strconv.Itoa(l.DB))
	case step == stepNoTouch && l.NoTouch:
		return resp.AppendCommand(frame, "CLIENT", "NO-TOUCH", "ON")
	case step == stepPrelude && l.Prelude != nil:
		return append(frame, l.Prelude()...)
	case step == stepRegister && !l.WhileBusy:
		frame = append(frame, listRegister...)
		return resp.AppendCommand(frame, "PING", l.greeting.pingNonce())
	case step == stepPing:
		return resp.AppendCommand(frame, "PING", l.greeting.pingNonce())
	case step == stepID && l.User != nil:
		return resp.AppendCommand(frame, "CLIENT", "ID")
	case step == stepUser && l.User != nil:
		return l.User.appendLogin(frame)
	}
	return frame
}

// account returns the user and the password that the greeting sends.
func (l *Link) account() Account {
	if l.Account != nil {
		return *l.Account
	}
	return l.set.Account
}

// ResumeGreeting continues a greeting that waits for its Prelude.
func (l *Link) ResumeGreeting() {
	if l.state == Greeting && l.greeting.step == stepPrelude && len(l.greeting.frame) == 0 {
		l.greet()
	}
}

// receivedGreeting processes one reply of the greeting, and returns the bytes after it.
func (l *Link) receivedGreeting(b []byte, now int64) (rest []byte) {
	n, done, err := l.input.scan.Scan(b)
	if err != nil {
		l.violate(now, err.Error())
		return nil
	}
	piece, rest := b[:n], b[n:]
	if l.input.scan.Kind() == '>' {
		push := l.unexpectedPush
		if l.greeting.step > stepPrelude {
			push = l.traffic.push
		}
		if wrong := push(piece, done); wrong != "" {
			l.violate(now, wrong)
			return nil
		}
		return rest
	}
	if !done || len(l.input.part) > 0 {
		l.progress.at = now
	}
	if !done && (l.input.fits(piece) ||
		l.greeting.step == stepRegister && len(l.input.part)+len(piece) < maxRegister) {
		l.input.part = append(l.input.part, piece...)
		return nil
	}
	if !done {
		l.violate(now, "the node answered the greeting at great length")
		return nil
	}
	l.greetingReply(l.input.join(piece), now)
	l.input.clear()
	return rest
}

// unexpectedPush is traffic.push where no push message is allowed.
func (l *Link) unexpectedPush([]byte, bool) (wrong string) {
	l.Stats.Unsolicited++
	return "the node sent a push message to a connection that did not ask for any"
}

// greetingReply processes the reply to the current command. The last one makes the link
// Ready.
func (l *Link) greetingReply(reply []byte, now int64) {
	g := &l.greeting
	text, isErr := resp.ErrorText(reply)
	asked := g.isWritten()
	noEcho := isErr && g.step >= stepRegister && g.step <= stepPing && g.written > 0 && l.servesWith(text)
	if g.step == stepRegister {
		noEcho = noEcho && isBusy(text)
	}
	g.tolerated = ""
	switch {
	case isErr && asked && tolerates(l, text):
		g.tolerated, g.toleratedAt = string(text), g.step // the node may work all the same
		g.unread = g.unread || isBusy(text) && g.step == stepName && !l.WhileBusy
	case isErr && !noEcho:
		l.refuse(now, text)
		return
	}
	if !asked || len(g.frame) == 0 {
		l.violate(now, "the node spoke before it was asked")
		return
	}
	if !accept(l, reply, noEcho, now) {
		return
	}
	if g.step == stepPing && g.unread && !noEcho { // such as after the end of the script
		askAgain(l, now)
		return
	}
	last := stepPing
	if l.User != nil {
		last = stepUser
	}
	if g.step < last {
		g.step++
		l.greet()
		return
	}
	if l.greeted(now); g.unread && l.state == Ready {
		l.Epoch = l.set.Epoch // until the node says otherwise
		l.traffic.answerAll(reply)
	}
}

// tolerates reports whether the node may work although it answers the current step with this
// error. Without its name, a switch of the layout would not find the connection, and so not
// end it, so a node that was too busy for the name is asked again.
func tolerates(l *Link, text []byte) bool {
	switch l.greeting.step {
	case stepName, stepID:
		return !isBusy(text) || worksWhileBusy(l)
	case stepRegister:
		return lacksRegister(text)
	}
	return false
}

// accept takes in the reply to the current command, which is no error unless noEcho is true or it is
// tolerated. It returns false if the greeting does not go on with the next step now.
func accept(l *Link, reply []byte, noEcho bool, now int64) bool {
	g := &l.greeting
	switch g.step {
	case stepHello:
		l.ClientID = clientID(reply)
	case stepID:
		l.ClientID, _ = resp.Int(reply)
	case stepUser:
		if string(reply) != "+OK\r\n" {
			l.violate(now, fmt.Sprintf("the node answered AUTH with %.40q", reply))
			return false
		}
	case stepRole:
		if role := role(reply); role != "master" {
			l.fail(now, "the node is no master: its role is "+role)
			return false
		}
	case stepPing:
		if b, ok := resp.Bulk(reply); !noEcho && (!ok || string(b) != g.pingNonce()) {
			l.violate(now, fmt.Sprintf("the node answered PING %s with %.40q", g.pingNonce(), reply))
			return false
		}
	case stepRegister:
		if _, _, isList := resp.Elements(reply); reply[0] != '-' && !isList {
			l.violate(now, fmt.Sprintf("the node answered FUNCTION LIST with %.40q", reply))
			return false
		}
		if reply[0] != '-' && g.noName { // it does know CLIENT SETNAME: the last attempt ended by chance
			g.noName, noEcho = false, true
		}
		if noEcho {
			g.unread, g.step = true, stepPing
		} else {
			acceptRegister(l, reply, now)
		}
		return false
	}
	return true
}

// acceptRegister takes in the node's register. A node that is being closed for earlier epochs is
// not used by a keyway of the new one either: connections of the old one may still be served.
func acceptRegister(l *Link, list []byte, now int64) {
	in, closing := register.Epoch(list)
	l.Epoch = max(in, closing)
	switch {
	case l.Epoch > l.set.Epoch:
		await(l, now, fmt.Sprintf("the node's register says that the layout of epoch %d is in force, "+
			"and this keyway serves by that of epoch %d", l.Epoch, l.set.Epoch))
	case closing == l.set.Epoch && closing > 0:
		await(l, now, fmt.Sprintf("the node's register says that connections of epochs before %d are being ended",
			closing))
	case l.OfLayout && l.Epoch < l.set.MinEpoch:
		await(l, now, fmt.Sprintf("the node has not begun epoch %d of the layout yet", l.set.MinEpoch))
	default:
		l.greeting.step = stepPing // whose command is written already
	}
}

// greeted makes the link Ready. Requests that were placed by the layout of an earlier epoch fail,
// so that they are placed anew: the node has been asked whether it is in a later epoch than
// the present one, not than theirs.
func (l *Link) greeted(now int64) {
	g := &l.greeting
	if l.traffic.busy() && l.dialing.epoch < l.set.Epoch {
		l.end(now, "the layout was replaced", false)
		return
	}
	if g.noName && !g.unread { // a busy node has said nothing about names
		l.set.nameless[l.Addr] = true
	}
	g.frame = nil
	l.Stats.Connecting += metrics.Seconds(now - l.dialing.at)
	l.enter(Ready, now)
	l.dialing.silent, l.dialing.refused, l.dialing.awaits, l.served = false, false, 0, false
	l.reason = ""
	l.mark()
	l.traffic.up(now)
}

// lacksRegister reports whether a node that answers FUNCTION LIST with this error has no
// register: it does not know the command, or does not permit it.
func lacksRegister(text []byte) bool {
	return bytes.HasPrefix(text, []byte("ERR ")) || bytes.HasPrefix(text, []byte("NOPERM "))
}

// endedAt reports whether the command of a step may be the reason for the end of a socket:
// nothing came after it, or an error. Proxies close connections at commands that they do
// not know. A node that has too many clients sends its error at any time.
func (l *Link) endedAt(step int) bool {
	g := &l.greeting
	return l.state == Greeting &&
		(g.tolerated != "" && g.toleratedAt == step || g.step == step && g.written > 0)
}

// leavesOutName reports whether the next attempt sends no name, now that a socket has ended. The
// question for the register is never left out: connections end at it, too, when the layout changes,
// any number of them in a row. Only a reply can say that a node has no register.
func (l *Link) leavesOutName() bool {
	return l.endedAt(stepName) || l.greeting.noName && l.endedAt(stepRegister)
}

// servesWith reports whether the link is usable although the node answers PING
// with this error. A node that cannot save (MISCONF) serves reads. A node that is busy
// with a script serves SCRIPT KILL and similar commands, and answers BUSY to all
// others.
func (l *Link) servesWith(text []byte) bool {
	return bytes.HasPrefix(text, []byte("MISCONF ")) || isBusy(text) && worksWhileBusy(l)
}

// worksWhileBusy reports whether a link is of use while the node is busy with a script. Such a
// node accepts no subscriptions and tracks nothing. A link that has become a client's user cannot
// ask again.
func worksWhileBusy(l *Link) bool {
	return l.WhileBusy || l.User == nil && l.traffic.worksWhileBusy()
}

func isBusy(text []byte) bool { return bytes.HasPrefix(text, []byte("BUSY ")) }

// renewals is after how many attempts in a row requests fail because the node refuses a password
// that is renewed: after 2 to 5 seconds. changes is the same for a node whose epoch is not that of
// the layout.
const (
	renewals = 7
	changes  = 100
)

// postpone ends an attempt to connect. Requests, none of which has been written, wait for the next
// one.
func postpone(l *Link, now int64, reason string) {
	l.Stats.Failures++
	l.duty, l.readPaused, l.reason = Hangup, false, reason
	l.mark()
	l.input, l.progress, l.greeting.frame = input{}, progress{}, nil
	l.greeting.noName = false
	l.dialing.failures++
	l.enter(Down, now)
	l.dialing.retryAt = now + l.backoff()
}

// await ends an attempt to connect to a node whose epoch is not that of the layout that is served.
// That passes soon if the layout is being changed, so requests wait for a few attempts.
func await(l *Link, now int64, reason string) {
	if l.dialing.awaits++; l.dialing.awaits > changes {
		l.fail(now, reason)
	} else {
		failures := l.dialing.failures // the node can be reached
		postpone(l, now, reason)
		l.dialing.failures = failures
	}
	l.dialing.retryAt = now + int64(backoffMin)/2
}

// Renew ends the link, and dials again if it was open or down: the keys of its node are placed otherwise
// from now on, so nothing that was queued before may reach the node. All pending requests fail.
func Renew(l *Link, now int64, reason string) {
	switch l.state {
	case Closed:
	case Idle, Down:
		l.dialing.epoch = l.set.Epoch
		l.traffic.drop(reason)
		if l.state == Down { // the node may have been a step ahead
			l.RetryNow(now)
		}
	default:
		l.end(now, reason, false)
		l.RetryNow(now)
	}
}

// refuses begins the reason why a link is down whose greeting the node has refused. The node's error follows.
const refuses = "the node refuses: "

// RefusesUser begins the reason why a link is down whose User the node refuses. The node's error
// follows.
const RefusesUser = refuses + "the client's user: "

// refuse ends an attempt to connect that the node answered with an error. LOADING and
// MASTERDOWN count too: such a node serves no key. BUSY lasts until the script ends.
// Until then, connect attempts use the shortest back-off, and clients get the node's
// own error.
func (l *Link) refuse(now int64, text []byte) {
	if l.greeting.step == stepUser {
		l.fail(now, RefusesUser+string(text))
		return
	}
	l.refusedCommand = nameOf(l.greeting.frame)
	if !isBusy(text) {
		reason := refuses + string(text)
		l.passwordRefused = RefusesPassword(text)
		if l.passwordRefused && l.account().Renewed && l.dialing.failures < renewals {
			postpone(l, now, reason)
		} else {
			l.fail(now, reason)
		}
		return
	}
	l.fail(now, string(text))
	l.dialing.failures = 1
	l.dialing.retryAt = now + l.backoff()
}

// nameOf returns the name of the first command of a frame, without its arguments, which may be secret.
func nameOf(frame []byte) string {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready {
		return ""
	}
	name := string(p.Arg(0))
	if p.Len() > 1 && (name == "CLIENT" || name == "FUNCTION") {
		name += " " + string(p.Arg(1))
	}
	return name
}

// RefusedCommand returns which command of the greeting the node has refused at the last attempt of a link, and
// the error; empty: the attempt has ended otherwise.
func RefusedCommand(l *Link) (command, reason string) {
	reason, ok := strings.CutPrefix(l.reason, refuses)
	if !ok && !strings.HasPrefix(reason, "BUSY ") {
		return "", ""
	}
	return l.refusedCommand, reason
}

// RefusesPassword reports whether an error reply says that the user or the password is wrong, or
// missing.
func RefusesPassword(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("WRONGPASS")) || bytes.HasPrefix(reply, []byte("NOAUTH")) ||
		bytes.HasPrefix(reply, []byte("ERR invalid password")) // before Redis 6
}

// role returns the first element of a reply to ROLE.
func role(reply []byte) string {
	if n, rest, ok := resp.Elements(reply); ok && n > 0 {
		first, _, _ := resp.Split(rest)
		text, _ := resp.Bulk(first)
		return string(text)
	}
	return "unknown"
}

// clientID returns the connection's id from a reply to HELLO 3.
func clientID(reply []byte) (id int64) {
	n, rest, _ := resp.Elements(reply)
	for range n / 2 {
		var name, value []byte
		name, rest, _ = resp.Split(rest)
		value, rest, _ = resp.Split(rest)
		if text, _ := resp.Bulk(name); string(text) == "id" {
			id, _ = resp.Int(value)
		}
	}
	return id
}
