package answers

import (
	"math"
	"net/netip"
	"time"

	"github.com/keyway-proxy/keyway/proxy/engine"
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
	// maxTogether is how many attempts of one address may wait, on all threads, without making
	// each other wait longer. At the longest delay it is also how many are answered in a second.
	maxTogether = 20
	// maxAddresses bounds the addresses that a thread remembers.
	maxAddresses = 4096
)

// authDelays are the addresses from which wrong passwords came, and the clients that wait.
type authDelays struct {
	engine.Inactive
	w       *engine.Worker
	from    map[netip.Prefix]*attempts
	order   []netip.Prefix // the keys of from, in the order in which they came
	oldest  int            // of order, once that is full
	waiting []*engine.Session
	next    int64 // the time at which the first of them goes on
}

// attempts are what is known about an address.
type attempts struct {
	failures  int
	forgotten int64 // when a failure was last forgotten, or the first one counted
	waiting   int   // clients of this thread
}

// turn is when a client that waits may authenticate.
type turn struct {
	at     int64
	of     *attempts
	index  int // in authDelays.waiting
	isOver bool
}

var turns = engine.NewPerClient[turn]()

func newAuthDelays(w *engine.Worker) *authDelays {
	return &authDelays{w: w, from: map[netip.Prefix]*attempts{}, next: math.MaxInt64}
}

// delaysAuth reports whether the client's attempt to authenticate has to wait. If not, the caller
// must look at the password now.
func delaysAuth(w *engine.Worker, s *engine.Session) bool {
	d := engine.FeatureOf[*authDelays](w)
	if t := turns.Get(s); t != nil {
		turns.Set(s, nil)
		return false
	}
	a := d.from[network(s.Peer())]
	if a == nil {
		return false
	}
	wait := a.delay(w.Now)
	if wait == 0 {
		return false
	}
	wait += wait * int64(a.waiting*max(w.Options.Workers, 1)) / maxTogether
	a.waiting++
	t := &turn{at: w.Now + wait, of: a, index: len(d.waiting)}
	turns.Set(s, t)
	d.waiting = append(d.waiting, s)
	d.next = min(d.next, t.at)
	w.Stats.AuthDelayed++
	s.Set(engine.Blocked)
	return true
}

// failed remembers a wrong password, on all threads.
func failed(w *engine.Worker, s *engine.Session) {
	from, now := network(s.Peer()), w.Now
	engine.FeatureOf[*authDelays](w).count(from, now)
	w.Siblings.Tell(func(o *engine.Worker) { engine.FeatureOf[*authDelays](o).count(from, o.Now) })
}

// count remembers a wrong password.
func (d *authDelays) count(from netip.Prefix, now int64) {
	a := d.from[from]
	if a == nil {
		a = &attempts{forgotten: now}
		d.from[from] = a
		if len(d.order) < maxAddresses {
			d.order = append(d.order, from)
		} else {
			delete(d.from, d.order[d.oldest])
			d.order[d.oldest] = from
			d.oldest = (d.oldest + 1) % maxAddresses
		}
	}
	a.forget(now)
	a.failures = min(a.failures+1, mostFailures)
}

// forget forgets the wrong passwords that are old.
func (a *attempts) forget(now int64) {
	n := (now - a.forgotten) / int64(forgetAfter)
	a.forgotten += n * int64(forgetAfter)
	if a.failures = max(a.failures-int(n), 0); a.failures == 0 {
		a.forgotten = now
	}
}

// delay returns how long an attempt waits if it is alone.
func (a *attempts) delay(now int64) int64 {
	a.forget(now)
	if a.failures <= freeFailures {
		return 0
	}
	return int64(min(firstDelay<<(a.failures-freeFailures-1), maxDelay))
}

// Due implements engine.Feature.
func (d *authDelays) Due() int64 { return d.next }

// Tick lets the clients go on whose turn has come.
func (d *authDelays) Tick() {
	if d.w.Now < d.next {
		return
	}
	d.next = math.MaxInt64
	for i := len(d.waiting) - 1; i >= 0; i-- {
		s := d.waiting[i]
		t := turns.Get(s)
		if t.at > d.w.Now {
			d.next = min(d.next, t.at)
			continue
		}
		d.remove(t)
		t.isOver = true
		s.Clear(engine.Blocked)
		s.Wake()
	}
}

// remove removes a client from those that wait.
func (d *authDelays) remove(t *turn) {
	t.of.waiting--
	last := len(d.waiting) - 1
	moved := d.waiting[last]
	d.waiting[t.index] = moved
	turns.Get(moved).index = t.index
	d.waiting[last] = nil
	d.waiting = d.waiting[:last]
}

// Leave implements engine.Feature.
func (d *authDelays) Leave(s *engine.Session) {
	if t := turns.Get(s); t != nil && !t.isOver {
		d.remove(t)
	}
}

// network returns the address that counts: of IPv6, hosts have whole networks of 64 bits. The
// clients over socket files share one that is not valid.
func network(peer string) netip.Prefix {
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
