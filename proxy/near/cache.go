package near

import (
	"bytes"
	"hash/maphash"
	"slices"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/options"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// A worker keeps the values of the keys that its clients read most. It reads them over connections of
// its own, on which the nodes track what was read:
//
//	client a   GET k  --->  the shared connection  --->  node      a miss: the node answers
//	keyway     GET k, PTTL k  --->  tracking  -------->  node      a fill, at the same time
//	client b   GET k  <---  $1 v                                   a hit
//	           drop k  <---  tracking  <--- >invalidate k --  node    somebody has changed k
//
// What a client sees never goes back in time (decision 15):
//
//   - Commands of its own that may have changed a key, or have seen it otherwise than by GET, bar the
//     client: it gets no value from here until they are answered and, after that, the tracking connection has
//     answered something that was sent later. By then all invalidations of earlier changes are here.
//   - The reply to a GET that the node answers is compared with the value. If they differ, one of them
//     is out of date, and the value is dropped.
//   - While a GET of its own is at the node, the client gets no value from here that it could see
//     after a newer one.
//
// A value is valid for the lease, from when keyway asked for it. So it is never older than that,
// even if the node, or the connection, is frozen. While it is used, keyway asks for it again in time.

// cache is the near cache of a worker. Keys are those of database 0.
type cache struct {
	engine.Inactive
	w       *engine.Worker
	options options.NearCache
	entries []*entry
	index   []*entry // the same by their hashes; nil where there is none
	noted   *entry   // of the command that is being dispatched; nil: it is no read of a hot key
	conns   []*trackingConn
	asks    []*trackingConn // those that a PING goes to when the turn ends
	refused []refusal
	stamp   uint64 // of the last request on any tracking connection
	bytes   int    // of all values

	layoutEpoch uint64 // the worker's, when Layout was last called
	call        engine.Call
	request     engine.Request
}

const (
	maxEntries = 256
	maxIndex   = 4 * maxEntries // a power of two
)

func newCache(w *engine.Worker) *cache {
	of := &cache{w: w, index: make([]*entry, maxIndex)}
	of.call.Request = &of.request
	of.Configured()
	return of
}

// Configured implements engine.Feature.
func (of *cache) Configured() {
	if of.options == of.w.Options.NearCache {
		return
	}
	of.options = of.w.Options.NearCache
	of.clear()
	if of.w.Near = nil; of.options.OneIn > 0 {
		of.w.Near = of
	}
}

// clear forgets all keys, and closes all connections.
func (of *cache) clear() {
	for _, e := range of.entries {
		of.drop(e)
	}
	of.entries, of.noted = nil, nil
	clear(of.index)
	of.closeConns(func(*trackingConn) bool { return true })
}

// clients has what must be known of each client that has used a hot key.
var clients = engine.NewPerClient[client]()

// client is what must be known of a client.
type client struct {
	seq      uint64 // of its last command that used a hot key at a node
	isBarred bool   // that, or an earlier one, has barred the client
	fence    uint64 // tracking connections must have answered a later request
}

func clientOf(s *engine.Session) *client {
	c := clients.Get(s)
	if c == nil {
		c = new(client)
		clients.Set(s, c)
	}
	return c
}

// notOrdinary are the states of clients who get nothing from here.
const notOrdinary = engine.InMulti | engine.Tracks | engine.ReadsReplicas | engine.OfNodes | engine.NoTouch

// Note implements engine's nearCache.
func (of *cache) Note(s *engine.Session, cmd *command.Command, a command.Args) {
	if of.noted = nil; len(of.entries) == 0 {
		return
	}
	if cmd.Single == 0 || cmd.Unproven() {
		if of.mayUse(cmd, a) {
			of.bar(s)
		}
		return
	}
	e := of.find(a.Arg(cmd.Single))
	switch {
	case e == nil:
	case cmd.Is(command.ReadsValue) && s.DB == 0 && !s.Has(notOrdinary) && s.Block == nil && of.w.Arrivals == nil:
		of.noted = e
	case e.isUsed:
		of.bar(s)
	}
}

// mayUse reports whether a command may read or write a hot key. If it names none, nobody knows which it uses.
func (of *cache) mayUse(cmd *command.Command, a command.Args) bool {
	w := of.w
	if cmd.Unproven() {
		return true
	}
	w.Keys = cmd.Keys(a, w.Keys[:0])
	if len(w.Keys) == 0 {
		return cmd.Categories&command.InFast == 0 || cmd.Has(command.Write)
	}
	return slices.ContainsFunc(w.Keys, func(at int) bool {
		e := of.find(a.Arg(at))
		return e != nil && e.isUsed
	})
}

// bar makes the client see the effect and the reply of the command that begins now.
func (of *cache) bar(s *engine.Session) {
	c := clientOf(s)
	c.isBarred, c.seq = true, engine.NextSeq(s)
}

// Fence implements engine's nearCache.
func (of *cache) Fence(s *engine.Session) { of.bar(s) }

// Answer implements engine's nearCache.
func (of *cache) Answer(
	s *engine.Session, cmd *command.Command, a command.Args, at engine.Placement,
) (isTaken, done bool) {
	e, w := of.noted, of.w
	if e == nil {
		return false, false
	}
	of.noted = nil
	if !e.isValid(w.Now) || !of.maySee(s, e) {
		return true, of.ask(s, cmd, a, at, e)
	}
	w.Stats.NearHits++
	s.Answer(cmd, e.reply)
	of.request.Session, of.request.Command, of.call.Node = s, cmd, e.tracking.node
	engine.ShowUnanswered(w, &of.call, a.Frame(), len(e.reply))
	of.request.Session = nil
	if e.hits++; w.Now >= e.renewAt && e.hits >= worth && e.fill == nil {
		of.fill(e)
	}
	return true, true
}

// maySee reports whether the value is not older than what the client has seen.
func (of *cache) maySee(s *engine.Session, e *entry) bool {
	oldest, began, waits := engine.Oldest(s)
	if waits && began <= e.born {
		return false // that was not noted
	}
	c := clients.Get(s)
	if c == nil {
		return true
	}
	if waits && oldest <= c.seq {
		return false
	}
	if c.isBarred {
		c.isBarred, c.fence = false, of.stamp
	}
	if e.tracking.proven > c.fence {
		return true
	}
	of.prove(e.tracking, c.fence)
	return false
}

// ask sends a GET of a hot key to its node, and reads the value for later ones if that is of use.
func (of *cache) ask(
	s *engine.Session, cmd *command.Command, a command.Args, at engine.Placement, e *entry,
) (done bool) {
	w := of.w
	if e.asked++; !e.isUsed {
		e.isUsed, e.born = true, w.Now
	}
	if e.isSet && w.Now >= e.until {
		of.drop(e)
	}
	if !e.isSet && e.fill == nil && w.Now >= e.pausedUntil {
		of.fill(e)
	}
	clientOf(s).seq = engine.NextSeq(s)
	if done = engine.SendWitnessed(w, s, cmd, a, at, e); done {
		w.Stats.NearMisses++
	}
	return done
}

// find returns the entry of a key, nil if the key is not hot.
func (of *cache) find(key []byte) *entry {
	hash := maphash.Bytes(engine.HashSeed, key)
	for i := hash % maxIndex; ; i = (i + 1) % maxIndex {
		switch e := of.index[i]; {
		case e == nil:
			return nil
		case e.hash == hash && bytes.Equal(e.key, key):
			return e
		}
	}
}

// Sweep implements engine.Feature: it looks which keys are hot now.
func (of *cache) Sweep() {
	if of.w.Near == nil || of.w.Traffic == nil {
		return
	}
	for _, e := range of.entries {
		e.isHot = false
		e.isUsed = e.isUsed && (e.asked > 0 || e.isSet || e.fill != nil)
		e.asked = 0
	}
	of.w.Traffic.EachRead(2*of.options.OneIn, func(key []byte) { // a key stays until it is clearly below
		if e := of.find(key); e != nil {
			e.isHot = true
		}
	})
	of.entries = slices.DeleteFunc(of.entries, func(e *entry) bool {
		if !e.isHot {
			of.drop(e)
		}
		return !e.isHot
	})
	of.putInOrder()
	of.w.Traffic.EachRead(of.options.OneIn, func(key []byte) {
		if len(of.entries) < maxEntries && of.find(key) == nil {
			e := &entry{of: of, key: bytes.Clone(key), hash: maphash.Bytes(engine.HashSeed, key)}
			of.entries = append(of.entries, e)
			of.put(e)
		}
	})
	of.closeConns(func(c *trackingConn) bool {
		uses := func(e *entry) bool { return e.tracking == c || e.fill != nil && e.fill.tracking == c }
		return !slices.ContainsFunc(of.entries, uses)
	})
}

// putInOrder makes the index anew.
func (of *cache) putInOrder() {
	clear(of.index)
	for _, e := range of.entries {
		of.put(e)
	}
}

func (of *cache) put(e *entry) {
	i := e.hash % maxIndex
	for of.index[i] != nil {
		i = (i + 1) % maxIndex
	}
	of.index[i] = e
}

// Size implements engine's nearCache.
func (of *cache) Size() (values, bytes int) {
	for _, e := range of.entries {
		if e.isSet {
			values++
		}
	}
	return values, of.bytes
}
