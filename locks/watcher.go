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
	Lease      int64  // in nanoseconds; 0: the command sets none
	Client     Client
	Node       string
	Outside    bool // the nodes are not those of the layout, whose timeouts do not concern it
}

// Watcher recognizes the commands of one thread's clients that work on locks. It allocates
// nothing once its memory has grown, and does nothing for other commands.
type Watcher struct {
	recognizer
	table  *Table
	recent [1024]uint64 // hashes of keys that were set with NX; EXPIRE or DEL may follow
	unused []*Pending
	event  Event
	handle func(*Event)
	textOf func(sha []byte) []byte
	clock  func() int64
}

// NewWatcher returns a watcher of the thread that has this table. It calls handle with each
// event. textOf returns the text of a script by its SHA-1, or nil. clock returns the time.
func NewWatcher(
	t *Table, handle func(*Event), textOf func(sha []byte) []byte, clock func() int64,
) *Watcher {
	return &Watcher{recognizer: newRecognizer(), table: t, handle: handle, textOf: textOf, clock: clock}
}

// Pending is a command that works on locks and whose reply has not come.
type Pending struct {
	Outside bool // as in Event

	w      *Watcher
	how    *How
	args   []byte  // keys and tokens, one after the other
	locks  []names // ends in args
	lease  int64
	sent   int64
	client Client
	node   string
}

// names are where a lock's key and token end in Pending.args.
type names struct{ key, token int }

// Command returns a command that works on locks, or nil. The caller passes the reply to its
// Replied, or calls Drop. The role of cmd changes locks.
func (w *Watcher) Command(cmd *command.Command, a command.Args, wall time.Time) *Pending {
	switch cmd.Lock {
	case command.SetLock:
		if a.Len() > 3 {
			return w.set(a, wall)
		}
	case command.SetNXLock:
		w.recent[hashOf(a.Arg(1))%uint64(len(w.recent))] = hashOf(a.Arg(1))
		return w.one(setNXOnly, a.Arg(1), a.Arg(2), 0)
	case command.ExpireLock, command.PExpireLock:
		if w.mayBeLock(a.Arg(1)) {
			return w.one(expire, a.Arg(1), nil, number(a.Arg(2), cmd.Lock == command.ExpireLock))
		}
	case command.DeleteLock:
		return w.deletes(a)
	case command.CompareLock:
		if token := a.Arg(a.Len() - 1); w.mayBeLock(a.Arg(1)) && a.Len() > 2 {
			w.table.learn(a.Arg(1), "")
			return w.one(delEqual, a.Arg(1), token, 0)
		}
	case command.ScriptLock:
		return w.script(cmd, a, wall)
	}
	return nil
}

// set is Command for SET with options.
func (w *Watcher) set(a command.Args, wall time.Time) *Pending {
	how, lease := (*How)(nil), int64(0)
	for i := 3; i < a.Len(); i++ {
		opt := a.Arg(i)
		switch {
		case len(opt) == 2 && opt[0]|0x20 == 'n':
			how = setNX
		case len(opt) == 2 && opt[1]|0x20 == 'x' && opt[0]|0x20 == 'x':
			how = setXX
		case command.EqualFold(opt, "get"):
			return nil // the reply is the former value
		case command.EqualFold(opt, "ifeq") && i+1 < a.Len():
			how = ifEqual
			i++
		case i+1 < a.Len() && len(opt) >= 2:
			seconds, at, isLease := leaseOption(opt)
			if isLease {
				if lease = number(a.Arg(i+1), seconds); at {
					lease -= wall.UnixNano()
				}
				i++
			}
		}
	}
	key := a.Arg(1)
	switch how {
	case setNX:
		w.recent[hashOf(key)%uint64(len(w.recent))] = hashOf(key)
	case nil:
		return nil
	default:
		if !w.mayBeLock(key) {
			return nil
		}
	}
	return w.one(how, key, a.Arg(2), max(lease, 0))
}

// leaseOption reports whether an option of SET sets a lease, and how its value is meant.
func leaseOption(opt []byte) (seconds, at, isLease bool) {
	switch {
	case command.EqualFold(opt, "px"):
		return false, false, true
	case command.EqualFold(opt, "ex"):
		return true, false, true
	case command.EqualFold(opt, "pxat"):
		return false, true, true
	case command.EqualFold(opt, "exat"):
		return true, true, true
	}
	return false, false, false
}

