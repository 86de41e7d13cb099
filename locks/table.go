package locks

import (
	"bytes"
	"math/bits"
	"time"

	"github.com/keyway-proxy/keyway/command"
)

// MaxLocks is how many locks all threads of a process keep together.
const MaxLocks = 10_000

// Config is what a table must know besides the events.
type Config struct {
	Size     int      // locks kept at most
	Patterns []string // globs; each has its own figures
	// SafeLease is the time that a lease should exceed, in nanoseconds, besides the time that
	// nodes were away: twice the request timeout, as a command may fail once and be sent again.
	SafeLease int64
}

// Table has the locks of one thread. Another thread's events must not reach it, except
// through Apply.
type Table struct {
	cfg       Config
	buckets   []*entry
	shown     list // surely locks, the longest unused first
	guessed   list // set with NX, and perhaps no locks
	unused    *entry
	figures   []Figures         // by pattern; the last is of keys that match none
	ofGuessed Figures           // of what is perhaps no lock; nobody looks at it
	known     map[uint64]string // the library by the family of keys; see familyOf
	news      []Family
	away      int64 // the longest time that a node was away, a minute at most
	watchdog  int64 // the lease that Redisson's watchdog renews
	alarmed   map[alarmed]int64
	alarms    []Alarm
	now       int64
}

// place is where an entry stands in its list.
type place struct {
	older, newer *entry
	usedAt       int64 // when it was made the newest
}

// entry is one lock.
type entry struct {
	next         *entry // in its bucket, or unused
	place               // in its list
	hash         uint64
	key, token   []byte
	pattern      int
	isShown      bool
	held         bool
	unleased     bool // acquired by a command that sets no lease
	how          *How // of its acquisition
	library      string
	client       Client
	node         string
	since, until int64 // until is 0 without a lease
	lease        int64
	renewedAt    int64
	renewals     uint64
	times        int // acquisitions of the holder, or holders of a read lock
	lateRenewal  bool
	ranOut       bool // the lease has passed; the holder may not know
	before       former
	pollers      []poller
	alarms       AlarmSet
}

// former is a holder that has not released the lock, as far as keyway has seen, when another
// client acquired it.
type former struct {
	token uint64 // hash; 0: there is none
	since int64
}

// poller is a client that tries to acquire a lock again and again.
type poller struct {
	token       uint64 // hash of the token
	first, last int64
}

const (
	pollerAge  = int64(time.Second) // from its last attempt, a poller waits for so long
	maxPollers = 128                // of one lock
)

// list is entries by their last use.
type list struct {
	oldest, newest *entry
	n              int
}

func (l *list) remove(e *entry) {
	if e.older != nil {
		e.older.newer = e.newer
	} else {
		l.oldest = e.newer
	}
	if e.newer != nil {
		e.newer.older = e.older
	} else {
		l.newest = e.older
	}
	e.older, e.newer = nil, nil
	l.n--
}

func (l *list) add(e *entry) {
	if e.older = l.newest; l.newest != nil {
		l.newest.newer = e
	} else {
		l.oldest = e
	}
	l.newest = e
	l.n++
}

// NewTable returns an empty table.
func NewTable(c Config) *Table {
	c.Size = max(c.Size, 16)
	return &Table{
		cfg: c, buckets: make([]*entry, 1<<bits.Len(uint(c.Size/4))), figures: make([]Figures, len(c.Patterns)+1),
		known: map[uint64]string{}, watchdog: int64(30 * time.Second), alarmed: map[alarmed]int64{},
	}
}

// Configure replaces the patterns and SafeLease. Locks stay in the table, and the counts of
// patterns that stay go on.
func (t *Table) Configure(c Config) {
	figures := make([]Figures, len(c.Patterns)+1)
	for i := range figures {
		for j := range t.figures {
			if t.cfg.patternName(j) == c.patternName(i) {
				figures[i] = t.figures[j]
			}
		}
	}
	c.Size = t.cfg.Size
	t.cfg, t.figures = c, figures
	clear(t.alarmed) // which names patterns by their places
	var matching []*entry
	for _, first := range t.buckets {
		for e := first; e != nil; e = e.next {
			if e.pattern = c.pattern(e.key); e.pattern < len(c.Patterns) {
				matching = append(matching, e)
			}
		}
	}
	for _, e := range matching {
		t.show(e)
	}
}

