package proxy

import (
	"bytes"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

const readOnly = command.ReadOnly

// bigFrame is the size from which a command's buffer is handed over to the node's
// connection instead of being copied.
const bigFrame = 64 << 10

// dispatch starts one command. It returns false if the command has to wait; it then
// has no effect, and the command is dispatched anew from the client's input.
func (w *Worker) dispatch(s *Session, a command.Args) bool {
	cmd := command.Lookup(a.Arg(0))
	if cmd == nil {
		if cmd = w.learnedCommand(s, a); cmd == nil {
			return w.handleUnknown(s, a)
		}
	}
	if len(cmd.Subs) > 0 && a.Len() > 1 {
		sub := cmd.Sub(a.Arg(1))
		switch {
		case sub != nil:
			cmd = sub
		case !cmd.Has(command.Module): // a module may have subcommands that its node does not report
			return w.reject(s, cmd, errtext.UnknownSub(cmd.Name, a.Arg(1)))
		}
	}
	s.lastCmd = cmd
	if !cmd.ArityOK(a.Len()) {
		return w.reject(s, cmd, w.arityError(cmd, a))
	}
	if !s.has(authed) && !cmd.Has(command.NoAuth) {
		return w.reject(s, cmd, errtext.NoAuth)
	}
	if w.tooLarge(a.Frame()) {
		return w.reject(s, cmd, errtext.Memory)
	}
	if w.gate != nil && w.gate.delays(s, cmd, a) {
		return w.stall(s)
	}
	if s.state&(inMulti|subscribed) != 0 {
		switch {
		case s.has(inMulti) && !cmd.ActsInMulti():
			return queueInMulti(w, s, cmd, a)
		case s.has(subscribed) && !s.has(resp3) && !cmd.Is(command.WhileSubscribed):
			return w.reject(s, cmd, errtext.Subscribed(cmd))
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
		return mayBlock(w, s, cmd, a)
	case command.Local:
		return handlers[cmd.Action].answer(w, s, cmd, a)
	case command.AllMasters:
		return w.allMasters(s, cmd, a)
	case command.AnyMaster:
		return w.toAny(s, cmd, a)
	case command.Whole:
		return w.toOnly(s, cmd, a)
	}
	return w.handleRefused(s, cmd, a)
}

// arityError returns the error for a wrong number of arguments. A node that lacks the
// command reports it as unknown, whatever its arguments.
func (w *Worker) arityError(cmd *command.Command, a command.Args) string {
	if w.lacks(cmd) {
		return errtext.Lacked(cmd, a)
	}
	return errtext.Arity(cmd)
}

// handleRefused handles a command that is refused unless the configuration allows it.
func (w *Worker) handleRefused(s *Session, cmd *command.Command, a command.Args) bool {
	switch h := &handlers[cmd.Action]; {
	case w.o.Reads != FromMaster && h.onReplicas != nil:
		return h.onReplicas(w, s, cmd, a)
	case w.o.Cluster != nil && h.emulated != nil:
		return h.emulated(w, s, cmd, a)
	case w.lacks(cmd):
		return w.answerError(s, cmd, errtext.Lacked(cmd, a))
	case w.o.Allow[cmd.ID] && cmd.Keyed():
		return w.byKey(s, cmd, a)
	case w.o.Allow[cmd.ID]:
		return w.allMasters(s, cmd, a)
	case w.o.Cluster != nil && cmd.Is(command.AboutCluster):
		return w.answerError(s, cmd, errtext.Named(errtext.Emulated, cmd))
	case h.emulated != nil || cmd.Is(command.AboutCluster):
		return w.answerError(s, cmd, errtext.NoCluster)
	case cmd.Handling == command.NotYet:
		return w.answerError(s, cmd, errtext.NotYet(cmd.Upper()))
	}
	return w.answerError(s, cmd, errtext.Refused(cmd))
}

// byKey sends a command to the node that owns all its keys.
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
			return w.answerError(s, cmd, errtext.NoMasters)
		}
	}
	return w.toOwner(s, cmd, a, group, id)
}

