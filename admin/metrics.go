package admin

import (
	"context"
	"math"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy"
)

// Collector turns the workers' counters into metrics each time it is asked.
type Collector struct {
	backend Backend
	o       Options
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("keyway_"+name, help, labels, nil)
}

var (
	descInfo       = desc("info", "1, with keyway's version and layout as labels.", "version", "layout")
	descUptime     = desc("uptime_seconds", "Seconds since keyway was started.")
	descLogDropped = desc("log_lines_dropped_total", "Log lines that were dropped, since what reads the log was too slow.")
	descSampled    = desc("node_keys_sampled", "Keys that were drawn from the node at random, when keyway was started.", "node", "addr")
	descElsewhere  = desc("node_keys_elsewhere", "Of the keys drawn, those that the layout places on another node: clients do not find them.", "node", "addr")
	descCommands   = desc("commands_total", "Commands answered, by command.", "command")
	descErrors     = desc("command_errors_total", "Error replies, by command.", "command")
	descLatency    = desc("command_duration_seconds", "Time from a command's arrival to its whole reply, by command family.", "family")
	descUnknown    = desc("unknown_commands_total", "Commands that neither keyway nor the nodes know.")
	descFailures   = desc("failed_commands_total", "Commands that keyway itself failed: not_executed surely had no effect, unknown may have had.", "class")

	descClients     = desc("clients", "Clients connected.")
	descAccepted    = desc("clients_accepted_total", "Clients accepted.")
	descRejected    = desc("clients_rejected_total", "Connections refused since clients.max was reached.")
	descClosed      = desc("clients_closed_total", "Clients closed by keyway, by reason.", "reason")
	descLarge       = desc("large_commands_refused_total", "Large commands refused since limits.memory was nearly reached.")
	descAuthFails   = desc("auth_failures_total", "Wrong passwords.")
	descBytes       = desc("client_bytes_total", "Bytes from (in) and to (out) clients.", "direction")
	descOutput      = desc("client_output_bytes", "Bytes that clients have not taken yet.")
	descOvertaken   = desc("overtaken_total", "Commands refused by a node that were not sent again: a later one of the same client had been executed by then.")
	descHeld        = desc("held_total", "Times a client's command waited for an earlier one that was being redirected.")
	descKeyless     = desc("keyless_scripts_total", "Scripts and functions without keys that may have written; what they write is on one node.")
	descNoScript    = desc("scripts_resent_total", "Scripts sent again in full since a node had lost them.")
	descUndelivered = desc("undelivered_total", "Elements popped by blocking commands for clients that left in that moment.")
	descMessages    = desc("messages_total", "Messages sent to subscribers.")
	descFeedLosses  = desc("feeds_lost_total", "Times a node was not listened to any more; what was published there meanwhile is missed.")
	descUp          = desc("node_up", "1 while every thread has a connection to the node.", "node", "addr")
	descInFlight    = desc("node_in_flight", "Requests that the node has not answered.", "node", "addr")
	descHeldBytes   = desc("node_in_flight_bytes", "Bytes of requests that the node has not answered.", "node", "addr")
	descExclusive   = desc("node_exclusive_connections", "Connections to the node that are one client's alone: for WATCH, WAIT and blocking commands.", "node", "addr")
	descDials       = desc("node_connects_total", "Connections begun to the node.", "node", "addr")
	descDialFails   = desc("node_connect_failures_total", "Connections to the node that could not be made.", "node", "addr")
	descLosses      = desc("node_connections_lost_total", "Connections to the node that ended.", "node", "addr")
	descTimeouts    = desc("node_timeouts_total", "Requests that the node did not answer in time.", "node", "addr")
	descLate        = desc("node_late_replies_total", "Replies that came after their request had been given up; they were dropped.", "node", "addr")
	descUnsol       = desc("node_unsolicited_replies_total", "Replies that nobody had asked for; each ends its connection.", "node", "addr")
	descViolations  = desc("node_protocol_violations_total", "Connections ended since the node broke the protocol.", "node", "addr")
	descFences      = desc("node_fences_total", "Checks that the node's replies are in step with the requests.", "node", "addr")
	descRedirects   = desc("node_redirects_total", "Redirects that the node answered.", "node", "addr", "kind")
	descRetries     = desc("node_retries_total", "Commands put off and sent again after TRYAGAIN, CLUSTERDOWN and the like.", "node", "addr")
	descReads       = desc("reads_total", "Commands that only read, of clients that may read from replicas, by where they went.", "from")
	descReadsAgain  = desc("reads_again_total", "Reads that a replica did not answer and that were sent again.")
	descBehind      = desc("replica_behind_seconds", "How long ago the replica surely had all that its master had.", "node", "addr")
	descNodeBytes   = desc("node_bytes_total", "Bytes from (in) and to (out) the node.", "node", "addr", "direction")
)

