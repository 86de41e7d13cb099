package proxy

import (
	"math/bits"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
)

// LatencyBuckets is the number of buckets of a latency histogram: bucket i
// counts commands that took less than 2^i microseconds and no less than half
// of that; the last one the rest.
const LatencyBuckets = 26

// Histogram is the latency of one family of commands.
type Histogram struct {
	Buckets    [LatencyBuckets]uint64
	Count, Sum uint64 // Sum in microseconds
}

func (h *Histogram) add(ns int64) {
	us := uint64(ns) / 1000
	h.Buckets[min(bits.Len64(us), LatencyBuckets-1)]++
	h.Count++
	h.Sum += us
}

func (h *Histogram) merge(o *Histogram) {
	for i, n := range o.Buckets {
		h.Buckets[i] += n
	}
	h.Count += o.Count
	h.Sum += o.Sum
}

// Stats counts what a worker has done. It belongs to the worker's thread:
// others get copies (Worker.Snapshot).
type Stats struct {
	Calls    []uint64    // commands received, by command.Command.ID
	Errors   []uint64    // error replies, by command.Command.ID
	Families []Histogram // in a Snapshot, by the index of FamilyNames

	Unknown        uint64 // commands that nobody knows
	Accepted       uint64
	Rejected       uint64 // connections over clients.max
	ClosedSlow     uint64 // clients closed since they did not read
	ClosedIdle     uint64
	ClosedMemory   uint64 // clients closed since limits.memory was reached
	RefusedLarge   uint64 // commands refused since it nearly was
	ClosedTLS      uint64 // clients closed since they spoke TLS
	ProtocolErrors uint64
	AuthFailures   uint64
	BytesIn        uint64
	BytesOut       uint64
	NotExecuted    uint64 // error replies of class "not executed"
	Overtaken      uint64 // refused for good, since a later command of the client had been executed by then
	UnknownOutcome uint64 // error replies of class "unknown"
	ReadsMaster    uint64 // of clients that may read from replicas
	ReadsReplica   uint64
	ReadsAgain     uint64 // that a replica did not answer
	NoScript       uint64 // scripts sent again in full since a node had lost them
	Keyless        uint64 // scripts without keys that may have written
	Undelivered    uint64 // elements popped for clients that left in that moment
	Messages       uint64 // sent to subscribers
	FeedLosses     uint64 // times a node was not listened to any more, until its feed was back
	Held           uint64 // times a client waited for a redirect of its own
}

// FamilyNames are the names of Stats.Families.
var FamilyNames []string

// familyOf is each command ID's family.
var familyOf []uint8

func init() {
	seen := map[string]uint8{}
	familyOf = make([]uint8, command.Count)
	add := func(id int, name string) {
		f, ok := seen[name]
		if !ok {
			f = uint8(len(FamilyNames))
			seen[name] = f
			FamilyNames = append(FamilyNames, name)
		}
		familyOf[id] = f
	}
	for _, c := range command.ByID {
		add(c.ID, c.Group)
	}
	add(command.LearnedID, "module")
}

func newStats() Stats {
	return Stats{
		Calls:  make([]uint64, command.Count),
		Errors: make([]uint64, command.Count),
	}
}

// NodeStats is one node as one worker sees it.
type NodeStats struct {
	Name, Addr string
	Master     bool
	Up         bool          // at least one connection is ready
	Behind     time.Duration // how long ago a replica surely had all that its master had; math.MaxInt64: not known
	Reason     string
	InFlight   int
	HeldBytes  int
	Exclusive  int    // connections that are one client's alone
	Moved, Ask uint64 // redirects that the node answered
	Retried    uint64 // commands sent again after TRYAGAIN and the like
	pool.Stats
}

// Snapshot is a copy of a worker's counters.
type Snapshot struct {
	Stats
	Clients     int
	OutputBytes int // waiting for clients to take them
	Nodes       []NodeStats
	Layout      string
	Epoch       uint64
	Covered     bool // every slot has an owner
}

// Snapshot copies the worker's counters.
func (w *Worker) Snapshot() Snapshot {
	s := Snapshot{Stats: w.stats, Clients: len(w.sessions), Layout: w.table.Name, Epoch: w.epoch, Covered: true}
	s.Calls = append([]uint64(nil), w.stats.Calls...)
	s.Errors = append([]uint64(nil), w.stats.Errors...)
	s.Families = make([]Histogram, len(FamilyNames))
	for id, h := range w.histograms {
		if h != nil {
			s.Families[familyOf[id]].merge(h)
		}
	}
	for _, c := range w.sessions {
		s.OutputBytes += c.out.size + c.parked
	}
	for i, n := range w.nodes {
		ns := NodeStats{Name: n.name, Addr: n.addr, Master: w.table.Nodes[i].Master, Behind: n.behind(), Moved: n.moved, Ask: n.asked, Retried: n.retried, Exclusive: n.exclusive, Up: n.isUp()}
		for _, s := range w.trackers {
			if s.tracking.conns[n] != nil {
				ns.Exclusive++
			}
		}
		for _, c := range n.conns {
			if r := c.Reason(); r != "" {
				ns.Reason = r
			}
			ns.InFlight += c.InFlight()
			ns.HeldBytes += c.Held()
			addPoolStats(&ns.Stats, &c.Stats)
		}
		for _, c := range n.retired {
			ns.InFlight += c.InFlight()
			ns.HeldBytes += c.Held()
		}
		s.Nodes = append(s.Nodes, ns)
	}
	if w.table.Slotted() {
		covered := 0.0
		for _, share := range w.table.Shares() {
			covered += share
		}
		s.Covered = covered > 0.99999
	}
	return s
}

func addPoolStats(a *pool.Stats, b *pool.Stats) {
	a.Dials += b.Dials
	a.Failures += b.Failures
	a.Losses += b.Losses
	a.Timeouts += b.Timeouts
	a.Late += b.Late
	a.Unsolicited += b.Unsolicited
	a.Violations += b.Violations
	a.Fences += b.Fences
	a.BytesIn += b.BytesIn
	a.BytesOut += b.BytesOut
}

// Add adds another worker's view of the same node.
func (n *NodeStats) Add(o *NodeStats) {
	n.Up = n.Up && o.Up
	if n.Reason == "" {
		n.Reason = o.Reason
	}
	n.InFlight += o.InFlight
	n.HeldBytes += o.HeldBytes
	n.Exclusive += o.Exclusive
	n.Moved += o.Moved
	n.Ask += o.Ask
	n.Retried += o.Retried
	n.Behind = max(n.Behind, o.Behind)
	addPoolStats(&n.Stats, &o.Stats)
}