// deletes is Command for DEL and UNLINK. The reply to several keys does not say which of them
// existed, so these are taken for deleted unless it is 0.
func (w *Watcher) deletes(a command.Args) *Pending {
	var p *Pending
	for i := 1; i < a.Len(); i++ {
		if !w.mayBeLock(a.Arg(i)) {
			continue
		}
		if p == nil {
			p = w.take(del)
		}
		p.add(a.Arg(i), nil)
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
	argv := func(n int) []byte {
		if i := 2 + int(keys) + n; n > 0 && i < a.Len() {
			return a.Arg(i)
		}
		return nil
	}
	p := w.take(how)
	if p.lease = number(argv(how.Lease), how.Seconds); how.At {
		p.lease = max(p.lease-wall.UnixNano(), 0)
	}
	n, step := 1, max(how.Step, 1)
	if how.Keys == allKeys {
		n = int(keys) / step
	}
	for i := range n {
		token := how.Token
		if how.Each {
			token += i
		}
		key := a.Arg(3 + i*step)
		p.add(key, argv(token))
		w.table.learn(key, how.Library)
	}
	return p
}

// ScriptKey returns the first key of an EVAL or EVALSHA whose script works on locks, or nil.
func (w *Watcher) ScriptKey(cmd *command.Command, a command.Args) []byte {
	if cmd.Lock != command.ScriptLock || a.Len() < 4 || w.how(cmd, a) == nil {
		return nil
	}
	return a.Arg(3)
}

// how returns what the script of an EVAL or EVALSHA does, or nil if it works on no lock.
func (w *Watcher) how(cmd *command.Command, a command.Args) *How {
	if cmd.Is(command.TakesSHA) {
		return w.sha(a.Arg(1), w.clock, w.textOf)
	}
	return w.text(a.Arg(1))
}

// one returns a pending command for one lock.
func (w *Watcher) one(how *How, key, token []byte, lease int64) *Pending {
	p := w.take(how)
	p.lease = lease
	p.add(key, token)
	return p
}

func (w *Watcher) take(how *How) *Pending {
	var p *Pending
	if n := len(w.unused); n > 0 {
		p, w.unused = w.unused[n-1], w.unused[:n-1]
	} else {
		p = &Pending{w: w}
	}
	p.how, p.args, p.locks, p.sent, p.lease = how, p.args[:0], p.locks[:0], w.clock(), 0
	p.Outside = false
	return p
}

// maxName is how many bytes of a key or a token are kept.
const maxName = 512

func (p *Pending) add(key, token []byte) {
	p.args = append(p.args, key[:min(len(key), maxName)]...)
	end := len(p.args)
	p.args = append(p.args, token[:min(len(token), maxName)]...)
	p.locks = append(p.locks, names{end, len(p.args)})
}

// From sets who has sent the command, and the node that it goes to.
func (p *Pending) From(c Client, node string) { p.client, p.node = c, node }

// Replied handles the reply, or its beginning if it is long. The command is no longer pending.
func (p *Pending) Replied(reply []byte) {
	e := &p.w.event
	*e = Event{At: p.w.clock(), Sent: p.sent, How: p.how, Lease: p.lease, Client: p.client, Node: p.node,
		Outside: p.Outside}
	elements, rest, isArray := 0, []byte(nil), false
	if p.how.Reply == perKey {
		elements, rest, isArray = resp.Elements(reply)
	}
	begin := 0
	for i, n := range p.locks {
		e.Key, e.Token = p.args[begin:n.key], p.args[n.key:n.token]
		begin = n.token
		switch {
		case !isArray:
			e.Outcome = p.how.outcome(reply)
		case i < elements:
			var element []byte
			element, rest, isArray = resp.Split(rest)
			e.Outcome = p.how.outcome(element)
		}
		p.w.handle(e)
	}
	p.Drop()
}

// Drop ends the command without a reply.
func (p *Pending) Drop() {
	p.client, p.node = Client{}, ""
	if cap(p.args) <= 16*maxName && len(p.w.unused) < 4096 {
		p.w.unused = append(p.w.unused, p)
	}
}

// outcome reads a reply.
func (h *How) outcome(reply []byte) Outcome {
	if len(reply) == 0 || reply[0] == '-' || reply[0] == '!' {
		return Failed
	}
	n, isInt := resp.Int(reply)
	isNil := resp.IsNull(reply)
	switch h.Reply {
	case nilDone:
		return doneIf(isNil)
	case zeroDone:
		return doneIf(isInt && n == 0)
	case unlocked:
		if isInt && n == 0 {
			return Kept
		}
		return doneIf(isInt)
	case firstNegated:
		_, elements, ok := resp.Elements(reply)
		first, _, _ := resp.Split(elements)
		n, isInt = resp.Int(first)
		return doneIf(ok && isInt && n == -1)
	}
	return doneIf(!isNil && (!isInt || n > 0))
}

func doneIf(done bool) Outcome {
	if done {
		return Done
	}
	return Refused
}

// number returns a number of milliseconds or seconds in nanoseconds, 0 if it is none.
func number(b []byte, seconds bool) int64 {
	n, ok := resp.ParseInt(b)
	unit := int64(1e6)
	if seconds {
		unit = 1e9
	}
	if !ok || n < 0 || n > 1<<62/unit {
		return 0
	}
	return n * unit
}

func hashOf(key []byte) uint64 { return maphash.Bytes(seed, key) }

// mayBeLock reports whether a key is known to be a lock, or was set with NX lately.
func (w *Watcher) mayBeLock(key []byte) bool {
	h := hashOf(key)
	return w.recent[h%uint64(len(w.recent))] == h || w.table.knows(key)
}
