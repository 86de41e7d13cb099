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
		if cmd = w.learned.lookup(s, a); cmd == nil {
			return handleUnknown(w, s, a)
		}
	}
	if len(cmd.Subs) > 0 && a.Len() > 1 {
		sub := cmd.Sub(a.Arg(1))
		switch {
		case sub != nil:
			cmd = sub
		case !cmd.Has(command.Module): // a module may have subcommands that its node does not report
			return s.reject(cmd, errtext.UnknownSub(cmd.Name, a.Arg(1)))
		}
	}
	s.lastCmd = cmd
	if !cmd.ArityOK(a.Len()) {
		return s.reject(cmd, arityError(w, cmd, a))
	}
	if !s.has(authed) && !cmd.Has(command.NoAuth) {
		return s.reject(cmd, errtext.NoAuth)
	}
	if w.tooLarge(a.Frame()) {
		return s.reject(cmd, errtext.Memory)
	}
	if w.gate != nil && w.gate.delays(s, cmd, a) {
		return s.stall()
	}
	if s.state&(inMulti|subscribed) != 0 {
		switch {
		case s.has(inMulti) && !cmd.ActsInMulti():
			return queueInMulti(w, s, cmd, a)
		case s.has(subscribed) && !s.has(resp3) && !cmd.Is(command.WhileSubscribed):
			return s.reject(cmd, errtext.Subscribed(cmd))
		}
	}
	if s.has(readsReplicas) && !w.reads.mayWrite(s, cmd, a) || mustDrain(s, len(a.Frame())) {
		return false
	}
	switch cmd.Handling {
	case command.ByKey:
		return byKey(w, s, cmd, a)
	case command.Split:
		return splitByKey(w, s, cmd, a)
	case command.Block:
		return mayBlock(w, s, cmd, a)
	case command.Local:
		return handlers[cmd.Action].answer(w, s, cmd, a)
	case command.AllMasters:
		return allMasters(w, s, cmd, a)
	case command.AnyMaster:
		return toAny(w, s, cmd, a)
	case command.Whole:
		return toOnly(w, s, cmd, a)
	}
	return handleRefused(w, s, cmd, a)
}

// arityError returns the error for a wrong number of arguments. A node that lacks the
// command reports it as unknown, whatever its arguments.
func arityError(w *Worker, cmd *command.Command, a command.Args) string {
	if w.server.lacks(cmd) {
		return errtext.Lacked(cmd, a)
	}
	return errtext.Arity(cmd)
}

// handleRefused handles a command that is refused unless the configuration allows it.
func handleRefused(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	switch h := &handlers[cmd.Action]; {
	case w.o.Reads != FromMaster && h.onReplicas != nil:
		return h.onReplicas(w, s, cmd, a)
	case w.o.Cluster != nil && h.emulated != nil:
		return h.emulated(w, s, cmd, a)
	case w.server.lacks(cmd):
		return s.answerError(cmd, errtext.Lacked(cmd, a))
	case w.o.Allow[cmd.ID] && cmd.Keyed():
		return byKey(w, s, cmd, a)
	case w.o.Allow[cmd.ID]:
		return allMasters(w, s, cmd, a)
	case w.o.Cluster != nil && cmd.Is(command.AboutCluster):
		return s.answerError(cmd, errtext.Named(errtext.Emulated, cmd))
	case h.emulated != nil || cmd.Is(command.AboutCluster):
		return s.answerError(cmd, errtext.NoCluster)
	case cmd.Handling == command.NotYet:
		return s.answerError(cmd, errtext.NotYet(cmd.Upper()))
	}
	return s.answerError(cmd, errtext.Refused(cmd))
}

// byKey sends a command to the node that owns all its keys.
func byKey(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if check := handlers[cmd.Action].check; check != nil {
		if text := check(w, a); text != "" {
			return s.answerError(cmd, text)
		}
	}
	if cmd.Single > 0 {
		group, id := w.table.Place(a.Arg(cmd.Single))
		return toOwner(w, s, cmd, a, group, id)
	}
	group, id, crossing := w.place(cmd, a)
	switch {
	case crossing != "":
		return splitScript(w, s, cmd, a, crossing)
	case len(w.keys) > 0:
	case !cmd.Unproven():
		return toAny(w, s, cmd, a)
	default:
		if group, id = w.scripts.keylessPlace(); id == router.None && !w.table.Slotted() {
			return s.answerError(cmd, errtext.NoMasters)
		}
	}
	return toOwner(w, s, cmd, a, group, id)
}

