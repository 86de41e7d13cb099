package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

const readOnly = command.ReadOnly

// bigFrame is the size from which a command's buffer is handed to the node's
// connection rather than copied.
const bigFrame = 64 << 10

// dispatch starts one command. It returns false if the command has to wait; it then
// has no effect, and the command is dispatched anew from the client's input.
func (w *Worker) dispatch(s *Session, a command.Args) bool {
	cmd := command.Lookup(a.Arg(0))
	if cmd == nil {
		if cmd = w.known(s, a); cmd == nil {
			return w.unknown(s, a)
		}
	}
	if len(cmd.Subs) > 0 && a.Len() > 1 {
		sub := cmd.Sub(a.Arg(1))
		switch {
		case sub != nil:
			cmd = sub
		case !cmd.Has(command.Module): // whose subcommands need not be told
			return w.reject(s, cmd, errUnknownSub(cmd.Name, a.Arg(1)))
		}
	}
	s.lastCmd = cmd
	if !cmd.ArityOK(a.Len()) {
		return w.reject(s, cmd, w.arityError(cmd, a))
	}
	if !s.has(authed) && !cmd.Has(command.NoAuth) {
		return w.reject(s, cmd, errNoAuth)
	}
	if w.tooLarge(a.Frame()) {
		return w.reject(s, cmd, errMemory)
	}
	if w.pause.until != 0 && w.paused(s, cmd, a) {
		return w.stall(s)
	}
	if s.state&(inMulti|subscribed) != 0 {
		switch {
		case s.has(inMulti) && !cmd.ActsInMulti():
			return w.queue(s, cmd, a)
		case s.has(subscribed) && !s.has(resp3) && !cmd.Is(command.WhileSubscribed):
			return w.reject(s, cmd, errSubscribed(cmd))
		}
	}
	if s.has(readsReplicas) && !w.mayWrite(s, cmd, a) || s.holdLarge(len(a.Frame())) {
		return false
	}
	switch cmd.Handling {
	case command.ByKey:
		return w.byKey(s, cmd, a)
	case command.Split:
		return w.splitByKey(s, cmd, a)
	case command.Block:
		return w.block(s, cmd, a)
	case command.Local:
		return handlers[cmd.Action].answer(w, s, cmd, a)
	case command.AllMasters:
		return w.allMasters(s, cmd, a)
	case command.AnyMaster:
		return w.toAny(s, cmd, a)
	case command.Whole:
		return w.toOnly(s, cmd, a)
	}
	return w.refused(s, cmd, a)
}

// arityError is the error for a wrong number of arguments. A node that lacks the
// command does not count them.
func (w *Worker) arityError(cmd *command.Command, a command.Args) string {
	if w.lacks(cmd) {
		return errLacked(cmd, a)
	}
	return errArity(cmd)
}

// refused handles a command that is refused unless the configuration lets it pass.
func (w *Worker) refused(s *Session, cmd *command.Command, a command.Args) bool {
	switch h := &handlers[cmd.Action]; {
	case w.o.Reads != FromMaster && h.onReplicas != nil:
		return h.onReplicas(w, s, cmd, a)
	case w.o.Cluster != nil && h.emulated != nil:
		return h.emulated(w, s, cmd, a)
	case w.lacks(cmd):
		return w.answerError(s, cmd, errLacked(cmd, a))
	case w.o.Allow[cmd.ID] && cmd.Keyed():
		return w.byKey(s, cmd, a)
	case w.o.Allow[cmd.ID]:
		return w.allMasters(s, cmd, a)
	case w.o.Cluster != nil && cmd.Is(command.AboutCluster):
		return w.answerError(s, cmd, named(errEmulated, cmd))
	case h.emulated != nil || cmd.Is(command.AboutCluster):
		return w.answerError(s, cmd, errNoCluster)
	case cmd.Handling == command.NotYet:
		return w.answerError(s, cmd, errNotYet(upper(cmd.Name)))
	}
	return w.answerError(s, cmd, errRefused(cmd))
}

