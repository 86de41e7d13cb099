package quorum

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
)

// Kind is what a client wants of a lock.
type Kind uint8

// What clients do with locks.
const (
	Acquire    Kind = iota // SET key token NX PX
	Renew                  // compare the token, then PEXPIRE
	Release                // compare the token, then DEL
	Delete                 // DEL
	Read                   // GET, EXISTS, TTL and PTTL
	ReadNumber             // GET key:fence
)

// Command is a client's command on one lock.
type Command struct {
	Kind  Kind
	Key   string
	Token string // the value, of Acquire, Renew and Release
	Lease int64  // in milliseconds, of Acquire and Renew
	Add   bool   // Renew adds the lease to what is left of it
	// Again lets a client that has the lock acquire it again: how many bytes of the lock's value
	// and the token must agree for that, or wholeToken. 0: a held lock cannot be acquired.
	Again int
	// ID is unique for each Acquire, also among clients that use the same token. Earlier is
	// the ID of the same client's attempt before this one, if that failed. Of Renew, Release and
	// Delete, ID is that of the Acquire by which the client has the lock, if that is known.
	ID, Earlier string
	Number      int64 // the number that an Acquire proposes
}

const wholeToken = -1

// Group is the nodes of a rule, as one thread knows them.
type Group struct {
	*Rule
	Members []*Node // in the order of Rule.Nodes
}

// Send is a command for a node. It may wait until the node can take it; Op.Frame then returns
// its bytes. The node's reply goes to Op.Answer, or Op.Lost if there is none.
type Send struct {
	Node int // index in Group.Members
	// Frees says that the command frees a lock, so that it should reach even a node that
	// answers late.
	Frees bool
	// Urgent says that the command may overtake others. It undoes only this very attempt, which
	// the node has got; or the node must be told that it has to wait.
	Urgent bool
	// Whole says that the node lacks the script, so that it needs the text.
	Whole bool

	step   step
	number int64
	id     string // the attempt whose lock is meant, also if the node has set it late
	sent   int64
}

// Verdict is how a command on a lock has ended.
type Verdict uint8

// How a command ends.
const (
	Pending Verdict = iota // it has not ended
	Yes                    // acquired, renewed, released, or there is such a lock
	Missing                // there is no such lock
	Other                  // the lock has another value
	Failed                 // see Op.Reason
)

// Op is a command under way. It ends at the latest when each node that it needs has answered,
// or has sent nothing at all for the rule's timeout. Answers that come later still matter: they
// say what is left to be freed or set.
type Op struct {
	Verdict Verdict
	Value   string // the lock's value, of Read
	Lease   int64  // what is left of the lease in milliseconds, of Read; -1: it has no end
	Number  int64  // the lock's number; 0: none
	Reason  string // the error for the client

	group   *Group
	cmd     Command
	began   int64
	written int64 // when the first node was sent the command; 0: none was
	votes   []vote
	raises  bool // the number is being raised; the nodes' confirmations are counted
	out     []Send
}

// vote is what a node has said.
type vote struct {
	state  state
	answer answer
	reason string // why it is absent
	sent   bool   // it may have got the command
	raised bool   // it has confirmed the raised number
}

type state uint8

const (
	asked  state = iota // its answer has not come, or the command waits to be sent
	yes                 // it has the lock with the token; or of Read, it has a lock
	low                 // as yes, but its number was not below the proposed one
	held                // it has the lock with another value
	none                // it has no such lock
	long                // the lease would be too long
	newer               // the lock was set since the client gave the command
	absent              // there is no answer, or one that must not count
)

// firstSteps are what the nodes are asked first.
var firstSteps = [...]step{
	Acquire: stepAcquire, Renew: stepRenew, Release: stepRelease, Delete: stepDelete,
	Read: stepRead, ReadNumber: stepRead,
}

// Begin starts a command at the time now.
func Begin(g *Group, c Command, now int64) *Op {
	o := &Op{group: g, cmd: c, began: now, votes: make([]vote, len(g.Members))}
	first := firstSteps[c.Kind]
	speak := 0
	for _, n := range g.Members {
		if !n.silent {
			speak++
		}
	}
	for i, n := range g.Members {
		// Silent nodes are waited for only if the others are too few. A short stall of the nodes
		// or of the machine then fails only the commands that were under way.
		skip := n.silent && speak >= g.Majority()
		if skip {
			o.votes[i] = vote{state: absent, reason: silentReason(g.Timeout)}
		}
		if !skip || first == stepRelease || first == stepDelete {
			o.send(i, first, c.Number)
		}
	}
	o.decide(now)
	return o
}

