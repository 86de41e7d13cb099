package overview

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// nodeKey tells nodes apart: behind sentinels, a name gets another address.
type nodeKey struct{ name, addr string }

// slowSamples is the number of intervals over which a node is compared with the others.
const slowSamples = 10

// node is what the last samples say about a node.
type node struct {
	metrics.Node           // of the last sample
	state        string    // as in Node.State
	step, cause  string    // as Node.Step and Node.Reason
	since        time.Time // as Node.Since
	silentSince  time.Time // since when it owes replies and has sent nothing; zero: it does not
	growing      int       // samples in a row with more requests in flight than the one before

	counts [slowSamples + 1]nodeCounts // a ring
	taken  int                         // samples
	isNew  bool                        // the last sample has the node
}

// nodeCounts is what was counted of a node until a sample.
type nodeCounts struct {
	at       time.Time
	requests uint64
	errors   uint64
	timeouts uint64
	bytesIn  uint64
	bytesOut uint64
	latency  metrics.Histogram
}

// latencySince returns the latencies of the requests since before.
func (c *nodeCounts) latencySince(before *nodeCounts) metrics.Histogram {
	if c.latency.Count < before.latency.Count { // the counters began again
		return c.latency
	}
	return c.latency.Since(&before.latency)
}

// sampleNodes keeps a sample of all nodes, and forgets those that are gone.
func (s *Sampler) sampleNodes(all []metrics.Node, now time.Time) {
	for _, n := range s.nodes {
		n.isNew = false
	}
	for i := range all {
		key := nodeKey{all[i].Name, all[i].Addr}
		n := s.nodes[key]
		if n == nil {
			n = &node{}
			s.nodes[key] = n
		}
		n.add(&all[i], now)
	}
	for key, n := range s.nodes {
		if !n.isNew {
			delete(s.nodes, key)
		}
	}
}

// add keeps a sample.
func (n *node) add(now *metrics.Node, at time.Time) {
	before := n.Node
	n.Node, n.isNew = *now, true
	state := n.stateAt(now)
	if isReady := state == Ready; n.taken == 0 || isReady != (n.state == Ready) {
		n.since = at // while a node is away, keyway connects again and again
	}
	n.state = state
	if n.taken > 0 {
		owed := before.InFlight > 0 && now.InFlight > 0 && before.BytesIn == now.BytesIn
		switch {
		case !owed || n.state != Ready:
			n.silentSince = time.Time{}
		case n.silentSince.IsZero():
			n.silentSince = n.latest().at
		}
		if n.growing++; now.InFlight <= before.InFlight {
			n.growing = 0
		}
	}
	n.counts[n.taken%len(n.counts)] = nodeCounts{
		at: at, requests: now.Requests, timeouts: now.Timeouts,
		errors:  now.Errors.Refused() + now.FailedCommands.Total(),
		bytesIn: now.BytesIn, bytesOut: now.BytesOut, latency: now.Latency,
	}
	n.taken++
}

func (n *node) latest() *nodeCounts { return &n.counts[(n.taken-1)%len(n.counts)] }

// before returns the counts of some samples before the last one, or the oldest that there are.
func (n *node) before(samples int) *nodeCounts {
	samples = min(samples, n.taken-1, len(n.counts)-1)
	return &n.counts[(n.taken-1-samples)%len(n.counts)]
}

// grown returns how much a counter has grown. The counters of a node begin again when it was away.
func grown(before, now uint64) uint64 {
	if now < before {
		return now
	}
	return now - before
}

// stateAt returns Node.State, and keeps why the node is away. keyway tries each second or so to connect to a node that
// hangs, and gives up: all that while the node is down. That such an attempt gets no answer says less than what
// happened first.
func (n *node) stateAt(now *metrics.Node) string {
	state := stateOf(now)
	n.step = ""
	if state == Ready || state == Unused {
		n.cause = ""
		return state
	}
	if n.cause == "" || now.Reason != "" && !pool.IsNoAnswer(now.Reason) {
		n.cause = now.Reason
	}
	if n.cause == "" {
		return state // it was never lost
	}
	if state != Down && state != pool.Idle.String() {
		n.step = state
	}
	return Down
}

// stateOf returns the state of a node, or of the connection to it.
func stateOf(n *metrics.Node) string {
	switch {
	case n.Up:
		return Ready
	case !n.Master && n.Dials == 0:
		return Unused
	}
	return cmp.Or(n.State, "connecting") // one of several threads has no connection
}

// places caches what a table says about its nodes.
type places struct {
	of     *router.Table
	shares []float64
	slots  []int
	ranges []int
}

// update follows the table.
func (p *places) update(t *router.Table) {
	if t == p.of {
		return
	}
	*p = places{of: t, shares: t.Shares(), slots: make([]int, len(t.Nodes)), ranges: make([]int, len(t.Nodes))}
	if !t.Slotted() {
		return
	}
	before := router.None
	for slot := range int32(slots.Count) {
		owner := t.SlotOwner(slot)
		if owner != router.None {
			p.slots[owner]++
			if owner != before {
				p.ranges[owner]++
			}
		}
		before = owner
	}
}

// masterOf returns the name of a replica's master.
func masterOf(t *router.Table, id router.NodeID) string {
	if of := t.Nodes[id].Of; of != "" {
		return of
	}
	for i := range t.Nodes {
		if slices.Contains(t.Nodes[i].Replicas, id) {
			return t.Nodes[i].Name
		}
	}
	return ""
}

