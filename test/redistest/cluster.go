package redistest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Cluster is a Redis Cluster of real nodes.
type Cluster struct {
	t     testing.TB
	Nodes []*Node // masters first, then each master's replica in the same order
	IDs   []string
}

// NewCluster starts a cluster of masters, each with the given number of replicas (0 or 1).
func NewCluster(t testing.TB, masters, replicas int, options ...string) *Cluster {
	t.Helper()
	return NewClusterAt(t, "127.0.0.1", masters, replicas, options...)
}

// Cluster starts a cluster of servers of this kind; see NewCluster.
func (s Server) Cluster(t testing.TB, masters, replicas int, options ...string) *Cluster {
	t.Helper()
	return s.clusterAt(t, "127.0.0.1", masters, replicas, options...)
}

// NewClusterAt is like NewCluster, but on another address of this machine.
func NewClusterAt(t testing.TB, host string, masters, replicas int, options ...string) *Cluster {
	t.Helper()
	return Chosen(t).clusterAt(t, host, masters, replicas, options...)
}

func (s Server) clusterAt(t testing.TB, host string, masters, replicas int, options ...string) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	options = append([]string{"--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
		"--repl-diskless-sync-delay", "0", "--cluster-replica-validity-factor", "0"}, options...)
	for range masters * (1 + replicas) {
		c.Nodes = append(c.Nodes, s.startAt(t, host, FreePort(t), options...))
	}
	for i, n := range c.Nodes {
		c.IDs = append(c.IDs, n.Do("CLUSTER", "MYID").Text)
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
		if i < masters {
			n.Do("CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(i*16384/masters), strconv.Itoa((i+1)*16384/masters-1))
		}
		if i > 0 {
			c.Nodes[0].Do("CLUSTER", "MEET", host, strconv.Itoa(n.Port), strconv.Itoa(n.bus))
		}
	}
	Eventually(t, 60*time.Second, "every node knows all others", func() bool {
		for i := range c.Nodes { // view looks for the nodes' IDs: during the handshake they have other IDs
			if c.view(i) == "" {
				return false
			}
		}
		return true
	})
	for i := masters; i < len(c.Nodes); i++ {
		c.Nodes[i].Do("CLUSTER", "REPLICATE", c.IDs[(i-masters)%masters])
	}
	c.Settle()
	c.awaitMessages()
	return c
}

// awaitMessages waits until what any node publishes reaches all nodes. The nodes of a new
// cluster lose messages at first, Valkey's more of them than Redis's.
func (c *Cluster) awaitMessages() {
	c.t.Helper()
	var reached sync.Map
	for _, to := range c.Nodes {
		s := Dial(c.t, to.Addr)
		defer s.Close()
		s.Expect("[subscribe reach 1]", "SUBSCRIBE", "reach")
		go func() {
			for r, err := s.Receive(); err == nil; r, err = s.Receive() {
				reached.Store(r.String()+to.Addr, true)
			}
		}()
	}
	Eventually(c.t, 60*time.Second, "messages reach all nodes", func() bool {
		pairs := 0
		for _, from := range c.Nodes {
			from.Do("PUBLISH", "reach", from.Addr)
		}
		reached.Range(func(_, _ any) bool { pairs++; return true })
		return pairs == len(c.Nodes)*len(c.Nodes)
	})
}

// Settle waits until every running node reports the cluster as ok, all of them agree about
// roles and slots, and every replica is connected to its master.
func (c *Cluster) Settle() {
	c.t.Helper()
	Eventually(c.t, 60*time.Second, "the cluster is well", func() bool {
		view := ""
		for i, n := range c.Nodes {
			if n.cmd == nil {
				continue
			}
			if !strings.Contains(n.Do("CLUSTER", "INFO").Text, "cluster_state:ok") || !n.inStep() {
				return false
			}
			v := c.view(i)
			if view == "" {
				view = v
			}
			if v == "" || v != view {
				return false
			}
		}
		return true
	})
}

// view returns node i's view of the running nodes: their roles, masters and slots. It is
// empty if the node does not know one of them, is not connected to it, or considers it
// failed.
func (c *Cluster) view(i int) string {
	c.t.Helper()
	running := 0
	for _, n := range c.Nodes {
		if n.cmd != nil {
			running++
		}
	}
	var all []string
	for line := range strings.Lines(c.Nodes[i].Do("CLUSTER", "NODES").Text) {
		f := strings.Fields(line)
		k := slices.Index(c.IDs, f[0])
		if k < 0 || c.Nodes[k].cmd == nil {
			continue
		}
		flags := strings.Split(strings.TrimPrefix(f[2], "myself,"), ",")
		if f[7] != "connected" || slices.Contains(flags, "fail") || slices.Contains(flags, "fail?") {
			return ""
		}
		// A node lists its own migrating and importing slots, in brackets, but not those
		// of other nodes.
		slots := slices.DeleteFunc(f[8:], func(s string) bool { return s[0] == '[' })
		all = append(all, fmt.Sprint(f[0], flags[0], f[3], slots))
	}
	if len(all) != running {
		return ""
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// inStep reports whether the node's replication is established: a replica's link is up, or
// all replicas of a master are online.
func (n *Node) inStep() bool {
	n.t.Helper()
	info := n.Do("INFO", "replication").Text
	if strings.Contains(info, "role:slave") {
		return strings.Contains(info, "master_link_status:up")
	}
	return !strings.Contains(info, "state=") || strings.Count(info, "state=") == strings.Count(info, "state=online")
}

// Failover makes a replica the master in place of its own master, and waits until all
// nodes know.
func (c *Cluster) Failover(replica int) {
	c.t.Helper()
	var asked time.Time
	Eventually(c.t, 20*time.Second, "the replica takes over", func() bool {
		if strings.Contains(c.Nodes[replica].Do("INFO", "replication").Text, "role:master") {
			return true
		}
		if time.Since(asked) > 5*time.Second { // each CLUSTER FAILOVER restarts the failover
			asked = time.Now()
			c.Nodes[replica].Do("CLUSTER", "FAILOVER")
		}
		return false
	})
	c.Settle()
}

// SeedsYAML returns a configuration that follows the cluster.
func (c *Cluster) SeedsYAML() string {
	var addrs []string
	for _, n := range c.Nodes {
		addrs = append(addrs, strconv.Quote(n.Addr))
	}
	return fmt.Sprintf("layout: slots\nslots: {seeds: [%s]}\n", strings.Join(addrs, ", "))
}

// Owner returns the index of the node that owns slot in the view of node i, or -1.
func (c *Cluster) Owner(i, slot int) int {
	c.t.Helper()
	for line := range strings.Lines(c.Nodes[i].Do("CLUSTER", "NODES").Text) {
		f := strings.Fields(line)
		for _, s := range f[8:] {
			first, last, two := strings.Cut(s, "-")
			if !two {
				last = first
			}
			a, err1 := strconv.Atoi(first)
			b, err2 := strconv.Atoi(last)
			if err1 == nil && err2 == nil && a <= slot && slot <= b {
				for k, id := range c.IDs {
					if id == f[0] {
						return k
					}
				}
			}
		}
	}
	return -1
}