// toOwner sends a command to the owner of its keys, or to a replica of the owner. All
// keys belong to one group; w.keys has their positions unless cmd.Single is set.
func (w *Worker) toOwner(s *Session, cmd *command.Command, a command.Args, group int32, id router.NodeID) bool {
	if id == router.None {
		return w.unowned(s, cmd, a, group)
	}
	n := w.nodes[id]
	var read freshness.Read
	if s.mayReadElsewhere(cmd) && (cmd.Single > 0 || len(w.keys) == 1 || !w.table.Clustered()) {
		read = w.lastWrote(s, cmd, a)
		if n = w.readerOf(s, n, read.Since); n == nil {
			return w.answerError(s, cmd, errtext.NoReplica(w.nodes[id].label()))
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
		if full := w.asEval(cmd, n, a); full != nil {
			r.call.sentAsEval = true
			w.send(s, &r.call, n, full)
			return true
		}
	}
	w.sendFrame(s, &r.call, n, a)
	return true
}

// place returns the group of a command's keys and its owner, and leaves the keys'
// positions in w.keys. If the keys do not live together, crossing is the error for the
// client.
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

// sendFrame sends a whole command. It hands a large command's buffer over to the
// connection.
func (w *Worker) sendFrame(s *Session, c *call, n *node, a command.Args) {
	frame := a.Frame()
	if len(frame) >= bigFrame && s.cached() == cachingDefault && len(s.in) > 0 && &s.in[0] == &frame[0] {
		s.set(handedOver)
		w.sendAs(s, c, n, frame, owned)
		return
	}
	w.send(s, c, n, frame)
}

// toAny sends a command without keys to one master, if possible to one that can be reached.
func (w *Worker) toAny(s *Session, cmd *command.Command, a command.Args) bool {
	n, conn := w.anyMaster(s)
	if n == nil {
		return w.answerError(s, cmd, errtext.NoMasters)
	}
	if conn.Full() {
		return w.stall(s)
	}
	r := w.newRequest(s, cmd)
	r.call.group = -1
	w.send(s, &r.call, n, a.Frame())
	return true
}

// toOnly sends a command that needs all data at once to the only master. It refuses the
// command if there are several.
func (w *Worker) toOnly(s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.masters) > 1 {
		return w.answerError(s, cmd, errtext.Refused(cmd))
	}
	return w.toAny(s, cmd, a)
}

// allMasters sends a command to every master and merges the replies.
func (w *Worker) allMasters(s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.masters) == 0 {
		return w.answerError(s, cmd, errtext.NoMasters)
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
	r.end = merged
	if h.end != nil {
		r.end = h.end
	}
	if h.before != nil {
		h.before(w, a)
	}
	var own func(*Worker)
	if h.changes != nil {
		own = h.changes(a)
	}
	r.unfinished = len(w.masters) + oneIf(own != nil)
	r.merge = w.getMerger(r.unfinished)
	if own != nil {
		w.thenAll(r, own)
	}
	if h.record != nil {
		h.record(w, r.merge, a)
	}
	for i, n := range w.masters {
		c := r.merge.call(r, i)
		c.group = -1
		w.send(s, c, n, a.Frame())
	}
	return true
}

// unowned handles a command whose keys no node owns: it waits for an owner, or fails.
func (w *Worker) unowned(s *Session, cmd *command.Command, a command.Args, group int32) bool {
	if text := w.unownedError(cmd, a); text != "" {
		return w.answerError(s, cmd, text)
	}
	r := w.newRequest(s, cmd)
	r.call.group = group
	w.await(s, &r.call, a.Frame())
	return true
}

// unownedError returns the error for keys that no node owns if waiting for an owner is
// useless, and "" otherwise.
func (w *Worker) unownedError(cmd *command.Command, a command.Args) string {
	if !w.table.Slotted() {
		key := cmd.Single
		if key == 0 {
			key = w.keys[0]
		}
		return errtext.NoRule(a.Arg(key))
	}
	if len(w.nodes) == 0 {
		w.ready.Refresh = true
		return errtext.NoMasters
	}
	return ""
}

// await starts a call whose slot no node owns. Our topology may be out of date, so the
// call waits briefly for a refresh.
func (w *Worker) await(s *Session, c *call, frame []byte) {
	w.ready.Refresh = true
	c.node = w.nodes[0]
	w.begin(s, c)
	if !w.putOff(c, frame, resp.AppendError(nil, errtext.SlotUnbound)) {
		w.settle(c, resp.AppendError(w.scratch[:0], errtext.SlotUnbound))
	}
}

// crossing returns the error for two keys that do not live together.
func (w *Worker) crossing(a command.Args, k1 int, n1 router.NodeID, k2 int, n2 router.NodeID) string {
	if w.table.Slotted() {
		return errtext.CrossSlot
	}
	if slot := slots.Of(a.Arg(k1)); w.o.Cluster != nil && slot == slots.Of(a.Arg(k2)) {
		return errtext.OneSlot(slot, w.table.Name,
			string(a.Arg(k1)), w.nodeName(n1), string(a.Arg(k2)), w.nodeName(n2))
	}
	return errtext.CrossNode(string(a.Arg(k1)), w.nodeName(n1), string(a.Arg(k2)), w.nodeName(n2))
}