func upper(name string) string {
	b := bytes.ToUpper([]byte(name))
	return string(bytes.ReplaceAll(b, []byte("|"), []byte(" ")))
}

// byKey sends a command to the node where all its keys live together.
func (w *Worker) byKey(s *Session, cmd *command.Command, a command.Args) bool {
	if check := handlers[cmd.Action].check; check != nil {
		if text := check(w, a); text != "" {
			return w.answerError(s, cmd, text)
		}
	}
	if cmd.Single > 0 {
		group, id := w.table.Place(a.Arg(cmd.Single))
		return w.toOwner(s, cmd, a, group, id)
	}
	group, id, crossing := w.place(cmd, a)
	switch {
	case crossing != "":
		return w.splitScript(s, cmd, a, crossing)
	case len(w.keys) > 0:
	case !cmd.Unproven():
		return w.toAny(s, cmd, a)
	default:
		if group, id = w.keylessPlace(); id == router.None && !w.table.Slotted() {
			return w.answerError(s, cmd, errNoMasters)
		}
	}
	return w.toOwner(s, cmd, a, group, id)
}

// toOwner sends a command whose keys, in w.keys unless it has a single one, all belong
// to one group, to the group's owner or to a replica of it.
func (w *Worker) toOwner(s *Session, cmd *command.Command, a command.Args, group int32, id router.NodeID) bool {
	if id == router.None {
		return w.unowned(s, cmd, a, group)
	}
	n := w.nodes[id]
	var read replicaRead
	if s.mayReadElsewhere(cmd) && (cmd.Single > 0 || len(w.keys) == 1 || !w.table.Clustered()) {
		read = w.lastWrote(s, cmd, a)
		if n = w.readerOf(s, n, read.since); n == nil {
			return w.answerError(s, cmd, errNoReplica(w.nodes[id]))
		}
	}
	large := w.largeRead(s, cmd, a)
	switch {
	case n.conn(s).Full():
		return w.stall(s)
	case large != 0 && s.holdLarge(largeFrame):
		return false
	}
	if cmd.Unproven() {
		w.noteScript(cmd, a)
	}
	r := w.newRequest(s, cmd)
	r.call.group = group
	if large != 0 && n.master == nil {
		w.goLarge(&r.call, n, large)
	}
	if n.master != nil {
		s.readAt(&r.call, read)
	}
	if cmd.Unproven() {
		if full := w.inFull(cmd, n, a); full != nil {
			r.call.inFull = true
			w.send(s, &r.call, n, full)
			return true
		}
	}
	w.sendFrame(s, &r.call, n, a)
	return true
}

// place finds where all keys of a command, which are then in w.keys, live
// together. crossing is the error to answer with when they do not.
func (w *Worker) place(cmd *command.Command, a command.Args) (group int32, id router.NodeID, crossing string) {
	group, id = -1, router.None
	w.keys = cmd.Keys(a, w.keys[:0])
	for i, k := range w.keys {
		g, owner := w.table.Place(a.Arg(k))
		if i > 0 && g != group {
			return group, id, w.crossing(a, w.keys[0], id, k, owner)
		}
		group, id = g, owner
	}
	return group, id, ""
}

// sendFrame sends a whole command, giving its buffer away when it is large.
func (w *Worker) sendFrame(s *Session, c *call, n *node, a command.Args) {
	frame := a.Frame()
	if len(frame) >= bigFrame && s.cached() == cachingDefault && len(s.in) > 0 && &s.in[0] == &frame[0] {
		s.set(gave)
		w.sendAs(s, c, n, frame, owned)
		return
	}
	w.send(s, c, n, frame)
}

// toAny sends a command without keys to some master.
func (w *Worker) toAny(s *Session, cmd *command.Command, a command.Args) bool {
	n, conn := w.anyMaster(s)
	if n == nil {
		return w.answerError(s, cmd, errNoMasters)
	}
	if conn.Full() {
		return w.stall(s)
	}
	r := w.newRequest(s, cmd)
	r.call.group = -1
	w.send(s, &r.call, n, a.Frame())
	return true
}

