package transfer

import (
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// Pair describes two nodes between which keys move, over one connection to each. Both
// connections speak the same version of the protocol. While a batch lasts, nothing else is sent
// over the connection to the destination, nor over the one to the source unless Fenced is set
// and Strict is not.
type Pair struct {
	// Fenced says that only copiers change or create the keys at the source.
	Fenced bool
	// Durable keeps a key at the source until a replica of the destination has the copy. If the
	// destination says after waitTimeout that no replica is connected, keys move without one until
	// one is there again: they would stay for ever where the only replica has died or taken over.
	Durable bool
	// Strict counts a key as gone only when a replica of the source has lost it, too, and makes Durable
	// hold also where no replica is connected.
	Strict bool
	// LFU says that the source knows how often keys are used, and not when.
	LFU bool
	// Guard is part of the name of a guard, which no other pair of connections has. Empty: none.
	// See IsGuard.
	Guard string
	// Label is part of the names of values that are set aside; see AsideName.
	Label string
	// InCluster says that the source renames keys only within a slot.
	InCluster bool

	isAlone      bool // the destination has no replica, see Durable
	clock        clock
	noExpireTime bool // the source has no PEXPIRETIME (before Redis 7.0)
}

// Durability says which replicas must have followed before a key counts as moved.
type Durability uint8

// The values of Durability.
const (
	DurableAuto   Durability = iota // one of the destination, if it has any
	DurableStrict                   // one of the destination and one of the source, in any case
	DurableOff                      // none
)

// SetDurability sets Durable and Strict. hasReplicas says whether the destination has replicas.
func (p *Pair) SetDurability(d Durability, hasReplicas bool) {
	p.Strict = d == DurableStrict
	p.Durable = p.Strict || d == DurableAuto && hasReplicas
}

// sourceWatch returns how many replies to the watch of the source come before others.
func (p *Pair) sourceWatch() int {
	if p.Fenced {
		return 0
	}
	return watchReplies
}

const (
	clockSamples  = 5
	clockInterval = 10 * time.Second // clocks drift apart
)

// clock measures how far the destination's clock is ahead of the source's. A sample reads the
// destination's, the source's and the destination's again. The one that took the shortest time
// counts, so a copier that is frozen during a sample lengthens no key's life.
type clock struct {
	ahead    time.Duration // rounded up: a key may live longer by the round trip, never shorter
	took     time.Duration // by the best sample
	known    bool
	measured int64 // when the last measurement ended

	readings [3]time.Duration // since 1970
	count    int              // readings of this measurement
}

func (c *clock) isDue(now int64) bool { return !c.known || now-c.measured >= int64(clockInterval) }

// next returns which clock has to be read next.
func (c *clock) next() Side {
	if c.count%3 == 1 {
		return Source
	}
	return Destination
}

// add adds a reading, and reports whether the measurement is over.
func (c *clock) add(at time.Duration) bool {
	c.readings[c.count%3] = at
	if c.count++; c.count%3 == 0 {
		took := c.readings[2] - c.readings[0]
		if c.count == 3 || took < c.took {
			c.took, c.ahead = took, c.readings[2]-c.readings[1]
		}
	}
	return c.count == 3*clockSamples
}

// atDestination returns the time at the destination's clock when the source's shows expiry, a
// Unix time in milliseconds. It never returns 0, which would mean never.
func (c *clock) atDestination(expiry int64) int64 {
	return max(1, expiry+(c.ahead+time.Millisecond-1).Milliseconds())
}

// timeOf returns the reply to TIME.
func timeOf(reply []byte) (at time.Duration, ok bool) {
	n, rest, ok := resp.Elements(reply)
	if !ok || n != 2 {
		return 0, false
	}
	var parts [2]int64
	for i := range parts {
		var element []byte
		if element, rest, ok = resp.Split(rest); !ok {
			return 0, false
		}
		text, _ := resp.Bulk(element)
		var err error
		if parts[i], err = strconv.ParseInt(string(text), 10, 64); err != nil || parts[i] < 0 {
			return 0, false
		}
	}
	const century = int64(100 * 365 * 24 * 60 * 60) // more would overflow
	if parts[0] > 2*century || parts[1] >= int64(time.Second/time.Microsecond) {
		return 0, false
	}
	return time.Duration(parts[0])*time.Second + time.Duration(parts[1])*time.Microsecond, true
}
