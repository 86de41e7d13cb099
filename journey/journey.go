package journey

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"time"
)

const (
	maxKey      = 128 // bytes of a key that a journey keeps
	maxAttempts = 8   // attempts that it keeps
	maxCode     = 32  // bytes of the first word of an error
)

// Purpose is a set of what a journey is recorded for.
type Purpose uint8

const (
	ForTrace Purpose = 1 << iota // OpenTelemetry
	ForLine                      // the access log
)

// Has reports whether p contains q.
func (p Purpose) Has(q Purpose) bool { return p&q != 0 }

// Journey is what is recorded of one command. Times are monotonic, in nanoseconds from any origin; At is the
// wall clock at End.
type Journey struct {
	For        Purpose
	IsSlow     bool     // as SLOWLOG counts it
	IsCut      bool     // the client left before the reply was complete
	IsSplit    bool     // it has several calls
	Trace      [16]byte // identifies the journey, with ForTrace
	Command    string   // in upper case; empty: neither keyway nor the nodes know it
	Key        Key      // the first of its keys
	Keys       int      // how many keys it has
	Database   int
	Client     string // its address
	ClientName string
	User       string
	Start, End int64
	At         time.Time
	BytesIn    int    // of the command; 0: not known
	BytesOut   int    // of the reply
	Error      string // the first word of an error reply; empty: no error
	attempts   [maxAttempts]Attempt
	n          int
}

// Key is a key, as far as a journey may show it.
type Key struct {
	text   [maxKey]byte
	kept   uint8
	length int
	hash   [8]byte
}

// Attempt is one call to one node, or all calls of a command that was split which the node has answered.
type Attempt struct {
	Node, Addr string
	Written    int64  // when the node was sent the whole call; 0: not known, or it was not sent
	Ended      int64  // when its reply was complete, or the call failed
	Result     string // empty: the reply; else the first word of the error, or Lost or TimedOut
}

// The results of attempts without a reply.
const (
	Lost     = "lost"    // the connection has ended
	TimedOut = "timeout" // the node was silent for too long
)

// Settings say which commands are recorded, and what is recorded of their keys.
type Settings struct {
	Traces, Lines Choice
	// Text and Hash say whether journeys have the texts of keys and the hashes of keys.
	Text, Hash bool
}

// Choice says which commands are recorded for one purpose.
type Choice struct {
	OneIn int  // one of so many; 0: none
	Slow  bool // all slow ones
}

// Slow returns the purposes for which all slow commands are recorded.
func (s *Settings) Slow() (p Purpose) {
	if s.Traces.Slow {
		p |= ForTrace
	}
	if s.Lines.Slow {
		p |= ForLine
	}
	return p
}

// SetKey records a key as the settings allow.
func (j *Journey) SetKey(key []byte, by *Settings) {
	k := &j.Key
	if k.length = len(key); by.Text {
		k.kept = uint8(copy(k.text[:], key))
	}
	if by.Hash {
		sum := sha256.Sum256(key)
		copy(k.hash[:], sum[:])
	}
}

// Text returns the beginning of the key; empty if it is not recorded.
func (k *Key) Text() []byte { return k.text[:k.kept] }

// Len returns the length of the whole key.
func (k *Key) Len() int { return k.length }

// Hash returns the first 8 bytes of the key's SHA-256, if it is recorded.
func (k *Key) Hash() [8]byte { return k.hash }

// Tried adds an attempt. Of many, the first ones are kept and the last one.
func (j *Journey) Tried(a Attempt) {
	if n := len(j.Attempts()); n > 0 && isSame(&j.attempts[n-1], &a) {
		return
	}
	if j.IsSplit && a.Result == "" && j.joined(&a) {
		return
	}
	j.attempts[min(j.n, maxAttempts-1)] = a
	j.n++
}

// joined makes a one attempt with that of another call of the command which the same node has answered: there may be a
// call for each slot. It returns false if none is kept.
func (j *Journey) joined(a *Attempt) bool {
	kept := j.Attempts()
	at := slices.IndexFunc(kept, func(b Attempt) bool { return b.Result == "" && b.Node == a.Node && b.Addr == a.Addr })
	if at < 0 {
		return false
	}
	if before := kept[at].Written; before != 0 && (a.Written == 0 || before < a.Written) {
		a.Written = before
	}
	copy(kept[at:], kept[at+1:]) // its reply came last
	kept[len(kept)-1] = *a
	return true
}

