package engine

import (
	"bytes"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/freshness"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/options"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/transaction"
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
		if cmd = w.Learned.lookup(s, a); cmd == nil {
			return handleUnknown(w, s, a)
		}
	}
	if len(cmd.Subs) > 0 && a.Len() > 1 {
		if sub := cmd.Sub(a.Arg(1)); sub != nil {
			cmd = sub
		} else if !cmd.Has(command.Module) { // a module may have subcommands that its node does not report
			return s.Reject(cmd, errtext.UnknownSub(cmd.Name, a.Arg(1)))
		}
	}
	s.LastCmd = cmd
	if !cmd.ArityOK(a.Len()) {
		return s.Reject(cmd, arityError(w, cmd, a))
	}
	switch {
	case !s.Has(Authed) && !cmd.Has(command.NoAuth):
		return enterAnd(w, s, cmd, a)
	case !s.User.Unlimited && !permits(w, s, cmd, a):
		return !s.Has(Blocked)
	case w.Options.Deny != nil && w.Options.Deny[cmd.ID]:
		return s.Reject(cmd, errtext.Denied(s.User.Name, cmd))
	case w.tooLarge(a.Frame()):
		return s.Reject(cmd, errtext.Memory)
	}
	if s.User.Prefix != nil {
		whole, refusal := s.User.Prefix.Command(&w.Names, cmd, a)
		if refusal != "" {
			return s.Reject(cmd, refusal)
		}
		a, w.Whole = whole, whole
	}
	if w.Gate != nil && w.Gate.Delays(s, cmd, a) {
		return s.Stall()
	}
	if w.Near != nil {
		w.Near.Note(s, cmd, a)
	}
	var at Placement
	isTaken, done := false, false
	if w.Outside != nil { // keys that are on no node of the layout
		isTaken, done = w.Outside.Take(s, cmd, a)
	}
	if w.Arrivals != nil && !isTaken { // keys that are not yet where the table says
		at, isTaken, done = w.Arrivals.Take(s, cmd, a)
	}
	if isTaken {
		return done
	}
	return handle(w, s, cmd, a, at)
}

// handle queues a command between MULTI and EXEC, and does what its Handling says otherwise.
func handle(w *Worker, s *Session, cmd *command.Command, a command.Args, at Placement) bool {
	switch {
	case s.Has(InMulti) && !cmd.ActsInMulti():
		return w.Parts.queueInMulti(w, s, cmd, a)
	case s.Has(Subscribed) && !s.Has(RESP3) && !cmd.Is(command.WhileSubscribed):
		return s.Reject(cmd, errtext.Subscribed(cmd))
	}
	if s.Has(ReadsReplicas) && !w.Reads.mayWrite(s, cmd, a) || MustDrain(s, len(a.Frame())) {
		return false
	}
	switch cmd.Handling {
	case command.ByKey:
		if w.Near != nil && cmd.Is(command.ReadsValue) {
			if isTaken, done := w.Near.Answer(s, cmd, a, at); isTaken {
				return done
			}
		}
		return sendByKey(w, s, cmd, a, at)
	case command.Split:
		return splitByKey(w, s, cmd, a)
	case command.Block:
		return w.Parts.mayBlock(w, s, cmd, a)
	case command.Local:
		return w.Parts.Handlers[cmd.Action].Answer(w, s, cmd, a)
	case command.AllMasters:
		return SendToAllMasters(w, s, cmd, a)
	case command.AnyMaster:
		return SendToAnyMaster(w, s, cmd, a)
	case command.Whole:
		return sendToOnlyMaster(w, s, cmd, a)
	}
	return handleRefused(w, s, cmd, a)
}

// arityError returns the error for a wrong number of arguments. A node that lacks the
// command reports it as unknown, whatever its arguments.
func arityError(w *Worker, cmd *command.Command, a command.Args) string {
	if w.Server.Lacks(cmd) {
		return w.Server.Lacked(cmd, a)
	}
	return errtext.Arity(cmd)
}

