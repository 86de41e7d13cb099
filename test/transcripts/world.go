package transcripts

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
)

const (
	tick  = 10 * time.Millisecond
	start = int64(time.Hour) // the virtual clock does not begin at 0, and neither does keyway's
)

// world is keyway, its nodes and its clients during one transcript.
type world struct {
	now     int64
	options options // those that keyway works by
	workers []*proxy.Worker
	nodes   map[string]*node
	sockets []*socket
	clients []*client
	events  []event // what has happened since the last call of take
	asked   bool    // an event says that keyway asks for the topology
	logs    bool    // keyway's log is shown
	version string  // of the nodes' software
	full    bool    // keyway may not open connections that it can do without

	hangs map[int]bool   // workers that do nothing for the others, by index
	asks  map[int][]asks // what the others want of them
}

// node is a server. Its sockets are its connections.
type node struct {
	name     string
	version  string // of its software
	opened   int    // number of connections
	refuses  bool   // it refuses connections
	ignores  bool   // it does not answer attempts to connect
	ignored  []*pool.Link
	greeting string // its reply to greetings; "": it is well
	takes    int    // bytes that it still reads; negative: everything
	each     []byte // its reply to each request; nil: the transcript has the replies
	lag      int    // bytes that it is behind its master; negative: it is a master
}

// socket is one connection between keyway and a node.
type socket struct {
	name     string
	node     *node
	conn     *pool.Link
	open     bool
	ready    bool     // its greeting is over
	greeting []string // the commands of its greeting, PING aside
	in       []byte   // bytes of an incomplete request
	shown    int      // bytes of in that an event has named
	pending  []owed   // the requests without a reply
	each     []byte   // as in node, for this connection alone
	listens  bool     // keyway has subscribed over it
}

// owed is a reply that a node owes. auto is the reply that it gives by itself; nil: the
// transcript has it.
type owed struct{ auto []byte }

// client is a client. It is at the worker that its connection was given to.
type client struct {
	name    string
	worker  *proxy.Worker
	session *proxy.Session
	in      []byte // bytes that keyway has not read yet
	out     []byte // bytes of an incomplete reply
	shown   int    // bytes of out that an event has named
	stopped bool   // it does not take its replies
	mayTake int    // bytes that it takes all the same
	gone    bool
}

// asks is a worker's question to another.
type asks struct {
	of *proxy.Worker
	proxy.Ask
}

// event is one thing that keyway did. Events of one party whose verb is "<- " are shown on
// one line.
type event struct {
	party, verb, text string
	at                int64
}

func newWorld(o options, topology string) (*world, error) {
	w := &world{
		now: start, logs: o.log, version: o.version,
		nodes: map[string]*node{}, hangs: map[int]bool{}, asks: map[int][]asks{},
	}
	o.HasRoom = func(int) bool { return !w.full }
	w.options = o
	for i := range max(o.Workers, 1) {
		o.Index = i
		table, err := layout(topology)
		if err != nil {
			return nil, err
		}
		w.workers = append(w.workers, proxy.New(o.Options, table))
	}
	w.know(topology)
	w.turn()
	w.settle()
	w.wait(tick) // in which keyway asks a node for its version
	w.take()
	return w, nil
}

// know remembers the nodes that a layout names.
func (w *world) know(topology string) {
	_, rest, _ := strings.Cut(topology, " ")
	for _, item := range strings.Split(rest, ", ") {
		f := strings.Fields(item)
		if w.nodes[f[0]] == nil {
			w.nodes[f[0]] = &node{name: f[0], version: w.version, takes: -1}
		}
		w.nodes[f[0]].lag = -1
		if slices.Contains(f, "follows") {
			w.nodes[f[0]].lag = 0
		}
	}
}

// turn begins a turn of every worker.
func (w *world) turn() {
	for _, wk := range w.workers {
		wk.Turn(w.now, time.Unix(1000, w.now-start))
	}
}

func (w *world) wait(d time.Duration) {
	for end := w.now + int64(d); w.now < end; {
		w.now = min(w.now+int64(tick), end)
		w.turn()
		for _, wk := range w.workers {
			wk.Tick()
		}
		w.settle()
	}
}

