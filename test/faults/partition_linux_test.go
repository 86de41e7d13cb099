package faults

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// lab is hosts of the test's own on one switch: network namespaces, joined by a
// bridge. Host i has the address 10.77.0.(i+1).
type lab struct {
	t      *testing.T
	prefix string
}

func newLab(t *testing.T, hosts int) *lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("network namespaces need root: run this test as root")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		t.Fatal("ip is missing; install it with: apt-get install -y iproute2")
	}
	l := &lab{t: t, prefix: fmt.Sprintf("kw%d", os.Getpid())}
	l.ip("netns add %s-sw", l.prefix)
	t.Cleanup(func() { exec.Command("ip", "netns", "del", l.prefix+"-sw").Run() })
	l.ip("-n %s-sw link add br0 type bridge", l.prefix)
	l.ip("-n %s-sw link set br0 up", l.prefix)
	for i := range hosts {
		ns := l.host(i)
		l.ip("netns add %s", ns)
		t.Cleanup(func() { exec.Command("ip", "netns", "del", ns).Run() })
		l.ip("-n %s link add eth0 type veth peer name p%d netns %s-sw", ns, i, l.prefix)
		l.ip("-n %s-sw link set p%d master br0 up", l.prefix, i)
		l.ip("-n %s addr add %s/24 dev eth0", ns, l.addr(i))
		l.ip("-n %s link set eth0 up", ns)
		l.ip("-n %s link set lo up", ns)
	}
	return l
}

