package pull

import (
	"bytes"
	"math"
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// waiter is a client whose next command waits until all of its keys have come, or a call that
// waits for that before it is sent again, or a hash tag whose keys others wait for.
type waiter struct {
	s       *engine.Session
	call    *engine.Call // nil: the client's next command
	frame   []byte       // of the call
	missing int          // keys and hash tags that have not come, and lists that have not been read
	last    *want        // one of these keys; nil: it waits for a table, or for the end of a hold
	sorts   []*sorting   // what SORT takes from other keys, once the keys have come
	tag     *tagged      // whose keys it stands for, if it is neither a client nor a call
	refusal string       // the error for the client; empty: none
	stays   *wanted      // the key, which counts as missing while it may be read where it is; nil: it comes
	reply   []byte       // of the former node to the client's command; nil: there is none
	epoch   uint64       // of the puller, when the keys were looked at
	since   int64        // when it began to wait
	until   int64        // when it gives up
	isHeld  bool         // it waits for the end of a hold
	isOver  bool         // it waits no more
}

// waiters has the waiter of each client whose next command waits.
var waiters = engine.NewPerClient[waiter]()

// wanted is a key that has to be brought, or a hash tag whose keys have to be.
type wanted struct {
	route
	key   []byte
	isTag bool
}

// Take implements the engine's arrivals. A command has not begun while its keys are brought: its
// client stops, and the command is dispatched anew when they have come. So the client's commands
// keep their order.
func (p *puller) Take(s *engine.Session, cmd *command.Command, a command.Args) (
	at engine.Placement, isTaken, done bool) {
	if who := waiters.Get(s); who != nil {
		waiters.Set(s, nil)
		switch {
		case who.refusal != "":
			return at, true, s.Reject(cmd, who.refusal)
		case who.reply != nil:
			p.answer(s, cmd, a, who)
			return at, true, true
		case who.epoch == p.epoch && who.missing == 0:
			return at, false, false // it is the same command
		}
	}
	if p.heldUntil == 0 && p.w.Table.IsMoving() && cmd.OneKey() { // a shorter way for most commands
		key, from := a.Arg(cmd.Single), router.None
		at.Group, at.Node, from = p.w.Table.PlaceMoving(key)
		at.IsKnown, at.IsMoving = true, from != router.None
		if from == router.None || p.gone.has(fingerprintOf(s.DB, key)) {
			return at, false, false
		}
	}
	p.forget()
	switch {
	case p.holds():
		p.wanted = append(p.wanted, wanted{})
	case !p.w.Table.IsMoving():
	case !cmd.Is(command.Executes):
		at = p.look(s, cmd, a)
	case s.Has(engine.InMulti): // its commands may have been queued before the epoch began
		engine.EachQueued(s, func(cmd *command.Command, a command.Args) { p.look(s, cmd, a) })
	}
	switch {
	case p.refusal != "":
		return at, true, s.Reject(cmd, p.refusal)
	case len(p.wanted) == 0 && len(p.sorts) == 0:
		return at, false, false
	}
	who := &waiter{s: s, epoch: p.epoch, since: p.w.Now, until: p.w.Deadline(), isHeld: p.heldUntil != 0}
	waiters.Set(s, who)
	s.Set(engine.Blocked)
	p.queue, p.fresh = append(p.queue, who), append(p.fresh, who)
	if who.stays = p.mayStay(s, cmd); who.stays == nil {
		p.fetch(who)
	} else {
		who.missing++
	}
	return at, true, false
}

// Bring implements the engine's arrivals.
func (p *puller) Bring(c *engine.Call, frame []byte) bool {
	p.forget()
	if p.holds() {
		p.wanted = append(p.wanted, wanted{})
	}
	engine.EachCommand(c, frame, func(cmd *command.Command, a command.Args) {
		if cmd != nil && p.w.Table.IsMoving() && p.heldUntil == 0 {
			p.look(c.Request.Session, cmd, a)
		}
	})
	if c == p.brought {
		p.sorts = nil
	}
	comesLater := slices.ContainsFunc(p.calls, func(o *waiter) bool {
		return o.s == c.Request.Session && engine.Precedes(o.call, c)
	})
	isThere := len(p.wanted) == 0 && len(p.sorts) == 0 && p.refusal == ""
	if isThere && !comesLater {
		return false
	}
	who := &waiter{
		s: c.Request.Session, call: c, frame: bytes.Clone(frame), epoch: p.epoch,
		since: p.w.Now, until: p.w.Deadline(), isHeld: p.heldUntil != 0,
	}
	at := slices.IndexFunc(p.calls, func(o *waiter) bool { return o.s == who.s && engine.Precedes(c, o.call) })
	if at < 0 {
		at = len(p.calls)
	}
	p.calls = slices.Insert(p.calls, at, who) // in the order of the client's commands
	p.isBringing = true                       // the caller does not expect that the call ends meanwhile
	if p.fetch(who); p.refusal != "" {
		p.setReady(who, p.refusal)
	}
	if isThere { // an earlier call of the client still waits
		p.setReady(who, "")
	}
	p.isBringing = false
	return true
}

// forget forgets what the last commands need.
func (p *puller) forget() {
	p.wanted, p.sorts, p.refusal = p.wanted[:0], nil, ""
}

// look adds those keys of a command to p.wanted that may not have come yet. It returns the place of the
// command's only key, if there is only one.
func (p *puller) look(s *engine.Session, cmd *command.Command, a command.Args) (at engine.Placement) {
	p.keys = cmd.Keys(a, p.keys[:0])
	for _, i := range p.keys {
		at = p.lookFor(s.DB, a.Arg(i))
	}
	at.IsKnown = cmd.Single > 0
	if cmd.Is(command.RunsCode) {
		p.lookForTagged(s, cmd, a)
	}
	if key, at := cmd.Elsewhere(a); key > 0 {
		if db, ok := resp.ParseInt(a.Arg(at)); ok && db >= 0 && db <= math.MaxUint16 {
			p.lookFor(uint16(db), a.Arg(key))
		}
	}
	switch {
	case cmd.Action == command.DoSort:
		p.lookForSorted(s, a)
	case cmd.Is(command.SwapsDatabases):
		p.refusal = errSwap
	}
	return at
}

// lookFor adds a key to p.wanted if it may not have come yet. It returns the key's place.
func (p *puller) lookFor(db uint16, key []byte) engine.Placement {
	group, to, from := p.w.Table.PlaceMoving(key)
	at := engine.Placement{Group: group, Node: to, IsKnown: true, IsMoving: from != router.None}
	switch {
	case from == router.None || p.gone.has(fingerprintOf(db, key)):
	case to == router.None: // the engine waits for an owner
	case from == router.Unknown:
		p.wanted = append(p.wanted, wanted{key: key})
	default:
		p.wanted = append(p.wanted, wanted{route{p.w.Nodes[from], p.w.Nodes[to], db}, key, false})
	}
	return at
}

// fetch makes a waiter wait for the keys in p.wanted, and for what p.sorts need.
func (p *puller) fetch(who *waiter) {
	who.sorts = p.sorts
	if len(p.wanted) == 0 {
		p.readSorted(who)
	}
	p.await(who)
}

// await makes a waiter wait for the keys in p.wanted.
func (p *puller) await(who *waiter) {
	for _, k := range p.wanted {
		if k.from == nil { // until the table says more
			who.missing++
			p.w.Ready.Refresh = true
			continue
		}
		if pr := p.pairOf(k.route); k.isTag {
			pr.wantTag(k.key, who)
		} else {
			pr.want(k.key, who)
		}
	}
	p.release()
}

// got records that one of the things has come for which a waiter waits.
func (p *puller) got(who *waiter) {
	switch who.missing--; {
	case who.missing > 0:
	case len(who.sorts) > 0 && !who.isOver:
		p.readSorted(who)
	default:
		p.setReady(who, "")
	}
}

// setReady records that a waiter need not wait any more. refusal is the error for its client, or
// empty.
func (p *puller) setReady(who *waiter, refusal string) {
	if !who.isOver {
		of := &p.w.Stats.Switch.Pulls
		if who.isHeld {
			of = &p.w.Stats.Switch.Holds
		}
		of.Observe(p.w.Now - who.since)
		who.refusal = refusal
		p.end(who)
		p.ready = append(p.ready, who)
	}
}

// end ends a wait.
func (p *puller) end(who *waiter) {
	who.isOver = true
	p.unmet += who.missing
	if who.call == nil && who.tag == nil {
		p.over++
	}
}

// dropOver drops those that wait no more.
func dropOver(waiters []*waiter) []*waiter {
	return slices.DeleteFunc(waiters, func(who *waiter) bool { return who.isOver })
}

// release resumes those that need not wait any more. Calls of one client go in the order of its
// commands.
func (p *puller) release() {
	for len(p.ready) > 0 && !p.isBringing {
		all := p.ready
		p.ready = nil
		calls := false
		for _, who := range all {
			switch {
			case who.tag != nil:
				who.tag.came()
			case who.call != nil:
				calls = true
			case !who.s.HasLeft():
				who.s.Clear(engine.Blocked)
				who.s.Wake()
			}
		}
		if calls {
			p.releaseCalls()
		}
	}
}

// releaseCalls sends the calls whose keys have come, unless an earlier one of the same client
// still waits.
func (p *puller) releaseCalls() {
	waiting, kept := map[*engine.Session]bool{}, []*waiter(nil)
	var free []*waiter
	for _, who := range p.calls {
		if s := who.s; !who.isOver || waiting[s] {
			waiting[s] = true
			kept = append(kept, who)
		} else {
			free = append(free, who)
		}
	}
	p.calls = kept
	for _, who := range free {
		switch {
		case who.call.Request.Session == nil:
			who.call.SettleFor(nil)
		case who.refusal != "":
			engine.SettleUnsent(who.call, who.refusal)
		default:
			if who.epoch == p.epoch && who.missing == 0 {
				p.brought = who.call
			}
			who.call.SendOn(who.frame)
			p.brought = nil
		}
	}
}

// lateText returns the error for a client that has waited for too long.
func (who *waiter) lateText() string {
	var key, reason string
	var of route
	switch k := who.last; {
	case k != nil:
		key, of, reason = string(k.name), k.pair.route, k.pair.reason()
	case who.stays != nil:
		key, of = string(who.stays.key), who.stays.route
	default:
		return errtext.SlotUnbound
	}
	return "TRYAGAIN keyway: key " + errtext.Key(key) + " is still being moved from node " +
		of.from.Label() + " to node " + of.to.Label() + reason + "; the command was not executed"
}
