package proxy

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
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
var txns = newPerClient[txn]()

// txn is a client's transaction, from the first WATCH or from MULTI on.
type txn struct {
	block
	broken  bool  // a command was refused, so EXEC discards the transaction
	keyless bool  // a script has no keys
	group   int32 // of all watched and queued keys, -1 if there are none so far

	published []published
	late      []lateCommand
	lateBytes int   // total size of the frames in late
	selects   []int // the indexes of SELECTs among the commands
	alone     bool  // a command concerns all nodes, so there must be only one

	names map[string]bool // the watched keys
	node  *node           // the node of the watched keys
	watch *pool.Conn      // the connection that watches
	dials uint64          // of watch when WATCH was answered: another socket watches nothing
	lost  bool            // changes of the watched keys may have gone unnoticed
}

const (
	errNested       = "ERR MULTI calls can not be nested"                           // multi.c
	errNoMulti      = "ERR EXEC without MULTI"                                      // multi.c
	errNoDiscard    = "ERR DISCARD without MULTI"                                   // multi.c
	errWatchInMulti = "ERR WATCH inside MULTI is not allowed"                       // multi.c
	errExecAbort    = "EXECABORT Transaction discarded because of previous errors." // multi.c
	errDenied       = "ERR Command not allowed inside a transaction"                // server.c

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
	inactive
	w *Worker
}

// rejected records that EXEC must discard the transaction. An EXEC that is rejected itself
// ends it.
func (of transactions) rejected(s *Session, cmd *command.Command) {
	switch {
	case cmd != nil && cmd.Is(command.Executes):
		endTransaction(of.w, s)
	case s.has(inMulti):
		txns.of(s).broken = true
	}
}

// leave drops a client's transaction. The connection that watched for a client that has left
// is closed (see tickExclusive).
func (of transactions) leave(s *Session) {
	if s.index >= 0 {
		endTransaction(of.w, s)
	}
}

// transactionOf returns the session's txn, and creates it if there is none.
func transactionOf(s *Session) *txn {
	t := txns.of(s)
	if t == nil {
		t = &txn{group: -1}
		txns.set(s, t)
		s.block = &t.block
	}
	return t
}

// describe adds what a client has queued and watches.
func (of transactions) describe(s *Session, to *clients.Client) {
	t := txns.of(s)
	if t == nil {
		return
	}
	if s.has(inMulti) {
		to.Queued = t.n
	}
	to.TransactionBytes, to.Watched = t.size(), len(t.names)
	to.Memory += cap(t.frames)
}

// size returns how many bytes the commands take that wait for EXEC.
func (t *txn) size() int { return len(t.frames) + t.lateBytes }

