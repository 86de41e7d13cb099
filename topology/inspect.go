package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// Report is what a node reports about itself.
type Report struct {
	Name, Addr string
	Master     bool  // according to the table
	Err        error // not nil: the node could not be asked, and the other fields are empty

	Version, Role, Mode, Policy, RunID string
	Zone                               string // Valkey's availability-zone; empty: it says none
	Memory                             int64  // in use

	as       control.Account
	isFormer bool // only the layout has it from which keys are moving

	// Of a node in cluster mode, if the table does not follow the cluster:
	Peers  int  // the other nodes of its cluster
	Agrees bool // the node owns the slots that the table gives it
}

const questions = 5 // that one node is asked: to connect, PING, AUTH, INFO and CLUSTER NODES

// ErrNoAddress is the error of a node behind sentinels while its address is not known.
var ErrNoAddress = errors.New(errtext.NoSentinel)

// Inspect asks each node of the table about itself, all at once. A node may take the time
// timeout, or half a second if that is longer, for each answer.
func Inspect(ctx context.Context, as Accounts, timeout time.Duration, t *router.Table) []Report {
	all := make([]router.NodeID, len(t.Nodes))
	for i := range all {
		all[i] = router.NodeID(i)
	}
	return inspect(ctx, as, timeout, t, all)
}

// TrySelect tries to select a database at each master of the table, all at once. If masters refuse, it
// returns one of them and its reply. A master that cannot be asked, as in Inspect, does not refuse.
func TrySelect(
	ctx context.Context, as Accounts, timeout time.Duration, t *router.Table, db int,
) (refusing router.Node, reply error) {
	timeout = max(timeout, askTimeout)
	ctx, cancel := context.WithTimeout(ctx, questions*timeout)
	defer cancel()
	refusals := make([]error, len(t.Nodes))
	var asked sync.WaitGroup
	for i, n := range t.Nodes {
		if !n.Master || n.Addr == "" {
			continue
		}
		asked.Go(func() {
			c := NewClient(n.Addr, as(n), timeout)
			defer c.Close()
			if c.Ping(ctx).Err() != nil {
				return
			}
			if err := c.Do(ctx, "SELECT", db).Err(); control.IsReply(err) {
				refusals[i] = err
			}
		})
	}
	asked.Wait()
	i := slices.IndexFunc(refusals, func(err error) bool { return err != nil })
	if i < 0 {
		return router.Node{}, nil
	}
	return t.Nodes[i], refusals[i]
}

// inspect is Inspect for some nodes.
func inspect(
	ctx context.Context, as Accounts, timeout time.Duration, t *router.Table, nodes []router.NodeID,
) []Report {
	timeout = max(timeout, askTimeout)
	ctx, cancel := context.WithTimeout(ctx, questions*timeout)
	defer cancel()
	reports := make([]Report, len(nodes))
	var asked sync.WaitGroup
	for i, id := range nodes {
		asked.Go(func() { reports[i] = inspectNode(ctx, as, timeout, t, id) })
	}
	asked.Wait()
	return reports
}

func inspectNode(
	ctx context.Context, accounts Accounts, timeout time.Duration, t *router.Table, id router.NodeID,
) Report {
	n := t.Nodes[id]
	as := accounts(n)
	r := Report{Name: n.Name, Addr: n.Addr, Master: n.Master, as: as}
	if n.Addr == "" {
		r.Err = ErrNoAddress
		return r
	}
	c := NewClient(n.Addr, as, timeout)
	defer c.Close()
	if r.Err = c.Ping(ctx).Err(); r.Err != nil {
		return r
	}
	if secret := as.Secret(); secret != "" && as.Username == "" {
		// A node without a password accepts any in HELLO, which this client sends, and none
		// in AUTH, which the pool sends.
		if r.Err = c.Do(ctx, "AUTH", secret).Err(); r.Err != nil {
			return r
		}
	}
	info, err := c.Info(ctx).Result()
	if err != nil {
		r.Err = fmt.Errorf("INFO: %w", err)
		return r
	}
	for line := range strings.SplitSeq(info, "\r\n") {
		field, value, _ := strings.Cut(line, ":")
		switch field {
		case "redis_version":
			r.Version = value
		case "redis_mode", "server_mode": // server_mode is Valkey's name
			r.Mode = value
		case "run_id":
			r.RunID = value
		case "role":
			r.Role = value
		case "used_memory":
			r.Memory, _ = strconv.ParseInt(value, 10, 64)
		case "availability_zone":
			r.Zone = value
		case "maxmemory_policy":
			r.Policy = value
		}
	}
	r.isFormer = t.IsFormer(id)
	if r.Mode == "cluster" && !t.Clustered() && !r.isFormer {
		if r.Err = r.askCluster(ctx, c, t, id); r.Err != nil {
			return Report{Name: n.Name, Addr: n.Addr, Master: n.Master, Err: r.Err, as: as}
		}
	}
	return r
}

// askCluster asks a node for the other nodes of its cluster and for its own slots.
func (r *Report) askCluster(ctx context.Context, c *redis.Client, t *router.Table, id router.NodeID) error {
	list, err := c.ClusterNodes(ctx).Result()
	if err != nil {
		return fmt.Errorf("asking for CLUSTER NODES: %w", err)
	}
	var owned [slots.Count]bool
	for line := range strings.Lines(list) {
		fields := strings.Fields(line) // ID, address, flags, master, ping, pong, epoch, link, slots
		if len(fields) < 8 {
			continue
		}
		if !slices.Contains(strings.Split(fields[2], ","), "myself") {
			r.Peers++
			continue
		}
		for _, run := range fields[8:] {
			first, last, isRun := strings.Cut(run, "-")
			if !isRun {
				last = first
			}
			from, err1 := strconv.Atoi(first)
			to, err2 := strconv.Atoi(last)
			if err1 != nil || err2 != nil {
				continue // in brackets: a slot that is migrating or importing
			}
			for slot := max(from, 0); slot <= to && slot < slots.Count; slot++ {
				owned[slot] = true
			}
		}
	}
	r.Agrees = t.Slotted() && r.Master
	for slot := range int32(slots.Count) {
		if t.Slotted() && t.SlotOwner(slot) == id && !owned[slot] {
			r.Agrees = false
		}
	}
	return nil
}

// Unfit returns why the node cannot serve its keys in the table's layout, and what to do
// about it. Both are empty if the node can.
func (r Report) Unfit(t *router.Table) (problem, remedy string) {
	switch {
	case r.Err != nil:
		return Explain(r.Err, r.as)
	case r.Mode == "sentinel":
		return "is a sentinel", "name the master's address, or write sentinel: {master: NAME, addrs: [" + r.Addr + "]}"
	case r.Mode == "cluster" && !t.Clustered() && !r.Agrees && !r.isFormer:
		return "runs in cluster mode, but layout " + t.Name + " needs standalone nodes",
			"write layout: slots with slots: {seeds: [...]}, or start the node without cluster-enabled"
	case r.Master && r.Role == "slave":
		return "is a replica, and cannot be written to", "name its master, or make it one (REPLICAOF NO ONE)"
	case !r.Master && r.Role == "master" && !t.Clustered(): // a cluster's master may have no slots
		return "is not a replica", "make it one (REPLICAOF), or remove it from replicas"
	}
	return "", ""
}
