package transfer

import (
	"github.com/keyway-proxy/keyway/resp"
)

const (
	// maxAttempts is how often a key is tried if others change it meanwhile.
	maxAttempts = 10
	// maxKept is how many bytes a batch keeps allocated for the next one.
	maxKept = 64 << 10
)

// Side is one of the two nodes of a Pair.
type Side uint8

// The nodes of a Pair.
const (
	None Side = iota
	Source
	Destination
)

// Outcome says what has become of a key.
type Outcome uint8

// What becomes of a key.
const (
	Again   Outcome = iota // nothing is proven: the key has to be moved again
	Moved                  // copied to the destination and removed at the source
	Joined                 // was on both nodes with the same value; removed at the source
	Absent                 // not at the source: moved by another copier, deleted or expired
	Aside                  // was on both nodes with different values; the source's has the name Key.Text now
	Refused                // the destination does not accept the value, for the reason Key.Text; it is as it was
)

// IsGone reports whether the source surely does not have the key.
func (o Outcome) IsGone() bool { return o != Again && o != Refused }

// Key is a key that is to be moved.
type Key struct {
	Name    string
	Outcome Outcome
	Text    string // see Aside and Refused
	Expires bool   // a key that was Moved expires

	state state
	gone  Outcome // with Strict: what it will be once a replica has confirmed it
}

// state says what is known about a key during an attempt.
type state uint8

const (
	unknown state = iota // nothing
	missing              // the destination did not have it
	copied               // RESTORE has been written
	changed              // the destination has it; it has changed at the source since
	both                 // the destination had it, and perhaps the source has it
	equal                // both have it with the same value
	done                 // see Outcome
)

// Step is what a batch needs next.
type Step struct {
	// To is the node to which Frames have to be sent. Each of the Replies goes to Batch.Reply.
	// Frames is valid until the last of them is there.
	To      Side
	Frames  []byte
	Replies int
	// Until is the time at which Next has to be called again, if To is None. 0: the batch is over.
	Until int64
}

// Batch moves keys by the guarded copy. It may be used again and again. If a connection is lost,
// both must be given up, and the batch with them; the outcomes of keys hold all the same.
//
//	b.Begin(pair, keys)
//	for step := b.Next(now); step.To != None || step.Until != 0; step = b.Next(now) {
//		... send step.Frames, call b.Reply for each reply; or wait
//	}
type Batch struct {
	exchange
	pair     *Pair
	keys     []Key
	copies   []byte // MULTI and RESTORE of the values that have been read
	values   int    // how many RESTORE are in copies
	commands int    // of the transaction
	reading  reading

	guard     string // the name of the guard; empty: none
	isGuarded bool   // the guard may be at the destination
	noGuard   string // why the destination has not created it

	attempts  int
	settling  bool  // the wait for other copiers is over
	reread    bool  // the source has no PEXPIRETIME: the keys are read again
	unseen    bool  // no replica has confirmed the copies in time
	overtaken bool  // nothing was restored, because others changed keys at the destination
	kept      bool  // nothing was removed, because others changed keys at the source
	wrote     bool  // UNLINK has removed a key
	stale     bool  // a key is gone from the source, and perhaps not from its replica
	until     int64 // when the pause ends
	deadline  int64 // when the wait for others, or for a replica, ends
	offset    int64 // what a replica must have confirmed; negative: not known yet
	isAlone   bool  // the last INFO names no replica

	settlement *settlement // nil: no key is being compared
}

// Begin starts to move keys, which must be distinct. If the destination is in a cluster, all keys
// must be in one slot. They are copied in one transaction, so the destination executes nothing
// else meanwhile: about 100 keys or 256 KB are good. A batch without keys compares the clocks.
func (b *Batch) Begin(p *Pair, keys ...string) {
	*b = Batch{exchange: exchange{frames: b.frames}, pair: p, keys: b.keys[:0], copies: b.copies}
	for _, k := range keys {
		b.keys = append(b.keys, Key{Name: k})
	}
	if p.Strict {
		p.isAlone = false // it was not strict before
	}
	if p.Guard != "" && len(keys) > 0 {
		b.guard = guardName(p.Guard, keys[0])
	}
}