// Matches reports whether the operator calls the key a lock by a pattern.
func (c *Config) Matches(key []byte) bool { return c.pattern(key) < len(c.Patterns) }

// pattern returns the index of the first pattern that matches, or how many patterns there are.
func (c *Config) pattern(key []byte) int {
	for i, p := range c.Patterns {
		if command.Glob([]byte(p), key) {
			return i
		}
	}
	return len(c.Patterns)
}

// patternName returns the name of a pattern in metrics and the log.
func (c *Config) patternName(i int) string {
	if i < len(c.Patterns) {
		return c.Patterns[i]
	}
	return "other"
}

func (t *Table) find(key []byte, hash uint64) *entry {
	for e := *t.bucket(hash); e != nil; e = e.next {
		if e.hash == hash && bytes.Equal(e.key, key) {
			return e
		}
	}
	return nil
}

// bucket returns the bucket of the keys with a hash. There are 2^n buckets.
func (t *Table) bucket(hash uint64) **entry { return &t.buckets[hash&uint64(len(t.buckets)-1)] }

// used makes an entry the newest of its list, at most once a second.
func (t *Table) used(e *entry) {
	if t.now-e.usedAt >= int64(time.Second) {
		l := t.listOf(e)
		l.remove(e)
		l.add(e)
		e.usedAt = t.now
	}
}

func (t *Table) listOf(e *entry) *list {
	if e.isShown {
		return &t.shown
	}
	return &t.guessed
}

// show records that an entry surely is a lock, and so are keys like it.
func (t *Table) show(e *entry) {
	if !e.isShown {
		t.learn(e.key, e.library)
		t.guessed.remove(e)
		e.isShown = true
		t.shown.add(e)
	}
}

// insert returns a new entry for an event's lock. If the table is full, the one that was not used for longest
// leaves: of the guessed ones, if these fill a quarter of the table.
func (t *Table) insert(ev *Event) *entry {
	key, hash := ev.Key, ev.hash
	switch {
	case t.guessed.n > 0 && (t.guessed.n >= t.cfg.Size/4 || t.guessed.n+t.shown.n >= t.cfg.Size):
		t.drop(t.guessed.oldest)
	case t.shown.n >= t.cfg.Size:
		t.drop(t.shown.oldest)
	}
	e := t.unused
	if e == nil {
		e = new(entry)
	} else {
		t.unused = e.next
	}
	ownKey, token, pollers := append(e.key[:0], key...), e.token[:0], e.pollers[:0]
	*e = entry{}
	e.hash, e.usedAt, e.pattern = hash, t.now, t.cfg.pattern(key)
	e.key, e.token, e.pollers = ownKey, token, pollers
	library, isKnown := t.known[familyOf(key)]
	e.library, e.isShown = library, isKnown || ev.Outside || e.pattern < len(t.cfg.Patterns)
	b := t.bucket(hash)
	e.next, *b = *b, e
	t.listOf(e).add(e)
	return e
}

func (t *Table) drop(e *entry) {
	for p := t.bucket(e.hash); *p != nil; p = &(*p).next {
		if *p == e {
			*p = e.next
			break
		}
	}
	t.listOf(e).remove(e)
	e.next, t.unused = t.unused, e
}

// Apply records an event.
func (t *Table) Apply(ev *Event) {
	t.now = max(t.now, ev.At)
	isSure := ev.How.Library != libUnknown
	if isSure && endsInComma(ev.Key) {
		t.log(ev.Key, t.cfg.pattern(ev.Key), CommaKey, nil)
	}
	e := t.find(ev.Key, ev.hash)
	if e == nil {
		if ev.How == crossed {
			t.log(ev.Key, t.cfg.pattern(ev.Key), CrossSlot, nil)
		}
		if ev.How.Op != Acquire && ev.How.Op != Renew || ev.Outcome == Failed || ev.How == setXX {
			return
		}
		if ev.How.Op == Renew && ev.Outcome == Refused {
			return
		}
		e = t.insert(ev)
	} else {
		t.used(e)
	}
	if isSure {
		if endsInComma(ev.Key) {
			e.alarms |= CommaKey
		}
		if isVague(e.library) && e.library != ev.How.Library {
			e.library = ev.How.Library
			t.learn(e.key, e.library)
		}
		t.show(e)
	}
	switch ev.How.Op {
	case Acquire:
		t.acquire(e, ev)
	case Renew:
		t.renew(e, ev)
	case Expire:
		t.expire(e, ev)
	case Release, Force:
		t.release(e, ev)
	case Cross:
		t.show(e)
		t.alarm(e, CrossSlot)
	}
}

