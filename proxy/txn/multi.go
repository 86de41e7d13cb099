package txn

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/dryrun"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/refusal"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/transaction"
)

// Keyway collects a transaction and sends it as one block, from MULTI to EXEC, in one
// write. No command of another client can then come between:
//
//	client   MULTI  SET a 1  INCR b  EXEC
//	keyway   +OK    +QUEUED  +QUEUED  |
//	node                              MULTI SET a 1 INCR b EXEC
//
// Without WATCH, the block uses the shared connection, in the order of the client's
// commands. After a redirect, keyway sends the block again: Redis has executed none of it.
// WATCH needs a connection of the client's own until EXEC. If anything happens to that
// connection, its node or its slot before EXEC, EXEC returns the null array, as if a
// watched key had changed.

// txns contains the transaction of each client that is in one, or watches keys.
var txns = engine.NewPerClient[txn]()

// txn is a client's transaction, from the first WATCH or from MULTI on.
type txn struct {
	transaction.Block
	broken  bool  // a command was refused, so EXEC discards the transaction
	keyless bool  // a script has no keys
	locks   bool  // a command may change a lock
	group   int32 // of all watched and queued keys, -1 if there are none so far
	// layoutEpoch is the worker's when group was found. Another layout has other groups.
	layoutEpoch uint64

	published []published
	late      []lateCommand
	lateBytes int   // total size of the frames in late
	selects   []int // the indexes of SELECTs among the commands
	alone     bool  // a command concerns all nodes, so there must be only one

	user  *acl.User       // the client's user at MULTI
	names map[string]bool // the watched keys
	node  *engine.Node    // the node of the watched keys
	watch *pool.Conn      // the connection that watches
	dials uint64          // of watch when WATCH was answered: another socket watches nothing
	lost  bool            // changes of the watched keys may have gone unnoticed

	next *dryrun.Keys // all watched and queued keys in the next layout; nil: none is tried
}

const (
	errNested       = "ERR MULTI calls can not be nested"                           // multi.c
	errNoMulti      = "ERR EXEC without MULTI"                                      // multi.c
	errNoDiscard    = "ERR DISCARD without MULTI"                                   // multi.c
	errWatchInMulti = "ERR WATCH inside MULTI is not allowed"                       // multi.c
	errExecAbort    = "EXECABORT Transaction discarded because of previous errors." // multi.c
	// In Redis, only the commands that are no longer allowed fail (multi.c, execCommand).
	errRulesChanged = "EXECABORT Transaction discarded because of: NOPERM ACLs rules changed between the moment " +
		"the transaction was accumulated and the EXEC call."
	errDenied = "ERR Command not allowed inside a transaction" // server.c

	errTxnTooLarge = "ERR keyway: the transaction is larger than limits.max_request; raise it, or send less at a time"
	errMultiAcross = "ERR keyway: '%s' concerns several nodes; send it outside MULTI"
	errMultiSpread = "ERR keyway: the transaction concerns all nodes, and there are several now; " +
		"send these commands outside MULTI"
	errLateStalled = "ERR keyway: a node's connection has no room; send it again outside MULTI"
	errMultiLocal  = "ERR keyway: '%s' cannot be queued in a transaction; send it outside MULTI"
)

var (
	multiFrame   = []byte("*1\r\n$5\r\nMULTI\r\n")
	execFrame    = []byte("*1\r\n$4\r\nEXEC\r\n")
	unwatchFrame = []byte("*1\r\n$7\r\nUNWATCH\r\n")
)

// transactions are the transactions of a worker's clients.
type transactions struct {
	engine.Inactive
	w *engine.Worker
}

// OnReject records that EXEC must discard the transaction. An EXEC that is refused itself
// ends it.
func (of transactions) OnReject(s *engine.Session, cmd *command.Command) {
	switch {
	case cmd != nil && cmd.Is(command.Executes):
		endTransaction(of.w, s)
	case s.Has(engine.InMulti):
		txns.Get(s).broken = true
	}
}

// Leave drops a client's transaction. The connection that watched for a client that has left
// is closed (see tickExclusive).
func (of transactions) Leave(s *engine.Session) {
	if !s.HasLeft() {
		endTransaction(of.w, s)
	}
}

