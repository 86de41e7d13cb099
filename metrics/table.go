package metrics

import "time"

// Counters are a thread's counts since it started. They never decrease.
type Counters struct {
	CommandCounters
	ClientCounters
	MessageCounters
	LockCounters
}

// CommandCounters count the commands of clients and what became of them.
type CommandCounters struct {
	// Calls and Errors are indexed by command.Command.ID.
	Calls  []uint64 `metric:"commands_total" by:"command" info:"total_commands_processed" own:"commands"`
	Errors []uint64 `metric:"command_errors_total" by:"command" info:"total_error_replies"`

	Unknown        uint64 `metric:"unknown_commands_total"`
	NotExecuted    uint64 `metric:"failed_commands_total" label:"class=not_executed"`
	UnknownOutcome uint64 `metric:"failed_commands_total" label:"class=unknown"`
	RefusedLarge   uint64 `metric:"large_commands_refused_total"`
	Overtaken      uint64 `metric:"overtaken_total"`
	Waited         uint64 `metric:"waited_total"`
	NoScript       uint64 `metric:"scripts_resent_total"`
	Keyless        uint64 `metric:"keyless_scripts_total"`
	NextCrossSlot  uint64 `metric:"next_layout_crossslot_total"`
	Undelivered    uint64 `metric:"undelivered_total"`
	ReadsMaster    uint64 `metric:"reads_total" label:"from=master"`
	ReadsReplica   uint64 `metric:"reads_total" label:"from=replica"`
	ReadsInZone    uint64 `metric:"reads_by_zone_total" label:"zone=same"`
	ReadsOutOfZone uint64 `metric:"reads_by_zone_total" label:"zone=other"`
	ReadsAgain     uint64 `metric:"reads_again_total"`
	NearCounters
}

// NearCounters count what becomes of GETs of hot keys, with near_cache.
type NearCounters struct {
	NearHits        uint64 `metric:"near_cache_reads_total" label:"result=hit"`
	NearMisses      uint64 `metric:"near_cache_reads_total" label:"result=miss"`
	NearFills       uint64 `metric:"near_cache_fills_total"`
	NearInvalidated uint64 `metric:"near_cache_invalidated_total"`
	NearRefused     uint64 `metric:"near_cache_refused_total"`
}

// ClientCounters count the clients' connections.
type ClientCounters struct {
	Accepted        uint64 `metric:"clients_accepted_total" info:"total_connections_received"`
	Rejected        uint64 `metric:"clients_rejected_total" info:"rejected_connections"`
	ClosedSlow      uint64 `metric:"clients_closed_total" label:"reason=slow"`
	ClosedIdle      uint64 `metric:"clients_closed_total" label:"reason=idle"`
	ClosedMemory    uint64 `metric:"clients_closed_total" label:"reason=memory"`
	ClosedTLS       uint64 `metric:"clients_closed_total" label:"reason=tls"`
	ClosedPlain     uint64 `metric:"clients_closed_total" label:"reason=no_tls"`
	ClosedHandshake uint64 `metric:"clients_closed_total" label:"reason=tls_handshake"`
	ClosedNetwork   uint64 `metric:"clients_closed_total" label:"reason=not_allowed"`
	ClosedProtected uint64 `metric:"clients_closed_total" label:"reason=protected"`
	ClosedHeader    uint64 `metric:"clients_closed_total" label:"reason=proxy_protocol"`
	ProtocolErrors  uint64 `metric:"clients_closed_total" label:"reason=protocol_error"`
	DrainCounters
	AuthFailures uint64 `metric:"auth_failures_total"`
	AuthDelayed  uint64 `metric:"auth_delayed_total"`
	Denied       uint64 `metric:"permission_denied_total"`

	// UnknownCertificates are those that name no user; see user_from.
	UnknownCertificates uint64 `metric:"unknown_certificates_total"`

	TLSFull    uint64 `metric:"tls_handshakes_total" label:"kind=full"`
	TLSResumed uint64 `metric:"tls_handshakes_total" label:"kind=resumed"`

	BytesIn  uint64 `metric:"client_bytes_total" label:"direction=in" info:"total_net_input_bytes" own:"bytes_in"`
	BytesOut uint64 `metric:"client_bytes_total" label:"direction=out" info:"total_net_output_bytes" own:"bytes_out"`

	// BytesForwarded are those of BytesOut that went from socket to socket in the kernel.
	BytesForwarded uint64 `metric:"forwarded_bytes_total"`
}

