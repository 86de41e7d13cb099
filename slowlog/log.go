package slowlog

import (
	"bytes"
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

const (
	maxArgs   = 32  // arguments of a command that an entry keeps, at most (slowlog.h)
	maxBytes  = 128 // bytes of each argument
	adminArgs = 2   // arguments of an admin command, such as CONFIG SET: later ones may be passwords
)

// Log is one thread's slow log and its latency history.
type Log struct {
	from int64 // the shortest duration that is logged, in nanoseconds
	look int64 // the shortest duration that is logged or in the history
	max  int   // number of entries

	entries []Entry // a ring once it is full; their memory is used again
	oldest  int     // in entries
	nextID  uint64
	parser  resp.Parser
	threads uint64
	history History
}

// Entry is an entry of the slow log.
type Entry struct {
	id         uint64
	at, micros int64 // wall clock in seconds; duration in microseconds
	args       [][]byte
	peer, name string
	node       string // whose reply came last
	queued     int64  // time until the command was written to the node, in microseconds
}

// New returns the log of one of several threads. Commands are logged from the duration from
// on; most is the number of entries that the log keeps.
func New(from time.Duration, most, thread, threads int) Log {
	l := Log{from: int64(from), max: most, nextID: uint64(thread), threads: uint64(threads)}
	l.history.from = int64(from)
	l.setLook()
	return l
}

// Configure changes the duration from which commands are logged, and the number of entries.
func (l *Log) Configure(from time.Duration, most int) {
	l.from, l.history.from, l.max = int64(from), int64(from), most
	l.trim()
	l.setLook()
}

func (l *Log) setLook() { l.look = min(l.from, l.history.from) }

// Settings returns a function that applies a CONFIG SET to a log, or nil if no setting of
// the log changes.
func Settings(a command.Args) func(*Log) {
	var changes []func(*Log)
	for i := 2; i+1 < a.Len(); i += 2 {
		n, ok := resp.ParseInt(a.Arg(i + 1))
		if !ok {
			continue
		}
		switch name := a.Arg(i); {
		case command.EqualFold(name, "slowlog-log-slower-than"):
			changes = append(changes, func(l *Log) { l.from = threshold(n, time.Microsecond, n < 0) })
		case command.EqualFold(name, "latency-monitor-threshold"):
			changes = append(changes, func(l *Log) { l.history.from = threshold(n, time.Millisecond, n <= 0) })
		case command.EqualFold(name, "slowlog-max-len"):
			changes = append(changes, func(l *Log) {
				l.max = int(min(max(n, 0), math.MaxInt32))
				l.trim()
			})
		}
	}
	if changes == nil {
		return nil
	}
	return func(l *Log) {
		for _, change := range changes {
			change(l)
		}
		l.setLook()
	}
}

// threshold converts a setting to the duration, in nanoseconds, from which a command is
// logged. If never is true, no command is.
func threshold(n int64, unit time.Duration, never bool) int64 {
	if never || n > math.MaxInt64/int64(unit) {
		return math.MaxInt64
	}
	return n * int64(unit)
}

// trim removes the oldest entries above the largest number.
func (l *Log) trim() {
	all := slices.Concat(l.entries[l.oldest:], l.entries[:l.oldest])
	l.entries, l.oldest = all[max(len(all)-l.max, 0):], 0
}

// add returns a new entry, or the memory of the oldest one if the log is full, or nil if it keeps none.
func (l *Log) add() *Entry {
	switch {
	case l.max == 0:
		return nil
	case len(l.entries) < l.max:
		l.entries = append(l.entries, Entry{})
		return &l.entries[len(l.entries)-1]
	}
	e := &l.entries[l.oldest]
	l.oldest = (l.oldest + 1) % len(l.entries)
	return e
}

// IsSlow reports whether a command that took ns nanoseconds is to be recorded.
func (l *Log) IsSlow(ns int64) bool { return ns >= l.look }

// Lists reports whether SLOWLOG lists a command that took ns nanoseconds. It lists no blocking commands, because
// their duration is intended.
func (l *Log) Lists(cmd *command.Command, ns int64) bool {
	return ns >= l.from && !cmd.Has(command.Blocking)
}

// Slow describes a slow command.
type Slow struct {
	Command    *command.Command
	Frame      []byte // what was sent to the node, or to one of the nodes
	Took       int64  // in nanoseconds
	At         time.Time
	Peer, Name string // of the client
	Node       string // whose reply came last
	Queued     int64  // how long the command waited in keyway before it was written to the node; a part of Took
}

// Record records a slow command in the slow log and in the latency history. When a node is slow, nearly all
// commands are recorded, so it allocates nothing once the log is full.
func (l *Log) Record(s Slow) {
	p := &l.parser
	defer p.Reset() // it must not keep a large frame
	if _, st, err := p.Next(s.Frame, &resp.DefaultLimits); err != nil || st != resp.Ready {
		return
	}
	l.history.record(s.At.Unix(), s.Took)
	if s.Took < l.from {
		return
	}
	id := l.nextID
	l.nextID += l.threads
	e := l.add()
	if e == nil {
		return
	}
	*e = Entry{
		id: id, at: s.At.Unix(), micros: s.Took / int64(time.Microsecond), peer: s.Peer, name: s.Name,
		node: s.Node, queued: s.Queued / int64(time.Microsecond), args: e.args[:0],
	}
	for i := range min(p.Len(), maxArgs) {
		arg := p.Arg(i)
		to := e.nextArg()
		switch {
		case i >= adminArgs && s.Command.Has(command.Admin):
			*to = append(*to, command.Redacted...)
		case i == maxArgs-1 && p.Len() > maxArgs:
			*to = fmt.Appendf(*to, "... (%d more arguments)", p.Len()-maxArgs+1)
		case len(arg) > maxBytes:
			*to = fmt.Appendf(append(*to, arg[:maxBytes]...), "... (%d more bytes)", len(arg)-maxBytes)
		default:
			*to = append(*to, arg...)
		}
	}
}

// nextArg adds an empty argument to the entry.
func (e *Entry) nextArg() *[]byte {
	if n := len(e.args); n < cap(e.args) {
		e.args = e.args[:n+1]
		e.args[n] = e.args[n][:0]
	} else {
		e.args = append(e.args, nil)
	}
	return &e.args[len(e.args)-1]
}

// Entries returns a copy of the list of entries, the oldest first.
func (l *Log) Entries() []Entry {
	all := slices.Concat(l.entries[l.oldest:], l.entries[:l.oldest])
	for i := range all {
		all[i].args = slices.Clone(all[i].args)
		for k, arg := range all[i].args {
			all[i].args[k] = bytes.Clone(arg)
		}
	}
	return all
}

// Len returns the number of entries.
func (l *Log) Len() int { return len(l.entries) }

// Reset removes all entries.
func (l *Log) Reset() { l.entries, l.oldest = nil, 0 }

// AppendEntries appends the reply to SLOWLOG GET: the entries of all threads, the latest
// first, and at most count of them. A negative count means all.
func AppendEntries(b []byte, all []Entry, count int64) []byte {
	sortLatest(all)
	if count >= 0 {
		all = all[:min(int64(len(all)), count)]
	}
	b = resp.AppendArray(b, len(all))
	for _, e := range all {
		b = resp.AppendArray(b, 6)
		b = resp.AppendInt(b, int64(e.id))
		b = resp.AppendInt(b, e.at)
		b = resp.AppendInt(b, e.micros)
		b = resp.AppendArray(b, len(e.args))
		for _, arg := range e.args {
			b = resp.AppendBulk(b, arg)
		}
		b = resp.AppendBulkString(b, e.peer)
		b = resp.AppendBulkString(b, e.name)
	}
	return b
}

// Row is an entry as operators see it. Texts are as in [resp.Text].
type Row struct {
	ID       uint64    `json:"id"`
	Time     time.Time `json:"time"`
	Duration int64     `json:"duration_us"`
	Queue    int64     `json:"queue_us"` // until the command was written to the node
	AtNode   int64     `json:"node_us"`  // from then to the reply
	Node     string    `json:"node"`     // whose reply came last
	Args     []string  `json:"args"`
	Client   string    `json:"client"` // its address
	Name     string    `json:"name"`
}

// Rows returns the rows of all threads' entries, the latest first, and at most count of them.
func Rows(all []Entry, count int) []Row {
	sortLatest(all)
	rows := []Row{}
	for _, e := range all[:min(len(all), count)] {
		row := Row{
			ID: e.id, Time: time.Unix(e.at, 0), Duration: e.micros, Client: e.peer, Name: resp.Text([]byte(e.name)),
			Queue: e.queued, AtNode: e.micros - e.queued, Node: e.node,
		}
		for _, arg := range e.args {
			row.Args = append(row.Args, resp.Text(arg))
		}
		rows = append(rows, row)
	}
	return rows
}

func sortLatest(all []Entry) {
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(cmp.Compare(b.at, a.at), cmp.Compare(b.id, a.id))
	})
}

// Help is the text of SLOWLOG HELP.
var Help = []string{
	"GET [<count>]", "    Return top <count> entries from the slowlog of this keyway (default: 10, -1 mean all).",
	"    Entries are made of:",
	"    id, timestamp, time in microseconds, arguments array, client IP and port,", "    client name",
	"LEN", "    Return the length of the slowlog.", "RESET", "    Reset the slowlog.",
}
