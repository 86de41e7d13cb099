package proxy

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"hash/maphash"

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
	bySHA  map[string][]byte // hex SHA-1 -> body
	byHash map[uint64]string // maphash of the body -> SHA-1: EVAL is not to cost a SHA-1 each time
	order  []string
	bytes  int
}

// body returns the script with that hex SHA-1 in any case, nil if unknown.
func (sc *scriptCache) body(sha []byte) []byte {
	if len(sha) != 2*sha1.Size {
		return nil
	}
	return sc.bySHA[string(bytes.ToLower(sha))]
}

// add remembers a script. It tells whether it was new.
func (sc *scriptCache) add(body []byte) bool {
	h := maphash.Bytes(sc.seed, body)
	if sha, ok := sc.byHash[h]; ok && bytes.Equal(sc.bySHA[sha], body) {
		return false
	}
	if len(body) > maxScriptBytes/4 {
		return false
	}
	if sc.bySHA == nil {
		sc.bySHA, sc.byHash = map[string][]byte{}, map[uint64]string{}
	}
	sum := sha1.Sum(body)
	sha := hex.EncodeToString(sum[:])
	if _, ok := sc.bySHA[sha]; ok {
		return false
	}
	for len(sc.order) >= maxScripts || sc.bytes+len(body) > maxScriptBytes {
		sc.evict()
	}
	sc.bySHA[sha] = bytes.Clone(body)
	sc.byHash[h] = sha
	sc.order = append(sc.order, sha)
	sc.bytes += len(body)
	return true
}

func (sc *scriptCache) evict() {
	sha := sc.order[0]
	sc.order = sc.order[1:]
	body := sc.bySHA[sha]
	sc.bytes -= len(body)
	delete(sc.bySHA, sha)
	delete(sc.byHash, maphash.Bytes(sc.seed, body))
}

func (sc *scriptCache) reset() { *sc = scriptCache{seed: sc.seed} }

// noteScript remembers the script of an EVAL.
func (w *Worker) noteScript(cmd *command.Command, a command.Args) {
	if cmd.Name == "eval" || cmd.Name == "eval_ro" {
		w.learnScript(a.Arg(1), true)
	}
}

func (w *Worker) learnScript(body []byte, tell bool) {
	if w.scripts.add(body) && tell && w.o.Workers > 1 {
		w.ready.Scripts = append(w.ready.Scripts, bytes.Clone(body))
	}
}

func (w *Worker) forgetScripts(tell bool) {
	w.scripts.reset()
	if tell && w.o.Workers > 1 {
		w.ready.Scripts = append(w.ready.Scripts, nil)
	}
}

// LearnScript brings what a sibling's Ready.Scripts said.
func (w *Worker) LearnScript(body []byte) {
	if body == nil {
		w.forgetScripts(false)
		return
	}
	w.learnScript(body, false)
}

// onNoScript handles a node that says it lacks a script which clients have
// loaded. A script's own error may say so too, so the node is asked; only if
// the script is missing indeed, and so cannot have run, it is sent in full.
func (w *Worker) onNoScript(c *call, conn *pool.Conn, frame, reply []byte) bool {
	name := c.req.cmd.Name
	if name != "evalsha" && name != "evalsha_ro" || c.req.sess == nil {
		return false
	}
	var p resp.Parser
	if _, st, err := p.Next(frame, &w.limits); err != nil || st != resp.Ready {
		return false
	}
	body := w.scripts.body(p.Arg(1))
	if body == nil {
		return false
	}
	eval := "EVAL"
	if name == "evalsha_ro" {
		eval = "EVAL_RO"
	}
	full := resp.AppendArray(nil, p.Len())
	full = resp.AppendBulkString(full, eval)
	full = resp.AppendBulk(full, body)
	full = append(full, p.Tail(2)...)
	said := bytes.Clone(reply)
	w.fence(c)
	w.ask(conn, c.deadline, func(exists []byte, ok bool) {
		if c.req.sess == nil {
			c.req.parts--
			w.freeIfDone(c.req)
			return
		}
		if !ok || !bytes.Equal(exists, []byte("*1\r\n:0\r\n")) {
			w.settle(c, said)
			return
		}
		if why := conn.Refusing(); why != "" {
			w.refuse(c, why)
			return
		}
		w.stats.NoScript++
		conn.Send(c, full, w.now, c.deadline)
	}, "SCRIPT", "EXISTS", string(p.Arg(1)))
	return true
}

// confirm is a script's call whose reply spoke of a redirect. Whether it is
// one, the node's own view of the cluster tells: a script may say anything,
// and it may have written before.
type confirm struct {
	c     *call
	frame []byte
	reply []byte
	what  Confirm
}

func (w *Worker) confirm(c *call, frame, reply []byte, what Confirm) {
	w.token++
	what.Token = w.token
	w.fence(c)
	w.confirms[w.token] = &confirm{c: c, frame: bytes.Clone(frame), reply: bytes.Clone(reply), what: what}
	w.ready.Confirms = append(w.ready.Confirms, what)
}

// Confirmed brings the answer to one of Ready.Confirms: is the redirect real.
func (w *Worker) Confirmed(token uint64, is bool) {
	q := w.confirms[token]
	if q == nil {
		return
	}
	delete(w.confirms, token)
	switch r := q.c.req; {
	case r.sess == nil:
		r.parts--
		w.freeIfDone(r)
	case is:
		w.follow(q.c, q.frame, q.reply, q.what.Ask, q.what.Target)
	default:
		w.settle(q.c, q.reply)
	}
}

func (w *Worker) tickConfirms() {
	for token, q := range w.confirms {
		if w.now >= q.c.deadline {
			w.Confirmed(token, false)
		}
	}
}
