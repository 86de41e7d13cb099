package test

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/hashring"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestPlacementEqualsTwemproxy writes 100,000 keys for each hash and
// distribution through the real twemproxy and finds each on the node where
// keyway would put it, with the same names, weights, hash and hash tag.
func TestPlacementEqualsTwemproxy(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("nutcracker")
	if err != nil {
		t.Fatal("twemproxy is not installed; install it with: apt-get install -y nutcracker (Debian) " +
			"or brew install twemproxy (macOS)")
	}
	names := []string{"alpha", "b", "127.0.0.1:7103", "delta-4"}
	weights := []int{1, 3, 2, 1}
	var nodes []*redistest.Node
	var members []router.Node
	for i := range names {
		nodes = append(nodes, redistest.Start(t))
		members = append(members, router.Node{Name: names[i], Addr: nodes[i].Addr, Master: true})
	}
	type pool struct{ hash, distribution, addr string }
	var pools []pool
	var yml strings.Builder
	for _, hash := range hashring.HashNames() {
		for _, d := range []string{"ketama", "modula"} {
			p := pool{hash, d, fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))}
			pools = append(pools, p)
			fmt.Fprintf(&yml, "p%d:\n  listen: %s\n  hash: %s\n  distribution: %s\n  hash_tag: \"{}\"\n"+
				"  redis: true\n  timeout: 5000\n  servers:\n", len(pools), p.addr, hash, d)
			for i, n := range nodes {
				fmt.Fprintf(&yml, "   - %s:%d %s\n", n.Addr, weights[i], names[i])
			}
		}
	}
	file := redistest.WriteFile(t, "nutcracker.yml", yml.String())
	cmd := exec.Command(path, "-c", file, "-s", fmt.Sprint(redistest.FreePort(t)))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	listens(t, pools[len(pools)-1].addr)
	keys := twemproxyKeys(underRace(100_000, 10_000))
	for _, p := range pools {
		t.Run(p.hash+"/"+p.distribution, func(t *testing.T) {
			for _, n := range nodes {
				n.Do("FLUSHALL")
			}
			setAll(t, p.addr, keys)
			build := router.NewRing
			if p.distribution == "modula" {
				build = router.NewModulo
			}
			table, err := build(members, router.Hashed{Hash: p.hash, HashTag: "{}", Weights: weights})
			if err != nil {
				t.Fatal(err)
			}
			if found := placedAlike(t, table, nodes, names); found != len(keys) {
				t.Errorf("twemproxy kept %d keys of %d", found, len(keys))
			}
		})
	}
}

// listens waits until addr accepts connections.
func listens(t *testing.T, addr string) {
	t.Helper()
	redistest.Eventually(t, 10*time.Second, addr+" accepts connections", func() bool {
		c, err := redistest.TryDial(addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// placedAlike fails the test if a key is on another node than table says. It returns the
// number of keys.
func placedAlike(t *testing.T, table *router.Table, nodes []*redistest.Node, names []string) (found int) {
	t.Helper()
	for i, n := range nodes {
		for _, key := range n.Keys() {
			found++
			if _, at := table.Place([]byte(key)); int(at) != i {
				t.Fatalf("twemproxy has %q on %s, keyway would have it on %s", key, names[i], names[at])
			}
		}
	}
	return found
}

// twemproxyKeys are n different keys of all lengths from 1 to 40 and of all
// bytes but those of the protocol's lines, some with hash tags.
func twemproxyKeys(n int) []string {
	rng := rand.New(rand.NewPCG(3, 4))
	seen := map[string]bool{}
	keys := make([]string, 0, n)
	for len(keys) < n {
		b := make([]byte, 1+rng.IntN(40))
		for i := range b {
			b[i] = byte(rng.IntN(256))
		}
		key := string(b)
		switch rng.IntN(6) {
		case 0:
			key = "{" + key + "}" + fmt.Sprint(rng.IntN(10))
		case 1:
			key = fmt.Sprintf("user:%d", rng.IntN(1_000_000))
		case 2:
			key = key[:len(key)/2] + "{}" + key
		}
		if !seen[key] {
			seen[key] = true
			keys = append(keys, key)
		}
	}
	return keys
}

// setAll writes the keys in pipelines.
func setAll(t *testing.T, addr string, keys []string) {
	t.Helper()
	c := redistest.Dial(t, addr)
	defer c.Close()
	for len(keys) > 0 {
		batch := keys[:min(500, len(keys))]
		keys = keys[len(batch):]
		for _, key := range batch {
			c.Send("SET", key, "v")
		}
		if err := c.Flush(); err != nil {
			t.Fatal(err)
		}
		for range batch {
			if r, err := c.Receive(); err != nil || r.Text != "OK" {
				t.Fatal(r, err)
			}
		}
	}
}