// settle does everything that the workers want, until they want no more, as the threads of
// package server do. Nodes give their automatic replies in it.
func (w *world) settle() {
	began := len(w.events)
	for round, busy := 0, true; busy; round++ {
		if busy = false; round == 1000 {
			w.did(keyway, "does not come to rest", "")
			return
		}
		for i, wk := range w.workers {
			busy = w.serve(i, wk) || busy
		}
		for _, s := range slices.Clone(w.sockets) {
			busy = s.autoReply(w.now) || busy
		}
		for _, c := range w.clients {
			if len(c.in) > 0 && !c.gone && c.session.Reading() {
				in := c.in
				c.in = nil
				c.worker.Received(c.session, in)
				busy = true
			}
		}
		w.sockets = slices.DeleteFunc(w.sockets, func(s *socket) bool { return !s.open })
	}
	// What happens in one turn has no order that anybody could see.
	slices.SortStableFunc(w.events[began:], func(a, b event) int { return comparePlaces(a.party, b.party) })
}

// comparePlaces orders keyway after clients and nodes, and a.10 after a.9.
func comparePlaces(a, b string) int {
	place := func(s string) string {
		name, n, _ := strings.Cut(s, ".")
		return fmt.Sprintf("%t %s %5s", s == keyway, name, n)
	}
	return strings.Compare(place(a), place(b))
}

// keyway is the party of events that concern neither a client nor a connection.
const keyway = "keyway"

// serve ends a worker's turn and does its duties. It reports whether there were any.
func (w *world) serve(index int, wk *proxy.Worker) (busy bool) {
	r := wk.EndTurn()
	busy = len(r.Links)+len(r.Sessions)+len(r.Asks) > 0
	for _, c := range r.Links {
		w.serveConn(c)
	}
	for _, s := range r.Sessions {
		w.flush(s.Bind.(*client))
	}
	if (r.Refresh || r.Look != 0) && !w.asked {
		w.asked = true // once for each action is enough
		w.did(keyway, "asks for the topology", "")
	}
	if r.Look != 0 {
		wk.Looked(r.Look) // it has not changed
	}
	if w.logs {
		for _, note := range r.Notes {
			w.did(keyway, "logs: "+note, "")
		}
		for _, alarm := range r.Alarms {
			w.did(keyway, "logs: "+alarm.String(), "")
		}
	}
	for i := range w.workers {
		for _, ask := range r.Asks {
			if ask.Only == 0 && i != index || ask.Only == i+1 {
				w.asks[i] = append(w.asks[i], asks{wk, ask})
			}
		}
	}
	wk.Taken()
	if w.hangs[index] {
		return busy
	}
	others := w.asks[index]
	delete(w.asks, index)
	for _, ask := range others {
		if answer := ask.Do(wk); ask.Token != 0 {
			ask.of.Answered(ask.Token, answer)
		}
	}
	return busy || len(others) > 0
}

func (w *world) did(party, verb, text string) {
	w.events = append(w.events, event{party, verb, text, w.now})
}

func (w *world) serveConn(c *pool.Link) {
	s, _ := c.Bind.(*socket)
	switch c.Duty() {
	case pool.Hangup:
		w.hangUp(s)
	case pool.Dial:
		w.hangUp(s)
		w.dial(c)
		return
	}
	if s != nil && s.open {
		w.write(s)
	}
}

func (w *world) hangUp(s *socket) {
	if s != nil && s.open {
		s.open = false
		if s.ready {
			w.did(s.name, "is closed", "")
		}
	}
}

func (w *world) dial(c *pool.Link) {
	name := strings.TrimSuffix(c.Addr, ":6379")
	n := w.nodes[name]
	switch {
	case n == nil:
		w.did(keyway, "connects to "+c.Addr+", which no layout has named", "")
		c.Fail(w.now, "connection refused")
		return
	case n.ignores:
		n.ignored = append(n.ignored, c)
		return
	case n.refuses:
		c.Fail(w.now, "connection refused")
		return
	}
	w.accept(n, c)
}

// accept lets a node accept a connection, unless keyway has given it up.
func (w *world) accept(n *node, c *pool.Link) {
	if c.State() != pool.Dialing {
		return
	}
	s := &socket{node: n, conn: c, open: true}
	w.sockets = append(w.sockets, s)
	c.Bind = s
	c.Connected(w.now)
}