// handleRefused handles a command that is refused unless the configuration allows it.
func handleRefused(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	switch h := &w.Parts.Handlers[cmd.Action]; {
	case h.OnReplicas != nil && w.Options.ReadsOf(s.User.Name) != options.FromMaster:
		return h.OnReplicas(w, s, cmd, a)
	case w.Options.Cluster != nil && h.Emulated != nil:
		return h.Emulated(w, s, cmd, a)
	case w.Server.Lacks(cmd):
		return s.AnswerError(cmd, w.Server.Lacked(cmd, a))
	case w.Options.Allow[cmd.ID] && cmd.Keyed():
		return SendByKey(w, s, cmd, a)
	case w.Options.Allow[cmd.ID]:
		return SendToAllMasters(w, s, cmd, a)
	case w.Options.Cluster != nil && cmd.Is(command.AboutCluster):
		return s.AnswerError(cmd, errtext.Named(errtext.Emulated, cmd))
	case h.Emulated != nil || cmd.Is(command.AboutCluster):
		return s.AnswerError(cmd, errtext.NoCluster)
	case cmd.Handling == command.NotYet:
		return s.AnswerError(cmd, errtext.NotYet(cmd.Upper()))
	}
	return s.AnswerError(cmd, errtext.Refused(cmd))
}

// SendByKey sends a command to the node that owns all its keys.
func SendByKey(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	return sendByKey(w, s, cmd, a, Placement{})
}

// sendByKey does what SendByKey says. If the command has a single key, that may be placed already.
func sendByKey(w *Worker, s *Session, cmd *command.Command, a command.Args, at Placement) bool {
	if check := w.Parts.Handlers[cmd.Action].Check; check != nil {
		if text := check(w, a); text != "" {
			return s.AnswerError(cmd, text)
		}
	}
	if cmd.Single > 0 {
		if !at.IsKnown {
			at.Group, at.Node = w.Table.Place(a.Arg(cmd.Single))
		}
		return sendToOwner(w, s, cmd, a, at)
	}
	group, id, crossing := w.Place(cmd, a)
	switch {
	case crossing != "":
		return splitScript(w, s, cmd, a, crossing)
	case len(w.Keys) > 0:
	case !cmd.Unproven():
		return SendToAnyMaster(w, s, cmd, a)
	default:
		if group, id = w.Scripts.KeylessPlace(); id == router.None && !w.Table.Slotted() {
			return s.AnswerError(cmd, errtext.NoMasters)
		}
	}
	at = Placement{Group: group, Node: id}
	if w.Next == nil {
		return sendToOwner(w, s, cmd, a, at)
	}
	w.tryNext(cmd, a)
	return sendToOwner(w, s, cmd, a, at) && w.countNext(s)
}

// sendToOwner sends a command to the owner of its keys, or to a replica of the owner. All
// keys belong to one group; w.Keys has their positions unless cmd.Single is set.
func sendToOwner(w *Worker, s *Session, cmd *command.Command, a command.Args, at Placement) bool {
	if at.Node == router.None {
		return HandleUnowned(w, s, cmd, a, at.Group)
	}
	n := w.Nodes[at.Node]
	var read freshness.Read
	isOne := cmd.Single > 0 || len(w.Keys) == 1
	if mayReadElsewhere(s, cmd) && (isOne || !w.Table.Clustered()) && !movesAny(w, cmd, a, at) {
		read = w.Reads.lastWrote(s, cmd, a)
		if n = w.Reads.readerOf(s, n, read.Since); n == nil {
			return s.AnswerError(cmd, errtext.NoReplica(w.Nodes[at.Node].Label()))
		}
	}
	large := w.largeValues.read(s, cmd, a)
	switch {
	case n.Conn(s).Full():
		return s.Stall()
	case large != 0 && MustDrain(s, largeFrame):
		return false
	}
	if cmd.Unproven() {
		w.Scripts.Record(cmd, a)
	}
	r := s.NewRequest(cmd)
	r.Witness(cmd, a, n)
	r.Call.Group = at.Group
	if large != 0 && n.Master == nil {
		w.largeValues.sendAlone(&r.Call, n, large)
	}
	if n.Master != nil {
		readAt(s, &r.Call, read)
	}
	if cmd.Unproven() && !s.Has(OfNodes) { // a user of the nodes may run only EVALSHA
		if full := w.Scripts.AsEval(cmd, n, a); full != nil {
			r.Call.sentAsEval = true
			r.Call.SendTo(n, full)
			return true
		}
	}
	r.Call.sendFrame(n, a)
	return true
}

// Place returns the group of a command's keys and its owner, and leaves the keys'
// positions in w.Keys. If the keys do not live together, crossing is the error for the
// client.
func (w *Worker) Place(cmd *command.Command, a command.Args) (group int32, id router.NodeID, crossing string) {
	group, id = -1, router.None
	w.Keys = cmd.Keys(a, w.Keys[:0])
	for i, k := range w.Keys {
		g, owner := w.Table.Place(a.Arg(k))
		if i > 0 && g != group {
			return group, id, w.crossing(a, w.Keys[0], id, k, owner)
		}
		group, id = g, owner
	}
	return group, id, ""
}

