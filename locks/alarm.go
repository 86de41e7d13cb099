package locks

import (
	"fmt"
	"math/bits"
	"time"
)

// AlarmSet is a set of alarms.
type AlarmSet uint16

// The alarms. Each is about a lock that is broken, or will be.
const (
	NotRenewed AlarmSet = 1 << iota
	LostWhileHeld
	SameToken
	NoLease
	SecondStep
	ForeignDelete
	ShortLease
	UnsafeLease
	CrossSlot
	CommaKey
	alarmsEnd
)

// alarmTexts have a name and an explanation of each alarm, by its bit. Table.explain fills in the
// numbers.
var alarmTexts = [...]struct{ name, text string }{
	{"not-renewed", "its holder has not renewed it for %v, more than half its lease of %v; " +
		"look for errors of renewals in the holder's log"},
	{"lost", "its holder tried to renew or release it and was told that it is not its own any more; " +
		"lengthen the lease, or use a fencing token"},
	{"same-token", "one token was sent by two connections: " +
		"a Redlock library with several addresses of one keyway never gets a lock; give it one address"},
	{"no-lease", "it was set without a lease and stays for ever if its holder dies; use SET with NX and PX"},
	{"second-step", "its lease was set by a second command; " +
		"if the holder dies between the two, the lock stays for ever; use SET with NX and PX"},
	{"foreign-delete", "a client that is not its holder deleted it; compare the token before DEL"},
	{"short-lease", "its lease of %v is shorter than it is usually held (%v); lengthen it, or renew it"},
	{"unsafe-lease", "its lease of %v is shorter than %v, which is twice backend.request_timeout and the longest " +
		"time that a node was away (%v); one failure can cost the lock; lengthen the lease, or lower the timeout"},
	{"crossslot", "its script was refused because its keys belong to different nodes or slots; see docs/locks.md"},
	{"comma-key", "its key ends in a comma; redis-cli --eval needs a space before the comma"},
}

// Names returns the names of the alarms in the set.
func (a AlarmSet) Names() (names []string) {
	for ; a != 0; a &= a - 1 {
		names = append(names, alarmTexts[bits.TrailingZeros16(uint16(a))].name)
	}
	return names
}

// Alarm is an alarm for the log.
type Alarm struct {
	Name    string
	Pattern string
	Key     string
	Text    string
}

// String returns the alarm as a line of the log.
func (a Alarm) String() string {
	return fmt.Sprintf("lock %q (pattern %s): %s [%s]", a.Key, a.Pattern, a.Text, a.Name)
}

// alarmed is an alarm of a pattern.
type alarmed struct {
	alarm   AlarmSet
	pattern int
}

const alarmEvery = int64(time.Hour)

// alarm records an alarm about a lock, and once an hour and pattern for the log.
func (t *Table) alarm(e *entry, a AlarmSet) {
	e.alarms |= a
	t.log(e.key, e.pattern, a, e)
}

// log records an alarm for the log, once an hour and pattern. e is nil if the table does not have
// the lock.
func (t *Table) log(key []byte, pattern int, a AlarmSet, e *entry) {
	id := alarmed{a, pattern}
	if at, before := t.alarmed[id]; before && t.now-at < alarmEvery {
		return
	}
	t.alarmed[id] = t.now
	text := alarmTexts[bits.TrailingZeros16(uint16(a))]
	t.alarms = append(t.alarms,
		Alarm{text.name, t.cfg.patternName(pattern), string(key), t.explain(text.text, a, e)})
}

// explain puts the numbers that an alarm is about into its text.
func (t *Table) explain(text string, a AlarmSet, e *entry) string {
	var ns []int64
	switch a {
	case NotRenewed:
		ns = []int64{t.now - e.renewedAt, e.lease}
	case ShortLease:
		ns = []int64{e.lease, t.figures[e.pattern].usualHold}
	case UnsafeLease:
		ns = []int64{e.lease, t.cfg.SafeLease + t.away, t.away}
	}
	numbers := make([]any, len(ns))
	for i, n := range ns {
		numbers[i] = time.Duration(n).Round(time.Millisecond)
	}
	return fmt.Sprintf(text, numbers...)
}

// TakeAlarms returns the alarms for the log since the last call.
func (t *Table) TakeAlarms() []Alarm {
	alarms := t.alarms
	t.alarms = nil
	return alarms
}

// alarmSameToken finds a Redlock library whose addresses are all this keyway: the first
// connection acquires the lock, and the next one is refused with the same token. A client
// that sends a command again after an error does so later, and over one connection at a time.
func (t *Table) alarmSameToken(e *entry, ev *Event, own bool) {
	if own && !ev.How.isRedisson() && len(ev.Token) > 0 && ev.Client.ID != e.client.ID &&
		ev.Sent-e.since < int64(time.Second) {
		t.show(e)
		t.alarm(e, SameToken)
	}
}

// usual is how many holds are enough to say how long a lock is usually held.
const usual = 20

// alarmLease looks at a lease that was just acquired.
func (t *Table) alarmLease(e *entry, ev *Event) {
	if !e.isShown {
		return
	}
	if ev.Lease == 0 {
		return
	}
	if !ev.Outside && ev.Lease < t.cfg.SafeLease+t.away {
		t.alarm(e, UnsafeLease)
	}
	if f := &t.figures[e.pattern]; f.Hold.Count >= usual && !t.hasWatchdog(e) && ev.Lease < f.usualHold {
		t.alarm(e, ShortLease)
	}
}