// write moves what keyway has for a node to the node.
func (w *world) write(s *socket) {
	for b := s.conn.NextWrite(); len(b) > 0 && s.open; b = s.conn.NextWrite() {
		if s.conn.State() == pool.Greeting {
			b = bytes.Clone(b)
			s.conn.Wrote(len(b), w.now)
			s.greeted(b, w.now)
			continue
		}
		w.meet(s)
		n := len(b)
		if s.node.takes >= 0 {
			n = min(n, s.node.takes)
			s.node.takes -= n
		}
		s.in = append(s.in, b[:n]...)
		s.conn.Wrote(n, w.now)
		if n < len(b) {
			break
		}
	}
	w.meet(s)
	w.read(s)
}

// meet names a connection when its greeting is over.
func (w *world) meet(s *socket) {
	if s.ready || !s.open || s.conn.State() != pool.Ready {
		return
	}
	s.ready = true
	s.name = s.node.name
	if s.node.opened++; s.node.opened > 1 {
		s.name = fmt.Sprintf("%s.%d", s.node.name, s.node.opened)
	}
	text := "connects"
	if len(s.greeting) > 0 {
		text += " with " + strings.Join(s.greeting, " | ")
	}
	w.did(s.name, text, "")
}

// read lets a node read the complete requests that have arrived.
func (w *world) read(s *socket) {
	for {
		args, rest, ok := cutCommand(s.in)
		if !ok {
			break
		}
		s.in, s.shown = rest, 0
		auto, hidden := s.auto(args)
		s.pending = append(s.pending, owed{auto})
		if !hidden {
			w.did(s.name, "<- ", showCommand(args))
		}
	}
	if len(s.in) > s.shown {
		s.shown = len(s.in)
		w.did(s.name, "<- ", fmt.Sprintf("(%d bytes of a command)", s.shown))
	}
}

// flush moves output to a client, and closes the connection if keyway wants that.
func (w *world) flush(c *client) {
	if c.gone {
		return
	}
	for b := c.session.Output(); len(b) > 0 && !c.session.Dead(); b = c.session.Output() {
		n := len(b)
		if c.stopped {
			n = min(n, c.mayTake)
			c.mayTake -= n
		}
		if n == 0 {
			break
		}
		c.out = append(c.out, b[:n]...)
		c.session.Wrote(n)
	}
	for len(c.out) > 0 {
		text, rest, ok := cut(c.out, true)
		if !ok {
			break
		}
		c.out, c.shown = rest, 0
		w.did(c.name, "<- ", text)
	}
	if len(c.out) > c.shown {
		c.shown = len(c.out)
		w.did(c.name, "<- ", fmt.Sprintf("(%d bytes of a reply)", c.shown))
	}
	if c.session.ShouldClose() {
		c.gone = true
		c.worker.Gone(c.session)
		w.did(c.name, "is closed", "")
	}
}

// maxLine is the number of columns from which a line of commands or replies is broken.
const maxLine = 100

// take returns the lines of the events since the last call.
func (w *world) take() []string {
	var lines []string
	for i := 0; i < len(w.events); {
		e := w.events[i]
		if e.verb != "<- " {
			lines = append(lines, e.party+" "+e.verb)
			i++
			continue
		}
		line := e.party + " <- "
		for first := true; i < len(w.events) && len(line) < maxLine; first = false {
			next := w.events[i]
			if next.party != e.party || next.verb != e.verb || next.at != e.at {
				break
			}
			n := 1
			for i+n < len(w.events) && w.events[i+n] == next {
				n++
			}
			if !first {
				line += " | "
			}
			line += next.text
			if n > 1 {
				line += fmt.Sprintf(" (%d times)", n)
			}
			i += n
		}
		lines = append(lines, line)
	}
	w.events, w.asked = w.events[:0], false
	return fold(lines)
}

// fold replaces equal lines that follow each other, as during a long wait, by one. It counts
// only few: how often keyway tries something again depends on random numbers.
func fold(lines []string) []string {
	var folded []string
	for i := 0; i < len(lines); {
		n := 1
		for i+n < len(lines) && lines[i+n] == lines[i] {
			n++
		}
		switch {
		case n == 1:
			folded = append(folded, lines[i])
		case n <= 5:
			folded = append(folded, fmt.Sprintf("%s  (%d times)", lines[i], n))
		default:
			folded = append(folded, lines[i]+"  (many times)")
		}
		i += n
	}
	return folded
}