// Confirm starts a batch without keys, which ends when a replica of the source has all that the source
// has executed by then: what is absent there is absent after a failover, too.
func Confirm(b *Batch, p *Pair) {
	b.Begin(p)
	b.stale = true
}

// Keys returns the keys and what has become of them. They are valid until Begin is called.
func (b *Batch) Keys() []Key { return b.keys }

// Failure returns why the batch has ended early, or nil.
func (b *Batch) Failure() *Failure { return b.failure }

// Next returns what has to be done. It must be called after Begin and after the last reply to
// each step. now is in nanoseconds, by any clock that does not jump.
func (b *Batch) Next(now int64) Step {
	for b.left == 0 && b.phase != over {
		if (b.phase == pausing || b.phase == pausingToConfirm) && now < b.until {
			return Step{Until: b.until}
		}
		if b.failure != nil {
			b.end()
			break
		}
		b.advance(now)
	}
	if b.left == 0 {
		return Step{}
	}
	if b.phase == restoring {
		return Step{To: b.side, Frames: b.copies, Replies: b.left}
	}
	return Step{To: b.side, Frames: b.frames, Replies: b.left}
}

// advance starts the phase that follows the one that is complete.
func (b *Batch) advance(now int64) {
	switch b.phase {
	case idle, measuring:
		b.start(now)
	case looking:
		b.afterLook(now)
	case readingValues:
		b.afterRead(now)
	case restoring:
		if b.overtaken {
			b.retry(now)
			return
		}
		if b.unseen { // it has been waited for long enough
			b.unseen = false
			b.confirm(Destination, now-int64(waitTimeout))
			return
		}
		b.remove()
	case removing:
		b.afterRemove(now)
	case awaiting:
		b.afterAwait(now)
	case pausing:
		b.await()
	case confirming:
		b.afterOffsets(now)
	case pausingToConfirm:
		b.askOffsets()
	case releasing:
		b.end()
	default:
		b.settlement.advance(now)
	}
}

// end ends the batch, once the guard is removed.
func (b *Batch) end() {
	if b.isGuarded && (b.failure == nil || b.failure.IsReply || b.failure.Unconfirmed) {
		b.isGuarded = false
		b.send(releasing, Destination)
		b.ask("DEL", b.guard)
		return
	}
	b.phase, b.settlement = over, nil
	for i := range b.keys {
		if k := &b.keys[i]; b.failure == nil && k.gone != Again {
			k.Outcome = k.gone
		}
	}
	if cap(b.copies) > maxKept {
		b.copies = nil
	}
	if cap(b.frames) > maxKept {
		b.frames = nil
	}
}

// askKeys adds a command whose arguments are the keys in one of two states, and perhaps one more.
func (b *Batch) askKeys(name string, these, those state, more string) {
	n := 1
	for i := range b.keys {
		if b.keys[i].state == these || b.keys[i].state == those {
			n++
		}
	}
	if more != "" {
		n++
	}
	b.frames = resp.AppendBulkString(resp.AppendArray(b.frames, n), name)
	for i := range b.keys {
		if k := &b.keys[i]; k.state == these || k.state == those {
			b.frames = resp.AppendBulkString(b.frames, k.Name)
		}
	}
	if more != "" {
		b.frames = resp.AppendBulkString(b.frames, more)
	}
	b.left++
}

// has reports whether a key is in this state.
func (b *Batch) has(s state) bool {
	for i := range b.keys {
		if b.keys[i].state == s {
			return true
		}
	}
	return false
}

// next returns the next key of this phase that is in the state s, from b.at on.
func (b *Batch) next(s state) *Key {
	for b.keys[b.at].state != s {
		b.at++
	}
	return &b.keys[b.at]
}

// finish sets what has become of a key. With Strict, it is proven at the end.
func (b *Batch) finish(k *Key, o Outcome, text string) {
	k.state, k.Text = done, text
	if o.IsGone() && b.pair.Strict {
		k.gone = o
		return
	}
	k.Outcome = o
}

