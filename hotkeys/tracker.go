package hotkeys

import (
	"hash/maphash"
	"math/rand/v2"
	"time"
)

const (
	// Window is how long one window lasts. There are two, the present one and the one before, so that an
	// answer covers the last 5 to 10 seconds.
	Window = int64(5 * time.Second)

	setsByAccesses = 64
	setsByBytes    = 16
	// shownFrom is the share of all accesses, or of all bytes, from which a key is listed: one in so many.
	shownFrom = 1000
)

// Client is a client of keyway.
type Client struct {
	ID   uint64 `json:"client_id"`
	Addr string `json:"client"`
	Name string `json:"client_name"`
}

// Access is one access to a key. A command with several keys has one for each.
type Access struct {
	Key     []byte
	DB      uint16
	IsWrite bool
	Bytes   uint64 // of the request and its reply; those of a command with several keys are divided
	Node    string
	Client  Client
	Times   uint64 // for so many accesses it stands among those of its command; 0 means 1
}

// Tracker is what one thread knows. The zero value is not usable; see [New].
type Tracker struct {
	seed        maphash.Seed
	sampler     sampler
	started     int64
	now, before *window  // nil: nothing was used yet
	session     *session // nil: there is none
	at          int64    // the time of the last Look
	isFirst     bool     // nothing was added since
}

// window is what happened in some seconds.
type window struct {
	began    int64
	all      counts
	accesses table // the keys with the most accesses
	bytes    table // the keys with the most bytes
}

// New returns a tracker that begins at the time now, in nanoseconds. seed must be the same on all threads whose
// parts are joined; random makes the choice of the samples.
func New(seed maphash.Seed, random uint64, now int64) *Tracker {
	t := &Tracker{seed: seed, started: now, sampler: sampler{random: rand.NewPCG(random, 0), began: now}}
	t.sampler.use(1)
	return t
}

// Look is called for each command that the tracker looks at, before its calls of Add.
func (t *Tracker) Look(now int64) {
	t.at, t.isFirst = now, true
	t.turn(now)
	t.sampler.took(now)
}

// Gap returns how many commands to pass over until the next one to look at. A gap that was not used up can be
// replaced by another one.
func (t *Tracker) Gap() int { return t.sampler.gap() }

// Retune is called about once a second, so that the tracker notices a load that has fallen. A new Gap follows.
func (t *Tracker) Retune(now int64) {
	if now-t.sampler.began >= retuneEvery {
		t.sampler.retune(now)
	}
}

// Pick returns a number below n, each with the same chance, to look at a part of a long command.
func (t *Tracker) Pick(n int) int { return int(t.sampler.random.Uint64() % uint64(n)) }

// Add counts an access of a command that the tracker looks at. It keeps nothing of a.Key.
func (t *Tracker) Add(a *Access) {
	if !t.isFirst { // it costs about as much as another command with one key
		t.sampler.samples++
	}
	t.isFirst = false
	times := t.sampler.ratio * max(a.Times, 1)
	c := counts{bytes: times * a.Bytes}
	if a.IsWrite {
		c.writes = times
	} else {
		c.reads = times
	}
	hash := hashOf(t.seed, a.Key, a.DB)
	t.now.all.add(c)
	t.now.accesses.add(&t.sampler, hash, a, c, times)
	if c.bytes > 0 {
		t.now.bytes.add(&t.sampler, hash, a, c, c.bytes)
	}
	if t.session.isActive(t.at) {
		t.session.add(&t.sampler, hash, a, c)
	}
}

// EachRead calls do for each key of database 0 that at least one in so many accesses of both windows has read,
// unless the key is longer than MaxKey. The key is valid only during the call.
func (t *Tracker) EachRead(now int64, oneIn int, do func(key []byte)) {
	if t.now == nil {
		return
	}
	t.turn(now)
	all := t.now.all.reads + t.now.all.writes + t.before.all.reads + t.before.all.writes
	each := func(in *window, others func(e *entry) (reads uint64, isListed bool)) {
		for i := range in.accesses.sets {
			for j := range in.accesses.sets[i] {
				e := &in.accesses.sets[i][j]
				if e.weight == 0 || e.db != 0 || e.size > MaxKey {
					continue
				}
				if reads, isListed := others(e); !isListed && (e.reads+reads)*uint64(oneIn) >= max(all, 1) {
					do(e.kept())
				}
			}
		}
	}
	each(t.now, func(e *entry) (uint64, bool) {
		if o := t.before.accesses.find(&e.Key); o != nil {
			return o.reads, false
		}
		return 0, false
	})
	each(t.before, func(e *entry) (uint64, bool) { return 0, t.now.accesses.find(&e.Key) != nil })
}

// turn begins another window if the present one is over.
func (t *Tracker) turn(now int64) {
	if t.now == nil {
		t.now, t.before = newWindow(), newWindow()
		t.now.began = now - now%Window // the same on all threads
		t.before.began = t.now.began - Window
	}
	age := now - t.now.began
	if age < Window {
		return
	}
	t.now, t.before = t.before, t.now
	t.now.clear()
	if age >= 2*Window {
		t.before.clear()
	}
	t.now.began = now - now%Window
	t.before.began = t.now.began - Window
}

func newWindow() *window {
	return &window{accesses: newTable(setsByAccesses), bytes: newTable(setsByBytes)}
}

func (w *window) clear() {
	w.all = counts{}
	w.accesses.clear()
	w.bytes.clear()
}