func (o *Op) send(i int, s step, number int64) {
	o.out = append(o.out, Send{
		Node: i, step: s, number: number, Urgent: s == stepUndo || s == stepWait,
		Frees: s == stepRelease || s == stepDelete || s == stepUndo,
	})
}

// Wants reports whether a command that has waited still has to be sent.
func (o *Op) Wants(s Send) bool {
	switch s.step {
	case stepAcquire, stepRead, stepRaise:
		// Acquired locks are also set on the nodes that were not needed, if they can take it now.
		return o.Verdict == Pending && o.owes(s.Node) || o.Verdict == Yes && s.step != stepRead
	case stepRenew:
		return o.Verdict == Pending && o.owes(s.Node) || o.Verdict == Yes
	}
	return true
}

// Frame appends the bytes of a command, which must be sent now.
func (o *Op) Frame(dst []byte, s *Send, now int64) []byte {
	s.sent = now
	if o.written == 0 {
		o.written = now
	}
	switch s.step {
	case stepAcquire, stepRenew, stepRead, stepRelease, stepDelete:
		o.votes[s.Node].sent = true
	}
	return o.frame(dst, o.group.Members[s.Node], s)
}

// Take returns what has to be sent. It must be called after Begin, Answer, Lost and Expire.
func (o *Op) Take() []Send {
	out := o.out
	o.out = nil
	return out
}

// owes reports whether the command needs an answer of the node.
func (o *Op) owes(i int) bool {
	v := &o.votes[i]
	return v.state == asked || o.raises && v.counts() && !v.raised
}

// Owes reports whether the command has waited for the rule's timeout for a node that has sent
// nothing meanwhile. A node that answers other commands is busy, and not absent.
func (o *Op) Owes(i int, now int64) bool {
	return o.Verdict == Pending && o.owes(i) && o.dueAt(i) <= now
}

// dueAt returns when the wait for a node ends, if it sends nothing before.
func (o *Op) dueAt(i int) int64 {
	return max(o.began, o.group.Members[i].heard) + int64(o.group.Timeout)
}

// Began returns when the command began.
func (o *Op) Began() int64 { return o.began }

// Deadline returns when the wait for a node ends that sends nothing before. Expire must be
// called then, unless the command has ended.
func (o *Op) Deadline() int64 {
	next := int64(math.MaxInt64)
	for i := range o.votes {
		if o.owes(i) {
			next = min(next, o.dueAt(i))
		}
	}
	return next
}

// Answer processes a node's reply to what was sent.
func (o *Op) Answer(s Send, reply []byte, now int64) {
	n := o.group.Members[s.Node]
	n.RecordAnswer(now)
	a, wrong := readAnswer(reply)
	if n.Absence = wrong; wrong != "" {
		o.settle(s, vote{state: absent, reason: wrong}, now)
		return
	}
	v := vote{answer: a, state: stateOf(a.says)}
	if n.judge(&a, s.sent, now) {
		o.send(s.Node, stepWait, 0)
	}
	if n.Absence != "" {
		v.state, v.reason = absent, n.Absence
	}
	o.settle(s, v, now)
}

// inSeconds returns milliseconds as a text in seconds, rounded up.
func inSeconds(ms int64) time.Duration { return time.Duration((ms+999)/1000) * time.Second }

func stateOf(says string) state {
	switch says {
	case "ok":
		return yes
	case "low":
		return low
	case "held":
		return held
	case "long":
		return long
	case "newer":
		return newer
	}
	return none
}

// Lost records that a node will not answer.
func (o *Op) Lost(s Send, reason string, now int64) {
	n := o.group.Members[s.Node]
	if !n.silent { // otherwise it is counted already
		n.Missed++
	}
	n.silent, n.Absence = false, reason
	o.settle(s, vote{state: absent, reason: reason}, now)
}