func (l *lab) host(i int) string { return fmt.Sprintf("%s-h%d", l.prefix, i) }
func (l *lab) addr(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

func (l *lab) ip(format string, args ...any) {
	l.t.Helper()
	line := fmt.Sprintf(format, args...)
	if out, err := exec.Command("ip", strings.Fields(line)...).CombinedOutput(); err != nil {
		l.t.Fatalf("ip %s: %v\n%s", line, err, out)
	}
}

// deafen drops, silently, what host i sends to the others.
func (l *lab) deafen(i int, others ...int) {
	for _, o := range others {
		l.ip("-n %s route add blackhole %s/32", l.host(i), l.addr(o))
	}
}

func (l *lab) heal(i int, others ...int) {
	for _, o := range others {
		l.ip("-n %s route del blackhole %s/32", l.host(i), l.addr(o))
	}
}

// split is a cluster in a lab, with a keyway on a host of its own.
type split struct {
	*lab
	nodes []*redistest.Node // by their socket files, which no partition cuts
	sock  string            // keyway's
	probe *redistest.Client
}

// labNodes and labProxy are the cluster's number of nodes, and keyway's host.
const labNodes, labProxy = 6, 6

// TestPartitions: a master is cut off from the other nodes while keyway still
// reaches it; keyway alone is cut off from it; its answers alone are lost. Each
// time the other nodes are served, keyway follows the majority, and after the partition all
// nodes are served again.
func TestPartitions(t *testing.T) {
	if !*long {
		t.Skip("long form only: make faults")
	}
	s := &split{lab: newLab(t, labNodes+1)}
	dir := t.TempDir()
	for i := range labNodes {
		s.nodes = append(s.nodes, s.startNode(i, filepath.Join(dir, fmt.Sprintf("n%d.sock", i))))
	}
	s.join()
	s.sock = filepath.Join(dir, "keyway.sock")
	yaml := fmt.Sprintf("listen: unix://%s\nlayout: slots\nslots: {seeds: [\"%s:6379\", \"%s:6379\"]}\n",
		s.sock, s.addr(0), s.addr(1))
	file := redistest.WriteFile(t, "keyway.yml", yaml+"backend: {request_timeout: 1s}\n")
	p := redistest.StartCommand(t, "ip", "netns", "exec", s.host(labProxy), redistest.Build(t), "serve", "-c", file)
	p.Addr = s.sock
	p.Answers()
	s.probe = redistest.Dial(t, s.sock)
	t.Run("a master apart from the other nodes", s.masterApart)
	t.Run("keyway apart from a master", s.keywayApart)
	t.Run("a master that hears and is not heard", s.masterUnheard)
}

// startNode starts a cluster's node on host i.
func (s *split) startNode(i int, sock string) *redistest.Node {
	s.t.Helper()
	cmd := exec.Command("ip", "netns", "exec", s.host(i),
		"redis-server", "--bind", s.addr(i), "--port", "6379", "--protected-mode", "no", "--unixsocket", sock,
		"--dir", s.t.TempDir(), "--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
		"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	redistest.Eventually(s.t, 10*time.Second, "redis-server answers", func() bool {
		conn, err := redistest.TryDial(sock)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
	return redistest.Attach(s.t, sock)
}

// join makes the nodes a cluster of three masters with a replica each.
func (s *split) join() {
	s.t.Helper()
	ids := make([]string, labNodes)
	for i, n := range s.nodes {
		ids[i] = n.Do("CLUSTER", "MYID").Text
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
		if i < 3 {
			n.Do("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*16384/3), fmt.Sprint((i+1)*16384/3-1))
		}
		if i > 0 {
			s.nodes[0].Do("CLUSTER", "MEET", s.addr(i), "6379")
		}
	}
	redistest.Eventually(s.t, 20*time.Second, "every node knows all others", func() bool {
		for _, n := range s.nodes {
			known := n.Do("CLUSTER", "NODES").Text
			if slices.ContainsFunc(ids, func(id string) bool { return !strings.Contains(known, id) }) {
				return false // in a handshake a node has another name
			}
		}
		return true
	})
	for i := 3; i < labNodes; i++ {
		s.nodes[i].Do("CLUSTER", "REPLICATE", ids[i-3])
	}
	redistest.Eventually(s.t, 30*time.Second, "the cluster is well", s.well)
}

// well reports whether all nodes see each other, and the replicas their masters.
func (s *split) well() bool {
	for _, n := range s.nodes {
		info, nodes := n.Do("CLUSTER", "INFO").Text, n.Do("CLUSTER", "NODES").Text
		if !strings.Contains(info, "cluster_state:ok") || strings.Count(nodes, " connected") != labNodes {
			return false
		}
		info = n.Do("INFO", "replication").Text
		if strings.Contains(info, "role:slave") && !strings.Contains(info, "master_link_status:up") {
			return false
		}
	}
	return true
}

// load starts clients, and waits until they are served.
func (s *split) load(t *testing.T, prefix string, lossy func(string) bool) *load {
	t.Helper()
	l := (&load{addr: s.sock, clients: 20, keys: 5, prefix: prefix, lossy: lossy}).start(t)
	l.more(t, 20_000)
	if l.errors() > 0 {
		t.Fatalf("errors before anything went wrong: %v", &l.tally)
	}
	return l
}

// serves waits until keyway serves a slot.
func (s *split) serves(t *testing.T, slot uint16) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, "the master is served again", func() bool {
		return s.probe.Do("SET", keyOfSlot(slot), "x").Text == "OK"
	})
}

// firstOwner returns the address of the node that owns slot 0, as another node sees it.
func firstOwner(view *redistest.Node) string {
	for _, e := range view.Do("CLUSTER", "SLOTS").Elems {
		if e.Elems[0].Int == 0 {
			return e.Elems[2].Elems[0].Text
		}
	}
	return ""
}

func (s *split) masterApart(t *testing.T) {
	l := s.load(t, "one:", func(key string) bool { return keySlot(key) < 5461 })
	others := []int{1, 2, 3, 4, 5}
	s.deafen(0, others...)
	for _, o := range others {
		s.deafen(o, 0)
	}
	redistest.Eventually(t, 20*time.Second, "the replica is promoted", func() bool {
		return firstOwner(s.nodes[1]) == s.addr(3)
	})
	promoted := time.Now()
	key := keyOfSlot(0)
	redistest.Eventually(t, 20*time.Second, "keyway uses the new master", func() bool {
		s.probe.Do("SET", key, "x")
		return s.nodes[3].Do("EXISTS", key).Int == 1
	})
	t.Logf("followed %s after the promotion", time.Since(promoted).Round(time.Millisecond))
	before := s.nodes[0].Do("INFO", "commandstats").Text
	l.more(t, 20_000)
	if after := s.nodes[0].Do("INFO", "commandstats").Text; writes(after) != writes(before) {
		t.Errorf("writes still reach the old master: %s, then %s", writes(before), writes(after))
	}
	for _, o := range others {
		s.heal(o, 0)
	}
	s.heal(0, others...)
	redistest.Eventually(t, 40*time.Second, "the cluster is well", s.well)
	errors := l.errors()
	l.more(t, 20_000)
	if n := l.errors() - errors; n > 0 {
		t.Errorf("%d errors after the network was whole again", n)
	}
	l.halt()
	l.settle(t, s.sock)
}

func (s *split) keywayApart(t *testing.T) {
	l := s.load(t, "two:", nil)
	s.deafen(labProxy, 1)
	s.deafen(1, labProxy)
	l.more(t, 20_000)
	s.heal(1, labProxy)
	s.heal(labProxy, 1)
	s.serves(t, 8000)
	errors := l.errors()
	l.more(t, 20_000)
	l.halt()
	if n := l.errors() - errors; n > 64 {
		t.Errorf("%d errors after the network was whole again", n)
	}
	if l.unknown.Load() == 0 {
		t.Error("nothing was lost: the partition was none")
	}
	l.settle(t, s.sock)
}

func (s *split) masterUnheard(t *testing.T) {
	l := s.load(t, "three:", nil)
	s.deafen(2, labProxy)
	l.more(t, 20_000)
	s.heal(2, labProxy)
	s.serves(t, 12000)
	l.more(t, 20_000)
	l.halt()
	if l.unknown.Load() == 0 {
		t.Error("nothing was lost: the partition was none")
	}
	l.settle(t, s.sock)
}

// writes is what INFO commandstats says of SET.
func writes(stats string) string {
	for line := range strings.Lines(stats) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_set:calls="); ok {
			n, _, _ := strings.Cut(rest, ",")
			return n
		}
	}
	return "0"
}