// Describe says nothing, which makes the collector an unchecked one: its
// metrics depend on what happened.
func (c *Collector) Describe(chan<- *prometheus.Desc) {}

// Collect reads the counters of all threads and adds them up.
func (c *Collector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), snapshotTimeout)
	defer cancel()
	shots, err := c.backend.Snapshot(ctx)
	if err != nil || len(shots) == 0 {
		out <- prometheus.NewInvalidMetric(descInfo, err)
		return
	}
	count := func(d *prometheus.Desc, n uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n), labels...)
	}
	gauge := func(d *prometheus.Desc, n float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, n, labels...)
	}
	all := sum(shots)
	gauge(descInfo, 1, c.o.Version, all.Layout)
	if c.o.DroppedLines != nil {
		count(descLogDropped, c.o.DroppedLines())
	}
	if c.o.Surveyed != nil {
		for _, n := range c.o.Surveyed() {
			gauge(descSampled, float64(n.Sampled), n.Name, n.Addr)
			gauge(descElsewhere, float64(n.Elsewhere), n.Name, n.Addr)
		}
	}
	gauge(descUptime, time.Since(c.backend.Started()).Seconds())
	for id, n := range all.Calls {
		if n > 0 {
			name := "learned"
			if id != command.LearnedID {
				name = strings.ReplaceAll(command.ByID[id].Name, "|", " ")
			}
			count(descCommands, n, name)
			count(descErrors, all.Errors[id], name)
		}
	}
	for f, h := range all.Families {
		if h.Count > 0 {
			out <- histogram(proxy.FamilyNames[f], &h)
		}
	}
	count(descUnknown, all.Unknown)
	count(descFailures, all.NotExecuted, "not_executed")
	count(descFailures, all.UnknownOutcome, "unknown")
	gauge(descClients, float64(all.Clients))
	count(descAccepted, all.Accepted)
	count(descRejected, all.Rejected)
	count(descClosed, all.ClosedSlow, "slow")
	count(descClosed, all.ClosedIdle, "idle")
	count(descClosed, all.ClosedMemory, "memory")
	count(descLarge, all.RefusedLarge)
	count(descClosed, all.ClosedTLS, "tls")
	count(descClosed, all.ProtocolErrors, "protocol_error")
	count(descAuthFails, all.AuthFailures)
	count(descBytes, all.BytesIn, "in")
	count(descBytes, all.BytesOut, "out")
	gauge(descOutput, float64(all.OutputBytes))
	count(descOvertaken, all.Overtaken)
	count(descHeld, all.Held)
	count(descNoScript, all.NoScript)
	count(descKeyless, all.Keyless)
	count(descUndelivered, all.Undelivered)
	count(descMessages, all.Messages)
	count(descFeedLosses, all.FeedLosses)
	count(descReads, all.ReadsMaster, "master")
	count(descReads, all.ReadsReplica, "replica")
	count(descReadsAgain, all.ReadsAgain)
	for _, n := range all.Nodes {
		if !n.Master && n.Dials == 0 {
			continue // nothing is read from replicas
		}
		if !n.Master {
			behind := n.Behind.Seconds()
			if n.Behind == math.MaxInt64 {
				behind = math.Inf(1)
			}
			gauge(descBehind, behind, n.Name, n.Addr)
		}
		up := 0.0
		if n.Up {
			up = 1
		}
		gauge(descUp, up, n.Name, n.Addr)
		gauge(descInFlight, float64(n.InFlight), n.Name, n.Addr)
		gauge(descHeldBytes, float64(n.HeldBytes), n.Name, n.Addr)
		gauge(descExclusive, float64(n.Exclusive), n.Name, n.Addr)
		count(descDials, n.Dials, n.Name, n.Addr)
		count(descDialFails, n.Failures, n.Name, n.Addr)
		count(descLosses, n.Losses, n.Name, n.Addr)
		count(descTimeouts, n.Timeouts, n.Name, n.Addr)
		count(descLate, n.Late, n.Name, n.Addr)
		count(descUnsol, n.Unsolicited, n.Name, n.Addr)
		count(descViolations, n.Violations, n.Name, n.Addr)
		count(descFences, n.Fences, n.Name, n.Addr)
		count(descRedirects, n.Moved, n.Name, n.Addr, "moved")
		count(descRedirects, n.Ask, n.Name, n.Addr, "ask")
		count(descRetries, n.Retried, n.Name, n.Addr)
		count(descNodeBytes, n.BytesIn, n.Name, n.Addr, "in")
		count(descNodeBytes, n.BytesOut, n.Name, n.Addr, "out")
	}
}