// Reply takes the next reply to the frames of the last step.
func (b *Batch) Reply(reply []byte) {
	if b.left == 0 {
		b.fail("reading replies", "it has sent one more than it was asked for")
		return
	}
	i := b.got
	b.got++
	b.left--
	if b.failure != nil {
		return
	}
	switch b.phase {
	case measuring:
		b.measured(reply)
	case looking:
		b.looked(i, reply)
	case readingValues:
		b.read(i, reply)
	case restoring:
		b.restored(i, reply)
	case removing:
		b.removed(i, reply)
	case awaiting:
		b.awaited(reply)
	case confirming:
		b.tookOffsets(i, reply)
	case releasing: // whatever it is: the guard expires
	default:
		b.settlement.took(i, reply)
	}
}

// start measures the clocks if that is due, and then begins the first attempt.
func (b *Batch) start(now int64) {
	c := &b.pair.clock
	if b.phase == idle && c.isDue(now) {
		c.count, c.known = 0, false
	}
	if c.known && b.phase == measuring {
		c.measured = now
	}
	if !c.known {
		b.send(measuring, c.next())
		b.ask("TIME")
		return
	}
	b.retry(now)
}

func (b *Batch) measured(reply []byte) {
	at, ok := timeOf(reply)
	if !ok {
		b.bad("reading the clock", reply)
		return
	}
	b.pair.clock.known = b.pair.clock.add(at)
}

// retry begins another attempt with the keys that have no outcome, or ends the batch.
func (b *Batch) retry(now int64) {
	b.settling, b.overtaken, b.values = false, false, 0
	left := false
	for i := range b.keys {
		if k := &b.keys[i]; k.state != done {
			k.state, left = unknown, true
		}
	}
	switch {
	case left && b.attempts < maxAttempts:
		b.attempts++
		b.look()
	case b.stale:
		b.confirm(Source, now)
	default:
		b.end()
	}
}

// look watches the keys at the destination, and asks which of them are there.
func (b *Batch) look() {
	b.send(looking, Destination)
	b.tryTransaction()
	askForGuard(b)
	b.askKeys("WATCH", unknown, unknown, b.guard)
	for i := range b.keys {
		if b.keys[i].state == unknown {
			b.ask("EXISTS", b.keys[i].Name)
		}
	}
	if b.guard != "" {
		b.ask("EXISTS", b.guard)
	}
}

func (b *Batch) looked(i int, reply []byte) {
	if b.guard != "" {
		if i == guardReply || b.left == 0 {
			takeGuard(b, i, reply)
			return
		}
		if i > guardReply {
			i--
		}
	}
	if i < watchReplies {
		b.tookWatch(i, reply)
		return
	}
	k := b.next(unknown)
	switch n, ok := resp.Int(reply); {
	case ok && n == 0:
		k.state = missing
	case ok && n == 1:
		k.state = both
	default:
		b.badKey("asking for", k, reply)
	}
}

// afterLook goes on with the keys that the destination does not have.
func (b *Batch) afterLook(now int64) {
	switch {
	case !b.has(missing):
		b.settle(now)
	case b.guard == "" || b.isGuarded:
		b.readMissing()
	case b.noGuard != "":
		b.fail("creating a guard", b.noGuard)
		b.failure.IsReply = true
	default: // it was removed again at once
		b.retry(now)
	}
}

// restore creates the values at the destination in one transaction, which also removes the guard.
func (b *Batch) restore() {
	b.send(restoring, Destination)
	b.commands = b.values
	if b.guard != "" {
		b.copies = resp.AppendCommand(b.copies, "DEL", b.guard)
		b.commands++
	}
	b.copies = resp.AppendCommand(b.copies, "EXEC")
	b.left = b.commands + 2
	if b.pair.Durable {
		atMost := waitTimeout
		if b.pair.isAlone {
			atMost = lookTimeout
		}
		b.copies = appendWait(b.copies, atMost)
		b.left++
	}
}