// Expire ends the wait for the nodes that are overdue. isSilent says whether the caller has read
// all that a node has sent.
func (o *Op) Expire(now int64, isSilent func(node int) bool) {
	for i := range o.votes {
		if o.Owes(i, now) && isSilent(i) {
			n, v := o.group.Members[i], &o.votes[i]
			n.Silence(o.group.Timeout)
			v.state, v.reason = absent, n.Absence
		}
	}
	o.decide(now)
}

// counts reports whether the node has granted the lock.
func (v *vote) counts() bool { return v.state == yes || v.state == low }

// settle records what a node has said, or that it says nothing.
func (o *Op) settle(s Send, v vote, now int64) {
	mine := &o.votes[s.Node]
	switch s.step {
	case stepUndo, stepAdopt, stepWait:
		return // nobody waits for these
	case stepRaise:
		if o.Verdict == Pending && mine.counts() {
			if mine.raised = v.state == yes; !mine.raised {
				mine.state, mine.reason = absent, cmp.Or(v.reason, "it lost the lock meanwhile")
			}
			o.decide(now)
		}
		return
	}
	switch {
	case o.Verdict != Pending:
		o.late(s, v)
		return
	case mine.state != asked:
		return // it was given up before
	}
	v.sent = mine.sent
	*mine = v
	if o.raises && v.counts() {
		o.send(s.Node, stepRaise, o.Number)
	}
	o.decide(now)
}

// late handles an answer that came after the end.
func (o *Op) late(s Send, v vote) {
	switch {
	case o.Verdict != Yes:
	case v.state == newer && v.answer.by == o.concerned():
		o.repeat(s.Node, v.answer.by)
	case v.state == none && s.id == "":
		o.supply(s.Node)
	}
}

// supply tells a node that lacks the lock what the majority has done: a renewed lock is set there. One
// that is freed must not be set there later: the command that acquired it may be slower, over
// another connection.
func (o *Op) supply(i int) {
	attempt := o.concerned()
	switch o.cmd.Kind {
	case Renew:
		o.send(i, stepAdopt, o.Number)
		o.out[len(o.out)-1].id = attempt
	case Release, Delete:
		if attempt != unknown && attempt != o.cmd.ID { // else the node has been told
			o.repeat(i, attempt)
		}
	}
}

// supplyAll tells the nodes that have answered.
func (o *Op) supplyAll() {
	for i := range o.votes {
		if o.votes[i].state == none {
			o.supply(i)
		}
	}
}

// repeat sends a release or a renewal again to a node that has set the lock since the client gave the
// command, if that is the lock of an attempt.
func (o *Op) repeat(i int, attempt string) {
	o.send(i, firstSteps[o.cmd.Kind], o.cmd.Number)
	o.out[len(o.out)-1].id = attempt
}

// repeatIfConcerned repeats the command on nodes that have set the lock since, if it is about that
// lock: a slow node may have set it only after the client had it from the others, or the client
// has sent both commands at once.
func (o *Op) repeatIfConcerned() {
	isNewer := func(v vote) bool { return v.state == newer }
	if !slices.ContainsFunc(o.votes, isNewer) {
		return
	}
	attempt := o.concerned()
	for i := range o.votes {
		if v := &o.votes[i]; v.state == newer && v.answer.by == attempt {
			v.state = asked
			o.repeat(i, attempt)
		}
	}
}

// unknown is the ID of no attempt.
const unknown = "-"

// concerned returns the attempt whose lock a majority had when it got the command, or unknown.
func (o *Op) concerned() string {
	for i := range o.votes {
		attempt, n := o.votes[i].answer.by, 0
		for j := range o.votes {
			v := &o.votes[j]
			had := v.state == yes || v.state == newer || v.state == held && o.cmd.Kind == Delete
			if had && v.answer.by == attempt {
				n++
			}
		}
		if n >= o.group.Majority() && attempt != "" {
			return attempt
		}
	}
	return unknown
}

// tally counts the votes.
type tally struct{ yes, low, held, none, asked, absent int }

// known is how many nodes have said what they have.
func (t tally) known() int { return t.yes + t.low + t.held + t.none }

