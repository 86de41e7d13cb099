package quorum

import (
	"bytes"
	"time"

	"github.com/keyway-proxy/keyway/command"
)

// Rule says which keys are locks, and which nodes hold them.
type Rule struct {
	Match    []byte        // a glob pattern for the keys
	Nodes    []string      // the addresses: an odd number, at least three
	Username string        // for the nodes; empty: they have only a password
	Password string        // for the nodes; empty: they need none
	Timeout  time.Duration // for the answers of the nodes
	Drift    float64       // by which part two clocks may differ in their speed
	MaxLease time.Duration // the longest lease that a client may ask for
	Fencing  bool          // each acquisition gets a number, which KEY:fence shows
}

// fenceSuffix behind a lock's key is the key under which clients read the lock's number.
var fenceSuffix = []byte(":fence")

// Majority is how many of the rule's nodes must agree.
func (r *Rule) Majority() int { return len(r.Nodes)/2 + 1 }

// surely returns how much of a lease of this many milliseconds passes on all nodes before it ends
// on any, in nanoseconds.
func (r *Rule) surely(ms int64) int64 {
	lease := ms * int64(time.Millisecond)
	return lease - int64(float64(lease)*r.Drift) - int64(2*time.Millisecond)
}

// IsTooShort reports whether nobody can acquire a lock for this many milliseconds: they are over
// as soon as it is sure that the nodes have granted it.
func (r *Rule) IsTooShort(ms int64) bool { return r.surely(ms) <= 0 }

// ShortestLease returns the shortest lease that is not too short, in milliseconds.
func (r *Rule) ShortestLease() int64 {
	ms := int64(1)
	for r.IsTooShort(ms) {
		ms++
	}
	return ms
}

// Rules are all rules, in the order of the configuration.
type Rules []Rule

// Find returns the index of the first rule for a key, or -1 if the key is no lock. isNumber
// says that the key is the one under which the number of a lock is read.
func (rs Rules) Find(key []byte) (rule int, isNumber bool) {
	for i := range rs {
		r := &rs[i]
		if r.Fencing {
			if lock, ok := LockOf(key); ok && command.Glob(r.Match, lock) {
				return i, true
			}
		}
		if command.Glob(r.Match, key) {
			return i, false
		}
	}
	return -1, false
}

// LockOf returns the key of the lock whose number key shows. ok is false for other keys.
func LockOf(key []byte) (lock []byte, ok bool) {
	return bytes.CutSuffix(key, fenceSuffix)
}

// LongestLease returns the longest lease that the rules allow on a node, in milliseconds.
func (rs Rules) LongestLease(addr string) (ms int64) {
	for i := range rs {
		for _, n := range rs[i].Nodes {
			if n == addr {
				ms = max(ms, rs[i].MaxLease.Milliseconds())
			}
		}
	}
	return ms
}