// toOnly sends a command that needs all data at once to the only master.
func (w *Worker) toOnly(s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.masters) > 1 {
		return w.answerError(s, cmd, errRefused(cmd))
	}
	return w.toAny(s, cmd, a)
}

// allMasters sends a command to every master; the replies become one.
func (w *Worker) allMasters(s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.masters) == 0 {
		return w.answerError(s, cmd, errNoMasters)
	}
	if cmd.NeedsAll(a) {
		return w.toOnly(s, cmd, a)
	}
	h := &handlers[cmd.Action]
	if h.answer != nil {
		return h.answer(w, s, cmd, a)
	}
	for _, n := range w.masters {
		if n.conn(s).Full() {
			return w.stall(s)
		}
	}
	r := w.newRequest(s, cmd)
	r.kind = merged
	if h.kind != 0 {
		r.kind = h.kind
	}
	if h.before != nil {
		h.before(w, a)
	}
	var own func(*Worker)
	if h.changes != nil {
		own = h.changes(a)
	}
	r.parts = len(w.masters) + oneIf(own != nil)
	r.merge = w.getMerger(r.parts)
	if own != nil {
		w.thenAll(r, own)
	}
	if r.kind == scriptsExist {
		r.merge.part = w.knownScripts(r.merge.part[:0], a)
	}
	for i, n := range w.masters {
		c := r.merge.call(r, i)
		c.group = -1
		w.send(s, c, n, a.Frame())
	}
	return true
}

// unowned answers for keys that no node owns.
func (w *Worker) unowned(s *Session, cmd *command.Command, a command.Args, group int32) bool {
	if text := w.neverOwned(cmd, a); text != "" {
		return w.answerError(s, cmd, text)
	}
	r := w.newRequest(s, cmd)
	r.call.group = group
	w.await(s, &r.call, a.Frame())
	return true
}

// neverOwned is the error for keys that no node owns and that are not worth waiting
// for; empty if they are.
func (w *Worker) neverOwned(cmd *command.Command, a command.Args) string {
	if !w.table.Slotted() {
		key := cmd.Single
		if key == 0 {
			key = w.keys[0]
		}
		return errNoRule(a.Arg(key))
	}
	if len(w.nodes) == 0 {
		w.ready.Refresh = true
		return errNoMasters
	}
	return ""
}

// await starts a call whose slot no node owns. The topology may be behind: it waits a
// little for a newer.
func (w *Worker) await(s *Session, c *call, frame []byte) {
	w.ready.Refresh = true
	c.node = w.nodes[0]
	w.begin(s, c)
	if !w.putOff(c, frame, resp.AppendError(nil, errSlotUnbound)) {
		w.settle(c, resp.AppendError(w.scratch[:0], errSlotUnbound))
	}
}

// crossing words the refusal of keys that live apart.
func (w *Worker) crossing(a command.Args, k1 int, n1 router.NodeID, k2 int, n2 router.NodeID) string {
	if w.table.Slotted() {
		return errCrossSlot
	}
	if slot := slots.Of(a.Arg(k1)); w.o.Cluster != nil && slot == slots.Of(a.Arg(k2)) {
		return errOneSlot(slot, w.table.Name, string(a.Arg(k1)), w.nodeName(n1), string(a.Arg(k2)), w.nodeName(n2))
	}
	return errCrossNode(string(a.Arg(k1)), w.nodeName(n1), string(a.Arg(k2)), w.nodeName(n2))
}

func (w *Worker) nodeName(id router.NodeID) string {
	if id == router.None {
		return "(none)"
	}
	return w.nodes[id].name
}

// stall makes the client wait until the node's connection has room.
func (w *Worker) stall(s *Session) bool {
	s.set(stalled)
	w.stalled = append(w.stalled, s)
	return false
}

