package answers

import (
	"math"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// authDelays are the addresses from which wrong passwords came, and the clients that wait.
type authDelays struct {
	engine.Inactive
	w       *engine.Worker
	guesses acl.Guesses
	waiting []*engine.Session
	next    int64 // the time at which the first of them goes on
}

// turn is when a client that waits may authenticate.
type turn struct {
	at     int64
	of     *acl.Guesser
	index  int // in authDelays.waiting
	isOver bool
}

var turns = engine.NewPerClient[turn]()

func newAuthDelays(w *engine.Worker) *authDelays { return &authDelays{w: w, next: math.MaxInt64} }

// delaysAuth reports whether the client's attempt to authenticate has to wait. If not, the caller
// must look at the password now.
func delaysAuth(w *engine.Worker, s *engine.Session) bool {
	d := engine.FeatureOf[*authDelays](w)
	if t := turns.Get(s); t != nil {
		turns.Set(s, nil)
		return false
	}
	a := d.guesses.From(acl.NetworkOf(s.Peer()))
	if a == nil {
		return false
	}
	wait := a.Delay(w.Now, a.Waiting*max(w.Options.Workers, 1)) // the other threads have as many
	if wait == 0 {
		return false
	}
	a.Waiting++
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
	from := acl.NetworkOf(s.Peer())
	engine.FeatureOf[*authDelays](w).guesses.Count(from, w.Now)
	w.Siblings.Tell(func(o *engine.Worker) { engine.FeatureOf[*authDelays](o).guesses.Count(from, o.Now) })
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
	t.of.Waiting--
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