// sendFrame sends a whole command. It hands a large command's buffer over to the
// connection.
func (c *Call) sendFrame(n *Node, a command.Args) {
	s := c.Request.Session
	frame := a.Frame()
	if len(frame) >= bigFrame && s.cached() == CachingDefault && len(s.In) > 0 && &s.In[0] == &frame[0] {
		s.Set(handedOver)
		c.sendAs(n, frame, owned)
		return
	}
	c.SendTo(n, frame)
}

// SendToAnyMaster sends a command without keys to one master, if possible to one that can be reached.
func SendToAnyMaster(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	n, conn := w.AnyMaster(s)
	if n == nil {
		return s.AnswerError(cmd, errtext.NoMasters)
	}
	if conn.Full() {
		return s.Stall()
	}
	r := s.NewRequest(cmd)
	c := &r.Call
	if end := w.Parts.Handlers[cmd.Action].End; end != nil {
		r.End, r.Merge = end, w.Mergers.Get(1)
		c = r.Merge.Call(r, 0)
	}
	c.Group = -1
	c.SendTo(n, a.Frame())
	return true
}

// sendToOnlyMaster sends a command that needs all data at once to the only master. It refuses the
// command if there are several.
func sendToOnlyMaster(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.Masters) > 1 {
		return s.AnswerError(cmd, errtext.Refused(cmd))
	}
	return SendToAnyMaster(w, s, cmd, a)
}

// SendToAllMasters sends a command to every master and merges the replies.
func SendToAllMasters(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if len(w.Masters) == 0 {
		return s.AnswerError(cmd, errtext.NoMasters)
	}
	recordCaller(s, cmd)
	if cmd.NeedsAll(a) {
		return sendToOnlyMaster(w, s, cmd, a)
	}
	h := &w.Parts.Handlers[cmd.Action]
	if h.Answer != nil {
		return h.Answer(w, s, cmd, a)
	}
	if h.Check != nil {
		if text := h.Check(w, a); text != "" {
			return s.AnswerError(cmd, text)
		}
	}
	return SendFrameToAllMasters(w, s, cmd, a, a.Frame())
}

// SendFrameToAllMasters sends every master a frame instead of the command a, and merges the
// replies.
func SendFrameToAllMasters(w *Worker, s *Session, cmd *command.Command, a command.Args, frame []byte) bool {
	h := &w.Parts.Handlers[cmd.Action]
	for _, n := range w.Masters {
		if n.Conn(s).Full() {
			return s.Stall()
		}
	}
	if cmd.Has(command.Admin) || cmd.Has(command.Write) {
		shown := ""
		if h.Shown != nil {
			shown = h.Shown(a)
		}
		RecordDeed(s, cmd, shown, "sent to all masters")
	}
	r := s.NewRequest(cmd)
	if cmd.Is(command.MeetsAllKeys) {
		beginSweep(w, r, frame)
		return true
	}
	r.End = Merged
	if h.End != nil {
		r.End = h.End
	}
	if h.Before != nil {
		h.Before(w, a)
	}
	var own func(*Worker)
	if h.Changes != nil {
		own = h.Changes(a)
	}
	r.Unfinished = len(w.Masters) + oneIf(own != nil)
	r.Merge = w.Mergers.Get(r.Unfinished)
	if own != nil {
		w.Siblings.thenAll(r, own)
	}
	if h.Record != nil {
		h.Record(w, r.Merge, a)
	}
	for i, n := range w.Masters {
		c := r.Merge.Call(r, i)
		c.Group = -1
		c.SendTo(n, frame)
	}
	return true
}

// HandleUnowned handles a command whose keys no node owns: it waits for an owner, or fails.
func HandleUnowned(w *Worker, s *Session, cmd *command.Command, a command.Args, group int32) bool {
	if text := w.UnownedError(cmd, a); text != "" {
		return s.AnswerError(cmd, text)
	}
	r := s.NewRequest(cmd)
	r.Call.Group = group
	AwaitOwner(w, s, &r.Call, a.Frame())
	return true
}

