package redistest

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Deliberate is the time limit for every action of a sentinel. A sentinel that was delayed
// by two seconds, as on a busy machine, does nothing for half a minute (TILT mode). It
// makes an old master a replica after that has been reachable for eight seconds.
const Deliberate = 3 * time.Minute

// Watched is a set of masters with one replica each, and sentinels that monitor them.
type Watched struct {
	t         testing.TB
	Names     []string // the sentinels' names for the masters
	Masters   []*Node
	Replicas  []*Node // in the order of Masters
	Sentinels []*Node
}

// NewWatched starts a master and a replica for each name, and three sentinels.
func NewWatched(t testing.TB, names ...string) *Watched {
	t.Helper()
	w := &Watched{t: t, Names: names}
	monitored := ""
	for _, name := range names {
		master := Start(t, "--repl-diskless-sync-delay", "0")
		w.Masters = append(w.Masters, master)
		w.Replicas = append(w.Replicas, Replica(t, master))
		monitored += monitor(name, master.Port)
	}
	for range 3 {
		w.Sentinels = append(w.Sentinels, startSentinel(t, monitored))
	}
	w.Settle()
	return w
}

// monitor returns the lines by which a sentinel monitors a master.
func monitor(name string, port int) string {
	return fmt.Sprintf("sentinel monitor %s 127.0.0.1 %d 2\nsentinel down-after-milliseconds %[1]s 1000\n"+
		"sentinel failover-timeout %[1]s 5000\n", name, port)
}

// Replica starts a replica of a master, and waits until it has the master's data.
func Replica(t testing.TB, master *Node, options ...string) *Node {
	t.Helper()
	n := Start(t, append([]string{"--repl-diskless-sync-delay", "0",
		"--replicaof", "127.0.0.1 " + strconv.Itoa(master.Port)}, options...)...)
	Eventually(t, 20*time.Second, "the replica is in step", n.follows)
	return n
}

func (n *Node) follows() bool {
	info := n.Do("INFO", "replication").Text
	return strings.Contains(info, "role:slave") && strings.Contains(info, "master_link_status:up")
}

func startSentinel(t testing.TB, monitored string) *Node {
	t.Helper()
	path, env := Chosen(t).binary(t)
	port := FreePort(t)
	conf := WriteFile(t, "sentinel.conf", fmt.Sprintf("port %d\nbind 127.0.0.1\n", port)+monitored)
	n := &Node{t: t, Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Port: port, env: env,
		args: []string{path, conf, "--sentinel"}}
	n.Run()
	t.Cleanup(n.Kill)
	return n
}

// Settle waits until every sentinel knows the other sentinels and every master's replica,
// and considers all of them reachable.
func (w *Watched) Settle() {
	w.t.Helper()
	Eventually(w.t, Deliberate, "the sentinels know each other and the replicas", func() bool {
		for _, s := range w.Sentinels {
			for _, name := range w.Names {
				about := s.Do("SENTINEL", "MASTER", name)
				if field(about, "num-other-sentinels") != strconv.Itoa(len(w.Sentinels)-1) ||
					field(about, "flags") != "master" {
					return false
				}
				replicas := s.Do("SENTINEL", "REPLICAS", name).Elems
				if len(replicas) != 1 || field(replicas[0], "flags") != "slave" ||
					field(replicas[0], "master-link-status") != "ok" {
					return false
				}
			}
		}
		return true
	})
}

// BePatient makes the sentinels take a node for down only after ten seconds. On a busy machine they
// would otherwise do so again and again, and leave an old master alone, which must have been
// reachable all the time for eight seconds before they make it a replica.
func (w *Watched) BePatient() {
	w.t.Helper()
	for _, s := range w.Sentinels {
		for _, name := range w.Names {
			s.Do("SENTINEL", "SET", name, "down-after-milliseconds", "10000")
		}
	}
}

// field returns the value of a field in a reply of names and values.
func field(r Reply, name string) string {
	for i := 0; i+1 < len(r.Elems); i += 2 {
		if r.Elems[i].Text == name {
			return r.Elems[i+1].Text
		}
	}
	return ""
}

// Announced subscribes to a sentinel. It returns a channel that receives the time at which
// the sentinel announces a new master of that name.
func (w *Watched) Announced(sentinel int, name string) <-chan time.Time {
	w.t.Helper()
	c := Dial(w.t, w.Sentinels[sentinel].Addr)
	c.MustDo("SUBSCRIBE", "+switch-master")
	at := make(chan time.Time, 1)
	go func() {
		for {
			m, err := c.Receive()
			if err != nil {
				return // the test has ended
			}
			if len(m.Elems) == 3 && strings.HasPrefix(m.Elems[2].Text, name+" ") {
				at <- time.Now()
				return
			}
		}
	}()
	return at
}

// NodesYAML returns the nodes section of a configuration that finds the nodes a, b...
// through the sentinels.
func (w *Watched) NodesYAML() string {
	var addrs []string
	for _, s := range w.Sentinels {
		addrs = append(addrs, s.Addr)
	}
	text := "nodes:\n"
	for i, name := range w.Names {
		text += fmt.Sprintf("  - {name: %c, sentinel: {master: %s, addrs: [%s]}}\n",
			'a'+i, name, strings.Join(addrs, ", "))
	}
	return text
}
