package acl

import (
	"net/netip"
	"time"
)

// Wrong passwords slow down the later attempts from the same address, right ones too: a client
// must not learn by the time that its password is wrong. An attempt waits before its password is
// looked at, so a client that leaves early has learned nothing. Other commands, and clients that
// have authenticated, are not slowed down.
const (
	// freeFailures is how many recent wrong passwords of an address delay nothing.
	freeFailures = 5
	// firstDelay is the delay after one more. It doubles with each further one, up to maxDelay.
	firstDelay = 100 * time.Millisecond
	maxDelay   = time.Second
	// mostFailures bounds what is remembered, so that an address is free soon after an attack.
	mostFailures = 10
	// forgetAfter is the time after which one wrong password is forgotten.
	forgetAfter = 10 * time.Second
	// maxTogether is how many attempts of one address may wait without making each other wait
	// longer. At the longest delay it is also how many are answered in a second.
	maxTogether = 20
	// maxAddresses bounds the addresses that are remembered.
	maxAddresses = 4096
)

// Guesses are the addresses from which wrong passwords came. The zero value has none.
type Guesses struct {
	from   map[netip.Prefix]*Guesser
	order  []netip.Prefix // the keys of from, in the order in which they came
	oldest int            // of order, once that is full
}

// Guesser is an address from which wrong passwords came.
type Guesser struct {
	Waiting   int // attempts that wait; the caller counts them
	failures  int
	forgotten int64 // when a failure was last forgotten, or the first one counted
}

// From returns what is known about an address, or nil.
func (g *Guesses) From(network netip.Prefix) *Guesser { return g.from[network] }

// Count remembers a wrong password.
func (g *Guesses) Count(network netip.Prefix, now int64) {
	a := g.from[network]
	if a == nil {
		a = &Guesser{forgotten: now}
		if g.from == nil {
			g.from = map[netip.Prefix]*Guesser{}
		}
		g.from[network] = a
		if len(g.order) < maxAddresses {
			g.order = append(g.order, network)
		} else {
			delete(g.from, g.order[g.oldest])
			g.order[g.oldest] = network
			g.oldest = (g.oldest + 1) % maxAddresses
		}
	}
	a.forget(now)
	a.failures = min(a.failures+1, mostFailures)
}

// Delay returns how long the next attempt has to wait. waiting is how many wait already.
func (a *Guesser) Delay(now int64, waiting int) int64 {
	alone := a.delay(now)
	return alone + alone*int64(waiting)/maxTogether
}

// forget forgets the wrong passwords that are old.
func (a *Guesser) forget(now int64) {
	n := (now - a.forgotten) / int64(forgetAfter)
	a.forgotten += n * int64(forgetAfter)
	if a.failures = max(a.failures-int(n), 0); a.failures == 0 {
		a.forgotten = now
	}
}

// delay returns how long an attempt waits if it is alone.
func (a *Guesser) delay(now int64) int64 {
	a.forget(now)
	if a.failures <= freeFailures {
		return 0
	}
	return int64(min(firstDelay<<(a.failures-freeFailures-1), maxDelay))
}

// NetworkOf returns the address that counts: of IPv6, hosts have whole networks of 64 bits. The
// clients over socket files share one that is not valid.
func NetworkOf(peer string) netip.Prefix {
	p, err := netip.ParseAddrPort(peer)
	if err != nil {
		return netip.Prefix{}
	}
	addr, bits := p.Addr().Unmap(), 32
	if addr.Is6() {
		bits = 64
	}
	of, _ := addr.WithZone("").Prefix(bits) // the number of bits fits
	return of
}
