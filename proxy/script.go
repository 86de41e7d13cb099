package proxy

import (
	"bytes"
	"crypto/sha1"
	"hash/maphash"
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// What the script cache may hold. Past that, the scripts seen longest ago go.
const (
	maxScripts     = 8192
	maxScriptBytes = 16 << 20
)

// scriptCache remembers the scripts that passed through, so that one can be
// sent again in full to a node that has lost it: clients behind a single Redis
// load a script once and count on it.
type scriptCache struct {
	seed   maphash.Seed
	perKey *command.PerKeyScripts
	bySHA  map[string]script // by hex SHA-1
	byHash map[uint64]string // maphash of the body -> SHA-1: EVAL is not to cost a SHA-1 each time
	order  []string
	bytes  int
}

// script is one that keyway knows.
type script struct {
	body   []byte
	perKey *command.PerKey // how it can be split; nil: it cannot

	harmless bool // it surely writes nothing
}

// get returns the script with that hex SHA-1 in any case.
func (sc *scriptCache) get(sha []byte) (script, bool) {
	if len(sha) != 2*sha1.Size {
		return script{}, false
	}
	known, ok := sc.bySHA[string(bytes.ToLower(sha))]
	return known, ok
}

// body returns the text of the script with that hex SHA-1, nil if it is unknown.
func (sc *scriptCache) body(sha []byte) []byte {
	known, _ := sc.get(sha)
	return known.body
}

// of returns the script of an EVAL or EVALSHA, if it is known.
func (sc *scriptCache) of(cmd *command.Command, a command.Args) (script, bool) {
	if !cmd.Is(command.TakesScript) {
		return sc.get(a.Arg(1))
	}
	known, ok := sc.bySHA[sc.byHash[maphash.Bytes(sc.seed, a.Arg(1))]]
	return known, ok && bytes.Equal(known.body, a.Arg(1))
}

// add remembers a script. It tells whether it was new.
func (sc *scriptCache) add(body []byte) bool {
	h := maphash.Bytes(sc.seed, body)
	if sha, ok := sc.byHash[h]; ok && bytes.Equal(sc.bySHA[sha].body, body) {
		return false
	}
	if len(body) > maxScriptBytes/4 {
		return false
	}
	if sc.bySHA == nil {
		sc.bySHA, sc.byHash = map[string]script{}, map[uint64]string{}
	}
	sha := command.SHA1(body)
	if _, ok := sc.bySHA[sha]; ok {
		return false
	}
	for len(sc.order) >= maxScripts || sc.bytes+len(body) > maxScriptBytes {
		sc.evict()
	}
	sc.bySHA[sha] = script{body: bytes.Clone(body), perKey: sc.perKey.Find(sha, body), harmless: isHarmless(body)}
	sc.byHash[h] = sha
	sc.order = append(sc.order, sha)
	sc.bytes += len(body)
	return true
}

func (sc *scriptCache) evict() {
	sha := sc.order[0]
	sc.order = sc.order[1:]
	body := sc.bySHA[sha].body
	sc.bytes -= len(body)
	delete(sc.bySHA, sha)
	delete(sc.byHash, maphash.Bytes(sc.seed, body))
}

func (sc *scriptCache) reset() { *sc = scriptCache{seed: sc.seed, perKey: sc.perKey} }

// noteScript remembers the script of an EVAL, and warns of a script without keys,
// which are in w.keys.
func (w *Worker) noteScript(cmd *command.Command, a command.Args) {
	if cmd.Is(command.TakesScript) {
		w.learnScript(a.Arg(1))
	}
	if len(w.keys) == 0 {
		w.warnKeyless(cmd, a)
	}
}

// learnScript has every worker remember a script.
func (w *Worker) learnScript(body []byte) {
	if w.scripts.add(body) && w.o.Workers > 1 {
		body = bytes.Clone(body)
		w.tellSiblings(func(o *Worker) { o.scripts.add(body) })
	}
}

func (w *Worker) forgetScripts() {
	w.scripts.reset()
	w.tellSiblings(func(o *Worker) { o.scripts.reset() })
}

// knownScripts appends, for each script that a SCRIPT EXISTS names, 1 if keyway
// has it. EVALSHA works for such a script, whatever the nodes have.
func (w *Worker) knownScripts(dst []int32, a command.Args) []int32 {
	for i := 2; i < a.Len(); i++ {
		known := int32(0)
		if w.scripts.body(a.Arg(i)) != nil {
			known = 1
		}
		dst = append(dst, known)
	}
	return dst
}

// markKnown appends the nodes' reply to SCRIPT EXISTS with a 1 for each script
// that is known.
func markKnown(dst, reply []byte, known []int32) []byte {
	n, rest, ok := resp.Elements(reply)
	if !ok || n != len(known) {
		return append(dst, reply...)
	}
	dst = resp.AppendArray(dst, n)
	for _, k := range known {
		var exists []byte
		if exists, rest, _ = resp.Split(rest); k == 1 {
			exists = []byte(":1\r\n")
		}
		dst = append(dst, exists...)
	}
	return dst
}

// inFull returns an EVALSHA as the EVAL of its script, for a node that is not
// known to have it (or whichever node it may be: nil), or nil if it may go as it is. An EVAL is never answered with
// Redis's own NOSCRIPT, so what comes back is beyond doubt. The bytes are valid
// until the next call.
func (w *Worker) inFull(cmd *command.Command, n *node, a command.Args) []byte {
	if !cmd.Is(command.TakesSHA) {
		return nil
	}
	eval, body := w.textFor(cmd, n, a.Arg(1))
	if body == nil {
		return nil
	}
	frame := resp.AppendArray(w.frame[:0], a.Len())
	frame = resp.AppendBulkString(frame, eval)
	frame = resp.AppendBulk(frame, body)
	frame = append(frame, a.Tail(2)...)
	w.frame = w.buffers.Scratch(frame)
	return frame
}

// textFor returns the command and the text by which an EVALSHA has to go to a node;
// no text if it may go as it is.
func (w *Worker) textFor(cmd *command.Command, n *node, sha []byte) (eval string, body []byte) {
	if !cmd.Is(command.TakesSHA) || n != nil && n.proven[string(sha)] {
		return "", nil
	}
	if body = w.scripts.body(sha); cmd.Has(readOnly) {
		return "EVAL_RO", body
	}
	return "EVAL", body
}

// hasScript notes that the node has executed the EVAL in frame.
func (w *Worker) hasScript(n *node, frame []byte) {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready || p.Len() < 2 {
		return
	}
	sha, known := w.scripts.byHash[maphash.Bytes(w.scripts.seed, p.Arg(1))]
	if !known {
		return
	}
	if n.proven == nil || len(n.proven) >= maxScripts {
		n.proven = map[string]bool{}
	}
	n.proven[sha] = true
}

// onNoScript handles a node that says it lacks a script: one that somebody has
// flushed, or that keyway knows and nobody has told the node. A script's own error
// may say so too, so the node is asked; only if the script is missing indeed, and
// so cannot have run, it is sent in full.
func (w *Worker) onNoScript(c *call, conn *pool.Conn, frame, reply []byte) bool {
	var p resp.Parser
	if _, st, err := p.Next(frame, &w.limits); err != nil || st != resp.Ready || !command.EqualFold(p.Arg(0), c.req.cmd.Name) {
		return false // it was sent in full
	}
	sha := string(p.Arg(1))
	delete(c.node.proven, sha)
	if w.o.Workers < 2 && w.scripts.body(p.Arg(1)) == nil || c.req.sess.sentAfter(c) {
		// Nobody knows it; or, sent again, it would act after a later command of
		// the same client.
		return false
	}
	frame, reply = bytes.Clone(frame), bytes.Clone(reply)
	w.fence(c)
	c.req.sess.lookInto(c)
	w.askExists(conn, sha, w.replyBy(c), func(exists []byte, ok bool) {
		if !ok || !bytes.Equal(exists, []byte("*1\r\n:0\r\n")) {
			w.comeBack(c, reply)
			return
		}
		w.findScript(sha, func() { w.sendInFull(c, frame, reply) })
	})
	return true
}

// comeBack settles a call that was looked into with what the node has said.
func (w *Worker) comeBack(c *call, reply []byte) {
	if s := c.req.sess; s != nil {
		s.back(c)
	}
	w.settleFor(c, reply)
}

// sendInFull sends the script of an EVALSHA that the node lacks, if it is known.
func (w *Worker) sendInFull(c *call, frame, reply []byte) {
	var p resp.Parser
	p.Next(frame, &w.limits)
	full := w.inFull(c.req.cmd, nil, &p)
	if full == nil || c.req.sess == nil {
		w.comeBack(c, reply)
		return
	}
	c.req.sess.back(c)
	w.stats.NoScript++
	c.inFull = true
	how := plain
	if c.asking {
		how = behindAsking
	}
	w.start(c, c.node, full, how)
}

// findScript calls done when the script is known, if any worker knows it: one may
// have learned it from a client just now, and be about to tell the others.
func (w *Worker) findScript(sha string, done func()) {
	if w.o.Workers < 2 || w.scripts.body([]byte(sha)) != nil {
		done()
		return
	}
	w.askSiblings(func(o *Worker) any { return o.scripts.body([]byte(sha)) }, func(answers []any) {
		for _, answer := range answers {
			if body := answer.([]byte); body != nil {
				w.scripts.add(body)
			}
		}
		done()
	})
}

// lookup is a SCRIPT EXISTS that is under way.
type lookup struct {
	conn *pool.Conn
	sha  string
}

// askExists asks the node whether it has a script. Who asks while another does,
// over the same connection, gets the same answer: his EVALSHA went before that
// question, and what may load the script goes behind it.
func (w *Worker) askExists(conn *pool.Conn, sha string, deadline int64, done func(exists []byte, ok bool)) {
	l := lookup{conn, sha}
	if w.lookups[l] = append(w.lookups[l], done); len(w.lookups[l]) > 1 {
		return
	}
	w.ask(conn, deadline, func(exists []byte, ok bool) {
		waiting := w.lookups[l]
		delete(w.lookups, l)
		for _, done := range waiting {
			done(exists, ok)
		}
	}, "SCRIPT", "EXISTS", sha)
}

// confirm looks into a script's reply that says that it was not executed here, or
// not now. A script may say anything, and may have written before. So the node is
// asked about the same keys by a plain command, on the same connection: only if it
// says the same to that one, or has refused another in the meantime, as proven
// finds, it has not executed the script. proven goes on with it then. (What stays
// open is a script that lies with the very address that its slot moves to, or in
// Redis's very words, in the moment in which the slot moves or the cluster goes
// down.)
func (w *Worker) confirm(c *call, conn *pool.Conn, frame, reply []byte, proven func(said, frame, reply []byte) bool) bool {
	exists := existsOf(c, frame)
	if exists == nil {
		return false
	}
	frame, reply = bytes.Clone(frame), bytes.Clone(reply)
	w.fence(c)
	c.req.sess.lookInto(c)
	asked := &probe{done: func(said []byte, ok bool) {
		s := c.req.sess
		if s == nil {
			c.req.parts--
			w.freeIfDone(c.req)
			return
		}
		s.back(c)
		if ok {
			c.node.refused(w.now, said)
		}
		switch {
		case c.passed:
			w.stats.Overtaken++
		case ok && proven(said, frame, reply):
			return
		}
		w.overtaken(s, c)
		if !ok {
			w.stats.UnknownOutcome++
			reply = resp.AppendError(nil, errOutcomeUnknown(c.node, pool.Failure{Reason: "while its error was looked into"}))
		}
		w.settle(c, reply)
	}}
	c.node.asMaster(conn, func() {
		if c.asking {
			conn.SendAsking(nil, asked, exists, w.now, w.replyBy(c))
		} else {
			conn.Send(asked, exists, w.now, w.replyBy(c))
		}
	})
	return true
}

// hold puts a script off that would go to a node that refuses all. If it is well in a
// moment it could not be proven that it has refused this.
func (w *Worker) hold(c *call, n *node, frame []byte) bool {
	c.node = n
	return c.group >= 0 && !c.replica && n.refusedAll(w.now-retryMax, n.refusal) && w.putOff(c, frame, n.refusal)
}

// scout asks about the keys of the first script that a session has put off before
// it sends anything again: a script that is not sent in vain need not be looked
// into. It tells whether there is something to wait for.
func (w *Worker) scout(s *Session) bool {
	i := slices.IndexFunc(s.retry, func(c *call) bool { return c.req.cmd.Unproven() })
	if i < 0 {
		return false
	}
	c := s.retry[i]
	n, exists := w.ownerOf(c.group), existsOf(c, c.frame)
	if n == nil || exists == nil || n.conn(s).Refusing() != "" {
		return false
	}
	t := s.trouble // the client may leave it behind
	t.scouting = true
	conn, asked := n.conn(s), &probe{done: func(said []byte, ok bool) {
		t.scouting = false
		if ok && n.refused(w.now, said) {
			t.retryAt = w.now + w.set.Rand.Int64N(retryMax)
		} else {
			t.scouted = true
		}
	}}
	n.asMaster(conn, func() { conn.Send(asked, exists, w.now, w.deadline()) })
	return true
}

// existsOf is a plain command for the keys of a script, nil if it has none.
func existsOf(c *call, frame []byte) []byte {
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready {
		return nil
	}
	keys := c.req.cmd.Keys(&p, nil)
	if len(keys) == 0 {
		return nil
	}
	exists := resp.AppendBulkString(resp.AppendArray(nil, 1+len(keys)), "EXISTS")
	for _, k := range keys {
		exists = resp.AppendBulk(exists, p.Arg(k))
	}
	return exists
}