func (b *Batch) restored(i int, reply []byte) {
	const doing = "restoring keys"
	switch {
	case i == 0:
		if !isStatus(reply, "OK") {
			b.bad(doing, reply)
		}
	case i <= b.values:
		if k := b.next(copied); !isStatus(reply, "QUEUED") { // then EXEC executes nothing
			b.badKey("restoring", k, reply)
			b.failure.Restoring = k.Name
		}
		b.at++
	case i <= b.commands:
		if !isStatus(reply, "QUEUED") {
			b.bad(doing, reply)
		}
	case i == b.commands+1:
		b.executed(doing, reply)
	case b.overtaken:
	default:
		takeWait(b, reply)
	}
}

// executed takes the reply to EXEC.
func (b *Batch) executed(doing string, reply []byte) {
	if resp.IsNull(reply) {
		b.overtaken = true
		return
	}
	n, rest, ok := resp.Elements(reply)
	if !ok || n != b.commands {
		b.bad(doing, reply)
		return
	}
	b.isGuarded = false
	b.at = 0
	for range b.values {
		var element []byte
		k := b.next(copied)
		b.at++
		if element, rest, ok = resp.Split(rest); !ok {
			b.bad(doing, reply)
			return
		}
		if text, isError := errorText(element); isError {
			b.finish(k, Refused, text)
		} else if !isStatus(element, "OK") {
			b.badKey("restoring", k, element)
			return
		}
	}
}

// remove removes what the destination has from the source.
func (b *Batch) remove() {
	b.kept = false
	b.send(removing, Source)
	if !b.has(copied) && !b.has(equal) {
		return
	}
	if !b.pair.Fenced {
		b.ask("MULTI")
	}
	b.askKeys("UNLINK", copied, equal, "")
	if !b.pair.Fenced {
		b.ask("EXEC")
	}
	if b.pair.Strict {
		b.frames = appendWait(b.frames, waitTimeout)
		b.left++
	}
}

func (b *Batch) removed(i int, reply []byte) {
	const doing = "removing moved keys"
	if b.pair.Fenced {
		i += 2
	}
	switch {
	case i == 0 && isStatus(reply, "OK"):
	case i == 1 && isStatus(reply, "QUEUED"):
	case i == 2 && b.pair.Fenced:
		b.unlinked(doing, reply)
	case i == 2 && resp.IsNull(reply): // a key has changed since it was read
		b.kept = true
	case i == 2:
		n, element, ok := resp.Elements(reply)
		if !ok || n != 1 {
			b.bad(doing, reply)
			return
		}
		b.unlinked(doing, element)
	case i == 3 && b.kept:
	case i == 3:
		// If another copier was faster, UNLINK has written nothing, and WAIT confirms nothing.
		if b.waited(reply) {
			b.stale = !b.wrote
		}
	default:
		b.bad(doing, reply)
	}
}

// unlinked takes the reply to UNLINK. Any number proves that the keys are gone.
func (b *Batch) unlinked(doing string, reply []byte) {
	n, ok := resp.Int(reply)
	if b.wrote = n > 0; !ok || n < 0 {
		b.bad(doing, reply)
	}
}

func (b *Batch) afterRemove(now int64) {
	for i := range b.keys {
		switch k := &b.keys[i]; {
		case k.state == copied && b.kept:
			k.state = changed
		case k.state == copied:
			b.finish(k, Moved, "")
		case k.state == equal && b.kept:
			k.state = unknown
		case k.state == equal:
			b.finish(k, Joined, "")
		}
	}
	b.settle(now)
}

// absent records that the source does not have a key.
func (b *Batch) absent(k *Key) {
	b.finish(k, Absent, "")
	b.stale = b.stale || b.pair.Strict
}

// ProvesAbsence reports whether the source's reply to EXISTS of one key proves that it does not
// have the key. Then there is nothing to move. It proves nothing for replicas: see Pair.Strict.
func ProvesAbsence(reply []byte) bool {
	n, ok := resp.Int(reply)
	return ok && n == 0
}
