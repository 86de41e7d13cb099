package overview

import "time"

// State is what is known of a pool at a time. Rates are per second, over the last five seconds. Latencies are
// in seconds. A quantile is interpolated within a bucket of its histogram, as Prometheus does it.
type State struct {
	Time     time.Time    `json:"time"` // of the last sample
	Pool     string       `json:"pool,omitempty"`
	Version  string       `json:"version"`
	Instance string       `json:"instance"`
	Layout   string       `json:"layout"`  // as in router.Table.Name
	Cluster  bool         `json:"cluster"` // the nodes are a Redis Cluster
	Epoch    int64        `json:"epoch"`   // of the layout; 0: the nodes have no register
	Uptime   float64      `json:"uptime_seconds"`
	Listen   []string     `json:"listen"`
	Threads  []Thread     `json:"threads"`
	Problems []Problem    `json:"problems"` // the worst first
	Now      Figures      `json:"now"`
	Errors   []ErrorClass `json:"errors"`
	Nodes    []Node       `json:"nodes"`
	Keyways  []Keyway     `json:"keyways"`
	Commands []Command    `json:"commands"` // those used in the last minute, most calls first
	Users    []User       `json:"users"`    // most commands first
	Switch   *Switch      `json:"switch,omitempty"`
	History  History      `json:"history"`
	Events   []Event      `json:"events"` // the last ones, the newest first
}

// Figures are those of the whole pool. Memory is that of the process.
type Figures struct {
	Clients     int     `json:"clients"`
	Commands    float64 `json:"commands_per_second"`
	Errors      float64 `json:"errors_per_second"` // error replies, those of the nodes included
	P50         float64 `json:"p50_seconds"`
	P99         float64 `json:"p99_seconds"`
	P999        float64 `json:"p999_seconds"`
	NearHits    float64 `json:"near_cache_hits_per_second"` // GETs that near_cache has answered
	NearMisses  float64 `json:"near_cache_misses_per_second"`
	BytesIn     float64 `json:"bytes_in_per_second"` // from clients
	BytesOut    float64 `json:"bytes_out_per_second"`
	Memory      int64   `json:"memory_bytes"`       // 0: not known
	MemoryLimit int64   `json:"memory_limit_bytes"` // 0: not known
	InFlight    int     `json:"in_flight"`          // requests that the nodes have not answered
	Busy        float64 `json:"busy"`               // that of the busiest thread
}

// NodesReady returns how many nodes are ready.
func (s *State) NodesReady() (n int) {
	for i := range s.Nodes {
		if s.Nodes[i].State == Ready {
			n++
		}
	}
	return n
}

// Thread is an event loop.
type Thread struct {
	Index    int     `json:"index"`
	Busy     float64 `json:"busy"` // the share of the time in which it did not sleep, in [0, 1]
	Clients  int     `json:"clients"`
	Commands float64 `json:"commands_per_second"`
}

// ErrorClass is a kind of failure that clients see. The classes overlap, and have no error that a node
// returned.
type ErrorClass struct {
	Class     string  `json:"class"`
	PerSecond float64 `json:"per_second"`
	Total     uint64  `json:"total"` // since keyway started
}

// Node is a server that keyway sends commands to.
type Node struct {
	Name   string `json:"name"`
	Addr   string `json:"addr"`
	Role   string `json:"role"`             // Master or Replica
	Master string `json:"master,omitempty"` // the name of a replica's master
	// State is Ready, Unused, Down, or that of the first connection to it, such as dialing.
	State  string    `json:"state"`
	Reason string    `json:"reason,omitempty"` // why it is down
	Step   string    `json:"step,omitempty"`   // how far keyway is in connecting again; empty: it waits before it tries
	Since  time.Time `json:"since"`            // since when it is ready, or is not, as far as keyway knows
	Share  float64   `json:"share"`            // of all places of keys; 0 if the layout cannot tell
	Slots  int       `json:"slots,omitempty"`
	Ranges int       `json:"slot_ranges,omitempty"` // in how many pieces these are

	Commands float64  `json:"commands_per_second"` // requests that were sent to it
	Errors   float64  `json:"errors_per_second"`   // error replies but MOVED and ASK, and commands without a reply
	Timeouts float64  `json:"timeouts_per_second"`
	P50      float64  `json:"p50_seconds"` // from sending a request to its whole reply
	P99      float64  `json:"p99_seconds"`
	BytesIn  float64  `json:"bytes_in_per_second"` // from the node
	BytesOut float64  `json:"bytes_out_per_second"`
	InFlight int      `json:"in_flight"`
	Lag      *float64 `json:"lag_seconds,omitempty"` // nil: it is no replica, or not known

	// Slow says that the node stands out against the others, and SlowReason why.
	Slow       bool   `json:"slow"`
	SlowReason string `json:"slow_reason,omitempty"`
	Known
}