// DrainCounters count the clients that keyway has closed because it stops.
type DrainCounters struct {
	Drained uint64 `metric:"clients_drained_total" label:"outcome=between_commands"`
	// Released waited in a blocking command without a timeout, which has had no effect.
	Released       uint64 `metric:"clients_drained_total" label:"outcome=released"`
	CutTransaction uint64 `metric:"clients_drained_total" label:"outcome=cut_transaction"`
	CutUnread      uint64 `metric:"clients_drained_total" label:"outcome=cut_unread"`
	CutUnanswered  uint64 `metric:"clients_drained_total" label:"outcome=cut_unanswered"`
	Crossed        uint64 `metric:"drain_crossed_total"`
}

// MessageCounters count what subscribers get.
type MessageCounters struct {
	Messages   uint64 `metric:"messages_total"`
	FeedLosses uint64 `metric:"feeds_lost_total"`
}

// LockCounters count the commands on locks that a majority of nodes holds.
type LockCounters struct {
	LocksAcquired uint64 `metric:"quorum_locks_total" label:"result=acquired"`
	LocksRefused  uint64 `metric:"quorum_locks_total" label:"result=refused"`
	LocksRenewed  uint64 `metric:"quorum_locks_total" label:"result=renewed"`
	LocksLost     uint64 `metric:"quorum_locks_total" label:"result=lost"`
	LocksReleased uint64 `metric:"quorum_locks_total" label:"result=released"`
	LocksNotHeld  uint64 `metric:"quorum_locks_total" label:"result=not_held"`
	LocksFailed   uint64 `metric:"quorum_locks_total" label:"result=failed"`
}

// SwitchCounters count what a change of the layout does to clients.
type SwitchCounters struct {
	Pulled    uint64    `metric:"switch_moved_total" label:"by=pull"`
	Conflicts uint64    `metric:"switch_conflicts_total" label:"by=pull"`
	Pulls     Histogram `metric:"switch_pull_seconds"`
	Holds     Histogram `metric:"switch_held_seconds"`
}

// Gauges are current values of a thread.
type Gauges struct {
	Clients     int `metric:"clients" info:"connected_clients" own:"clients"`
	OutputBytes int `metric:"client_output_bytes"`
	Blocked     int `info:"blocked_clients"` // clients inside a blocking command or WAIT
	Tracking    int `info:"tracking_clients"`
	Subscribed  int `info:"pubsub_clients"`
	Watching    int `info:"watching_clients"`
	NearValues  int `metric:"near_cache_values"`
	NearBytes   int `metric:"near_cache_bytes"`
	Activities
}

// Activities count a thread's clients by what they are in the middle of. While keyway stops, they
// are the clients that are left.
type Activities struct {
	Ordinary      int `metric:"clients_by_activity" label:"activity=ordinary"`
	InTransaction int `metric:"clients_by_activity" label:"activity=transaction"`
	Waiting       int `metric:"clients_by_activity" label:"activity=waiting"`
	Listening     int `metric:"clients_by_activity" label:"activity=listening"`
}

// Connection has the counts of the connections to one node.
type Connection struct {
	Dials       uint64       `metric:"node_connects_total"`
	Failures    uint64       `metric:"node_connect_failures_total"`
	Losses      uint64       `metric:"node_connections_lost_total"`
	Timeouts    uint64       `metric:"node_timeouts_total"`
	Late        uint64       `metric:"node_late_replies_total"`
	Unsolicited uint64       `metric:"node_unsolicited_replies_total"`
	Violations  uint64       `metric:"node_protocol_violations_total"`
	Checks      uint64       `metric:"node_checks_total"`
	BytesIn     uint64       `metric:"node_bytes_total" label:"direction=in"`
	BytesOut    uint64       `metric:"node_bytes_total" label:"direction=out"`
	Connecting  Seconds      `metric:"node_connect_seconds_total"`
	Requests    uint64       `metric:"node_requests_total"`
	Writes      uint64       `metric:"node_writes_total"`
	Latency     Histogram    `metric:"node_request_duration_seconds"`
	Errors      ErrorReplies `metric:"node_errors_total" by:"error"`
}