// isSame reports whether b is the attempt a, which was recorded before the client got the node's error after all.
func isSame(a, b *Attempt) bool {
	return a.Node == b.Node && a.Written == b.Written && a.Ended == b.Ended && a.Result == b.Result && a.Result != ""
}

// Replied counts a piece of the reply.
func (j *Journey) Replied(b []byte) {
	if j.BytesOut == 0 && len(b) > 0 && b[0] == '-' {
		j.Error = Code(b)
	}
	j.BytesOut += len(b)
}

// Unreply forgets what has come of the reply: the command is sent again.
func (j *Journey) Unreply() { j.BytesOut, j.Error = 0, "" }

// Attempts returns the attempts that are kept, in their order. Tried counts all.
func (j *Journey) Attempts() []Attempt { return j.attempts[:min(j.n, maxAttempts)] }

// Unkept returns how many attempts are left out before the last one.
func (j *Journey) Unkept() int { return max(j.n-maxAttempts, 0) }

// Queued returns how long the command waited until the first attempt was written. ok is false if none was, or
// it is not known.
func (j *Journey) Queued() (queued time.Duration, ok bool) {
	if j.n == 0 || j.attempts[0].Written == 0 {
		return 0, false
	}
	return time.Duration(max(j.attempts[0].Written-j.Start, 0)), true
}

// AtNodes returns for how long at least one of the attempts that are kept was at a node.
func (j *Journey) AtNodes() (at time.Duration) {
	var kept [maxAttempts]Attempt
	all := kept[:copy(kept[:], j.Attempts())]
	slices.SortFunc(all, func(a, b Attempt) int { return cmp.Compare(a.Written, b.Written) })
	until := int64(0)
	for _, a := range all {
		if a.Written != 0 {
			at += time.Duration(max(a.Ended-max(a.Written, until), 0))
			until = max(until, a.Ended)
		}
	}
	return at
}

// Name returns the name of the command. One that nobody knows is UNKNOWN: a client that is no client of Redis could
// send anything in its place, such as a password.
func (j *Journey) Name() string {
	if j.Command == "" {
		return "UNKNOWN"
	}
	return j.Command
}

// Duration returns how long the client waited.
func (j *Journey) Duration() time.Duration { return time.Duration(max(j.End-j.Start, 0)) }

// Wall returns the wall clock at a time of the journey.
func (j *Journey) Wall(at int64) time.Time { return j.At.Add(-time.Duration(j.End - at)) }

// Code returns the first word of an error reply, such as WRONGTYPE. A word that is not written as Redis writes
// such codes could be anything that a script returns; it becomes ERR.
func Code(reply []byte) string {
	if len(reply) < 2 {
		return "ERR"
	}
	n := 1
	for n < len(reply) && isOfCode(reply[n]) {
		n++
	}
	if n == 1 || n > maxCode || n < len(reply) && reply[n] != ' ' && reply[n] != '\r' {
		return "ERR"
	}
	return string(reply[1:n])
}

func isOfCode(c byte) bool { return c >= 'A' && c <= 'Z' || c == '_' }

// Batch is what a thread has recorded since the last one.
type Batch struct {
	Journeys []Journey
	// So many were not recorded, because there were too many at once.
	LostTraces, LostLines int
}

// Lose counts a journey that is not recorded.
func (b *Batch) Lose(of Purpose) {
	if of.Has(ForTrace) {
		b.LostTraces++
	}
	if of.Has(ForLine) {
		b.LostLines++
	}
}

// IsEmpty reports whether there is nothing to hand over.
func (b *Batch) IsEmpty() bool { return len(b.Journeys)+b.LostTraces+b.LostLines == 0 }

// Reset empties the batch.
func (b *Batch) Reset() { b.Journeys, b.LostTraces, b.LostLines = b.Journeys[:0], 0, 0 }