// The roles of nodes, and three of their states.
const (
	Master  = "master"
	Replica = "replica"
	Ready   = "ready"
	Down    = "down"   // keyway has lost it, or could not connect to it
	Unused  = "unused" // a replica that keyway has no reason to connect to
)

// Known is what a node has said about itself, some ten seconds ago at most. Empty: it was not asked.
type Known struct {
	Version string `json:"version,omitempty"`
	Memory  int64  `json:"memory_bytes,omitempty"`
	Zone    string `json:"zone,omitempty"` // also as the configuration says it
}

// Keyway is a keyway that is connected to the same nodes, as these list it once a minute; in a cluster, only
// this one is known.
type Keyway struct {
	Instance string `json:"instance"`
	Version  string `json:"version,omitempty"` // empty: not known
	Host     string `json:"host,omitempty"`    // from which it connects to the nodes
	Self     bool   `json:"self"`
	Agrees   bool   `json:"agrees"` // it looks for keys on the same nodes
}

// Command is a command that clients use.
type Command struct {
	Name   string  `json:"name"` // as in the metrics, such as "config get"
	Calls  float64 `json:"calls_per_second"`
	Errors float64 `json:"errors_per_second"`
	P50    float64 `json:"p50_seconds"` // from its arrival to its whole reply
	P99    float64 `json:"p99_seconds"`
	Total  uint64  `json:"total"` // since keyway started
	Failed uint64  `json:"errors_total"`

	// The client that has sent it last, if it goes to all nodes, as KEYS does. An operator may want to ask it why.
	Client     string `json:"client,omitempty"` // its address; empty: not known
	ClientID   uint64 `json:"client_id,omitempty"`
	ClientName string `json:"client_name,omitempty"`
}

// User is a user of clients, or [metrics.OtherUsers].
type User struct {
	Name     string  `json:"name"`
	Clients  int     `json:"clients"`
	Waiting  int     `json:"waiting_clients"` // because of the user's limits
	Commands float64 `json:"commands_per_second"`
	Errors   float64 `json:"errors_per_second"`
	P50      float64 `json:"p50_seconds"` // from a command's arrival to its whole reply
	P99      float64 `json:"p99_seconds"`
	Total    uint64  `json:"total"` // commands since keyway started
	Failed   uint64  `json:"errors_total"`
}

// Switch is a change of the layout that is under way.
type Switch struct {
	Epoch     int64  `json:"epoch"`
	From      string `json:"from"` // the layouts
	To        string `json:"to"`
	State     string `json:"state"` // of this keyway in the change
	Moves     bool   `json:"moves"` // this process moves the keys now
	Moved     uint64 `json:"moved"` // keys that this process has moved for all
	Conflicts uint64 `json:"conflicts"`
	Left      *int64 `json:"left,omitempty"` // keys, estimated; nil: not known
	Rate      *int   `json:"keys_per_second,omitempty"`
	Waits     bool   `json:"waits"`   // the keys do not move
	IsPlanned bool   `json:"planned"` // it has not begun, and may be cancelled
	Paused    bool   `json:"paused"`
	Pace      string `json:"pace,omitempty"`    // in words, which keys that clients do not use move by
	PaceBy    string `json:"pace_by,omitempty"` // who has set it; empty: not known
}

// Problem is something that an operator should look at.
type Problem struct {
	Severity string `json:"severity"` // Bad or Warn
	// Kind is what many nodes may have in common, such as Unreachable. It is empty for problems that stand alone.
	Kind string `json:"kind,omitempty"`
	Node string `json:"node,omitempty"`
	Text string `json:"text"`
	Help string `json:"help,omitempty"` // what to do
}

// The kinds of problems, in words that follow the names of nodes.
const (
	Unreachable = "cannot be reached"
	TooSlow     = "are slow"
)

// The severities of problems.
const (
	Bad  = "bad"  // clients get errors, or do not find keys
	Warn = "warn" // they soon may
)

// History has a column for each figure, the oldest first. The last element of a column is of Time, and each
// is Step seconds later than the one before.
type History struct {
	Time     time.Time `json:"time"`
	Step     float64   `json:"step_seconds"`
	Commands []float32 `json:"commands_per_second"`
	Errors   []float32 `json:"errors_per_second"`
	P50      []float32 `json:"p50_seconds"`
	P99      []float32 `json:"p99_seconds"`
	Clients  []int32   `json:"clients"`
	Memory   []int64   `json:"memory_bytes"`
	Busy     []float32 `json:"busy"`
}

// Event is a change that operators may want to know of.
type Event struct {
	Time   time.Time `json:"time"`
	Kind   string    `json:"kind"` // as in Kinds
	Text   string    `json:"text"`
	Fields []string  `json:"fields"` // details, each as key=value
	Bad    bool      `json:"bad"`
}