func (w *Worker) nodeName(id router.NodeID) string {
	if id == router.None {
		return "(none)"
	}
	return w.nodes[id].name
}

// stall makes the client wait until the node's connection has room. It returns false, for
// dispatch to return.
func (w *Worker) stall(s *Session) bool {
	s.set(stalled)
	w.stalled = append(w.stalled, s)
	return false
}

// refuseForeignPatterns returns Redis Cluster's error if SORT's patterns may name keys on
// other nodes, and "" otherwise. A pattern with a hash tag of the sorted key's group names
// only keys that live with it.
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
			text = errtext.SortBy
		case !by && string(pattern) != "#":
			text = errtext.SortGet
		}
	})
	return text
}

// pins reports whether every key that a pattern names belongs to the group. The pattern
// needs a hash tag before its first '*'.
func (w *Worker) pins(pattern []byte, group int32) bool {
	fixed, _, _ := bytes.Cut(pattern, []byte("*"))
	g, _ := w.table.Place(fixed)
	return g == group && w.table.Explain(fixed).Tag != ""
}

// learnedCommand returns the command of that name as a node has described it, or nil.
func (w *Worker) learnedCommand(s *Session, a command.Args) *command.Command {
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

// maxName is the longest command name, in bytes, that keyway asks a node about.
const maxName = 64

// handleUnknown handles a command that keyway does not know. If a node may know it, the
// client waits while keyway asks.
func (w *Worker) handleUnknown(s *Session, a command.Args) bool {
	s.lastCmd = nil
	name := a.Arg(0)
	if command.EqualFold(name, "post") || command.EqualFold(name, "host:") {
		// A web page has made a browser connect to keyway (server.c, securityWarningCommand).
		w.logRefusal(s, "speaks HTTP, not Redis")
		w.kill(s)
		return true
	}
	// COMMAND INFO accepts "config|get", but clients may not send that as a command.
	if !s.has(authed) || len(name) > maxName || bytes.IndexByte(name, '|') >= 0 {
		w.stats.Unknown++
		return w.reject(s, nil, errtext.UnknownCommand(a))
	}
	return w.learn(s, a, string(bytes.ToLower(name)))
}

// maxLearned is how many commands a worker learns from nodes.
const maxLearned = 4096

// learn asks a node whether it knows the command. The client waits for the reply, and then
// the command is dispatched again or rejected.
func (w *Worker) learn(s *Session, a command.Args, name string) bool {
	n, conn := w.anyMaster(s)
	if n == nil || conn.ConnectError() != "" || len(w.learned) >= maxLearned {
		w.stats.Unknown++
		return w.reject(s, nil, errtext.UnknownCommand(a))
	}
	s.set(blocked | learning)
	unknown := errtext.UnknownCommand(a)
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
				s.ownConns.dispatched(s)
			}
		}
		w.wake(s)
	}, "COMMAND", "INFO", name)
	return false
}

// dropFirst removes the first command from the client's input.
func (w *Worker) dropFirst(s *Session) {
	p := w.getParser()
	defer w.putParser(p)
	if n, st, err := p.Next(s.in, &w.limits); err == nil && st == resp.Ready {
		s.in = s.in[:copy(s.in, s.in[n:])]
	}
}

// reject answers a command with an error before keyway begins to execute it. Inside MULTI,
// EXEC will then discard the transaction. A rejected EXEC discards it at once (server.c,
// rejectCommand).
func (w *Worker) reject(s *Session, cmd *command.Command, text string) bool {
	if cmd != nil && cmd.Is(command.Executes) {
		text = errDiscarded + strings.TrimPrefix(text, "ERR ")
	}
	for _, f := range w.features {
		f.rejected(s, cmd)
	}
	w.hidden = true
	return w.answerError(s, cmd, text)
}

// replicates reports whether a command may change the data of replicas. A script may,
// unless it declares the flag no-writes (script.c, scriptFlagsToCmdFlags).
func (w *Worker) replicates(cmd *command.Command, a command.Args) bool {
	if cmd.Has(command.Write) || !cmd.Is(command.MayReplicate) {
		return cmd.Has(command.Write)
	}
	return !w.scripts.DeclaresNoWrites(cmd, a)
}