func histogram(family string, h *proxy.Histogram) prometheus.Metric {
	buckets := map[float64]uint64{}
	below := uint64(0)
	for i := range proxy.LatencyBuckets - 1 {
		below += h.Buckets[i]
		buckets[float64(uint64(1)<<i)/1e6] = below
	}
	return prometheus.MustNewConstHistogram(descLatency, h.Count, float64(h.Sum)/1e6, buckets, family)
}

// sum adds the snapshots up; a node is up when it is for every thread.
func sum(shots []proxy.Snapshot) proxy.Snapshot {
	all := shots[0]
	for i := range shots[1:] {
		s := &shots[i+1]
		for id := range all.Calls {
			all.Calls[id] += s.Calls[id]
			all.Errors[id] += s.Errors[id]
		}
		for f := range all.Families {
			a, b := &all.Families[f], &s.Families[f]
			a.Count += b.Count
			a.Sum += b.Sum
			for k := range a.Buckets {
				a.Buckets[k] += b.Buckets[k]
			}
		}
		for _, p := range []struct{ a, b *uint64 }{
			{&all.Unknown, &s.Unknown}, {&all.Accepted, &s.Accepted}, {&all.Rejected, &s.Rejected},
			{&all.ClosedSlow, &s.ClosedSlow}, {&all.ClosedIdle, &s.ClosedIdle}, {&all.ClosedMemory, &s.ClosedMemory}, {&all.RefusedLarge, &s.RefusedLarge}, {&all.ClosedTLS, &s.ClosedTLS}, {&all.ProtocolErrors, &s.ProtocolErrors},
			{&all.AuthFailures, &s.AuthFailures}, {&all.BytesIn, &s.BytesIn}, {&all.BytesOut, &s.BytesOut},
			{&all.NotExecuted, &s.NotExecuted}, {&all.Overtaken, &s.Overtaken}, {&all.UnknownOutcome, &s.UnknownOutcome}, {&all.NoScript, &s.NoScript}, {&all.Keyless, &s.Keyless}, {&all.Held, &s.Held}, {&all.ReadsMaster, &s.ReadsMaster}, {&all.ReadsReplica, &s.ReadsReplica}, {&all.ReadsAgain, &s.ReadsAgain}, {&all.Undelivered, &s.Undelivered}, {&all.Messages, &s.Messages}, {&all.FeedLosses, &s.FeedLosses},
		} {
			*p.a += *p.b
		}
		all.Clients += s.Clients
		all.OutputBytes += s.OutputBytes
		all.Nodes = sumNodes(all.Nodes, s.Nodes)
	}
	return all
}

func sumNodes(a, b []proxy.NodeStats) []proxy.NodeStats {
	for _, n := range b {
		i := 0
		for i < len(a) && (a[i].Name != n.Name || a[i].Addr != n.Addr) {
			i++
		}
		if i == len(a) {
			a = append(a, n)
			continue
		}
		a[i].Add(&n)
	}
	return a
}
