package engine

import (
	"math"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/quorum"
	"github.com/keyway-proxy/keyway/quota"
	"github.com/keyway-proxy/keyway/resp"
)

// Options are a worker's settings. Configure changes those that may change during its life.
type Options struct {
	Backend     pool.Config
	Connections int // shared connections to each node; 0 means 1
	CheckEvery  int // pool.Conn.CheckEvery of the shared connections
	// Hold is how long commands wait for the successor of a dead node. 0 means the
	// request timeout; negative: they do not wait.
	Hold      time.Duration
	Exclusive int // connections to each node that belong to one client, at most; 0 means 1000
	// HasRoom reports whether the process has files left to open a connection that it can
	// do without. nil: always.
	HasRoom func() bool

	Limits       resp.Limits // zero means resp.DefaultLimits
	ClientOutput int         // unread bytes at which a client is closed; 0 means 256 MB
	IdleTimeout  time.Duration
	MaxClients   int // of all workers, for INFO
	Permissions

	PerKey  lua.PerKeyScripts // scripts that can be split by their keys
	Keyless string            // scripts without keys run on the node of this key
	Locks   quorum.Rules      // which keys are locks on a majority of nodes outside the layout

	SlowLogOptions

	Reads Reads // which nodes serve commands that only read
	ReplicaReads

	WatchLocks locks.Options // whether and how clients' locks are observed

	Cluster *emulation.Cluster // the cluster that keyway emulates; nil: none

	Process        *info.Process // keyway's process, for INFO; nil: INFO describes a node's process
	Version        string        // keyway's version
	Index, Workers int           // the index of this worker, and the number of workers
	Seed           uint64        // of the random numbers
	Now            int64         // the time at which the worker begins, as in Turn
}

// SlowLogOptions say what SLOWLOG logs.
type SlowLogOptions struct {
	SlowerThan  time.Duration // the duration from which it logs a command; 0 means 10 ms, negative: never
	SlowEntries int           // its entries; 0 means 128
}

// ReplicaReads say when Options.Reads allows a replica.
type ReplicaReads struct {
	MaxLag     time.Duration // replicas with a larger lag are not read from; 0: no limit
	ReadsOptIn bool          // only clients that have sent READONLY read from replicas
	// OfUsers has, by their names, the users that have something else than Options.Reads.
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
}

// withDefaults returns the options with the defaults in place of zero values.
func (o Options) withDefaults() Options {
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
		o.HasRoom = func() bool { return true }
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

// Configure replaces the worker's options, within a turn. These stay as they are:
// Index, Workers, Seed and OfNodes. Clients stay open, except those of a user who is gone. A client
// that has authenticated stays so, and a connection to a node keeps the user that it has; a new
// password is for those that come later, and for open ones if it is renewed from time to time.
// Connections that are no longer needed are closed when their replies have come.
func Configure(w *Worker, o Options) {
	before := w.Options
	o.Index, o.Workers, o.Seed, o.OfNodes = before.Index, before.Workers, before.Seed, before.OfNodes
	w.Options = o.withDefaults()
	w.routing.Links.Configure(w.Options.Backend)
	otherEpoch := w.Options.Backend.Epoch != before.Backend.Epoch
	setLimits(w)
	useUsers(w, nil)
	w.Scripts.keyless = []byte(o.Keyless)
	w.Scripts.Cache.SetPerKey(o.PerKey)
	w.Reads.configure()
	if w.Options.SlowerThan != before.SlowerThan || w.Options.SlowEntries != before.SlowEntries {
		w.SlowLog.Configure(w.Options.SlowerThan, w.Options.SlowEntries) // otherwise CONFIG SET's settings stay
	}
	for _, n := range w.routing.Nodes {
		for _, c := range n.Shared.Conns {
			c.CheckEvery = w.Options.CheckEvery
		}
		user := n.account.Username
		changed := useAccount(n)
		if changed || otherEpoch {
			retryRefused(n)
		}
		if changed && n.account.Renewed && n.account.Username == user {
			logInAgain(n)
		}
	}
	w.routing.reshape(before)
	for _, f := range w.Features {
		f.Configured()
	}
}

// setLimits sets what is derived from the options' limits and times.
func setLimits(w *Worker) {
	w.Inputs.Limits, w.Inputs.unauth = w.Options.Limits, w.Options.Limits.UnauthenticatedLimits()
	w.retries.failover = int64(w.Options.Hold)
	w.retries.maxPause = int64(max(w.Options.Hold, w.Options.Backend.RequestTimeout))
}