// refuseForeignPatterns keeps SORT from reading keys by pattern that may live
// on other nodes, with the answer that a Redis Cluster gives. A pattern with a
// hash tag of the key's own group is one whose keys live with it.
func refuseForeignPatterns(w *Worker, a command.Args) string {
	if len(w.masters) < 2 || a.Len() < 2 {
		return ""
	}
	group, _ := w.table.Place(a.Arg(1))
	var text string
	command.SortPatterns(a, func(by bool, pattern []byte) {
		switch {
		case text != "" || w.pins(pattern, group):
		case by && bytes.IndexByte(pattern, '*') >= 0:
			text = errSortBy
		case !by && string(pattern) != "#":
			text = errSortGet
		}
	})
	return text
}

// pins tells whether every key that a pattern makes belongs to the group: its hash
// tag comes before what varies.
func (w *Worker) pins(pattern []byte, group int32) bool {
	fixed, _, _ := bytes.Cut(pattern, []byte("*"))
	g, _ := w.table.Place(fixed)
	return g == group && w.table.Explain(fixed).Tag != ""
}

// known returns a command that was learned from a node, nil if none has its name.
func (w *Worker) known(s *Session, a command.Args) *command.Command {
	if len(w.learned) == 0 || !s.has(authed) || len(a.Arg(0)) > maxName {
		return nil
	}
	var lower [maxName]byte
	name := append(lower[:0], a.Arg(0)...)
	for i, c := range name {
		if c-'A' < 26 {
			name[i] = c | 0x20
		}
	}
	return w.learned[string(name)]
}

// maxName is the length of the longest name that a node is asked about.
const maxName = 64

// unknown handles a command that keyway does not know: a node may know it.
func (w *Worker) unknown(s *Session, a command.Args) bool {
	s.lastCmd = nil
	name := a.Arg(0)
	if command.EqualFold(name, "post") || command.EqualFold(name, "host:") {
		// A browser was made to talk to us (server.c, securityWarningCommand).
		w.logRefusal(s, "speaks HTTP, not Redis")
		w.kill(s)
		return true
	}
	if !s.has(authed) || len(name) > maxName || bytes.IndexByte(name, '|') >= 0 { // COMMAND INFO knows "config|get", clients may not send it
		w.stats.Unknown++
		return w.reject(s, nil, errUnknownCommand(a))
	}
	return w.learn(s, a, string(bytes.ToLower(name)))
}

// maxLearned bounds the commands that are learned from nodes.
const maxLearned = 4096

// learn asks a node whether it knows the command; the client waits.
func (w *Worker) learn(s *Session, a command.Args, name string) bool {
	n, conn := w.anyMaster(s)
	if n == nil || conn.Refusing() != "" || len(w.learned) >= maxLearned {
		w.stats.Unknown++
		return w.reject(s, nil, errUnknownCommand(a))
	}
	s.set(blocked | learning)
	unknown := errUnknownCommand(a)
	w.ask(conn, w.deadline(), func(reply []byte, ok bool) {
		cmd := command.Learn(reply)
		if ok && cmd != nil && cmd.Name == name {
			w.learned[name] = cmd
		}
		if s.index < 0 {
			return
		}
		s.clear(blocked | learning)
		if w.learned[name] == nil {
			w.stats.Unknown++
			w.dropFirst(s)
			w.reject(s, nil, unknown)
			if s.has(tracks) {
				s.spent()
			}
		}
		w.wake(s)
	}, "COMMAND", "INFO", name)
	return false
}

// dropFirst takes the command that a client waited with off its input.
func (w *Worker) dropFirst(s *Session) {
	p := w.getParser()
	defer w.putParser(p)
	if n, st, err := p.Next(s.in, &w.limits); err == nil && st == resp.Ready {
		s.in = s.in[:copy(s.in, s.in[n:])]
	}
}

var _ pool.Receiver = (*call)(nil)
