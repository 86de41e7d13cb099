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
//	keyway     GET k, PTTL k  --->  watch  ----------->  node      a fill, at the same time
//	client b   GET k  <---  $1 v                                   a hit
//	           drop k  <---  watch  <--- >invalidate k --  node    somebody has changed k
//
// What a client sees never goes back in time (decision 15):
//
//   - Commands of its own that may have changed a key, or have seen it otherwise than by GET, bar the
//     client: it gets no value from here until they are answered and, after that, the watch has
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
	spots   []*spot
	index   []*spot // the same by their hashes; nil where there is none
	noted   *spot   // of the command that is being dispatched; nil: it is no read of a hot key
	watches []*watch
	asks    []*watch // those that a PING goes to when the turn ends
	stamp   uint64   // of the last request on any watch
	bytes   int      // of all values

	layoutEpoch uint64 // the worker's, when Layout was last called
	call        engine.Call
	request     engine.Request
}

const (
	maxSpots = 256
	maxIndex = 4 * maxSpots // a power of two
)

func newCache(w *engine.Worker) *cache {
	of := &cache{w: w, index: make([]*spot, maxIndex)}
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
	for _, sp := range of.spots {
		of.drop(sp)
	}
	of.spots, of.noted = nil, nil
	clear(of.index)
	of.closeWatches(func(*watch) bool { return true })
}

// clients has what must be known of each client that has used a hot key.
var clients = engine.NewPerClient[client]()

// client is what must be known of a client.
type client struct {
	seq      uint64 // of its last command that used a hot key at a node
	isBarred bool   // that, or an earlier one, has barred the client
	fence    uint64 // watches must have answered a later request
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
	if of.noted = nil; len(of.spots) == 0 {
		return
	}
	if cmd.Single == 0 || cmd.Unproven() {
		if of.mayUse(cmd, a) {
			of.bar(s)
		}
		return
	}
	sp := of.find(a.Arg(cmd.Single))
	switch {
	case sp == nil:
	case cmd.Is(command.ReadsValue) && s.DB == 0 && !s.Has(notOrdinary) && s.Block == nil && of.w.Arrivals == nil:
		of.noted = sp
	case sp.isUsed:
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
		sp := of.find(a.Arg(at))
		return sp != nil && sp.isUsed
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
	sp, w := of.noted, of.w
	if sp == nil {
		return false, false
	}
	of.noted = nil
	if !sp.isValid(w.Now) || !of.maySee(s, sp) {
		return true, of.ask(s, cmd, a, at, sp)
	}
	w.Stats.NearHits++
	s.Answer(cmd, sp.reply)
	of.request.Session, of.request.Command, of.call.Node = s, cmd, sp.watch.node
	engine.ShowUnanswered(w, &of.call, a.Frame(), len(sp.reply))
	of.request.Session = nil
	if sp.hits++; w.Now >= sp.renewAt && sp.hits >= worth && sp.fill == nil {
		of.fill(sp)
	}
	return true, true
}

// maySee reports whether the value is not older than what the client has seen.
func (of *cache) maySee(s *engine.Session, sp *spot) bool {
	oldest, began, waits := engine.Oldest(s)
	if waits && began <= sp.born {
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
	if sp.watch.proven > c.fence {
		return true
	}
	of.prove(sp.watch, c.fence)
	return false
}

// ask sends a GET of a hot key to its node, and reads the value for later ones if that is of use.
func (of *cache) ask(
	s *engine.Session, cmd *command.Command, a command.Args, at engine.Placement, sp *spot,
) (done bool) {
	w := of.w
	if sp.asked++; !sp.isUsed {
		sp.isUsed, sp.born = true, w.Now
	}
	if sp.isSet && w.Now >= sp.until {
		of.drop(sp)
	}
	if !sp.isSet && sp.fill == nil && w.Now >= sp.pausedUntil {
		of.fill(sp)
	}
	clientOf(s).seq = engine.NextSeq(s)
	if done = engine.SendWitnessed(w, s, cmd, a, at, sp); done {
		w.Stats.NearMisses++
	}
	return done
}

// find returns the spot of a key, nil if the key is not hot.
func (of *cache) find(key []byte) *spot {
	hash := maphash.Bytes(engine.HashSeed, key)
	for i := hash % maxIndex; ; i = (i + 1) % maxIndex {
		switch sp := of.index[i]; {
		case sp == nil:
			return nil
		case sp.hash == hash && bytes.Equal(sp.key, key):
			return sp
		}
	}
}

// Sweep implements engine.Feature: it looks which keys are hot now.
func (of *cache) Sweep() {
	if of.w.Near == nil || of.w.Traffic == nil {
		return
	}
	for _, sp := range of.spots {
		sp.isHot = false
		sp.isUsed = sp.isUsed && (sp.asked > 0 || sp.isSet || sp.fill != nil)
		sp.asked = 0
	}
	of.w.Traffic.EachRead(2*of.options.OneIn, func(key []byte) { // a key stays until it is clearly below
		if sp := of.find(key); sp != nil {
			sp.isHot = true
		}
	})
	of.spots = slices.DeleteFunc(of.spots, func(sp *spot) bool {
		if !sp.isHot {
			of.drop(sp)
		}
		return !sp.isHot
	})
	of.putInOrder()
	of.w.Traffic.EachRead(of.options.OneIn, func(key []byte) {
		if len(of.spots) < maxSpots && of.find(key) == nil {
			sp := &spot{of: of, key: bytes.Clone(key), hash: maphash.Bytes(engine.HashSeed, key)}
			of.spots = append(of.spots, sp)
			of.put(sp)
		}
	})
	of.closeWatches(func(c *watch) bool {
		uses := func(sp *spot) bool { return sp.watch == c || sp.fill != nil && sp.fill.watch == c }
		return !slices.ContainsFunc(of.spots, uses)
	})
}

// putInOrder makes the index anew.
func (of *cache) putInOrder() {
	clear(of.index)
	for _, sp := range of.spots {
		of.put(sp)
	}
}

func (of *cache) put(sp *spot) {
	i := sp.hash % maxIndex
	for of.index[i] != nil {
		i = (i + 1) % maxIndex
	}
	of.index[i] = sp
}

// Size implements engine's nearCache.
func (of *cache) Size() (values, bytes int) {
	for _, sp := range of.spots {
		if sp.isSet {
			values++
		}
	}
	return values, of.bytes
}