// transactionOf returns the session's txn, and creates it if there is none.
func transactionOf(s *engine.Session) *txn {
	t := txns.Get(s)
	if t == nil {
		t = &txn{group: -1, layoutEpoch: s.Worker.LayoutEpoch}
		txns.Set(s, t)
		s.Block = &t.Block
	}
	return t
}

// Describe adds what a client has queued and watches.
func (of transactions) Describe(s *engine.Session, to *clients.Client) {
	t := txns.Get(s)
	if t == nil {
		return
	}
	if s.Has(engine.InMulti) {
		to.Queued = t.Queued
	}
	to.TransactionBytes, to.Watched = t.size(), len(t.names)
	to.Memory += cap(t.Frames)
}

// size returns how many bytes the commands take that wait for EXEC.
func (t *txn) size() int { return len(t.Frames) + t.lateBytes }

func multi(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	if s.Has(engine.InMulti) {
		return notInMulti(w, s, cmd, errNested)
	}
	t := transactionOf(s)
	t.Add(multiFrame)
	t.user = s.User
	s.Set(engine.InMulti)
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

// notInMulti refuses MULTI or WATCH between MULTI and EXEC. Since Valkey 8 this breaks the
// transaction.
func notInMulti(w *engine.Worker, s *engine.Session, cmd *command.Command, text string) bool {
	if w.Server.Name == "valkey" && !strings.HasPrefix(w.Server.Version, "7.") {
		return s.Reject(cmd, "ERR Command '"+cmd.Name+"' not allowed inside a transaction") // server.c
	}
	return s.AnswerError(cmd, text)
}

// queue queues a command between MULTI and EXEC.
func queue(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	t := transactionOf(s)
	frame, text := forBlock(w, t, cmd, a)
	switch {
	case text != "":
		return s.Reject(cmd, text)
	case t.size()+len(frame) > w.Inputs.Limits.MaxRequest:
		return s.Reject(cmd, errTxnTooLarge)
	}
	if cmd.Is(command.RunsCode) && len(w.Keys) == 0 {
		engine.TryNext(w, s, cmd, a)
	}
	if cmd.Is(command.Publishes) {
		t.published = append(t.published,
			published{at: t.Queued, cmd: cmd, channel: string(a.Arg(1)), uncounted: math.MaxInt64})
	}
	t.locks = t.locks || cmd.Lock.Changes()
	t.Add(frame)
	w.GrownBy += len(frame)
	t.Queued++
	if cmd.Is(command.CallsFunction) {
		t.Functions = append(t.Functions, string(a.Arg(1)))
	} else {
		t.Writes = t.Writes || w.Scripts.Replicates(cmd, a)
	}
	return s.Reply(cmd, resp.AppendSimple(w.Scratch[:0], "QUEUED"))
}

// forBlock returns the frame that the node gets for a command in a transaction, or an
// error if the transaction cannot contain the command.
func forBlock(w *engine.Worker, t *txn, cmd *command.Command, a command.Args) (frame []byte, text string) {
	frame = a.Frame()
	switch h := cmd.Handling; {
	case cmd.InMulti == command.NodeOfKeys:
		return frame, join(w, t, cmd, a)
	case hasPlace(cmd):
		return forBlockByKey(w, t, cmd, a)
	case h == command.AnyMaster && !mayBeLate(w, cmd), cmd.InMulti == command.NodeCanToo:
	case cmd.NeedsAll(a) && len(w.Masters) > 1:
		return nil, errtext.Refused(cmd)
	case cmd.InMulti == command.SelectsDatabase:
		t.selects = append(t.selects, t.Queued)
	case mayBeLate(w, cmd):
		t.late = append(t.late, lateCommand{t.Queued, cmd, bytes.Clone(frame)})
		t.lateBytes += len(frame)
		return pingFrame, ""
	case h == command.AllMasters && w.Parts.Handlers[cmd.Action].Answer != nil:
		return nil, errtext.Named(errMultiLocal, cmd)
	case (h == command.Whole || h == command.AllMasters) && len(w.Masters) == 1:
		t.alone = true
		return frame, forAll(w, cmd, a)
	case h == command.AllMasters:
		return nil, errtext.Named(errMultiAcross, cmd)
	case h == command.Local:
		return nil, errtext.Named(errMultiLocal, cmd)
	case h == command.NotYet:
		return nil, errtext.NotYet(cmd.Upper())
	default:
		return nil, errDenied
	}
	return frame, ""
}

// hasPlace reports whether a queued command belongs to the node of its keys.
func hasPlace(cmd *command.Command) bool {
	switch cmd.Handling {
	case command.ByKey, command.Split, command.Block: // it does not block in MULTI
		return true
	}
	return cmd.InMulti == command.NodeOfKeys
}

// forAll is forBlock for a command that concerns all nodes, where there is only one.
func forAll(w *engine.Worker, cmd *command.Command, a command.Args) (text string) {
	h := &w.Parts.Handlers[cmd.Action]
	if h.Check != nil {
		text = h.Check(w, a)
	}
	if h.Before != nil && text == "" {
		h.Before(w, a)
	}
	return text
}

// forBlockByKey is forBlock for a command with keys.
func forBlockByKey(w *engine.Worker, t *txn, cmd *command.Command, a command.Args) (frame []byte, text string) {
	if check := w.Parts.Handlers[cmd.Action].Check; check != nil {
		if text := check(w, a); text != "" {
			return nil, text
		}
	}
	if text := join(w, t, cmd, a); text != "" {
		return nil, text
	}
	if cmd.Unproven() {
		t.Scripts = true
		t.keyless = t.keyless || len(w.Keys) == 0
		w.Scripts.Record(cmd, a)
		if full := w.Scripts.AsEval(cmd, nil, a); full != nil {
			return full, "" // inside EXEC, a NOSCRIPT cannot be retried
		}
	}
	return a.Frame(), ""
}

// placeAgain finds the group of all keys anew if the layout was replaced since they were
// placed. It returns an error if they do not live together any more.
func (t *txn) placeAgain(w *engine.Worker) string {
	if t.layoutEpoch == w.LayoutEpoch {
		return ""
	}
	t.layoutEpoch, t.group = w.LayoutEpoch, -1
	for name := range t.names {
		group, id := w.Table.Place([]byte(name))
		if id < 0 && !w.Table.Slotted() || t.group >= 0 && group != t.group {
			t.lost, t.group = true, -1 // EXEC returns null, and the next WATCH gets the error
			return ""
		}
		t.group = group
	}
	p := w.Inputs.GetParser()
	defer w.Inputs.PutParser(p)
	for i := range t.Queued {
		_, st, err := p.Next(t.Frames[t.Ends[i]:t.Ends[i+1]], &resp.DefaultLimits) // Ends[0] is MULTI's
		if err != nil || st != resp.Ready {
			continue // not expected: it was queued
		}
		if cmd := w.Learned.CommandOf(p); cmd != nil && hasPlace(cmd) {
			if text := join(w, t, cmd, p); text != "" {
				return text
			}
		}
	}
	return ""
}

// join adds a command's keys to the transaction. It returns an error if they live in
// another group than the keys so far, or have no owner.
func join(w *engine.Worker, t *txn, cmd *command.Command, a command.Args) string {
	if text := t.placeAgain(w); text != "" {
		return text
	}
	group, id, crossing := w.Place(cmd, a)
	switch {
	case crossing != "":
		return crossing
	case len(w.Keys) == 0:
		return ""
	case id < 0 && w.Table.Slotted() && !w.MayGetOwner():
		return errtext.SlotUnbound
	case id < 0 && !w.Table.Slotted():
		return errtext.NoRule(a.Arg(w.Keys[0]))
	case t.group >= 0 && group != t.group:
		return errtext.CrossSlot
	}
	t.group = group
	if w.Next != nil {
		if t.next == nil {
			t.next = new(dryrun.Keys)
		}
		t.next.Add(w.Next, a, w.Keys)
	}
	return ""
}

func exec(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if !s.Has(engine.InMulti) {
		return s.AnswerError(cmd, errNoMulti)
	}
	t := txns.Get(s)
	crossing := t.placeAgain(w)
	t.lost = t.lost || crossing != "" && t.watch != nil
	if text := cannotRun(w, s, t, crossing); text != "" {
		endTransaction(w, s)
		return s.AnswerError(cmd, text)
	}
	switch {
	case t.watch != nil:
		return execWatched(w, s, cmd, a, t)
	case t.lost:
		endTransaction(w, s)
		return s.Reply(cmd, s.Protocol().AppendNullArray(w.Scratch[:0]))
	case t.Queued == 0:
		endTransaction(w, s)
		return s.Reply(cmd, resp.AppendArray(w.Scratch[:0], 0))
	}
	n, conn := w.AnyMaster(s)
	if t.group < 0 && t.keyless {
		t.group, _ = w.Scripts.KeylessPlace()
	}
	if t.group >= 0 {
		if n = w.OwnerOf(t.group); n != nil {
			conn = n.Conn(s)
		}
	}
	switch {
	case n == nil && (t.group < 0 || len(w.Nodes) == 0):
		endTransaction(w, s)
		return s.AnswerError(cmd, errtext.NoMasters)
	case n != nil && conn.Full():
		return s.Stall()
	case engine.MustDrain(s, len(t.Frames)+len(execFrame)):
		return false
	}
	showBlock(w, s, t)
	engine.TryNextTransaction(w, s, cmd, a, t.next)
	t.close(s)
	r := s.NewRequest(cmd)
	t.witness(w, r, n)
	c := t.call(w, r, n)
	endTransaction(w, s)
	if len(t.late)+len(t.selects) > 0 {
		s.Set(engine.Draining | engine.Blocked) // later commands depend on the outcome of these
	}
	if n == nil {
		engine.AwaitOwner(w, s, c, nil)
	} else {
		c.SendTo(n, nil)
	}
	return true
}

// cannotRun returns the error for an EXEC that discards the transaction, or "". crossing is the
// error if its keys do not live together any more.
func cannotRun(w *engine.Worker, s *engine.Session, t *txn, crossing string) string {
	switch {
	case t.broken:
		return errExecAbort
	case t.user != s.User && !mayStillRun(w, s, t):
		return errRulesChanged
	case crossing != "" && !t.lost:
		return "EXECABORT Transaction discarded because of: " + strings.TrimPrefix(crossing, "ERR ")
	case t.alone && len(w.Masters) != 1:
		return errMultiSpread
	}
	return ""
}

// mayStillRun reports whether the client's user, whose rules have changed since MULTI, may run
// all queued commands. The rules of a user with a prefix do not fit the queued names, which are
// whole, so the answer is no.
func mayStillRun(w *engine.Worker, s *engine.Session, t *txn) bool {
	if s.User.Prefix != nil {
		return false
	}
	p := w.Inputs.GetParser()
	defer w.Inputs.PutParser(p)
	for i := 1; i <= t.Queued; i++ { // behind MULTI
		if _, st, err := p.Next(t.shown(i-1), &resp.DefaultLimits); err != nil || st != resp.Ready {
			return false
		}
		cmd := w.Learned.CommandOf(p)
		if cmd == nil {
			return false
		}
		if v := s.User.Check(cmd, p, &w.Checks); v.Why != acl.Permitted {
			engine.CountDenial(w, s, cmd, p, v)
			return false
		}
	}
	return true
}

// close ends the block with EXEC. If the block contains SELECT, close first adds a SELECT
// of the client's database, since requests behind the block expect the connection in it.
func (t *txn) close(s *engine.Session) {
	if len(t.selects) > 0 {
		t.Add(resp.AppendCommand(nil, "SELECT", strconv.Itoa(int(s.DB))))
	}
	t.Add(execFrame)
}

// execWatched sends the block over the connection that watches the keys.
func execWatched(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args, t *txn) bool {
	if s.Inflight > 0 {
		s.Set(engine.Draining) // earlier commands, on other connections, finish first
		return false
	}
	n := t.node
	if t.lost || t.watch.State() != pool.Ready || t.watch.Stats.Dials != t.dials || w.OwnerOf(t.group) != n {
		endTransaction(w, s)
		return s.Reply(cmd, s.Protocol().AppendNullArray(w.Scratch[:0]))
	}
	if adaptsFirst(w, s, t) {
		return false
	}
	w.Hidden = true // shown once EXEC's reply says whether a key has changed
	engine.TryNextTransaction(w, s, cmd, a, t.next)
	t.close(s)
	r := s.NewRequest(cmd)
	t.witness(w, r, n)
	c := t.call(w, r, n)
	c.GoAloneOnce(&watched{call: c, txn: t, conn: t.watch})
	s.Clear(engine.InMulti)
	txns.Set(s, nil)
	s.Block = nil
	s.Set(engine.Draining | engine.Blocked) // later commands use other connections, so they wait
	c.SendTo(n, nil)
	return true
}

// endTransaction drops the session's transaction and unwatches its keys.
func endTransaction(w *engine.Worker, s *engine.Session) {
	s.Clear(engine.InMulti)
	if t := txns.Get(s); t != nil {
		txns.Set(s, nil)
		s.Block = nil
		if cap(t.Frames) > buffer.Chunk {
			w.Buffers.Drop(cap(t.Frames))
		}
		releaseWatched(w, t)
	}
}

// releaseWatched gives back the connection that watches.
func releaseWatched(w *engine.Worker, t *txn) {
	conn, n := t.watch, t.node
	if conn == nil {
		return
	}
	t.watch, t.Watches = nil, false
	if conn.State() != pool.Ready || conn.InFlight() > 0 {
		n.Release(conn, false)
		return
	}
	conn.Send(&engine.Probe{Done: func(reply []byte, ok bool) {
		n.Release(conn, ok && !refusal.IsNoPermission(reply))
	}}, unwatchFrame, w.Now, w.Deadline())
}

func discard(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	if !s.Has(engine.InMulti) {
		return s.AnswerError(cmd, errNoDiscard)
	}
	endTransaction(w, s)
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

func unwatch(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if s.Has(engine.InMulti) {
		return queueUnwatch(w, s, cmd, a)
	}
	endTransaction(w, s)
	return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
}

// queueUnwatch queues UNWATCH like any other command. Inside MULTI it has no effect.
func queueUnwatch(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	t := transactionOf(s)
	t.Add(a.Frame())
	t.Queued++
	return s.Reply(cmd, resp.AppendSimple(w.Scratch[:0], "QUEUED"))
}

// watch sends WATCH over a connection of the client's own. The client's next commands wait
// for the reply: WATCH would not protect a key that is read earlier.
func watch(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	if s.Has(engine.InMulti) {
		return notInMulti(w, s, cmd, errWatchInMulti)
	}
	if s.Inflight > 0 {
		s.Set(engine.Draining) // the client's earlier writes must not count as changes
		return false
	}
	t := transactionOf(s)
	if adaptsFirst(w, s, t) {
		return false
	}
	t.placeAgain(w)
	before := t.group
	if text := join(w, t, cmd, a); text != "" {
		t.group = before
		return s.AnswerError(cmd, text)
	}
	if t.names == nil {
		t.names = map[string]bool{}
	}
	for i := 1; i < a.Len(); i++ {
		t.names[string(a.Arg(i))] = true
	}
	n := w.OwnerOf(t.group)
	if n == nil {
		t.group = before
		return s.AnswerError(cmd, errtext.SlotUnbound)
	}
	if t.watch == nil && !t.lost {
		if !n.HasRoom() {
			return s.AnswerError(cmd, engine.TooManyExclusive)
		}
		t.node, t.watch, t.Watches = n, n.TakeExclusive(engine.ExclusiveConn{Session: s}), true
		t.dials = 0
	}
	if t.lost || n != t.node || t.dials != 0 && t.watch.Stats.Dials != t.dials {
		t.lost = true
		return s.Reply(cmd, resp.AppendOK(w.Scratch[:0]))
	}
	engine.TryNext(w, s, cmd, a)
	r := s.NewRequest(cmd)
	c := &r.Call
	c.Group = t.group
	c.GoAloneOnce(&watching{call: c, txn: t, first: t.dials == 0})
	s.Set(engine.Draining | engine.Blocked)
	c.SendTo(n, a.Frame())
	return true
}

// watching receives the reply to WATCH.
type watching struct {
	call  *engine.Call
	txn   *txn
	first bool // the connection watches nothing so far
}

func (r *watching) Take(_ *engine.Worker, _ *engine.Node, frame []byte) engine.Attempt {
	return engine.Attempt{Conn: r.txn.watch, Frame: frame, Deadline: r.call.Deadline}
}

func (r *watching) OnEnd() {}

// Decide returns the verdict about an error reply to WATCH. A redirect says that its slot
// has moved or is migrating.
func (r *watching) Decide(reply []byte) engine.Verdict {
	if refusal.IsRedirect(reply) {
		return engine.Verdict{Do: engine.Unwatched, Refresh: true}
	}
	return engine.Verdict{}
}

func (r *watching) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	t, w := r.txn, r.call.Worker()
	t.dials = conn.Stats.Dials
	reply := p.Bytes // of WATCH, always whole
	switch {
	case engine.Decide(w, r.call, conn, reply).Do == engine.Unwatched:
		// EXEC must return null. The client then starts again, and WATCH goes to the new node.
		t.lost = true
		w.Ready.Refresh = true
		reply = resp.AppendOK(nil)
	case p.Kind == '-' && r.first:
		r.forget()
	}
	r.call.SettleFor(reply)
}

func (r *watching) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	r.txn.lost = true
	if w := r.call.Worker(); conn.ConnectError() == "" && w.Now < r.call.Deadline {
		// The node has closed a working connection, so EXEC must return null. The
		// client then starts again, over another connection.
		r.txn.dials = conn.Stats.Dials
		r.call.SettleFor(resp.AppendOK(nil))
		return
	}
	if r.first {
		r.forget()
	}
	f.Sent = false // WATCH changes nothing, so the client may repeat it
	r.call.Failed(conn, frame, f)
}

