package pull

import (
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// maxSorted is the most elements of a key whose SORT takes something from other keys.
const maxSorted = 10_000

const (
	errMoving = "TRYAGAIN keyway: keys are moving to the nodes of another layout, and "
	errRetry  = "; send it again when the change of the layout is over; the command was not executed"

	errSwap     = errMoving + "SWAPDB would mix those that have come with those that have not" + errRetry
	errLongSort = errMoving + "SORT with BY or GET would need those of more than 10000 elements at once" + errRetry
)

// sorting is a SORT that takes something from other keys, which the elements of the sorted key
// name. Its elements are read at the key's node, and then the keys that they name are brought.
type sorting struct {
	s        *engine.Session
	db       uint16
	key      string
	patterns [][]byte
}

// lookForSorted adds a SORT to p.sorts if it has patterns that name keys.
func (p *puller) lookForSorted(s *engine.Session, a command.Args) {
	if a.Len() < 2 {
		return
	}
	var named [][]byte
	command.SortPatterns(a, func(_ bool, pattern []byte) {
		if _, ok := command.SortedKey(nil, pattern, nil); ok {
			named = append(named, append([]byte(nil), pattern...))
		}
	})
	if len(named) > 0 {
		p.sorts = append(p.sorts, &sorting{s: s, db: s.DB, key: string(a.Arg(1)), patterns: named})
	}
}

// readSorted reads the elements of the keys that a waiter's commands sort. The waiter waits for them,
// and then for the keys that they name.
func (p *puller) readSorted(who *waiter) {
	sorts := who.sorts
	who.sorts = nil
	who.missing += len(sorts)
	for _, of := range sorts {
		_, to := p.w.Table.Place([]byte(of.key))
		if to == router.None || of.s.HasLeft() { // the engine waits for an owner
			p.got(who)
			continue
		}
		n, epoch := p.w.Nodes[to], p.epoch
		conn := n.Conn(of.s)
		if why := conn.ConnectError(); why != "" {
			p.setReady(who, errtext.NotExecuted(n.Label(), why))
			continue
		}
		// Without a star, BY means that nothing is sorted.
		p.w.Ask(conn, who.until, func(reply []byte, ok bool) {
			switch {
			case who.isOver:
				return
			case p.epoch != epoch: // the command is looked at anew
				p.setReady(who, "")
			case !ok:
				p.setReady(who, errtext.NotExecuted(n.Label(), conn.Reason()))
			default:
				p.tookSorted(who, of, reply)
			}
			p.release()
		}, "SORT", of.key, "BY", "nosort", "LIMIT", "0", strconv.Itoa(maxSorted+1))
	}
}

// tookSorted makes a waiter wait for the keys that the elements of a sorted key name.
func (p *puller) tookSorted(who *waiter, of *sorting, reply []byte) {
	count, rest, ok := resp.Elements(reply)
	switch {
	case !ok: // an error, such as that of a wrong type: the command gets it as well
		p.got(who)
		return
	case count > maxSorted:
		p.setReady(who, errLongSort)
		return
	}
	p.wanted = p.wanted[:0]
	for range count {
		var one []byte
		one, rest, _ = resp.Split(rest)
		element, _ := resp.Bulk(one)
		for _, pattern := range of.patterns {
			key, _ := command.SortedKey(nil, pattern, element)
			p.lookFor(of.db, key)
		}
	}
	p.await(who)
	p.got(who)
}