// AwaitOwner starts a call whose slot no node owns. Our topology may be out of date, so the
// call waits briefly for a refresh.
func AwaitOwner(w *Worker, s *Session, c *Call, frame []byte) {
	w.Ready.Refresh = true
	c.Node = w.Nodes[0]
	c.begin()
	if !w.retries.putOff(c, frame, resp.AppendError(nil, errtext.SlotUnbound)) {
		c.Settle(resp.AppendError(w.Scratch[:0], errtext.SlotUnbound))
	}
}

// Stall makes the client wait until the node's connection has room. It returns false, for
// dispatch to return.
func (s *Session) Stall() bool {
	s.Set(Stalled)
	s.Worker.stalled = append(s.Worker.stalled, s)
	return false
}

// learnedCommands are the commands that nodes have described.
type learnedCommands struct {
	w     *Worker
	names map[string]*command.Command
}

// lookup returns the command of that name as a node has described it, or nil.
func (lc *learnedCommands) lookup(s *Session, a command.Args) *command.Command {
	if len(lc.names) == 0 || !s.Has(Authed) || len(a.Arg(0)) > maxName {
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
	s.LastCmd = nil
	name := a.Arg(0)
	if command.EqualFold(name, "post") || command.EqualFold(name, "host:") {
		// A web page has made a browser connect to keyway (server.c, securityWarningCommand).
		w.LogRefusal(s, "speaks HTTP, not Redis")
		s.Kill()
		return true
	}
	if !s.Has(Authed) && w.NodeUsers != nil {
		return enterAnd(w, s, nil, a)
	}
	// COMMAND INFO accepts "config|get", but clients may not send that as a command.
	if !s.Has(Authed) || len(name) > maxName || bytes.IndexByte(name, '|') >= 0 {
		w.Stats.Unknown++
		return s.Reject(nil, w.Server.unknown(a))
	}
	return w.Learned.ask(s, a, string(bytes.ToLower(name)))
}

// maxLearned is how many commands a worker learns from nodes.
const maxLearned = 4096

// ask asks a node whether it knows the command. The client waits for the reply, and then
// the command is dispatched again or rejected.
func (lc *learnedCommands) ask(s *Session, a command.Args, name string) bool {
	w := lc.w
	n, _ := w.AnyMaster(s)
	if n == nil || QuestionConn(n, s).ConnectError() != "" || len(lc.names) >= maxLearned {
		w.Stats.Unknown++
		return s.Reject(nil, w.Server.unknown(a))
	}
	s.Set(Blocked | learning)
	unknown := w.Server.unknown(a)
	w.Ask(QuestionConn(n, s), w.Deadline(), func(reply []byte, ok bool) {
		cmd := command.Learn(reply)
		if ok && cmd != nil && cmd.Name == name {
			lc.names[name] = cmd
		}
		if s.HasLeft() {
			return
		}
		s.Clear(Blocked | learning)
		if lc.names[name] == nil {
			w.Stats.Unknown++
			w.Inputs.dropFirst(s)
			s.Reject(nil, unknown)
			if s.Has(Tracks) {
				s.OwnConns.AfterCommand(s)
			}
		}
		s.Wake()
	}, "COMMAND", "INFO", name)
	return false
}

// Reject answers a command with an error before keyway begins to execute it. Inside MULTI,
// EXEC will then discard the transaction. A rejected EXEC discards it at once (server.c,
// rejectCommand).
func (s *Session) Reject(cmd *command.Command, text string) bool {
	if cmd != nil && cmd.Is(command.Executes) {
		text = transaction.Discarded + strings.TrimPrefix(text, "ERR ")
	}
	for _, f := range s.Worker.Features {
		f.OnReject(s, cmd)
	}
	s.Worker.Hidden = true
	return s.AnswerError(cmd, text)
}

// Replicates reports whether a command may change the data of replicas. A script may,
// unless it declares the flag no-writes (script.c, scriptFlagsToCmdFlags).
func (sc *scripts) Replicates(cmd *command.Command, a command.Args) bool {
	if cmd.Has(command.Write) || !cmd.Is(command.MayReplicate) {
		return cmd.Has(command.Write)
	}
	return !sc.Cache.DeclaresNoWrites(cmd, a)
}

// eachFrame calls f for the call's command, or for each command of its transaction. cmd is
// nil if the command is unknown.
func (lc *learnedCommands) eachFrame(c *Call, frame []byte, f func(cmd *command.Command, a command.Args)) {
	if c.Block != nil {
		frame = c.Block.Frames[c.Block.Ends[0]:] // behind MULTI
	}
	var p resp.Parser
	for len(frame) > 0 {
		n, st, err := p.Next(frame, &resp.DefaultLimits)
		if err != nil || st != resp.Ready {
			f(nil, nil)
			return
		}
		frame = frame[n:]
		cmd := c.Request.Command
		if c.Block != nil {
			if len(frame) == 0 {
				return // EXEC
			}
			cmd = lc.CommandOf(&p)
		}
		f(cmd, &p)
	}
}

// EachCommand calls f for the call's command, or for each command of its transaction. frame is the
// call's. cmd is nil if the command is unknown. a is valid only during the call of f.
func EachCommand(c *Call, frame []byte, f func(cmd *command.Command, a command.Args)) {
	c.Worker().Learned.eachFrame(c, frame, f)
}

// EachQueued calls f for each command that a client has queued since MULTI, apart from unknown ones.
// a is valid only during the call of f.
func EachQueued(s *Session, f func(cmd *command.Command, a command.Args)) {
	var p resp.Parser
	for frame := s.Block.Frames[s.Block.Ends[0]:]; len(frame) > 0; {
		n, st, err := p.Next(frame, &resp.DefaultLimits)
		if err != nil || st != resp.Ready {
			return
		}
		frame = frame[n:]
		if cmd := s.Worker.Learned.CommandOf(&p); cmd != nil {
			f(cmd, &p)
		}
	}
}

// CommandOf returns the command that a frame contains, nil if it is unknown.
func (lc *learnedCommands) CommandOf(a command.Args) *command.Command {
	cmd := command.Lookup(a.Arg(0))
	if cmd == nil {
		return lc.names[string(bytes.ToLower(a.Arg(0)))]
	}
	if a.Len() > 1 {
		if sub := cmd.Sub(a.Arg(1)); sub != nil {
			return sub
		}
	}
	return cmd
}

// software is what the nodes run.
type software struct {
	w *Worker
	info.Software
	NextHello int64 // when a node is asked again
}

// serverRefresh is the time between two HELLOs. keyway notices a rolling upgrade within it. Many threads of many
// keyways ask less often, so that a node gets hellosPerSecond from all of them.
const (
	serverRefresh    = int64(time.Minute)
	maxServerRefresh = int64(10 * time.Minute)
	hellosPerSecond  = 20
)

// Lacks reports whether the nodes are too old for a command that keyway knows. If keyway
// forwards a command, the node itself answers that it does not know it.
func (sw *software) Lacks(cmd *command.Command) bool { return sw.w.Server.IsBefore(cmd.Since) }

// Lacked returns the nodes' error text for a command that is newer than they are.
func (sw *software) Lacked(cmd *command.Command, a command.Args) string {
	container, _, isSub := strings.Cut(cmd.Name, "|")
	if isSub && !sw.Lacks(command.Lookup([]byte(container))) {
		return errtext.UnknownSub(container, a.Arg(1))
	}
	return sw.unknown(a)
}

// unknown returns the nodes' error text for a command that does not exist. Since Redis 8.6 it
// does not mention arguments if there are none.
func (sw *software) unknown(a command.Args) string {
	return errtext.UnknownCommand(a, sw.Known && sw.Name == "redis" && !sw.IsBefore("8.6.0"))
}

// ask asks a master for its software, version and modules, when it is time to.
func (sw *software) ask() {
	w := sw.w
	if w.Now < w.Server.NextHello {
		return
	}
	for _, n := range w.Masters {
		c := n.Shared.Conns[0]
		if c.State() != pool.Ready {
			continue
		}
		wait := min(max(serverRefresh, int64(Lookers(w))*int64(time.Second)/hellosPerSecond), maxServerRefresh)
		w.Server.NextHello = w.Now + wait
		w.Ask(c, w.Deadline(), func(reply []byte, ok bool) {
			switch server, isHello := info.ReadHello(reply); {
			case ok && isHello:
				w.Server.Software = server
			case ok:
				sw.askOld(c) // it has no HELLO, so it is older than Redis 6.0
			default:
				w.Server.NextHello = w.Now + sweepTick
			}
		}, "HELLO")
		return
	}
}

// askOld asks a node without HELLO for its version.
func (sw *software) askOld(c *pool.Conn) {
	w := sw.w
	w.Ask(c, w.Deadline(), func(reply []byte, ok bool) {
		text, _ := resp.Bulk(reply)
		if v := info.Field(text, "redis_version"); ok && v != "" {
			w.Server.Version, w.Server.Known = v, true
		}
	}, "INFO", "server")
}
