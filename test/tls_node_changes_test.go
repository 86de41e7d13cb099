package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// readAll makes clients read until stop is called. None may be dropped or get an error.
func readAll(t *testing.T, addr string) (stop func()) {
	var isDone atomic.Bool
	var clients sync.WaitGroup
	for i := range 8 {
		c := redistest.Dial(t, addr)
		clients.Go(func() {
			for !isDone.Load() {
				if got, err := c.TryDo("GET", fmt.Sprint("key:", i)); err != nil || got.Kind != '$' {
					t.Errorf("client %d: %v, %v", i, got, err)
					return
				}
			}
		})
	}
	return func() {
		isDone.Store(true)
		clients.Wait()
	}
}

func copied(t *testing.T, to string, from ...string) {
	t.Helper()
	var all []byte
	for _, name := range from {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, text...)
	}
	if err := os.WriteFile(to, all, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTLSToNodesRotation: keyway and a node change to certificates of another authority while
// clients read. No client notices. Broken files change nothing.
func TestTLSToNodesRotation(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	before, after := redistest.NewAuthority(t), redistest.NewAuthority(t)
	node := redistest.Start(t, before.NodeOptions("--tls-auth-clients", "yes")...)
	dir := t.TempDir()
	ca, cert, key := filepath.Join(dir, "ca"), filepath.Join(dir, "cert"), filepath.Join(dir, "key")
	oldCert, oldKey := before.Issue("client", 24*time.Hour)
	copied(t, ca, before.File)
	copied(t, cert, oldCert)
	copied(t, key, oldKey)
	r := startReloadable(t, redistest.Ring(node.TLSAddr),
		fmt.Sprintf("backend: {tls: {ca: %q, cert: %q, key: %q}}\n", ca, cert, key))
	stop := readAll(t, r.listen)
	reloads := func() int { return strings.Count(r.stderr.String(), `msg=reloaded `) }
	changed := func(what string, change func()) {
		t.Helper()
		n := reloads()
		change()
		redistest.Eventually(t, 20*time.Second, "keyway has taken "+what, func() bool { return reloads() > n })
	}
	changed("both authorities", func() { copied(t, ca, before.File, after.File) })
	newCert, newKey := after.NodeOptions()[3], after.NodeOptions()[5]
	node.Do("CONFIG", "SET", "tls-cert-file", newCert, "tls-key-file", newKey, "tls-ca-cert-file", after.File)
	freshCert, freshKey := after.Issue("client", 48*time.Hour)
	if err := os.WriteFile(key, []byte("broken"), 0o600); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 20*time.Second, "keyway notices the broken key", func() bool {
		return strings.Contains(r.stderr.String(), "backend.tls.key: the file ")
	})
	changed("the new certificate", func() {
		copied(t, key, freshKey)
		copied(t, cert, freshCert)
	})
	usesTLS(t, node)
	if n := node.Do("CLIENT", "KILL", "TYPE", "normal").Int; n == 0 {
		t.Error("no connection of keyway was open")
	}
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "SET", "key", "over a connection with the new certificates")
	usesTLS(t, node)
	stop()
	r.checks(true, "certificate "+cert+" for localhost", "certificate "+ca)
	r.expiryShown(cert, 48*time.Hour)
	r.expiryShown(ca, 24*time.Hour)
}

// TestTLSToClusterByReload: a reload makes keyway use the TLS ports of the cluster that it
// follows, and another one the plain ports. No client is dropped.
func TestTLSToClusterByReload(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	ca := redistest.NewAuthority(t)
	cluster := redistest.NewCluster(t, 3, 0, ca.NodeOptions()...)
	plain := cluster.SeedsYAML()
	over := fmt.Sprintf("layout: slots\nslots: {seeds: [%q, %q]}\n", cluster.Nodes[0].TLSAddr, cluster.Nodes[1].TLSAddr)
	r := startReloadable(t, plain, "")
	r.logs("msg=topology nodes=3")
	stop := readAll(t, r.listen)
	await := func(what string, isRight func(n *redistest.Node, line string) bool) {
		t.Helper()
		redistest.Eventually(t, 20*time.Second, "keyway uses "+what, func() bool {
			for _, n := range cluster.Nodes {
				found := 0
				for line := range strings.Lines(n.Do("CLIENT", "LIST").Text) {
					if strings.Contains(line, "name=keyway:") {
						if found++; !isRight(n, line) {
							return false
						}
					}
				}
				if found == 0 {
					return false
				}
			}
			return true
		})
	}
	isPlain := func(n *redistest.Node, line string) bool { return strings.Contains(line, "laddr="+n.Addr+" ") }
	isTLS := func(n *redistest.Node, line string) bool { return strings.Contains(line, "laddr="+n.TLSAddr+" ") }
	await("plain ports", isPlain)
	r.nodes = over
	if out := r.reload(nodeTLS(ca)); !strings.Contains(out, "  backend.tls: (none) -> true\n") {
		t.Errorf("reload printed %s", out)
	}
	await("TLS ports", isTLS)
	r.nodes = plain
	if out := r.reload("backend: {tls: false}\n"); !strings.Contains(out, "  backend.tls: true -> false\n") {
		t.Errorf("reload printed %s", out)
	}
	await("plain ports again", isPlain)
	stop()
}

// TestToolsOverTLS: verify, migrate, plan and check speak TLS with the nodes of either file, and
// with those that hold locks.
func TestToolsOverTLS(t *testing.T) {
	t.Parallel()
	ca := redistest.NewAuthority(t)
	start := func() string { return redistest.Start(t, ca.NodeOptions()...).TLSAddr }
	a, b := start(), start()
	locks := fmt.Sprintf("locks: {quorum: [{match: \"lock:*\", nodes: [%s, %s, %s], max_lease: 1s}]}\n",
		start(), start(), start())
	plainNode := redistest.Start(t)
	older := redistest.WriteFile(t, "older.yml", redistest.Ring(a, b)+nodeTLS(ca))
	newer := redistest.WriteFile(t, "newer.yml", redistest.Ring(a, b)+
		fmt.Sprintf("  - {name: c, addr: %s, tls: false}\n", plainNode.Addr)+nodeTLS(ca)+locks)
	k := redistest.Serve(t, redistest.Ring(a, b)+nodeTLS(ca)+locks).Ready()
	c := k.Dial()
	for i := range 100 {
		c.Expect("OK", "SET", fmt.Sprint("key:", i), "x")
	}
	redistest.Eventually(t, 20*time.Second, "a majority over TLS gives a lock", func() bool {
		return c.Do("SET", "lock:a", "token", "NX", "PX", "500").Text == "OK"
	})
	k.Stop()
	out, status := keyway(t, "plan", older, newer)
	if !strings.Contains(out, "keys") || strings.Contains(out, "reached") {
		t.Errorf("plan: %d\n%s", status, out)
	}
	for _, args := range [][]string{
		{"verify", "-c", older}, {"migrate", older, newer}, {"verify", "-c", newer},
		{"check", "--connect", "-c", newer},
	} {
		if out, status := keyway(t, args...); status != 0 {
			t.Errorf("%s: %d\n%s", args[0], status, out)
		}
	}
	if n := len(plainNode.Keys()); n < 10 {
		t.Errorf("the node without TLS got %d keys", n)
	}
}
