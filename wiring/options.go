package wiring

import (
	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/quorum"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/transfer"
)

// lockRules returns the rules for locks on a majority of nodes.
func lockRules(c *config.Config) (rules quorum.Rules) {
	for i, r := range c.Locks.Quorum {
		as, _ := config.LoginOfLocks(c, i)
		rules = append(rules, quorum.Rule{
			Match: []byte(r.Match), Nodes: r.Nodes, Username: as.Username, Password: as.Password,
			Timeout: r.Timeout, Drift: r.Drift, MaxLease: r.MaxLease, Fencing: r.Fencing,
		})
	}
	return rules
}

var reads = map[string]proxy.Reads{
	config.ReadsMaster: proxy.FromMaster, config.ReadsPreferReplica: proxy.PreferReplica,
	config.ReadsReplica: proxy.FromReplica, config.ReadsNearest: proxy.FromNearest,
}

// replicaReads returns when replicas may serve reads, and of which users.
func replicaReads(c *config.Config) proxy.ReplicaReads {
	own := map[string]proxy.Reads{}
	for _, u := range c.Users {
		if u.Reads != "" {
			own[u.Name] = reads[u.Reads]
		}
	}
	r := proxy.ReplicaReads{MaxLag: c.Replicas.MaxLag, ReadsOptIn: c.Replicas.OptIn, OfUsers: own}
	r.Zone, r.ZoneOf = c.Replicas.Zone, c.Replicas.ZoneOf
	return r
}

// maxPatterns bounds the metrics of locks.
const maxPatterns = 100

// watchLocks returns how locks are observed, and which scripts work on them. Errors are
// *config.Error.
func watchLocks(c *config.Config) (locks.Options, error) {
	if n := len(c.Locks.Patterns); n > maxPatterns {
		return locks.Options{}, c.Errorf("locks.patterns", "leave some out: the others share a pattern",
			"%d patterns, and at most %d are allowed, because each has metrics of its own", n, maxPatterns)
	}
	scripts, err := lockScripts(c)
	return locks.Options{Observe: c.Locks.Observe, Patterns: c.Locks.Patterns, Scripts: scripts}, err
}

func permissions(c *config.Config, users *acl.Users, allow map[int]bool, deny []bool) proxy.Permissions {
	return proxy.Permissions{
		Users: users, Allow: allow, Deny: deny,
		OfNodes: c.Auth == config.AuthPassthrough, IsProtected: c.ProtectedMode,
	}
}

// workerOptions returns the settings that all workers share. What depends on the process
// or on the single worker is not in them; package server adds it. Errors are *config.Error.
func workerOptions(c *config.Config) (proxy.Options, error) {
	allow, err := command.Allow(c.Commands.Allow)
	if err != nil {
		return proxy.Options{}, c.Errorf("commands.allow", "name commands such as config or \"config|get\"", "%v", err)
	}
	deny, err := command.Deny(c.Commands.Deny, c.Commands.Allow)
	if err != nil {
		return proxy.Options{}, c.Errorf("commands.deny", "name commands such as flushall or \"config|set\", "+
			"and none under commands.allow", "%v", err)
	}
	users, err := Users(c)
	if err != nil {
		return proxy.Options{}, err
	}
	perKey, err := perKeyScripts(c)
	if err != nil {
		return proxy.Options{}, err
	}
	watch, err := watchLocks(c)
	if err != nil {
		return proxy.Options{}, err
	}
	hold := c.Backend.Hold
	if hold == 0 {
		hold = -1 // no hold: proxy.Options takes 0 for its default
	}
	account, own := nodeLogins(c)
	var cluster *emulation.Cluster
	if c.Cluster.Emulate {
		cluster = emulation.New(c.Cluster.Announce, c.Cluster.Peers)
	}
	return proxy.Options{
		Cluster:      cluster,
		Reads:        reads[c.Reads],
		ReplicaReads: replicaReads(c),
		Backend: pool.Config{
			Name:  guard.ConnectionName(Instance(c), c.Epoch(), c.PlacementHash()),
			Epoch: c.Epoch(), MinEpoch: minEpoch(c),
			Account: account, Accounts: own,
			ConnectTimeout: c.Backend.ConnectTimeout, RequestTimeout: c.Backend.RequestTimeout,
		},
		Connections: c.Backend.Connections,
		CheckEvery:  c.Backend.Integrity,
		Exclusive:   c.Backend.Exclusive,
		Hold:        hold,
		Limits: resp.Limits{
			MaxBulk: int(c.Limits.MaxBulk), MaxArgs: c.Limits.MaxArgs,
			MaxInline: int(c.Limits.MaxInline), MaxRequest: int(c.Limits.MaxRequest),
		},
		ClientOutput: int(c.Limits.ClientOutput),
		IdleTimeout:  c.Clients.IdleTimeout,
		Recording:    recording(c),
		Permissions:  permissions(c, users, allow, deny),
		PerKey:       perKey, Keyless: c.Scripts.Keyless,
		Locks:      lockRules(c),
		WatchLocks: watch,
		KeyTraffic: keyTraffic(c),
		Moves:      moves(c),
	}, nil
}

// moves returns how keys are brought to their nodes while the layout changes.
func moves(c *config.Config) proxy.Moves {
	return proxy.Moves{
		Durable: Durability(c), Remember: c.Switch.Remember, Incarnations: config.Incarnations(c),
	}
}

// keyTraffic returns what is done about hot keys and big ones. All threads together keep the memory of near_cache.
func keyTraffic(c *config.Config) proxy.KeyTraffic {
	t := proxy.KeyTraffic{BigKeys: int(c.BigKeys.Over)}
	if n := c.NearCache; n.Enabled {
		t.NearCache = proxy.NearCache{
			OneIn: n.OneIn, Memory: int(n.Memory), MaxValue: int(n.MaxValue), Lease: n.Lease,
		}
	}
	return t
}

// recording returns what is recorded of single commands.
func recording(c *config.Config) proxy.Recording {
	r := proxy.Recording{SlowLog: proxy.SlowLog{SlowerThan: c.SlowLog.SlowerThan, SlowEntries: c.SlowLog.Entries}}
	add := func(to *journey.Choice, oneIn int, slow bool, keys string) {
		*to = journey.Choice{OneIn: oneIn, Slow: slow}
		r.Journeys.Text = r.Journeys.Text || keys == config.KeysFull
		r.Journeys.Hash = r.Journeys.Hash || keys == config.KeysHash
	}
	if t := &c.Traces; t.Endpoint != "" {
		add(&r.Journeys.Traces, t.OneIn, t.Slow, t.Keys)
	}
	if l := &c.AccessLog; l.File != "" {
		add(&r.Journeys.Lines, l.OneIn, l.Slow, l.Keys)
	}
	return r
}

// durabilities are the values of switch.durable.
var durabilities = map[string]transfer.Durability{
	config.DurableAuto: transfer.DurableAuto, config.DurableStrict: transfer.DurableStrict,
	config.DurableOff: transfer.DurableOff,
}

// Durability returns when keys count as moved that move to the layout of a configuration.
func Durability(c *config.Config) transfer.Durability { return durabilities[config.Moves(c).Durable] }

// minEpoch returns the epoch that all nodes of the layout must have begun: the present one while keys
// move, since commands of an earlier one could reach the others. 0: it does not matter.
func minEpoch(c *config.Config) int64 {
	if config.Older(c) == nil {
		return 0
	}
	return c.Epoch()
}
