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

// TestPartitions: a master is cut off from the other nodes while keyway still
// reaches it; keyway alone is cut off from it; its answers alone are lost. Each
// time the rest goes on, keyway follows the majority, and when the network is
// whole again everything is served.
func TestPartitions(t *testing.T) {
	if !*long {
		t.Skip("long form only: make faults")
	}
	const nodes, proxyHost = 6, 6
	l := newLab(t, nodes+1)
	dir := t.TempDir()
	c := make([]*redistest.Node, nodes) // by their socket files, which no partition cuts
	for i := range c {
		sock := filepath.Join(dir, fmt.Sprintf("n%d.sock", i))
		cmd := exec.Command("ip", "netns", "exec", l.host(i), "redis-server", "--bind", l.addr(i), "--port", "6379", "--protected-mode", "no",
			"--unixsocket", sock, "--dir", t.TempDir(), "--save", "", "--cluster-enabled", "yes", "--cluster-node-timeout", "2000",
			"--cluster-replica-validity-factor", "0", "--repl-diskless-sync-delay", "0")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		redistest.Eventually(t, 10*time.Second, "redis-server answers", func() bool {
			conn, err := redistest.TryDial(sock)
			if err == nil {
				conn.Close()
			}
			return err == nil
		})
		c[i] = redistest.Attach(t, sock)
	}
	ids := make([]string, nodes)
	for i, n := range c {
		ids[i] = n.Do("CLUSTER", "MYID").Text
		n.Do("CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
		if i < 3 {
			n.Do("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(i*16384/3), fmt.Sprint((i+1)*16384/3-1))
		}
		if i > 0 {
			c[0].Do("CLUSTER", "MEET", l.addr(i), "6379")
		}
	}
	well := func() bool {
		for _, n := range c {
			if !strings.Contains(n.Do("CLUSTER", "INFO").Text, "cluster_state:ok") || strings.Count(n.Do("CLUSTER", "NODES").Text, " connected") != nodes {
				return false
			}
			if info := n.Do("INFO", "replication").Text; strings.Contains(info, "role:slave") && !strings.Contains(info, "master_link_status:up") {
				return false
			}
		}
		return true
	}
	redistest.Eventually(t, 20*time.Second, "every node knows all others", func() bool {
		for _, n := range c {
			known := n.Do("CLUSTER", "NODES").Text
			if slices.ContainsFunc(ids, func(id string) bool { return !strings.Contains(known, id) }) {
				return false // in a handshake a node has another name
			}
		}
		return true
	})
	for i := 3; i < nodes; i++ {
		c[i].Do("CLUSTER", "REPLICATE", ids[i-3])
	}
	redistest.Eventually(t, 30*time.Second, "the cluster is well", well)

	sock := filepath.Join(dir, "keyway.sock")
	file := redistest.WriteFile(t, "keyway.yml", fmt.Sprintf("listen: unix://%s\nlayout: slots\nslots: {seeds: [\"%s:6379\", \"%s:6379\"]}\nbackend: {request_timeout: 1s}\n", sock, l.addr(0), l.addr(1)))
	p := redistest.StartCommand(t, "ip", "netns", "exec", l.host(proxyHost), redistest.Build(t), "serve", "-c", file)
	p.Addr = sock
	p.Answers()

	begin := func(t *testing.T, prefix string, lossy func(string) bool) *load {
		ld := (&load{addr: sock, clients: 20, keys: 5, prefix: prefix, lossy: lossy}).start(t)
		ld.more(t, 20_000)
		if ld.errors() > 0 {
			t.Fatalf("errors before anything went wrong: %v", &ld.tally)
		}
		return ld
	}
	probe := redistest.Dial(t, sock)
	served := func(key string) func() bool {
		return func() bool { return probe.Do("SET", key, "x").Text == "OK" }
	}
	owner := func(view *redistest.Node, slot string) string {
		for _, e := range view.Do("CLUSTER", "SLOTS").Elems {
			if fmt.Sprint(e.Elems[0].Int) == slot {
				return e.Elems[2].Elems[0].Text
			}
		}
		return ""
	}
	first := func(key string) bool { return keySlot(key) < 5461 }

	t.Run("a master apart from the other nodes", func(t *testing.T) {
		ld := begin(t, "one:", first)
		others := []int{1, 2, 3, 4, 5}
		l.deafen(0, others...)
		for _, o := range others {
			l.deafen(o, 0)
		}
		redistest.Eventually(t, 20*time.Second, "the replica is promoted", func() bool { return owner(c[1], "0") == l.addr(3) })
		promoted := time.Now()
		key := keyOfSlot(0)
		redistest.Eventually(t, 20*time.Second, "keyway uses the new master", func() bool {
			served(key)()
			return c[3].Do("EXISTS", key).Int == 1
		})
		t.Logf("followed %s after the promotion", time.Since(promoted).Round(time.Millisecond))
		before := c[0].Do("INFO", "commandstats").Text
		ld.more(t, 20_000)
		if after := c[0].Do("INFO", "commandstats").Text; writes(after) != writes(before) {
			t.Errorf("writes still reach the old master: %s, then %s", writes(before), writes(after))
		}
		for _, o := range others {
			l.heal(o, 0)
		}
		l.heal(0, others...)
		redistest.Eventually(t, 40*time.Second, "the cluster is well", well)
		errors := ld.errors()
		ld.more(t, 20_000)
		if n := ld.errors() - errors; n > 0 {
			t.Errorf("%d errors after the network was whole again", n)
		}
		ld.halt()
		ld.settle(t, sock)
	})
	t.Run("keyway apart from a master", func(t *testing.T) {
		ld := begin(t, "two:", nil)
		l.deafen(proxyHost, 1)
		l.deafen(1, proxyHost)
		ld.more(t, 20_000)
		l.heal(1, proxyHost)
		l.heal(proxyHost, 1)
		redistest.Eventually(t, 10*time.Second, "the master is served again", served(keyOfSlot(8000)))
		errors := ld.errors()
		ld.more(t, 20_000)
		ld.halt()
		if n := ld.errors() - errors; n > 64 {
			t.Errorf("%d errors after the network was whole again", n)
		}
		if ld.unknown.Load() == 0 {
			t.Error("nothing was lost: the partition was none")
		}
		ld.settle(t, sock)
	})
	t.Run("a master that hears and is not heard", func(t *testing.T) {
		ld := begin(t, "three:", nil)
		l.deafen(2, proxyHost)
		ld.more(t, 20_000)
		l.heal(2, proxyHost)
		redistest.Eventually(t, 10*time.Second, "the master is served again", served(keyOfSlot(12000)))
		ld.more(t, 20_000)
		ld.halt()
		if ld.unknown.Load() == 0 {
			t.Error("nothing was lost: the partition was none")
		}
		ld.settle(t, sock)
	})
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
