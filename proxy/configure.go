package proxy

import (
	"math"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

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
// Connections, Reads, ReadsOptIn, PerKey, Index, Workers and Seed. Clients and connections
// stay open. A client that has authenticated stays so, and a connection to a node keeps the
// user that it has; a new password is for those that come later.
func Configure(w *Worker, o Options) {
	before := w.o
	o.Connections, o.Reads, o.ReadsOptIn, o.PerKey = before.Connections, before.Reads, before.ReadsOptIn, before.PerKey
	o.Index, o.Workers, o.Seed = before.Index, before.Workers, before.Seed
	w.o = o.withDefaults()
	w.routing.set.Config = w.o.Backend
	setLimits(w)
	w.scripts.keyless = []byte(o.Keyless)
	w.reads.replicas.SetMaxLag(o.MaxLag)
	if w.o.SlowerThan != before.SlowerThan || w.o.SlowEntries != before.SlowEntries {
		w.slowLog.Configure(w.o.SlowerThan, w.o.SlowEntries) // otherwise CONFIG SET's settings stay
	}
	for _, n := range w.routing.nodes {
		for _, c := range n.conns {
			c.CheckEvery = w.o.CheckEvery
		}
		if w.o.Backend.Name != before.Backend.Name {
			n.rename()
		}
	}
	if len(w.o.Passwords) > 0 {
		return
	}
	for _, s := range w.sessions {
		s.set(authed) // sweep would close clients that wait for a password
	}
}

// rename gives the node's connections the name that the options have now. Connections in
// use by one client keep theirs.
func (n *node) rename() {
	for _, c := range n.conns {
		if c.State() == pool.Ready {
			n.w.say(c, resp.AppendCommand(nil, "CLIENT", "SETNAME", n.w.o.Backend.Name))
		}
	}
	for _, c := range n.idle {
		n.w.doomed = append(n.w.doomed, &c.Link)
	}
	n.idle = nil
}

// setLimits sets what is derived from the options' limits and times.
func setLimits(w *Worker) {
	w.inputs.limits, w.inputs.unauth = w.o.Limits, w.o.Limits.UnauthenticatedLimits()
	w.retries.failover = int64(w.o.Hold)
	w.retries.maxPause = int64(max(w.o.Hold, w.o.Backend.RequestTimeout))
}

// ReplaceLayout is SetTable for a table that places keys otherwise than the present one. The
// nodes that own keys in the present one have the same places in the new one.
func ReplaceLayout(w *Worker, t *router.Table) {
	w.epoch++ // clients with calls in flight wait for their replies first; see consume
	w.moved = true
	w.SetTable(t)
}