func endsInComma(key []byte) bool { return len(key) > 0 && key[len(key)-1] == ',' }

func (t *Table) acquire(e *entry, ev *Event) {
	f := t.figuresOf(e)
	own := e.held && bytes.Equal(e.token, ev.Token)
	switch ev.Outcome {
	case Refused:
		f.Refusals++
		t.poll(e, ev)
		t.alarmSameToken(e, ev, own)
	case Done:
		f.Acquisitions++
		// NX alone never succeeds for the holder, so its lease has ended.
		isPlain := ev.How == setNX || ev.How == setNXOnly
		t.take(e, ev, own && !isPlain, f)
		t.alarmLease(e, ev)
	}
}

// figuresOf returns the figures that count an entry: none that are shown, if it is perhaps no
// lock.
func (t *Table) figuresOf(e *entry) *Figures {
	if e.isShown {
		return &t.figures[e.pattern]
	}
	return &t.ofGuessed
}

// take records that an event's client has acquired the lock.
func (t *Table) take(e *entry, ev *Event, own bool, f *Figures) {
	shared := e.held && e.how != nil && e.how.Kind == KindRead && ev.How.Kind == KindRead
	if own || shared {
		e.times++
		if !ev.How.isRedisson() {
			e.renewals++ // its script acquires and renews
		}
		if t.lease(e, ev); shared && !own {
			e.token = append(e.token[:0], ev.Token...)
			e.client = ev.Client
		}
		return
	}
	if e.before = (former{}); e.held || e.ranOut {
		e.before = former{hashOf(e.token), e.since}
	}
	observe(&f.Wait, e.waited(ev))
	if e.library == "" {
		e.library = ev.How.Library
	}
	e.held, e.how, e.times, e.client, e.node = true, ev.How, 1, ev.Client, ev.Node
	e.since, e.renewedAt, e.renewals, e.lateRenewal = ev.At, ev.At, 0, false
	e.ranOut = false
	e.token = append(e.token[:0], ev.Token...)
	e.unleased = ev.Lease == 0
	e.lease, e.until = 0, 0
	t.lease(e, ev)
}

// waited returns how long an event's client has tried to acquire the lock, and ends that.
func (e *entry) waited(ev *Event) (ns int64) {
	if len(e.pollers) == 0 {
		return 0
	}
	token := hashOf(ev.Token)
	for i := range e.pollers {
		if p := &e.pollers[i]; p.token == token {
			ns = ev.At - p.first
			e.pollers = append(e.pollers[:i], e.pollers[i+1:]...)
			break
		}
	}
	return ns
}

// lease records a new lease.
func (t *Table) lease(e *entry, ev *Event) {
	if ev.Lease > 0 {
		e.lease, e.until, e.renewedAt = ev.Lease, ev.At+ev.Lease, ev.At
	}
}

// poll records a refused attempt.
func (t *Table) poll(e *entry, ev *Event) {
	token, gone := hashOf(ev.Token), e.pollerGone()
	free := -1
	for i := range e.pollers {
		p := &e.pollers[i]
		if p.token == token {
			if ev.At-p.last > gone {
				p.first = ev.Sent
			}
			p.last = ev.At
			return
		}
		if ev.At-p.last > gone {
			free = i
		}
	}
	switch one := (poller{token, ev.Sent, ev.At}); {
	case free >= 0:
		e.pollers[free] = one
	case len(e.pollers) < maxPollers:
		e.pollers = append(e.pollers, one)
	}
}

func (t *Table) renew(e *entry, ev *Event) {
	own := e.held && (len(ev.Token) == 0 || bytes.Equal(e.token, ev.Token))
	switch {
	case ev.Outcome == Refused && ev.How.Keys != allKeys || ev.Outcome == Refused && ev.How.Each:
		t.refusedHolder(e, ev)
	case ev.Outcome != Done:
	case !e.held:
		// Its acquisition passed elsewhere, or before keyway started.
		t.take(e, ev, false, &t.ofGuessed)
		e.renewals = 1
		e.unleased = false
	case own:
		e.renewals++
		e.lateRenewal = false
		if ev.How.isRedisson() && ev.Lease > 0 {
			t.watchdog = ev.Lease
		}
		t.lease(e, ev)
	}
}