// forget ends a transaction whose first WATCH has failed, since it watches nothing.
func (r *watching) forget() {
	if s := r.call.Request.Session; s != nil && txns.Get(s) == r.txn {
		endTransaction(r.call.Worker(), s)
	}
}

// watched receives the reply to the EXEC of a block on the connection that watches its
// keys.
type watched struct {
	call *engine.Call
	txn  *txn
	conn *pool.Conn
}

func (e *watched) Take(_ *engine.Worker, n *engine.Node, frame []byte) engine.Attempt {
	e.call.Request.Session.WroteTo.Add(n.Ordinal)
	return engine.Attempt{Conn: e.conn, Frame: frame, Deadline: e.call.Deadline}
}

func (e *watched) OnEnd() {}

// Decide returns the verdict about an error reply to EXEC. At another node, or later,
// nothing would be watched.
func (e *watched) Decide(reply []byte) engine.Verdict {
	if refusal.CannotServe(reply) {
		return engine.Verdict{Do: engine.Unwatched, Refresh: true}
	}
	return engine.Verdict{}
}

func (e *watched) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	c := e.call
	if p.First {
		showWatched(c.Worker(), c.Request.Session, e.txn, p.Kind == '*' && !resp.IsNull(p.Bytes))
	}
	if p.Last {
		c.Node.Release(e.conn, !refusal.IsNoPermission(p.Bytes)) // after that, the connection is still inside MULTI
	}
	if p.Kind != '-' || !p.Whole() {
		s := c.Request.Session
		c.Reply(conn, frame, p)
		if p.Last && s != nil && s.Has(engine.Tracks) {
			s.OwnConns.ForgetAll() // no node tracks the keys that it has read
		}
		return
	}
	w, cause := c.Worker(), c.Block.Cause(p.Bytes)
	if engine.Decide(w, c, conn, cause).Do == engine.Unwatched {
		w.Ready.Refresh = true
		c.SettleNull()
		return
	}
	c.SettleFor(transaction.Aborted(p.Bytes, cause))
}

func (e *watched) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	c := e.call
	c.Node.Release(e.conn, false)
	if !f.Midway {
		showWatched(c.Worker(), c.Request.Session, e.txn, false)
	}
	if !f.Sent && !c.Request.Begun {
		c.SettleNull()
		return
	}
	c.Failed(conn, frame, f)
}