func (o *Op) count() (t tally) {
	for i := range o.votes {
		switch o.votes[i].state {
		case yes:
			t.yes++
		case low:
			t.low++
		case held:
			t.held++
		case none:
			t.none++
		case asked:
			t.asked++
		case absent, long, newer:
			t.absent++
		}
	}
	return t
}

// decide ends the command as soon as no answer that is still due can change its end.
func (o *Op) decide(now int64) {
	if o.Verdict != Pending {
		return
	}
	o.repeatIfConcerned()
	t, most := o.count(), o.group.Majority()
	switch o.cmd.Kind {
	case Acquire:
		o.decideAcquire(t, most, now)
	case Renew:
		o.decideRenew(t, most, now)
	case Read:
		o.decideRead(t, most)
	case ReadNumber:
		o.decideNumber(t, most)
	default:
		if o.decideFree(t, most); o.Verdict == Yes {
			o.supplyAll()
		}
	}
}

func (o *Op) decideAcquire(t tally, most int, now int64) {
	switch granted := t.yes + t.low; {
	case granted >= most && !o.isValid(now):
		o.fail(o.tooLate(now) + "; the lock was not acquired; ask for a longer lease")
	case granted >= most && (!o.group.Fencing || t.yes >= most && !o.raises):
		o.Verdict = Yes
		if o.Number == 0 {
			o.Number = o.cmd.Number
		}
		return
	case granted >= most:
		o.raise(most)
		return
	case granted+t.asked >= most:
		return
	case t.known() >= most:
		o.Verdict = Other
	case t.known()+t.asked >= most:
		return // only the client's reply is open: is the lock held, or are nodes missing?
	default:
		o.fail(o.tooFew(most, "the lock was not acquired"))
	}
	for i := range o.votes {
		if v := &o.votes[i]; v.sent && (v.counts() || v.state == asked || v.state == absent) {
			o.send(i, stepUndo, 0)
		}
	}
}

// raise gives the lock a number above all that the nodes have, since less than a majority has
// taken the proposed one. The lock is acquired once a majority has the new number.
func (o *Op) raise(most int) {
	if !o.raises {
		o.raises = true
		o.Number = o.cmd.Number
		for i := range o.votes {
			o.Number = max(o.Number, o.votes[i].answer.number+1)
		}
		for i := range o.votes {
			if o.votes[i].counts() {
				o.send(i, stepRaise, o.Number)
			}
		}
	}
	raised := 0
	for i := range o.votes {
		if o.votes[i].counts() && o.votes[i].raised {
			raised++
		}
	}
	if raised >= most {
		o.Verdict = Yes
	}
}

func (o *Op) decideRenew(t tally, most int, now int64) {
	for i := range o.votes {
		if o.votes[i].state == long {
			o.fail(fmt.Sprintf("ERR keyway: the lease would be longer than max_lease, %s; the lock was not renewed",
				o.group.MaxLease))
			return
		}
	}
	switch {
	case t.yes >= most && !o.isValid(now):
		o.fail(o.tooLate(now) + "; ask for a longer lease; it may have been executed")
	case t.yes >= most:
		o.Verdict = Yes
		for i := range o.votes {
			o.Number = max(o.Number, o.votes[i].answer.number)
		}
		o.supplyAll()
	case t.yes+t.asked+t.absent < most:
		o.Verdict = lacking(t)
	case t.asked == 0:
		o.fail(o.tooFew(most, "the lease may be as before; it may have been executed"))
	}
}

// lacking is what a client learns if no majority has the lock with its token.
func lacking(t tally) Verdict {
	if t.held > 0 {
		return Other
	}
	return Missing
}

// decideFree decides Release and Delete. If less than a majority had the lock with the token,
// absent nodes may have it too. It is surely free now if nobody else can have a majority.
func (o *Op) decideFree(t tally, most int) {
	mine, others := t.yes, t.held
	if o.cmd.Kind == Delete {
		mine, others = t.yes+t.held, 0
	}
	switch {
	case mine >= most:
		o.Verdict = Yes
	case t.asked > 0 && (t.known() < most || mine+t.asked >= most):
	case t.known() >= most && mine+t.asked+t.absent < most:
		o.Verdict = lacking(t)
	case t.asked > 0:
	case t.known() >= most && mine > 0 && others+t.absent < most:
		o.Verdict = Yes
	default:
		o.fail(o.tooFew(most, "a lock that stays ends with its lease; it may have been executed"))
	}
}