// expire records a lease that is set in a second step.
func (t *Table) expire(e *entry, ev *Event) {
	if ev.Outcome != Done || !e.held || e.how.Op != Acquire {
		return
	}
	if e.unleased && sameClient(e.client, ev.Client) {
		t.show(e)
		e.unleased = false
		if !ev.InBlock || e.since != ev.At {
			t.alarm(e, SecondStep)
		}
	}
	t.lease(e, ev)
}

func (t *Table) release(e *entry, ev *Event) {
	own := e.held && (bytes.Equal(e.token, ev.Token) || ev.How.Op == Force || ev.How.Kind == KindRead)
	switch {
	case ev.Outcome == Kept && own:
		e.times = max(e.times-1, 1)
		t.lease(e, ev)
	case ev.Outcome == Refused && ev.How.Op == Release:
		t.refusedHolder(e, ev)
	case ev.Outcome == Done && own:
		if ev.How == del && e.unleased && sameClient(e.client, ev.Client) {
			t.show(e) // SETNX and DEL of one client
		}
		if ev.How == del && !sameClient(e.client, ev.Client) {
			t.figures[e.pattern].ForeignReleases++
			t.alarm(e, ForeignDelete)
		}
		if e.times > 1 && ev.How.Kind == KindRead {
			e.times--
			return
		}
		t.endHold(e, ev.At)
	}
}

// endHold records that the holder has released the lock. A lock that nobody waits for leaves
// the table, so that the memory of locks that come and go stays in the processor's cache.
func (t *Table) endHold(e *entry, at int64) {
	t.figuresOf(e).hold(at - e.since)
	if len(e.pollers) == 0 && e.alarms == 0 {
		t.drop(e)
		return
	}
	e.held, e.ranOut, e.until, e.lease, e.times = false, false, 0, 0, 0
}

// refusedHolder records that a node has told a client that the lock is not its own. If keyway
// has seen how the client acquired it, the client has lost it while it believed to hold it.
func (t *Table) refusedHolder(e *entry, ev *Event) {
	f := t.figuresOf(e)
	switch {
	case len(ev.Token) == 0:
		return
	case (e.held || e.ranOut) && bytes.Equal(e.token, ev.Token):
		f.hold(ev.At - e.since)
		e.held, e.ranOut, e.until, e.lease, e.times = false, false, 0, 0, 0
	case e.before.token == hashOf(ev.Token):
		f.hold(ev.At - e.before.since)
		e.before = former{}
	default:
		return
	}
	f.Lost++
	t.alarm(e, LostWhileHeld)
}

// sameClient reports whether two connections surely or probably belong to one client: a pool
// has several connections from one host.
func sameClient(a, b Client) bool {
	return a.ID == b.ID || hostOf(a.Addr) == hostOf(b.Addr) && a.Name == b.Name
}

func hostOf(addr string) string {
	for i := len(addr) - 1; i >= 0; i-- {
		if addr[i] == ':' {
			return addr[:i]
		}
	}
	return addr
}

// NodeAway records how long a node was away: leases should outlast that too.
func (t *Table) NodeAway(ns int64) { t.away = max(t.away, min(ns, int64(time.Minute))) }

// Sweep ends the leases that have run out and looks for late renewals. Call it once a second.
func (t *Table) Sweep(now int64) {
	t.now = max(t.now, now)
	for e := t.shown.oldest; e != nil; e = e.newer {
		t.sweep(e)
	}
	for e := t.guessed.oldest; e != nil; e = e.newer {
		if e.held && e.until > 0 && t.now > e.until {
			e.held, e.ranOut = false, true
		}
	}
}

func (t *Table) sweep(e *entry) {
	f := &t.figures[e.pattern]
	switch {
	case !e.held:
	case e.until > 0 && t.now > e.until+int64(time.Second):
		f.Expired++
		e.held, e.ranOut = false, true
	case e.unleased && t.now-e.since > int64(time.Second) && e.lease == 0:
		t.alarm(e, NoLease)
	case t.hasWatchdog(e) && !e.lateRenewal && t.now-e.renewedAt > e.lease/2+e.lease/20:
		e.lateRenewal = true
		f.MissedRenewals++
		t.alarm(e, NotRenewed)
	}
}

// hasWatchdog reports whether the holder's library renews the lock by itself.
func (t *Table) hasWatchdog(e *entry) bool {
	return e.lease > 0 && (e.renewals > 0 || e.how.isRedisson() && e.lease == t.watchdog)
}
