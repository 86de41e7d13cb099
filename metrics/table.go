package metrics

import "time"

// Counters are a thread's counts since it started. They never decrease.
type Counters struct {
	// Calls and Errors are indexed by command.Command.ID.
	Calls  []uint64 `metric:"commands_total" by:"command" help:"Commands answered, by command." info:"total_commands_processed" own:"commands"`
	Errors []uint64 `metric:"command_errors_total" by:"command" help:"Error replies, by command." info:"total_error_replies"`

	Unknown        uint64 `metric:"unknown_commands_total" help:"Commands that neither keyway nor the nodes know."`
	NotExecuted    uint64 `metric:"failed_commands_total" label:"class=not_executed" help:"Commands that keyway itself failed: not_executed surely had no effect, unknown may have had."`
	UnknownOutcome uint64 `metric:"failed_commands_total" label:"class=unknown"`
	Accepted       uint64 `metric:"clients_accepted_total" help:"Clients accepted." info:"total_connections_received"`
	Rejected       uint64 `metric:"clients_rejected_total" help:"Connections refused since clients.max was reached." info:"rejected_connections"`
	ClosedSlow     uint64 `metric:"clients_closed_total" label:"reason=slow" help:"Clients closed by keyway, by reason."`
	ClosedIdle     uint64 `metric:"clients_closed_total" label:"reason=idle"`
	ClosedMemory   uint64 `metric:"clients_closed_total" label:"reason=memory"`
	ClosedTLS      uint64 `metric:"clients_closed_total" label:"reason=tls"`
	ProtocolErrors uint64 `metric:"clients_closed_total" label:"reason=protocol_error"`
	RefusedLarge   uint64 `metric:"large_commands_refused_total" help:"Large commands refused since limits.memory was nearly reached."`
	AuthFailures   uint64 `metric:"auth_failures_total" help:"Wrong passwords."`
	BytesIn        uint64 `metric:"client_bytes_total" label:"direction=in" help:"Bytes from (in) and to (out) clients." info:"total_net_input_bytes" own:"bytes_in"`
	BytesOut       uint64 `metric:"client_bytes_total" label:"direction=out" info:"total_net_output_bytes" own:"bytes_out"`
	Overtaken      uint64 `metric:"overtaken_total" help:"Commands refused by a node that were not sent again: a later one of the same client had been executed by then."`
	Held           uint64 `metric:"held_total" help:"Times a client's command waited for an earlier one that was being redirected."`
	NoScript       uint64 `metric:"scripts_resent_total" help:"Scripts sent again in full since a node had lost them."`
	Keyless        uint64 `metric:"keyless_scripts_total" help:"Scripts and functions without keys that may have written; what they write is on one node."`
	Undelivered    uint64 `metric:"undelivered_total" help:"Elements popped by blocking commands for clients that left in that moment."`
	Messages       uint64 `metric:"messages_total" help:"Messages sent to subscribers."`
	FeedLosses     uint64 `metric:"feeds_lost_total" help:"Times a node was not listened to any more; what was published there meanwhile is missed."`
	ReadsMaster    uint64 `metric:"reads_total" label:"from=master" help:"Commands that only read, of clients that may read from replicas, by where they went."`
	ReadsReplica   uint64 `metric:"reads_total" label:"from=replica"`
	ReadsAgain     uint64 `metric:"reads_again_total" help:"Reads that a replica did not answer and that were sent again."`
}

// Gauges are current values of a thread.
type Gauges struct {
	Clients     int `metric:"clients" help:"Clients connected." info:"connected_clients" own:"clients"`
	OutputBytes int `metric:"client_output_bytes" help:"Bytes that clients have not taken yet."`
	Blocked     int `info:"blocked_clients"` // clients inside a blocking command or WAIT
	Tracking    int `info:"tracking_clients"`
	Subscribed  int `info:"pubsub_clients"`
	Watching    int `info:"watching_clients"`
}

// Connection has the counts of the connections to one node.
type Connection struct {
	Dials       uint64 `metric:"node_connects_total" help:"Connections begun to the node."`
	Failures    uint64 `metric:"node_connect_failures_total" help:"Connections to the node that could not be made."`
	Losses      uint64 `metric:"node_connections_lost_total" help:"Connections to the node that ended."`
	Timeouts    uint64 `metric:"node_timeouts_total" help:"Requests that the node did not answer in time."`
	Late        uint64 `metric:"node_late_replies_total" help:"Replies that came after their request had been given up; they were dropped."`
	Unsolicited uint64 `metric:"node_unsolicited_replies_total" help:"Replies that nobody had asked for; each ends its connection."`
	Violations  uint64 `metric:"node_protocol_violations_total" help:"Connections ended since the node broke the protocol."`
	Fences      uint64 `metric:"node_fences_total" help:"Checks that the node's replies are in step with the requests."`
	BytesIn     uint64 `metric:"node_bytes_total" label:"direction=in" help:"Bytes from (in) and to (out) the node."`
	BytesOut    uint64 `metric:"node_bytes_total" label:"direction=out"`
}

// Node describes one node as one thread sees it, or all threads together.
type Node struct {
	Name, Addr string
	Master     bool
	Reason     string `merge:"first"` // why a connection was last down
	State      string `merge:"first"` // state of the first connection; empty if it is ready
	Up         bool   `merge:"all" metric:"node_up" help:"1 while every thread has a connection to the node."`
	// Behind is the lag of a replica. math.MaxInt64: not known.
	Behind    time.Duration `merge:"max" of:"replicas" metric:"replica_behind_seconds" help:"How long ago the replica surely had all that its master had."`
	InFlight  int           `metric:"node_in_flight" help:"Requests that the node has not answered."`
	HeldBytes int           `metric:"node_in_flight_bytes" help:"Bytes of requests that the node has not answered."`
	Exclusive int           `metric:"node_exclusive_connections" help:"Connections to the node that are one client's alone: for WATCH, WAIT and blocking commands."`
	Moved     uint64        `metric:"node_redirects_total" label:"kind=moved" help:"Redirects that the node answered."`
	Ask       uint64        `metric:"node_redirects_total" label:"kind=ask"`
	Retried   uint64        `metric:"node_retries_total" help:"Commands put off and sent again after TRYAGAIN, CLUSTERDOWN and the like."`
	Connection
}

// Snapshot is a copy of all counts of a thread, or the sum over all threads.
type Snapshot struct {
	Gauges
	Counters
	Families []Histogram `metric:"command_duration_seconds" by:"family" help:"Time from a command's arrival to its whole reply, by command family."`
	Nodes    []Node
	Layout   string
	Epoch    uint64
	Covered  bool // every slot has an owner
}