// nodesNow returns all nodes, in the order of the table.
func (s *Sampler) nodesNow(t *router.Table, known map[string]Known) []Node {
	s.places.update(t)
	others := s.peers()
	all := make([]Node, 0, len(s.nodes))
	for id := range t.Nodes {
		of := &t.Nodes[id]
		n := s.nodes[nodeKey{of.Name, of.Addr}]
		if n == nil {
			continue // the threads do not have this table yet
		}
		row := n.row()
		row.Known = known[n.Name]
		row.SlowReason = n.slowness(others)
		row.Slow = row.SlowReason != ""
		if id < len(s.places.shares) {
			row.Share = s.places.shares[id]
		}
		row.Slots, row.Ranges = s.places.slots[id], s.places.ranges[id]
		if !of.Master {
			row.Role, row.Master = Replica, masterOf(t, router.NodeID(id))
		}
		all = append(all, row)
	}
	return all
}

// row returns what is known of the node alone.
func (n *node) row() Node {
	now, before := n.latest(), n.before(windowSamples)
	rate := func(from, to uint64) float64 {
		if seconds := now.at.Sub(before.at).Seconds(); seconds > 0 {
			return float64(grown(from, to)) / seconds
		}
		return 0
	}
	latency := now.latencySince(before)
	row := Node{
		Name: n.Name, Addr: n.Addr, Role: Master, State: n.state, Since: n.since, InFlight: n.InFlight,
		Commands: rate(before.requests, now.requests), Errors: rate(before.errors, now.errors),
		Timeouts: rate(before.timeouts, now.timeouts), P50: latency.Quantile(0.5), P99: latency.Quantile(0.99),
		BytesIn: rate(before.bytesIn, now.bytesIn), BytesOut: rate(before.bytesOut, now.bytesOut),
	}
	row.Reason, row.Step = n.cause, n.step
	if !n.Master && n.Lag != math.MaxInt64 && n.state != Unused {
		lag := n.Lag.Seconds()
		row.Lag = &lag
	}
	return row
}

const (
	// silence is how long a node that owes replies may send nothing.
	silence = 2 * time.Second
	// longQueue is the number of requests in flight below which a growing number does not matter.
	longQueue = 100
	// growth is the number of samples in a row at which more requests have to wait than before.
	growth = 4
	// enough is the number of requests without which a node's p99 is chance.
	enough = 100
	// noticeable is the p99 in seconds up to which a node is not slow, however fast the others are.
	noticeable = 0.002
	// outlier is how often a p99 has to be as long as the others' median.
	outlier = 3
	// lasting is in how many intervals of slowSamples a node has to be slower than the others: one time at which
	// it stands still for a moment delays enough requests for the p99 of all.
	lasting = 3
)

// peers is what the masters have in common.
type peers struct {
	queue     int // the median number of requests in flight
	latencies []masterLatency
}

type masterLatency struct {
	node *node
	p99  float64 // over slowSamples
}

func (s *Sampler) peers() (of peers) {
	var queues []int
	for _, n := range s.nodes {
		if !n.Master {
			continue
		}
		queues = append(queues, n.InFlight)
		if h := n.latest().latencySince(n.before(slowSamples)); h.Count >= enough {
			of.latencies = append(of.latencies, masterLatency{n, h.Quantile(0.99)})
		}
	}
	if len(queues) > 0 {
		slices.Sort(queues)
		of.queue = queues[(len(queues)-1)/2]
	}
	slices.SortFunc(of.latencies, func(a, b masterLatency) int { return cmp.Compare(a.p99, b.p99) })
	return of
}

// compared returns the node's p99, and the median of those of the others. ok is false if one of the two is not
// known.
func (p *peers) compared(n *node) (p99, median float64, ok bool) {
	at := slices.IndexFunc(p.latencies, func(l masterLatency) bool { return l.node == n })
	others := len(p.latencies) - 1
	if at < 0 || others < 1 {
		return 0, 0, false
	}
	middle := (others - 1) / 2
	if at <= middle {
		middle++ // the node itself is no other
	}
	return p.latencies[at].p99, p.latencies[middle].p99, true
}

// slowness returns why the node stands out against the others, empty if it does not.
func (n *node) slowness(others peers) string {
	now, before := n.latest(), n.before(slowSamples)
	p99, median, isKnown := others.compared(n)
	timeouts := grown(before.timeouts, now.timeouts)
	switch {
	case n.state == Unused:
		return ""
	case !n.silentSince.IsZero() && now.at.Sub(n.silentSince) >= silence-Interval/10:
		return fmt.Sprintf("it has sent nothing for %d s, and owes replies to %s",
			int(now.at.Sub(n.silentSince).Round(time.Second).Seconds()), counted(n.InFlight, "request"))
	case timeouts > 0:
		return fmt.Sprintf("it did not answer %s in time within %d s", counted(int(timeouts), "request"),
			int(now.at.Sub(before.at).Round(time.Second).Seconds()))
	case n.growing >= growth && n.InFlight >= longQueue && n.InFlight > outlier*others.queue:
		return fmt.Sprintf("ever more requests wait for its reply: %d now", n.InFlight)
	case isKnown && p99 > noticeable && p99 > outlier*median && n.slowIntervals(outlier*median) >= lasting:
		return fmt.Sprintf("its p99 is %s, that of the others %s", milliseconds(p99), milliseconds(median))
	}
	return ""
}

// slowIntervals returns in how many of the last slowSamples intervals requests took longer than that, in seconds.
func (n *node) slowIntervals(than float64) (slow int) {
	for i := range slowSamples {
		h := n.before(i).latencySince(n.before(i + 1))
		for b := range h.Buckets {
			if h.Buckets[b] > 0 && metrics.Bound(b) > than {
				slow++
				break
			}
		}
	}
	return slow
}

// milliseconds returns seconds for people.
func milliseconds(seconds float64) string {
	digits := 0
	if seconds < 0.01 {
		digits = 1
	}
	return strconv.FormatFloat(1000*seconds, 'f', digits, 64) + " ms"
}

// counted returns a number and a noun.
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
