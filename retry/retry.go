package retry

import "time"

const (
	minBackoff = int64(5 * time.Millisecond) // in nanoseconds
	// MaxBackoff is the longest time between two attempts of a call, in nanoseconds.
	MaxBackoff = int64(100 * time.Millisecond)
	// minBudget is how many retries a node gets per tick at least. Its budget is a fifth of the calls
	// that wait for the node or are in flight to it.
	minBudget = 16
	// maxWaiting bounds the memory of the calls that wait to be sent again to one node.
	maxWaiting = 64 << 20
	// Cost is the memory that a waiting call takes besides its bytes.
	Cost = 512
)

// Backoff returns the upper limit of the time between the given attempt of a call and the next.
func Backoff(tries uint8) int64 { return min(minBackoff<<min(tries, 8), MaxBackoff) }

// Node is what is known about the calls that wait to be sent again to one node.
type Node struct {
	waiting, bytes int
	servedAt       int64 // when it last answered a retry, or when the first call began to wait
	putOffAt       int64 // when a call last had to wait
	budget         int   // what is left of the retries of this tick
}

// Waiting returns how many calls wait.
func (n *Node) Waiting() int { return n.waiting }

// Memory returns the memory of the waiting calls, in bytes.
func (n *Node) Memory() int { return n.bytes }

// Add counts one more waiting call, of so many bytes.
func (n *Node) Add(bytes int) { n.waiting, n.bytes = n.waiting+1, n.bytes+bytes }

// Remove ends Add.
func (n *Node) Remove(bytes int) { n.waiting, n.bytes = n.waiting-1, n.bytes-bytes }

// Served records that the node has answered a retry.
func (n *Node) Served(now int64) { n.servedAt = now }

// MayWait reports whether a call of so many bytes may wait until the time until: the time has not
// passed, and the calls that wait already do not take too much memory. Short refusals, as in a failover,
// are retried silently. If a node refuses for longer than limit, only as many calls wait as the node's
// retry budget allows, to notice when it recovers. Other clients get the error at once. inFlight counts
// the calls in flight to the node.
func (n *Node) MayWait(now, until, limit int64, bytes int, inFlight func() int) bool {
	if now-n.putOffAt > 2*MaxBackoff {
		n.servedAt = now // no call has waited lately, so the refusals begin now
	}
	n.putOffAt = now
	lasts := now-n.servedAt > limit
	return now+minBackoff < until && n.bytes+bytes <= maxWaiting && (!lasts || n.waiting < n.share(inFlight()))
}

// Refill sets the retry budget of a new tick.
func (n *Node) Refill(inFlight int) { n.budget = n.share(inFlight) }

// Spend takes one retry out of the budget. It returns false if none is left.
func (n *Node) Spend() bool {
	if n.budget == 0 {
		return false
	}
	n.budget--
	return true
}

// share returns how many calls may be sent again per tick.
func (n *Node) share(inFlight int) int { return max(minBudget, (n.waiting+inFlight)/5) }