// toOwner sends a command to the owner of its keys, or to a replica of the owner. All
// keys belong to one group; w.keys has their positions unless cmd.Single is set.
func toOwner(w *Worker, s *Session, cmd *command.Command, a command.Args, group int32, id router.NodeID) bool {
	if id == router.None {
		return unowned(w, s, cmd, a, group)
	}
	n := w.nodes[id]
	var read freshness.Read
	if mayReadElsewhere(s, cmd) && (cmd.Single > 0 || len(w.keys) == 1 || !w.table.Clustered()) {
		read = w.reads.lastWrote(s, cmd, a)
		if n = w.reads.readerOf(s, n, read.Since); n == nil {
			return s.answerError(cmd, errtext.NoReplica(w.nodes[id].label()))
		}
	}
	large := w.largeValues.read(s, cmd, a)
	switch {
	case n.conn(s).Full():
		return s.stall()
	case large != 0 && mustDrain(s, largeFrame):
		return false
	}
	if cmd.Unproven() {
		w.scripts.note(cmd, a)
	}
	r := s.newRequest(cmd)
	r.call.group = group
	if large != 0 && n.master == nil {
		w.largeValues.sendAlone(&r.call, n, large)
	}
	if n.master != nil {
		readAt(s, &r.call, read)
	}
	if cmd.Unproven() {
		if full := w.scripts.asEval(cmd, n, a); full != nil {
			r.call.sentAsEval = true
			r.call.send(n, full)
			return true
		}
	}
	r.call.sendFrame(n, a)
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
func (c *call) sendFrame(n *node, a command.Args) {
	s := c.req.sess
	frame := a.Frame()
	if len(frame) >= bigFrame && s.cached() == cachingDefault && len(s.in) > 0 && &s.in[0] == &frame[0] {
		s.set(handedOver)
		c.sendAs(n, frame, owned)
		return
	}
	c.send(n, frame)
}

// toAny sends a command without keys to one master, if possible to one that can be reached.
func toAny(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	n, conn := w.anyMaster(s)
	if n == nil {
		return s.answerError(cmd, errtext.NoMasters)
	}
	if conn.Full() {
		return s.stall()
	}
	r := s.newRequest(cmd)
	r.call.group = -1
	r.call.send(n, a.Frame())
	return true
}

// toOnly sends a command that needs all data at once to the only master. It refuses the
// command if there are several.
func toOnly(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.masters) > 1 {
		return s.answerError(cmd, errtext.Refused(cmd))
	}
	return toAny(w, s, cmd, a)
}

// allMasters sends a command to every master and merges the replies.
func allMasters(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.masters) == 0 {
		return s.answerError(cmd, errtext.NoMasters)
	}
	if cmd.NeedsAll(a) {
		return toOnly(w, s, cmd, a)
	}
	h := &handlers[cmd.Action]
	if h.answer != nil {
		return h.answer(w, s, cmd, a)
	}
	for _, n := range w.masters {
		if n.conn(s).Full() {
			return s.stall()
		}
	}
	r := s.newRequest(cmd)
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
	r.merge = w.mergers.get(r.unfinished)
	if own != nil {
		w.siblings.thenAll(r, own)
	}
	if h.record != nil {
		h.record(w, r.merge, a)
	}
	for i, n := range w.masters {
		c := r.merge.call(r, i)
		c.group = -1
		c.send(n, a.Frame())
	}
	return true
}

// unowned handles a command whose keys no node owns: it waits for an owner, or fails.
func unowned(w *Worker, s *Session, cmd *command.Command, a command.Args, group int32) bool {
	if text := w.unownedError(cmd, a); text != "" {
		return s.answerError(cmd, text)
	}
	r := s.newRequest(cmd)
	r.call.group = group
	await(w, s, &r.call, a.Frame())
	return true
}

// unownedError returns the error for keys that no node owns if waiting for an owner is
// useless, and "" otherwise.
func (rt *routing) unownedError(cmd *command.Command, a command.Args) string {
	if !rt.table.Slotted() {
		key := cmd.Single
		if key == 0 {
			key = rt.w.keys[0]
		}
		return errtext.NoRule(a.Arg(key))
	}
	if len(rt.nodes) == 0 {
		rt.w.ready.Refresh = true
		return errtext.NoMasters
	}
	return ""
}

// await starts a call whose slot no node owns. Our topology may be out of date, so the
// call waits briefly for a refresh.
func await(w *Worker, s *Session, c *call, frame []byte) {
	w.ready.Refresh = true
	c.node = w.nodes[0]
	c.begin()
	if !w.retries.putOff(c, frame, resp.AppendError(nil, errtext.SlotUnbound)) {
		c.settle(resp.AppendError(w.scratch[:0], errtext.SlotUnbound))
	}
}

// crossing returns the error for two keys that do not live together.
func (rt *routing) crossing(a command.Args, k1 int, n1 router.NodeID, k2 int, n2 router.NodeID) string {
	if rt.table.Slotted() {
		return errtext.CrossSlot
	}
	if slot := slots.Of(a.Arg(k1)); rt.w.o.Cluster != nil && slot == slots.Of(a.Arg(k2)) {
		return errtext.OneSlot(slot, rt.table.Name,
			string(a.Arg(k1)), rt.nodeName(n1), string(a.Arg(k2)), rt.nodeName(n2))
	}
	return errtext.CrossNode(string(a.Arg(k1)), rt.nodeName(n1), string(a.Arg(k2)), rt.nodeName(n2))
}

