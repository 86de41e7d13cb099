package locks

import (
	"hash/maphash"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Client is a client as the table names it.
type Client struct {
	ID   uint64
	Addr string
	Name string
}

// Outcome says what became of an operation.
type Outcome uint8

const (
	Failed  Outcome = iota // an error; it may have been executed or not
	Done                   // acquired, renewed, released
	Refused                // another client holds the lock, or the client is not the holder
	Kept                   // the holder still holds it: it had acquired it several times
)

// Event is one operation on one lock and its outcome.
type Event struct {
	At         int64 // when the reply came
	Sent       int64 // when keyway got the command
	How        *How
	Outcome    Outcome
	Key, Token []byte // valid only while the event is handled
	hash       uint64 // of the key, so that each key is hashed once
	Lease      int64  // in nanoseconds; 0: the command sets none
	Client     Client
	Node       string
	InBlock    bool // of a transaction: what the client does there, it does at once
	Outside    bool // see Watcher.Command
}

// Home returns the index of the thread that keeps the event's lock.
func (e *Event) Home(threads int) int { return int(e.hash >> 32 % uint64(threads)) }

// Watcher recognizes the commands of one thread's clients that work on locks. It allocates
// nothing once its memory has grown, and does nothing for other commands.
type Watcher struct {
	recognizer
	table     *Table
	isOutside bool         // of the command that is looked at; see Command
	recent    [1024]uint64 // hashes of keys that were set with NX; EXPIRE or DEL may follow
	unused    []*Pending
	events    Events
	textOf    func(sha []byte) []byte
}

// Events takes the events of a watcher.
type Events interface {
	// Now returns the time.
	Now() int64
	// Handle takes one event. It is valid only until Handle returns.
	Handle(*Event)
}

// NewWatcher returns a watcher of the thread that has this table. textOf returns the text of a
// script by its SHA-1, or nil.
func NewWatcher(t *Table, events Events, textOf func(sha []byte) []byte) *Watcher {
	return &Watcher{recognizer: newRecognizer(Scripts{}), table: t, events: events, textOf: textOf}
}

// Configure replaces the scripts that the watcher knows.
func (w *Watcher) Configure(s Scripts) { w.recognizer = newRecognizer(s) }

// Pending is a command that works on locks and whose reply has not come.
type Pending struct {
	w     *Watcher
	event Event   // about the first lock, without its outcome
	names []byte  // keys and tokens, one after the other
	more  []names // the other locks
}

// names are the key and the token of a lock, in Pending.names.
type names struct {
	key, token []byte
	hash       uint64
}

// Command returns a command that works on locks, or nil. The caller passes the reply to its
// Replied, or calls Drop. The role of cmd changes locks. isOutside says that the command goes to nodes
// that hold only locks. So its key surely is a lock, and the timeouts of the layout do not concern it.
func (w *Watcher) Command(cmd *command.Command, a command.Args, wall time.Time, isOutside bool) *Pending {
	w.isOutside = isOutside
	switch cmd.Lock {
	case command.SetLock:
		if a.Len() > 3 {
			return w.set(a, wall)
		}
	case command.SetNXLock:
		key := nameOf(a.Arg(1))
		h := hashOf(key)
		w.recent[h%uint64(len(w.recent))] = h
		return w.one(setNXOnly, key, h, a.Arg(2), 0)
	case command.ExpireLock, command.PExpireLock:
		key := nameOf(a.Arg(1))
		if h := hashOf(key); w.mayBeLock(key, h) {
			return w.one(expire, key, h, nil, number(a.Arg(2), cmd.Lock == command.ExpireLock))
		}
	case command.DeleteLock:
		return w.deletes(a)
	case command.CompareLock:
		key := nameOf(a.Arg(1))
		if h := hashOf(key); a.Len() > 2 && w.mayBeLock(key, h) {
			w.table.learn(key, "")
			return w.one(delEqual, key, h, a.Arg(a.Len()-1), 0)
		}
	case command.ScriptLock:
		return w.script(cmd, a, wall)
	}
	return nil
}

// set is Command for SET with options.
func (w *Watcher) set(a command.Args, wall time.Time) *Pending {
	how, lease := (*How)(nil), int64(0)
	for i, n := 3, a.Len(); i < n; i++ {
		option := a.Arg(i)
		if len(option) == 2 && option[1]|0x20 == 'x' {
			switch option[0] | 0x20 {
			case 'n':
				how = setNX
			case 'x':
				how = setXX
			case 'p':
				if i++; i < n {
					lease = number(a.Arg(i), false)
				}
			case 'e':
				if i++; i < n {
					lease = number(a.Arg(i), true)
				}
			}
			continue
		}
		switch {
		case command.EqualFold(option, "get"):
			return nil // the reply is the former value
		case command.EqualFold(option, "ifeq"):
			how = ifEqual
			i++
		case command.EqualFold(option, "pxat"), command.EqualFold(option, "exat"):
			if i++; i < n {
				lease = number(a.Arg(i), option[0]|0x20 == 'e') - wall.UnixNano()
			}
		}
	}
	if how == nil {
		return nil
	}
	key := nameOf(a.Arg(1))
	h := hashOf(key)
	if how == setNX {
		w.recent[h%uint64(len(w.recent))] = h
	} else if !w.mayBeLock(key, h) {
		return nil
	}
	return w.one(how, key, h, a.Arg(2), max(lease, 0))
}

// deletes is Command for DEL and UNLINK. The reply to several keys does not say which of them
// existed, so these are taken for deleted unless it is 0.
func (w *Watcher) deletes(a command.Args) *Pending {
	var p *Pending
	for i := 1; i < a.Len(); i++ {
		key := nameOf(a.Arg(i))
		h := hashOf(key)
		if !w.mayBeLock(key, h) {
			continue
		}
		if p == nil {
			p = w.take(del)
		}
		p.add(key, h, nil)
	}
	return p
}

// script is Command for EVAL and EVALSHA.
func (w *Watcher) script(cmd *command.Command, a command.Args, wall time.Time) *Pending {
	how := w.how(cmd, a)
	if how == nil {
		return nil
	}
	keys, ok := resp.ParseInt(a.Arg(2))
	if !ok || keys < 1 || keys > int64(a.Len()-3) {
		return nil
	}
	args := 2 + int(keys) // of ARGV[0], as it were
	lease := int64(0)
	if how.Lease > 0 {
		lease = number(argv(a, args, how.Lease), how.Seconds)
	}
	if how.At {
		lease = max(lease-wall.UnixNano(), 0)
	}
	key := nameOf(a.Arg(3))
	p := w.one(how, key, hashOf(key), argv(a, args, how.Token), lease)
	if how.Keys != allKeys {
		return p
	}
	for i, step := 1, max(how.Step, 1); i < int(keys)/step; i++ {
		token := how.Token
		if how.Each {
			token += i
		}
		key := nameOf(a.Arg(3 + i*step))
		p.add(key, hashOf(key), argv(a, args, token))
	}
	return p
}

// argv returns ARGV[n] of a script whose ARGV[1] follows the argument before, or nil.
func argv(a command.Args, before, n int) []byte {
	if n > 0 && before+n < a.Len() {
		return a.Arg(before + n)
	}
	return nil
}

// Crossed handles an EVAL or EVALSHA that was refused because its keys do not live together.
func (w *Watcher) Crossed(cmd *command.Command, a command.Args) {
	if cmd.Lock != command.ScriptLock || a.Len() < 4 || w.how(cmd, a) == nil {
		return
	}
	key := nameOf(a.Arg(3))
	w.events.Handle(&Event{At: w.events.Now(), How: crossed, Outcome: Done, Key: key, hash: hashOf(key)})
}

// how returns what the script of an EVAL or EVALSHA does, or nil if it works on no lock.
func (w *Watcher) how(cmd *command.Command, a command.Args) *How {
	if cmd.Is(command.TakesSHA) {
		return w.sha(a.Arg(1), w.events, w.textOf)
	}
	return w.text(a.Arg(1))
}

// one returns a pending command for one lock.
func (w *Watcher) one(how *How, key []byte, hash uint64, token []byte, lease int64) *Pending {
	p := w.take(how)
	token = nameOf(token)
	p.names = append(append(p.names, key...), token...)
	e := &p.event
	e.Key, e.Token, e.hash, e.Lease = p.names[:len(key)], p.names[len(key):], hash, lease
	return p
}

func (w *Watcher) take(how *How) *Pending {
	var p *Pending
	if n := len(w.unused); n > 0 {
		p, w.unused = w.unused[n-1], w.unused[:n-1]
	} else {
		p = &Pending{w: w}
	}
	e := &p.event
	e.How, e.Sent, e.Key, e.Lease, e.Outside, e.InBlock = how, w.events.Now(), nil, 0, w.isOutside, false
	p.names, p.more = p.names[:0], p.more[:0]
	return p
}

// maxName is how many bytes of a key or a token are kept.
const maxName = 512

// nameOf returns the part of a key or a token that is kept.
func nameOf(b []byte) []byte { return b[:min(len(b), maxName)] }

// add adds a lock. When names grows, the slices of it that are in use stay where they are.
func (p *Pending) add(key []byte, hash uint64, token []byte) {
	token = nameOf(token)
	begin, end := len(p.names), len(p.names)+len(key)+len(token)
	if end > cap(p.names) {
		p.names = make([]byte, 0, max(2*end, 128))
		begin, end = 0, end-begin
	}
	p.names = p.names[:end]
	kept := p.names[begin:end:end]
	copy(kept, key)
	copy(kept[len(key):], token)
	if e := &p.event; e.Key == nil {
		e.Key, e.Token, e.hash = kept[:len(key)], kept[len(key):], hash
		return
	}
	p.more = append(p.more, names{kept[:len(key)], kept[len(key):], hash})
}

// From sets who has sent the command, and the node that it goes to.
func (p *Pending) From(c Client, node string) { p.event.Client, p.event.Node = c, node }

// RunsInBlock records that the command runs in a transaction; see Event.
func (p *Pending) RunsInBlock() { p.event.InBlock = true }

// Replied handles the reply, or its beginning if it is long. The command is no longer pending.
func (p *Pending) Replied(reply []byte) {
	e := &p.event
	w := p.w
	e.At = w.events.Now()
	if e.How.Reply == perKey {
		p.repliedPerKey(reply)
		return
	}
	e.Outcome = e.How.outcome(reply)
	w.events.Handle(e)
	for _, n := range p.more {
		e.Key, e.Token, e.hash = n.key, n.token, n.hash
		w.events.Handle(e)
	}
	p.Drop()
}

// repliedPerKey is Replied for a reply with an element for each lock. Locks whose element is
// missing have an unknown outcome.
func (p *Pending) repliedPerKey(reply []byte) {
	e := &p.event
	elements, rest, isArray := resp.Elements(reply)
	isArray = isArray || len(reply) > 0 && reply[0] == '*' // its header is cut
	for i := range 1 + len(p.more) {
		if i > 0 {
			n := p.more[i-1]
			e.Key, e.Token, e.hash = n.key, n.token, n.hash
		}
		element := reply
		if isArray {
			element = nil
			if i < elements {
				element, rest, _ = resp.Split(rest)
			}
		}
		e.Outcome = e.How.outcome(element)
		p.w.events.Handle(e)
	}
	p.Drop()
}

// maxMore is how many locks besides the first a command is about whose memory is kept for reuse.
const maxMore = 64

// Drop ends the command without a reply.
func (p *Pending) Drop() {
	if cap(p.names) <= 16*maxName && cap(p.more) <= maxMore && len(p.w.unused) < 4096 {
		p.w.unused = append(p.w.unused, p)
	}
}

// outcome reads a reply.
func (h *How) outcome(reply []byte) Outcome {
	if len(reply) < 2 || reply[0] == '-' || reply[0] == '!' {
		return Failed
	}
	isInt, isZero := reply[0] == ':', reply[1] == '0'
	switch h.Reply {
	case nilDone:
		return doneIf(resp.IsNull(reply))
	case zeroDone:
		return doneIf(isInt && isZero)
	case unlocked:
		if isInt && isZero {
			return Kept
		}
		return doneIf(isInt)
	case returned:
		return doneIf(h.Returns.Done.Is(reply))
	case firstNegated:
		_, elements, ok := resp.Elements(reply)
		first, _, _ := resp.Split(elements)
		n, isInt := resp.Int(first)
		return doneIf(ok && isInt && n == -1)
	}
	if isInt {
		return doneIf(!isZero && reply[1] != '-')
	}
	return doneIf(reply[0] == '+' || !resp.IsNull(reply))
}

func doneIf(done bool) Outcome {
	if done {
		return Done
	}
	return Refused
}

// number returns a number of milliseconds or seconds in nanoseconds, 0 if it is none.
func number(b []byte, seconds bool) int64 {
	unit := int64(1e6)
	if seconds {
		unit = 1e9
	}
	if n, ok := resp.ParseInt(b); ok && n > 0 && n <= 1<<62/unit {
		return n * unit
	}
	return 0
}

func hashOf(key []byte) uint64 { return maphash.Bytes(seed, key) }

// mayBeLock reports whether a key, with its hash, is known to be a lock, or was set with NX
// lately.
func (w *Watcher) mayBeLock(key []byte, h uint64) bool {
	return w.isOutside || w.recent[h%uint64(len(w.recent))] == h || w.table.knows(key)
}
