package pull

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

const (
	// maxBehind is how many commands of a client are looked at when it begins to wait, and how many arguments
	// each of them may have.
	maxBehind = 100
	// maxAhead bounds the keys of a pair that are wanted ahead, and maxAheadKey the length of each.
	maxAhead    = 1000
	maxAheadKey = 1 << 10
)

// looked has, for each client that has waited, the number of its commands whose keys have been looked at ahead
// or did not need that. So each command is looked at once, however often the client waits.
var looked = engine.NewPerClient[uint64]()

// lookAhead wants the keys of the commands that a client has sent behind the one that waits: otherwise a
// pipeline would wait for each of its keys in turn. It decides nothing: each command is looked at again when it
// is dispatched. It ends at a command that keyway would not just send to the owners of its keys, since those
// behind may be in another database or those of another user.
func (p *puller) lookAhead(s *engine.Session) {
	upTo := looked.Get(s)
	if upTo == nil {
		upTo = new(uint64)
		looked.Set(s, upTo)
	}
	if s.Commands < *upTo {
		return
	}
	*upTo = s.Commands + 1
	last := *upTo + maxBehind
	engine.EachBehind(s, func(cmd *command.Command, a command.Args) bool {
		isPlain := cmd.Handling == command.ByKey || cmd.Handling == command.Split ||
			cmd.Is(command.ChangesConnection) && cmd.InMulti == command.ActsAtOnce // MULTI, EXEC and the like
		if !isPlain || a.Len() > maxBehind {
			return false
		}
		p.forget()
		p.keys = cmd.Keys(a, p.keys[:0])
		for _, i := range p.keys {
			p.lookFor(s.DB, a.Arg(i))
		}
		for _, k := range p.wanted {
			if k.from != nil && len(k.key) <= maxAheadKey {
				p.pairOf(k.route).wantAhead(k.key)
			}
		}
		*upTo++
		return *upTo < last
	})
	p.forget()
}

// wantAhead wants a key although nobody waits for it yet, unless too many are wanted so.
func (pr *pair) wantAhead(key []byte) {
	if !pr.isAlone && pr.ahead.size < maxAhead && pr.wants[string(key)] == nil {
		pr.ahead.add(pr.newWant(key))
	}
}

// dropAhead forgets the keys that are wanted ahead.
func (pr *pair) dropAhead() {
	for _, k := range pr.ahead.all() {
		pr.ahead.remove(k)
		delete(pr.wants, string(k.name))
	}
}

// sweep forgets the clients that have left or given up, and the keys that only they have waited for, once these
// are about as many as the others. So it takes no more time than they have.
func (p *puller) sweep() {
	if p.over > len(p.queue)/2 {
		p.queue, p.over = dropOver(p.queue), 0
	}
	others := len(p.queue)
	for _, pr := range p.order {
		others += len(pr.wants) + len(pr.seeker.tags)
	}
	if p.unmet <= others/2 {
		return
	}
	p.unmet = 0
	for _, pr := range p.order {
		pr.sweepTags()
	}
	p.release()
	for _, pr := range p.order {
		pr.reroute()
	}
}