// Node describes one node as one thread sees it, or all threads together.
type Node struct {
	Name, Addr string
	Master     bool
	Reason     string `merge:"first"` // why a connection was last down
	State      string `merge:"first"` // state of the first connection; empty if it is ready
	Up         bool   `merge:"all" metric:"node_up"`
	// Lag is an upper bound of a replica's lag. math.MaxInt64: not known.
	Lag           time.Duration `merge:"max" of:"replicas" metric:"replica_lag_seconds"`
	InFlight      int           `metric:"node_in_flight"`
	Queued        int           `metric:"node_queued"`
	InFlightBytes int           `metric:"node_in_flight_bytes"`
	Exclusive     int           `metric:"node_exclusive_connections"`
	Moved         uint64        `metric:"node_redirects_total" label:"kind=moved"`
	Ask           uint64        `metric:"node_redirects_total" label:"kind=ask"`
	Retried       uint64        `metric:"node_retries_total"`
	FailedCommands
	Connection
}

// FailedCommands counts the commands that keyway failed because a node could not be reached, or gave no reply.
type FailedCommands struct {
	NotExecuted    uint64 `metric:"node_failed_commands_total" label:"class=not_executed"`
	UnknownOutcome uint64 `metric:"node_failed_commands_total" label:"class=unknown"`
}

// Total returns the number of both.
func (f *FailedCommands) Total() uint64 { return f.NotExecuted + f.UnknownOutcome }

// LockNode describes a node that holds locks of locks.quorum.
type LockNode struct {
	Addr   string
	Reason string    `merge:"first"` // why it does not vote; empty if it does
	Votes  bool      `merge:"all" metric:"quorum_node_votes"`
	Missed uint64    `metric:"quorum_node_missed_total"`
	Took   Histogram `metric:"quorum_node_duration_seconds"`
}

// LockRule describes the nodes of one rule of locks.quorum.
type LockRule struct {
	Match string
	Spare int `merge:"min" metric:"quorum_spare_nodes"`
}

// Seconds is a counter of time.
type Seconds time.Duration

// User describes the clients of a user, or of several users: see [OtherUsers].
type User struct {
	Name     string
	Clients  int       `metric:"user_clients"`
	Commands uint64    `metric:"user_commands_total"`
	Errors   uint64    `metric:"user_command_errors_total"`
	Latency  Histogram `metric:"user_command_duration_seconds"`
	// HasLimits says that the user has limits, so that the rest is counted.
	HasLimits bool    `merge:"any"`
	InFlight  int     `metric:"user_in_flight" of:"limits"`
	Waiting   int     `metric:"user_waiting_clients" of:"limits"`
	Delayed   uint64  `metric:"user_delayed_total" of:"limits"`
	Waited    Seconds `metric:"user_delay_seconds_total" of:"limits"`
	Refused   uint64  `metric:"user_refused_total" label:"reason=rate" of:"limits"`
	Excluded  uint64  `metric:"user_refused_total" label:"reason=max_clients" of:"limits"`
}

// Caller is the client that has sent a command last, of those commands that go to all masters.
type Caller struct {
	Command    int // its ID
	At         time.Time
	ID         uint64 // of the client
	Addr, Name string
}

// OtherUsers is the name under which those users are counted together who have no place of their own. No user
// can have this name, because it has a space.
const OtherUsers = "other users"

// MaxUsers is how many users without limits have a place of their own. Users with limits all have one.
const MaxUsers = 100

// Thread has the figures of the event loop of one thread. All pools of a process share the loops.
type Thread struct {
	Index  int
	Busy   Seconds   `metric:"thread_busy_seconds_total"`
	Turns  Histogram `metric:"thread_turn_duration_seconds"`
	Events Sizes     `metric:"thread_turn_events"`
	Posts  uint64    `metric:"thread_messages_total"`
}

// Turned counts a turn of the thread, as [loop.Loop.Measure] has it.
func (t *Thread) Turned(took time.Duration, events, posts int) {
	t.Busy += Seconds(took)
	t.Turns.Observe(int64(took))
	t.Events.Observe(events)
	t.Posts += uint64(posts)
}