func multi(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if s.has(inMulti) {
		return notInMulti(w, s, cmd, errNested)
	}
	transactionOf(s).add(multiFrame)
	s.set(inMulti)
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

// notInMulti refuses MULTI or WATCH between MULTI and EXEC. Since Valkey 8 this breaks the
// transaction.
func notInMulti(w *Worker, s *Session, cmd *command.Command, text string) bool {
	if w.server.Name == "valkey" && !strings.HasPrefix(w.server.Version, "7.") {
		return s.reject(cmd, "ERR Command '"+cmd.Name+"' not allowed inside a transaction") // server.c
	}
	return s.answerError(cmd, text)
}

// queue queues a command between MULTI and EXEC.
func queue(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	t := transactionOf(s)
	frame, text := forBlock(w, t, cmd, a)
	switch {
	case text != "":
		return s.reject(cmd, text)
	case t.size()+len(frame) > w.inputs.limits.MaxRequest:
		return s.reject(cmd, errTxnTooLarge)
	}
	if cmd.Is(command.Publishes) {
		t.published = append(t.published,
			published{at: t.n, cmd: cmd, channel: string(a.Arg(1)), uncounted: math.MaxInt64})
	}
	t.add(frame)
	w.grown += len(frame)
	t.n++
	if cmd.Is(command.CallsFunction) {
		t.functions = append(t.functions, string(a.Arg(1)))
	} else {
		t.writes = t.writes || w.scripts.replicates(cmd, a)
	}
	return s.reply(cmd, resp.AppendSimple(w.scratch[:0], "QUEUED"))
}

// forBlock returns the frame that the node gets for a command in a transaction, or an
// error if the transaction cannot contain the command.
func forBlock(w *Worker, t *txn, cmd *command.Command, a command.Args) (frame []byte, text string) {
	frame = a.Frame()
	switch h := cmd.Handling; {
	case h == command.ByKey, h == command.Split, h == command.Block: // it does not block in MULTI
		return forBlockByKey(w, t, cmd, a)
	case cmd.InMulti == command.NodeOfKeys:
		return frame, join(w, t, cmd, a)
	case h == command.AnyMaster, cmd.InMulti == command.NodeCanToo:
	case cmd.NeedsAll(a) && len(w.masters) > 1:
		return nil, errtext.Refused(cmd)
	case cmd.InMulti == command.SelectsDatabase:
		t.selects = append(t.selects, t.n)
	case mayBeLate(w, cmd):
		t.late = append(t.late, lateCommand{t.n, cmd, bytes.Clone(frame)})
		t.lateBytes += len(frame)
		return pingFrame, ""
	case (h == command.Whole || h == command.AllMasters) && len(w.masters) == 1:
		t.alone = true
		if before := handlers[cmd.Action].before; before != nil {
			before(w, a)
		}
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

// forBlockByKey is forBlock for a command with keys.
func forBlockByKey(w *Worker, t *txn, cmd *command.Command, a command.Args) (frame []byte, text string) {
	if check := handlers[cmd.Action].check; check != nil {
		if text := check(w, a); text != "" {
			return nil, text
		}
	}
	if text := join(w, t, cmd, a); text != "" {
		return nil, text
	}
	if cmd.Unproven() {
		t.scripts = true
		t.keyless = t.keyless || len(w.keys) == 0
		w.scripts.note(cmd, a)
		if full := w.scripts.asEval(cmd, nil, a); full != nil {
			return full, "" // inside EXEC, a NOSCRIPT cannot be retried
		}
	}
	return a.Frame(), ""
}

// join adds a command's keys to the transaction. It returns an error if they live in
// another group than the keys so far, or have no owner.
func join(w *Worker, t *txn, cmd *command.Command, a command.Args) string {
	group, id, crossing := w.place(cmd, a)
	switch {
	case crossing != "":
		return crossing
	case len(w.keys) == 0:
		return ""
	case id < 0 && w.table.Slotted() && !w.mayGetOwner():
		return errtext.SlotUnbound
	case id < 0 && !w.table.Slotted():
		return errtext.NoRule(a.Arg(w.keys[0]))
	case t.group >= 0 && group != t.group:
		return errtext.CrossSlot
	}
	t.group = group
	return ""
}

func exec(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if !s.has(inMulti) {
		return s.answerError(cmd, errNoMulti)
	}
	t := txns.of(s)
	switch {
	case t.broken:
		endTransaction(w, s)
		return s.answerError(cmd, errExecAbort)
	case t.alone && len(w.masters) != 1:
		endTransaction(w, s)
		return s.answerError(cmd, errMultiSpread)
	case t.watch != nil:
		return execWatched(w, s, cmd, t)
	case t.lost:
		endTransaction(w, s)
		return s.reply(cmd, s.protocol().AppendNullArray(w.scratch[:0]))
	case t.n == 0:
		endTransaction(w, s)
		return s.reply(cmd, resp.AppendArray(w.scratch[:0], 0))
	}
	n, conn := w.anyMaster(s)
	if t.group < 0 && t.keyless {
		t.group, _ = w.scripts.keylessPlace()
	}
	if t.group >= 0 {
		if n = w.ownerOf(t.group); n != nil {
			conn = n.conn(s)
		}
	}
	switch {
	case n == nil && (t.group < 0 || len(w.nodes) == 0):
		endTransaction(w, s)
		return s.answerError(cmd, errtext.NoMasters)
	case n != nil && conn.Full():
		return s.stall()
	case mustDrain(s, len(t.frames)+len(execFrame)):
		return false
	}
	showBlock(w, s, t)
	t.close(s)
	c := t.call(w, s.newRequest(cmd), n)
	endTransaction(w, s)
	if len(t.late)+len(t.selects) > 0 {
		s.set(draining | blocked) // later commands depend on the outcome of these
	}
	if n == nil {
		await(w, s, c, nil)
	} else {
		c.send(n, nil)
	}
	return true
}

// close ends the block with EXEC. If the block contains SELECT, close first adds a SELECT
// of the client's database, since requests behind the block expect the connection in it.
func (t *txn) close(s *Session) {
	if len(t.selects) > 0 {
		t.add(resp.AppendCommand(nil, "SELECT", strconv.Itoa(int(s.db))))
	}
	t.add(execFrame)
}

// execWatched sends the block over the connection that watches the keys.
func execWatched(w *Worker, s *Session, cmd *command.Command, t *txn) bool {
	if s.inflight > 0 {
		s.set(draining) // earlier commands, on other connections, finish first
		return false
	}
	n := t.node
	if t.lost || t.watch.State() != pool.Ready || t.watch.Stats.Dials != t.dials || w.ownerOf(t.group) != n {
		endTransaction(w, s)
		return s.reply(cmd, s.protocol().AppendNullArray(w.scratch[:0]))
	}
	w.hidden = true // shown once EXEC's reply says whether a key has changed
	t.close(s)
	c := t.call(w, s.newRequest(cmd), n)
	c.goAloneOnce(&watched{call: c, txn: t, conn: t.watch})
	s.clear(inMulti)
	txns.set(s, nil)
	s.block = nil
	s.set(draining | blocked) // later commands use other connections, so they wait
	c.send(n, nil)
	return true
}

// endTransaction drops the session's transaction and unwatches its keys.
func endTransaction(w *Worker, s *Session) {
	s.clear(inMulti)
	if t := txns.of(s); t != nil {
		txns.set(s, nil)
		s.block = nil
		if cap(t.frames) > buffer.Chunk {
			w.buffers.Drop(cap(t.frames))
		}
		releaseWatched(w, t)
	}
}

// releaseWatched gives back the connection that watches.
func releaseWatched(w *Worker, t *txn) {
	conn, n := t.watch, t.node
	if conn == nil {
		return
	}
	t.watch, t.watches = nil, false
	if conn.State() != pool.Ready || conn.InFlight() > 0 {
		n.release(conn, false)
		return
	}
	conn.Send(&probe{done: func(_ []byte, ok bool) { n.release(conn, ok) }}, unwatchFrame, w.now, w.deadline())
}

func discard(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	if !s.has(inMulti) {
		return s.answerError(cmd, errNoDiscard)
	}
	endTransaction(w, s)
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

func unwatch(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if s.has(inMulti) {
		return queueUnwatch(w, s, cmd, a)
	}
	endTransaction(w, s)
	return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
}

// queueUnwatch queues UNWATCH like any other command. Inside MULTI it has no effect.
func queueUnwatch(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	t := transactionOf(s)
	t.add(a.Frame())
	t.n++
	return s.reply(cmd, resp.AppendSimple(w.scratch[:0], "QUEUED"))
}

// watch sends WATCH over a connection of the client's own. The client's next commands wait
// for the reply: WATCH would not protect a key that is read earlier.
func watch(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if s.has(inMulti) {
		return notInMulti(w, s, cmd, errWatchInMulti)
	}
	if s.inflight > 0 {
		s.set(draining) // the client's earlier writes must not count as changes
		return false
	}
	t := transactionOf(s)
	before := t.group
	if text := join(w, t, cmd, a); text != "" {
		t.group = before
		return s.answerError(cmd, text)
	}
	if t.names == nil {
		t.names = map[string]bool{}
	}
	for i := 1; i < a.Len(); i++ {
		t.names[string(a.Arg(i))] = true
	}
	n := w.ownerOf(t.group)
	if n == nil {
		t.group = before
		return s.answerError(cmd, errtext.SlotUnbound)
	}
	if t.watch == nil && !t.lost {
		if !n.hasRoom() {
			return s.answerError(cmd, errTooManyHeld)
		}
		t.node, t.watch, t.watches = n, n.takeExclusive(inUse{sess: s}), true
		t.dials = 0
	}
	if t.lost || n != t.node || t.dials != 0 && t.watch.Stats.Dials != t.dials {
		t.lost = true
		return s.reply(cmd, resp.AppendOK(w.scratch[:0]))
	}
	r := s.newRequest(cmd)
	c := &r.call
	c.group = t.group
	c.goAloneOnce(&watching{call: c, txn: t, first: t.dials == 0})
	s.set(draining | blocked)
	c.send(n, a.Frame())
	return true
}

// watching receives the reply to WATCH.
type watching struct {
	call  *call
	txn   *txn
	first bool // the connection watches nothing so far
}

func (r *watching) take(_ *Worker, _ *node, frame []byte) trip {
	return trip{conn: r.txn.watch, frame: frame, deadline: r.call.deadline}
}

func (r *watching) finished() {}

// decide returns the verdict about an error reply to WATCH. A redirect says that its slot
// has moved or is migrating.
func (r *watching) decide(reply []byte) verdict {
	if isRedirect(reply) {
		return verdict{do: unwatched, refresh: true}
	}
	return verdict{}
}

func (r *watching) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	t, w := r.txn, r.call.worker()
	t.dials = conn.Stats.Dials
	reply := p.Bytes // of WATCH, always whole
	switch {
	case decide(w, r.call, conn, reply).do == unwatched:
		// EXEC must return null. The client then starts again, and WATCH goes to the new node.
		t.lost = true
		w.ready.Refresh = true
		reply = resp.AppendOK(nil)
	case p.Kind == '-' && r.first:
		r.forget()
	}
	r.call.settleFor(reply)
}

func (r *watching) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	r.txn.lost = true
	if w := r.call.worker(); conn.ConnectError() == "" && w.now < r.call.deadline {
		// The node has closed a working connection, so EXEC must return null. The
		// client then starts again, over another connection.
		r.txn.dials = conn.Stats.Dials
		r.call.settleFor(resp.AppendOK(nil))
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
	if s := r.call.req.sess; s != nil && txns.of(s) == r.txn {
		endTransaction(r.call.worker(), s)
	}
}

// watched receives the reply to the EXEC of a block on the connection that watches its
// keys.
type watched struct {
	call *call
	txn  *txn
	conn *pool.Conn
}

func (e *watched) take(_ *Worker, n *node, frame []byte) trip {
	e.call.req.sess.wrote.Add(n.ordinal)
	return trip{conn: e.conn, frame: frame, deadline: e.call.deadline}
}

func (e *watched) finished() {}

// decide returns the verdict about an error reply to EXEC. At another node, or later,
// nothing would be watched.
func (e *watched) decide(reply []byte) verdict {
	if notHere(reply) {
		return verdict{do: unwatched, refresh: true}
	}
	return verdict{}
}

func (e *watched) Reply(conn *pool.Conn, frame []byte, p pool.Piece) {
	c := e.call
	if p.First {
		showWatched(c.worker(), c.req.sess, e.txn, p.Kind == '*' && !resp.IsNull(p.Bytes))
	}
	if p.Last {
		c.node.release(e.conn, true)
	}
	if p.Kind != '-' || !p.Whole() {
		s := c.req.sess
		c.Reply(conn, frame, p)
		if p.Last && s != nil && s.has(tracks) {
			s.ownConns.forgetAll() // no node tracks the keys that it has read
		}
		return
	}
	w, cause := c.worker(), c.block.cause(p.Bytes)
	if decide(w, c, conn, cause).do == unwatched {
		w.ready.Refresh = true
		c.settleNull()
		return
	}
	c.settleFor(aborted(p.Bytes, cause))
}

func (e *watched) Failed(conn *pool.Conn, frame []byte, f pool.Failure) {
	c := e.call
	c.node.release(e.conn, false)
	if !f.Midway {
		showWatched(c.worker(), c.req.sess, e.txn, false)
	}
	if !f.Sent && !c.req.begun {
		c.settleNull()
		return
	}
	c.Failed(conn, frame, f)
}
