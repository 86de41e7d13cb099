package pull

import (
	"bytes"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// A GET need not wait until its key has come. Nobody creates the key at its former node in this epoch, and nobody
// changes it at the new one before the former one has lost it. So what the former node has is the value, and if it
// has none, the key is at the new one, or nowhere:
//
//	client   GET k  --->  former node  --->  value                  the reply
//	                                   --->  null  --->  new node   the reply, and k has left
//
// A former node that was restarted, or has failed over, may have lost the removal of a key and answer with an old
// value. So it is only asked while it is the incarnation that it was before the change.

// incarnationLife is the time after which a node is asked again which incarnation it is. A connection ends with the
// process, and sentinels end those of a master that they make a replica.
const incarnationLife = int64(time.Second)

// maxStay bounds the replies that clients get so. Longer ones pass from a node to a client without being whole here.
const maxStay = 64 << 10

// showing is what observers see of a command that is answered here. It is reused, and has a session only while they
// look.
type showing struct {
	call    engine.Call
	request engine.Request
}

// notOrdinary are the states of clients whose reads only the key's own node may answer.
const notOrdinary = engine.InMulti | engine.Tracks | engine.OfNodes | engine.NoTouch

// mayStay returns the key that a command waits for, if it is a GET that may be read at its former node, when the
// turn ends. It is nil for all others.
func (p *puller) mayStay(s *engine.Session, cmd *command.Command) *wanted {
	if !cmd.Is(command.ReadsValue) || s.Has(notOrdinary) || s.Block != nil || len(p.wanted) != 1 ||
		p.wanted[0].from == nil || p.w.Options.Incarnations[p.wanted[0].from.Addr] == "" {
		return nil
	}
	k := p.wanted[0]
	k.key = bytes.Clone(k.key)
	return &k
}

// readOrFetch reads the key of a waiter that may stay where it is, or makes the waiter wait until it has come.
func (p *puller) readOrFetch(who *waiter) {
	k := who.stays
	if k == nil {
		return
	}
	p.forget()
	p.lookFor(k.db, k.key)
	if who.epoch != p.epoch || len(p.wanted) != 1 || p.wanted[0].route != k.route { // since this turn
		p.setReady(who, "") // a key is missing, so the command is looked at anew
		return
	}
	pr := p.pairOf(k.route)
	before := p.w.Options.Incarnations[k.from.Addr]
	// What the client has sent before may change the key. What it has sent behind is brought along with it.
	if !engine.IsAnswered(who.s) || isFollowed(who.s) || pr.wants[string(k.key)] != nil || pr.isStrict() ||
		!pr.former.isAsBefore(p.w, pr.source, before) {
		p.comes(who)
		return
	}
	p.w.Ask(pr.source, p.w.Now+stepTimeout, func(reply []byte, ok bool) {
		isError := len(reply) > 0 && reply[0] == '-' && !bytes.HasPrefix(reply, []byte("-WRONGTYPE "))
		switch {
		case who.isOver:
		case who.epoch != p.epoch || p.pairs[pr.route] != pr:
			p.setReady(who, "")
		case !ok || isError || len(reply) > maxStay:
			p.comes(who)
		case resp.IsNull(reply):
			p.gone.add(fingerprintOf(pr.db, k.key), p.w.Options.Remember)
			p.got(who)
		default:
			who.reply = bytes.Clone(reply)
			p.got(who)
		}
		p.release()
	}, "GET", string(k.key))
}

// comes makes a waiter wait until the key has come that might have stayed.
func (p *puller) comes(who *waiter) {
	p.wanted = append(p.wanted[:0], *who.stays)
	who.stays = nil
	p.await(who)
	who.missing--
}

// isFollowed reports whether a client that waits has sent more commands.
func isFollowed(s *engine.Session) (is bool) {
	engine.EachBehind(s, func(*command.Command, command.Args) bool {
		is = true
		return false
	})
	return is
}

// former is what is known of a node that keys leave.
type former struct {
	askAt   int64  // when it may be asked again which incarnation it is
	askedBy uint64 // the number of the socket over which it was asked last; 0: none yet
	sameBy  uint64 // that over which it has said last that it is as before; 0: none
}

// isAsBefore reports whether the node at the other end of conn is known to be the incarnation that it was before the
// change. It asks the node from time to time.
func (f *former) isAsBefore(w *engine.Worker, conn *pool.Conn, before string) bool {
	dials := conn.Stats.Dials
	if f.askedBy != dials || w.Now >= f.askAt {
		f.askedBy, f.askAt = dials, w.Now+incarnationLife
		w.Ask(conn, w.Now+stepTimeout, func(reply []byte, ok bool) {
			text, _ := resp.Bulk(reply)
			if f.sameBy = 0; ok && info.Incarnation(text) == before {
				f.sameBy = conn.Stats.Dials // the socket that the reply came over
			}
		}, "INFO", "server", "replication")
	}
	return f.sameBy == dials && conn.State() == pool.Ready
}

// answer answers a client with what the former node has said.
func (p *puller) answer(s *engine.Session, cmd *command.Command, a command.Args, who *waiter) {
	s.Answer(cmd, who.reply)
	p.seen.request.Session, p.seen.request.Command, p.seen.call.Node = s, cmd, who.stays.from
	p.seen.call.Request = &p.seen.request
	engine.ShowUnanswered(p.w, &p.seen.call, a.Frame(), len(who.reply))
	p.seen.request.Session = nil
}