func (rt *routing) nodeName(id router.NodeID) string {
	if id == router.None {
		return "(none)"
	}
	return rt.nodes[id].name
}

// stall makes the client wait until the node's connection has room. It returns false, for
// dispatch to return.
func (s *Session) stall() bool {
	s.set(stalled)
	s.w.stalled = append(s.w.stalled, s)
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
		case text != "" || pins(w, pattern, group):
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
func pins(w *Worker, pattern []byte, group int32) bool {
	fixed, _, _ := bytes.Cut(pattern, []byte("*"))
	g, _ := w.table.Place(fixed)
	return g == group && w.table.Explain(fixed).Tag != ""
}

// learnedCommands are the commands that nodes have described.
type learnedCommands struct {
	w     *Worker
	names map[string]*command.Command
}

// lookup returns the command of that name as a node has described it, or nil.
func (lc *learnedCommands) lookup(s *Session, a command.Args) *command.Command {
	if len(lc.names) == 0 || !s.has(authed) || len(a.Arg(0)) > maxName {
		return nil
	}
	var lower [maxName]byte
	name := append(lower[:0], a.Arg(0)...)
	for i, c := range name {
		if c-'A' < 26 {
			name[i] = c | 0x20
		}
	}
	return lc.names[string(name)]
}

// maxName is the longest command name, in bytes, that keyway asks a node about.
const maxName = 64

// handleUnknown handles a command that keyway does not know. If a node may know it, the
// client waits while keyway asks.
func handleUnknown(w *Worker, s *Session, a command.Args) bool {
	s.lastCmd = nil
	name := a.Arg(0)
	if command.EqualFold(name, "post") || command.EqualFold(name, "host:") {
		// A web page has made a browser connect to keyway (server.c, securityWarningCommand).
		w.logRefusal(s, "speaks HTTP, not Redis")
		s.kill()
		return true
	}
	// COMMAND INFO accepts "config|get", but clients may not send that as a command.
	if !s.has(authed) || len(name) > maxName || bytes.IndexByte(name, '|') >= 0 {
		w.stats.Unknown++
		return s.reject(nil, errtext.UnknownCommand(a))
	}
	return w.learned.ask(s, a, string(bytes.ToLower(name)))
}

// maxLearned is how many commands a worker learns from nodes.
const maxLearned = 4096

// ask asks a node whether it knows the command. The client waits for the reply, and then
// the command is dispatched again or rejected.
func (lc *learnedCommands) ask(s *Session, a command.Args, name string) bool {
	w := lc.w
	n, conn := w.anyMaster(s)
	if n == nil || conn.ConnectError() != "" || len(lc.names) >= maxLearned {
		w.stats.Unknown++
		return s.reject(nil, errtext.UnknownCommand(a))
	}
	s.set(blocked | learning)
	unknown := errtext.UnknownCommand(a)
	w.ask(conn, w.deadline(), func(reply []byte, ok bool) {
		cmd := command.Learn(reply)
		if ok && cmd != nil && cmd.Name == name {
			lc.names[name] = cmd
		}
		if s.index < 0 {
			return
		}
		s.clear(blocked | learning)
		if lc.names[name] == nil {
			w.stats.Unknown++
			w.inputs.dropFirst(s)
			s.reject(nil, unknown)
			if s.has(tracks) {
				s.ownConns.dispatched(s)
			}
		}
		s.wake()
	}, "COMMAND", "INFO", name)
	return false
}

// dropFirst removes the first command from the client's input.
func (in *inputs) dropFirst(s *Session) {
	p := in.getParser()
	defer in.putParser(p)
	if n, st, err := p.Next(s.in, &in.limits); err == nil && st == resp.Ready {
		s.in = s.in[:copy(s.in, s.in[n:])]
	}
}

// reject answers a command with an error before keyway begins to execute it. Inside MULTI,
// EXEC will then discard the transaction. A rejected EXEC discards it at once (server.c,
// rejectCommand).
func (s *Session) reject(cmd *command.Command, text string) bool {
	if cmd != nil && cmd.Is(command.Executes) {
		text = errDiscarded + strings.TrimPrefix(text, "ERR ")
	}
	for _, f := range s.w.features {
		f.rejected(s, cmd)
	}
	s.w.hidden = true
	return s.answerError(cmd, text)
}

// replicates reports whether a command may change the data of replicas. A script may,
// unless it declares the flag no-writes (script.c, scriptFlagsToCmdFlags).
func (sc *scripts) replicates(cmd *command.Command, a command.Args) bool {
	if cmd.Has(command.Write) || !cmd.Is(command.MayReplicate) {
		return cmd.Has(command.Write)
	}
	return !sc.cache.DeclaresNoWrites(cmd, a)
}
