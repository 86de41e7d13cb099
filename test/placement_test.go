package test

import (
	"encoding/json"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestKeysLieWhereRouteSays writes 100,000 keys through keyway on each layout, where only
// the line layout: differs, and finds each on exactly the node that keyway
// route names, and nowhere else.
func TestKeysLieWhereRouteSays(t *testing.T) {
	t.Parallel()
	binary := redistest.Build(t)
	nodes := redistest.Three(t)
	keys := someKeys(underRace(100_000, 10_000))
	for name, yaml := range redistest.Layouts(nodes) {
		t.Run(name, func(t *testing.T) {
			for _, n := range nodes {
				n.Do("FLUSHALL")
			}
			k := redistest.Serve(t, yaml).Ready()
			c := k.Dial()
			for i := 0; i < len(keys); i += 1000 {
				for _, key := range keys[i : i+1000] {
					c.Send("SET", key, "v")
				}
				if err := c.Flush(); err != nil {
					t.Fatal(err)
				}
				for range 1000 {
					if r, err := c.Receive(); err != nil || r.Text != "OK" {
						t.Fatal(r, err)
					}
				}
			}
			want := routes(t, binary, redistest.WriteFile(t, "keyway.yml", yaml), keys)
			found := 0
			for _, n := range nodes {
				for _, key := range n.Keys() {
					found++
					if want[key] != n.Addr {
						t.Fatalf("%q is on %s, keyway route says %s", key, n.Addr, want[key])
					}
				}
			}
			if found != len(keys) {
				t.Errorf("%d keys on the nodes, want %d", found, len(keys))
			}
			t.Logf("%d keys, each where keyway route says", found)
		})
	}
}

// someKeys are n different keys as people have them, some with hash tags.
func someKeys(n int) []string {
	keys := make([]string, 0, n)
	for i := range n {
		switch i % 6 {
		case 0:
			keys = append(keys, fmt.Sprintf("user:%d", i/6))
		case 1:
			keys = append(keys, fmt.Sprintf("{user:%d}:cart", i))
		case 2:
			keys = append(keys, fmt.Sprintf("session:%x", i*2654435761))
		case 3:
			keys = append(keys, fmt.Sprintf("b%d", i))
		case 4:
			keys = append(keys, fmt.Sprintf("{}odd{%d}", i))
		default:
			keys = append(keys, fmt.Sprintf("Zoë:%d", i))
		}
	}
	return keys
}

// routes asks the keyway command where keys live.
func routes(t *testing.T, binary, file string, keys []string) map[string]string {
	t.Helper()
	addr := make(map[string]string, len(keys))
	for i := 0; i < len(keys); i += 10_000 {
		args := append([]string{"route", "-c", file, "--json", "--"}, keys[i:min(i+10_000, len(keys))]...)
		out, err := exec.Command(binary, args...).Output()
		if err != nil {
			t.Fatalf("keyway route: %v", err)
		}
		for line := range strings.Lines(string(out)) {
			var e struct{ Key, Addr string }
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatal(err)
			}
			addr[e.Key] = e.Addr
		}
	}
	return addr
}

// underRace is how much of something there is: less where the detector, which has
// nothing more to find in more of the same, takes its time.
func underRace(usual, less int) int {
	if redistest.Race {
		return less
	}
	return usual
}

// TestRedisBenchmark runs redis-benchmark's whole default list on every layout.
func TestRedisBenchmark(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("redis-benchmark")
	if err != nil {
		t.Fatal("redis-benchmark is not installed; install it with: apt-get install -y redis-tools")
	}
	nodes := redistest.Three(t)
	for name, yaml := range redistest.Layouts(nodes) {
		for _, depth := range []string{"1", "16"} {
			t.Run(name+"/P"+depth, func(t *testing.T) {
				k := redistest.Serve(t, yaml).Ready()
				_, port, _ := strings.Cut(k.Addr, ":")
				n := strconv.Itoa(underRace(5_000, 500))
				out, err := exec.Command(path, "-p", port, "-q", "-n", n, "-P", depth).CombinedOutput()
				text := string(out)
				if err != nil || strings.Contains(text, "Error") || strings.Contains(text, "ERR") ||
					strings.Count(text, "requests per second") < 19 {
					t.Errorf("redis-benchmark: %v\n%s", err, strings.ReplaceAll(text, "\r", "\n"))
				}
			})
		}
	}
}