// decideRead looks for a value that a majority has.
func (o *Op) decideRead(t tally, most int) {
	best := 0
	for i := range o.votes {
		if v := &o.votes[i]; v.state == yes || v.state == held {
			if n := o.having(v.answer.held); n > best {
				best, o.Value = n, v.answer.held
			}
		}
	}
	switch {
	case best >= most:
		o.Verdict, o.Lease = Yes, o.leaseOf(o.Value, most)
	case best+t.asked+t.absent < most:
		o.Verdict = Missing
	case t.asked == 0:
		o.fail(o.tooFew(most, "who holds the lock is not known"))
	}
}

func (o *Op) having(value string) (n int) {
	for i := range o.votes {
		if v := &o.votes[i]; (v.state == yes || v.state == held) && v.answer.held == value {
			n++
		}
	}
	return n
}

// leaseOf returns how long a majority will have the value.
func (o *Op) leaseOf(value string, most int) int64 {
	var leases []int64
	for i := range o.votes {
		if v := &o.votes[i]; (v.state == yes || v.state == held) && v.answer.held == value {
			leases = insert(leases, v.answer.lease)
		}
	}
	return leases[most-1]
}

// insert inserts a lease in descending order. A lease without an end, -1, is the longest.
func insert(leases []int64, ms int64) []int64 {
	leases = append(leases, ms)
	for i := len(leases) - 1; i > 0 && leases[i-1] != -1 && (ms == -1 || leases[i-1] < ms); i-- {
		leases[i-1], leases[i] = leases[i], leases[i-1]
	}
	return leases
}

// decideNumber looks for a number that a majority has.
func (o *Op) decideNumber(t tally, most int) {
	best := 0
	for i := range o.votes {
		n, number := 0, o.votes[i].answer.number
		for j := range o.votes {
			if s := o.votes[j].state; s != asked && s != absent && o.votes[j].answer.number == number {
				n++
			}
		}
		if number > 0 && n > best {
			best, o.Number = n, number
		}
	}
	switch {
	case best >= most:
		o.Verdict = Yes
	case best+t.asked+t.absent < most:
		o.Verdict, o.Number = Missing, 0
	case t.asked == 0:
		o.fail(o.tooFew(most, "the number of the lock is not known"))
	}
}

// isValid reports whether enough of the lease is left. No node's lease can have begun before the
// command was sent to the first of them.
func (o *Op) isValid(now int64) bool { return now-o.written < o.group.surely(o.cmd.Lease) }

// tooLate is the beginning of the error if isValid is false.
func (o *Op) tooLate(now int64) string {
	return fmt.Sprintf("ERR keyway: the lease of %d ms was nearly over when the lock nodes had answered, after %s",
		o.cmd.Lease, time.Duration(now-o.written).Round(time.Millisecond))
}

func (o *Op) fail(reason string) { o.Verdict, o.Reason = Failed, reason }

// tooFew is the error if too few nodes take part. state says what has become of the lock. A node
// whose answer is due takes part unless it did not when it last answered.
func (o *Op) tooFew(most int, state string) string {
	var reasons []string
	silent := 0
	for i := range o.votes {
		v, n := &o.votes[i], o.group.Members[i]
		reason := v.reason
		switch v.state {
		case asked:
			reason = n.Absence
		case newer:
			reason = "it has set the lock since"
		}
		if reason == "" {
			continue
		}
		if reason == silentReason(o.group.Timeout) {
			silent++
		}
		reasons = append(reasons, n.Addr+": "+reason)
	}
	class := "CLUSTERDOWN" // clients repeat the command, which has had no effect
	if k := o.cmd.Kind; k == Renew || k == Release || k == Delete {
		class = "ERR"
	}
	takePart, advice := len(o.votes)-len(reasons), ""
	if takePart < most && takePart+silent >= most {
		advice = "; if the silent ones are well, raise the rule's timeout"
	}
	return fmt.Sprintf("%s keyway: %d of %d lock nodes take part, and %d must agree (%s)%s; %s",
		class, takePart, len(o.votes), most, strings.Join(reasons, "; "), advice, state)
}
