package options

import (
	"math"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/quorum"
	"github.com/keyway-proxy/keyway/quota"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/transfer"
)

// Worker is the settings of a worker.
type Worker struct {
	Backend     pool.Config
	Connections int // shared connections to each node; 0 means 1
	CheckEvery  int // pool.Conn.CheckEvery of the shared connections
	// Hold is how long commands wait for the successor of a dead node. 0 means the
	// request timeout; negative: they do not wait.
	Hold      time.Duration
	Exclusive int // connections to each node that belong to one client, at most; 0 means 1000
	// HasRoom reports whether the process has files left to open a connection that it can
	// do without, besides so many that the worker is about to open. nil: always.
	HasRoom func(opening int) bool

	Limits       resp.Limits // zero means resp.DefaultLimits
	ClientOutput int         // unread bytes at which a client is closed; 0 means 256 MB
	IdleTimeout  time.Duration
	Permissions

	PerKey  lua.PerKeyScripts // scripts that can be split by their keys
	Keyless string            // scripts without keys run on the node of this key
	Locks   quorum.Rules      // which keys are locks on a majority of nodes outside the layout

	Recording

	Reads Reads // which nodes serve commands that only read
	ReplicaReads

	WatchLocks locks.Options // whether and how clients' locks are observed
	KeyTraffic

	Moves

	Cluster *emulation.Cluster // the cluster that keyway emulates; nil: none

	Self
	Index, Workers int    // the index of this worker, and the number of workers
	Seed           uint64 // of the random numbers
	Now            int64  // the time at which the worker begins, as in Turn
}

// Self is what keyway says about itself in INFO.
type Self struct {
	MaxClients int           // of all workers
	Process    *info.Process // keyway's process; nil: INFO describes a node's process
	Version    string        // keyway's version
	// Ask answers KEYWAY STATUS and the like, which are about more than a worker knows: it calls done with
	// the reply, within a turn. nil: keyway does not answer them.
	Ask func(q Question, done func(reply []byte))
}

// Question is a client's command about keyway.
type Question struct {
	Args     [][]byte // copies, without KEYWAY
	Protocol resp.Version
	User     string // of the client
	Addr     string // of the client
	IsOpen   bool   // the user needs no password
}

// KeyTraffic says what a worker does about keys that are used much, and about large values.
type KeyTraffic struct {
	BigKeys   int // KEYWAY BIGKEYS shows values and replies of so many bytes; 0 means 1 MB
	NearCache NearCache
}

// NearCache says which GETs a worker answers itself. The zero value says that it answers none.
type NearCache struct {
	OneIn    int           // a key is hot if one in so many commands reads it; 0: there is no near cache
	Memory   int           // bytes of all values of this worker
	MaxValue int           // bytes of one value
	Lease    time.Duration // how long a value may be used after keyway has asked the node for it
}

// Moves says how keys are brought to their nodes while the layout changes.
type Moves struct {
	Durable transfer.Durability
	// Remember is how many keys a worker remembers of which their former nodes have said that they do not
	// have them. 0 means DefaultRemember.
	Remember int
	// Incarnations has what info.Incarnation said of nodes before any key left them, by their addresses. GET may read
	// keys that have not left at these nodes as long as they still say that. nil: of none.
	Incarnations map[string]string
}

// DefaultRemember needs about 100 MB, if as many keys are used.
const DefaultRemember = 1 << 20

// Recording says what is recorded of single commands.
type Recording struct {
	SlowLog
	Journeys journey.Settings // of traces and of the access log
}

// SlowLog says what SLOWLOG logs.
type SlowLog struct {
	SlowerThan  time.Duration // the duration from which it logs a command; 0 means 10 ms, negative: never
	SlowEntries int           // its entries; 0 means 128
}

// ReplicaReads say when Worker.Reads allows a replica.
type ReplicaReads struct {
	MaxLag     time.Duration // replicas with a larger lag are not read from; 0: no limit
	ReadsOptIn bool          // only clients that have sent READONLY read from replicas
	// Zone is keyway's zone; empty: zones do not matter. ZoneOf returns that of the node at an address, as far as the
	// configuration says it.
	Zone   string
	ZoneOf func(addr string) string
	// OfUsers has, by their names, the users that have something else than Worker.Reads.
	OfUsers map[string]Reads
}

// Permissions are what the configuration says about users and about single commands.
type Permissions struct {
	Users *acl.Users   // nil: acl.Anyone
	Allow map[int]bool // IDs of commands that keyway forwards though it would refuse them
	Deny  []bool       // by command ID: commands that no client may send; nil: none
	// OfNodes makes clients log in as users of the nodes, whose rules hold. Users then does not matter.
	// Configure does not change it.
	OfNodes bool
	// IsProtected refuses clients of other machines who are the nodes' default user without a password.
	IsProtected bool
	// Account returns what the user of this name uses on all workers. nil: each worker has accounts
	// of its own.
	Account func(user string) *quota.Account
	// HasPlace reports whether what the clients of a user do is counted under the user's name, by all workers,
	// and not together with that of others. hasLimits says that the user has limits. nil: it is.
	HasPlace func(user string, hasLimits bool) bool
}

// WithDefaults returns the options with the defaults in place of zero values.
func (o Worker) WithDefaults() Worker {
	if o.Limits == (resp.Limits{}) {
		o.Limits = resp.DefaultLimits
	}
	if o.ClientOutput == 0 {
		o.ClientOutput = 256 << 20
	}
	o.Connections = max(o.Connections, 1)
	o.Workers = max(o.Workers, 1)
	switch {
	case o.OfNodes:
		o.Users = acl.Unknown
	case o.Users == nil:
		o.Users = acl.Anyone
	}
	if o.Exclusive == 0 {
		o.Exclusive = 1000
	}
	if o.HasRoom == nil {
		o.HasRoom = func(int) bool { return true }
	}
	if o.Remember == 0 {
		o.Remember = DefaultRemember
	}
	if o.Hold == 0 {
		o.Hold = o.Backend.RequestTimeout
	}
	if o.SlowerThan == 0 {
		o.SlowerThan = 10 * time.Millisecond
	}
	if o.SlowerThan < 0 {
		o.SlowerThan = math.MaxInt64
	}
	if o.SlowEntries == 0 {
		o.SlowEntries = 128
	}
	return o
}

// Reads says which nodes serve commands that only read.
type Reads uint8

const (
	FromMaster    Reads = iota // only masters
	PreferReplica              // a replica, or the master if no replica can be read
	FromReplica                // a replica, or an error if no replica can be read
	FromNearest                // the master or a replica, whichever answers fastest
)

// UsesReplicas reports whether replicas may serve reads of some clients.
func (o *Worker) UsesReplicas() bool {
	for _, r := range o.OfUsers {
		if r != FromMaster {
			return true
		}
	}
	return o.Reads != FromMaster
}

// ReadsOf returns which nodes serve reads of a user.
func (o *Worker) ReadsOf(user string) Reads {
	if r, isOwn := o.OfUsers[user]; isOwn {
		return r
	}
	return o.Reads
}