// Snapshot is a copy of all counts of a thread, or the sum over all threads.
type Snapshot struct {
	Gauges
	Counters
	SwitchCounters
	Families []Histogram  `metric:"command_duration_seconds" by:"family"`
	Commands []*Histogram `metric:"commands_duration_seconds" by:"command"` // as Calls; nil: the command was not used
	Nodes    []Node
	Locks    []LockNode
	Rules    []LockRule
	Users    []User
	Callers  []Caller
	Threads  []Thread // the thread's own; in a sum, those of all threads
	Layout   string
	Epoch    uint64
	Covered  bool          // every slot has an owner
	Paused   time.Duration // how long a CLIENT PAUSE goes on; 0: there is none
}

// help has the help text of each metric.
var help = map[string]string{
	"commands_total":         "Commands that were answered, by command.",
	"command_errors_total":   "Error replies, by command.",
	"unknown_commands_total": "Commands that neither keyway nor the nodes know.",
	"failed_commands_total":  "Commands that keyway failed: not_executed had no effect, unknown may have had.",
	"clients_accepted_total": "Client connections accepted.",
	"clients_rejected_total": "Client connections refused because clients.max was reached.",
	"clients_drained_total": "Clients that keyway closed because it stops. " +
		"cut_transaction: between MULTI or WATCH and EXEC. " +
		"cut_unread: with commands that keyway did not execute. cut_unanswered: with commands under way. " +
		"released: in a blocking command without a timeout, which had no effect.",
	"drain_crossed_total":          "Clients that sent a command while keyway closed them. It was not executed.",
	"clients_by_activity":          "Clients, by what they are in the middle of besides commands under way.",
	"clients_closed_total":         "Clients that keyway disconnected, by reason.",
	"tls_handshakes_total":         "TLS handshakes with clients that succeeded; resumed ones cost less.",
	"large_commands_refused_total": "Large commands refused because limits.memory was nearly reached.",
	"auth_failures_total":          "Wrong passwords.",
	"auth_delayed_total":           "Attempts to authenticate that waited after wrong passwords from their address.",
	"unknown_certificates_total":   "Clients whose certificate names no user that exists and is on.",
	"permission_denied_total":      "Commands that the rules of the client's user do not allow.",
	"client_bytes_total":           "Bytes received from clients (in) and sent to clients (out).",
	"forwarded_bytes_total":        "Bytes of large replies that the kernel moved from a node's socket to a client's.",
	"overtaken_total":              "Refused commands not retried, because the client's next one had been executed.",
	"waited_total":                 "Times that a client waited for an earlier command of its own that was redirected.",
	"scripts_resent_total":         "Scripts sent again in full because a node had lost them.",
	"keyless_scripts_total":        "Scripts and functions without keys that may write. All of them run on one node.",
	"next_layout_crossslot_total":  "Commands that the next layout would refuse with CROSSSLOT, while one is tried.",
	"undelivered_total":            "Elements that blocking commands popped for clients that had just left.",
	"near_cache_reads_total":       "GETs of hot keys with near_cache: hits keyway has answered, misses the node.",
	"near_cache_fills_total":       "Times that near_cache has read a value; each costs the node a GET and a PTTL.",
	"near_cache_invalidated_total": "Values that near_cache has dropped because a node has said that they changed, " +
		"or because a connection ended.",
	"near_cache_refused_total": "Times that near_cache has kept no value because the node refuses it a command.",
	"near_cache_values":        "Values that near_cache has.",
	"near_cache_bytes":         "Bytes of the values that near_cache has.",
	"messages_total":           "Messages sent to subscribers.",
	"feeds_lost_total":         "Subscriber feeds that were lost. Messages published meanwhile are missed.",
	"reads_total":              "Reads of clients that may read from replicas, by the kind of node that got them.",
	"reads_by_zone_total": "The same reads, by whether that node is in the zone of keyway, if replicas.zone says " +
		"which that is.",
	"quorum_locks_total": "Commands on locks of locks.quorum, by result. refused: another client has the lock. " +
		"lost: a client renewed a lock that it no longer had. failed: too few nodes voted.",
	"quorum_node_votes": "1 while every thread counts the lock node's answers. 0: it cannot be reached, is too slow, " +
		"or has restarted and waits.",
	"quorum_node_missed_total":     "Questions about locks that the lock node did not answer, or not in time.",
	"quorum_node_duration_seconds": "Time of the lock node's answers.",
	"quorum_spare_nodes": "How many of the rule's voting nodes can fail and its locks can still be acquired. " +
		"Below 0: they cannot.",
	"user_clients":                  "Connected clients, by user.",
	"user_commands_total":           "Commands that were answered, by user.",
	"user_command_errors_total":     "Error replies, by user.",
	"user_command_duration_seconds": "Time from a command's arrival to its complete reply, by user.",
	"user_in_flight":                "Commands under way of a user with max_in_flight.",
	"user_waiting_clients":          "Clients of a user with limits whose next command waits for these limits.",
	"user_delayed_total":            "Commands of a user with limits that have begun to wait for these limits.",
	"user_delay_seconds_total": "How long clients of a user with limits have waited for these limits, all " +
		"together.",
	"user_refused_total": "Refused for a user with limits: commands that had waited for rate.max_wait (rate), " +
		"and clients beyond max_clients (max_clients).",
	"switch_moved_total": "Keys brought to the nodes of a new layout: because a client used them (pull), " +
		"or by this keyway on behalf of all (mover).",
	"switch_conflicts_total": "Keys that were on two nodes with different values while the layout changed. " +
		"The older value was set aside.",
	"switch_pull_seconds": "How long commands waited while their keys were brought to the nodes of a new layout.",
	"switch_held_seconds": "How long commands waited because keyways held them for a change of the layout.",
	"reads_again_total":   "Reads that a replica did not answer and that were sent again.",

	"thread_busy_seconds_total": "Time in which the thread did not sleep. Its rate is the busy share of the thread: " +
		"near 1, it can do no more.",
	"thread_turn_duration_seconds": "Time of a turn of the thread's event loop, in which it serves what is ready.",
	"thread_messages_total": "Messages that other threads and other parts of the process have sent to the thread. " +
		"GET, SET and the like need none.",
	"thread_turn_events": "Events that the thread serves in a turn: sockets, and messages of other threads.",

	"clients":             "Connected clients.",
	"client_output_bytes": "Bytes of replies that clients have not read yet.",

	"node_connects_total":            "Attempts to connect to the node.",
	"node_connect_failures_total":    "Attempts to connect to the node that failed.",
	"node_connections_lost_total":    "Connections to the node that ended.",
	"node_timeouts_total":            "Requests that the node did not answer in time.",
	"node_late_replies_total":        "Replies that were dropped because they came after the timeout.",
	"node_unsolicited_replies_total": "Replies without a request. Each ends its connection.",
	"node_protocol_violations_total": "Connections that ended because the node broke the protocol.",
	"node_checks_total":              "Integrity checks: do the node's replies still match the requests?",
	"node_bytes_total":               "Bytes received from the node (in) and sent to the node (out).",
	"node_up":                        "1 while every thread has a connection to the node.",
	"replica_lag_seconds":            "Proven upper bound of the replica's lag behind its master.",
	"node_connect_seconds_total":     "Time that successful attempts to connect to the node took, with AUTH and PING.",
	"node_requests_total": "Requests sent to the node, with keyway's own, such as integrity checks. " +
		"This and the metrics of writes, queue, durations and errors leave out connections that one client has alone.",
	"node_writes_total": "Writes to the node. node_requests_total by this is how many requests a write has, " +
		"which is the depth of keyway's pipeline.",
	"node_request_duration_seconds": "Time from handing a request to a connection to the complete reply: " +
		"the queue, the network and the node. It has replies after a timeout, too, but no requests without a reply.",
	"node_errors_total": "Error replies of the node, by their first word. MOVED and ASK are redirects.",
	"node_failed_commands_total": "Commands that keyway failed since the node could not be reached, " +
		"or gave no reply. The classes are those of failed_commands_total.",
	"node_queued":                "Requests that are not written to the node yet.",
	"node_in_flight":             "Requests that the node has not answered yet.",
	"node_in_flight_bytes":       "Bytes of requests that the node has not answered yet.",
	"node_exclusive_connections": "Connections to the node that one client has alone, as for WATCH or BLPOP.",
	"node_redirects_total":       "Redirects from the node, by kind.",
	"node_retries_total":         "Commands that the node refused for the moment and that were sent again.",

	"command_duration_seconds":  "Time from a command's arrival to its complete reply, by command family.",
	"commands_duration_seconds": "Time from a command's arrival to its complete reply, by command.",
}
