package test

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// statLine is a line that redis-cli --stat prints.
type statLine struct {
	keys, clients, blocked, requests, connections int
	memory                                        float64 // in bytes
}

// startRedisCLI starts redis-cli, until the test ends, and returns its lines.
func startRedisCLI(t *testing.T, port string, args ...string) *bufio.Scanner {
	t.Helper()
	cmd := exec.Command("redis-cli", append([]string{"-p", port}, args...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return bufio.NewScanner(out)
}

// statLines starts redis-cli --stat until the test ends, and returns a function that reads the next line.
func statLines(t *testing.T, port string) (next func() statLine) {
	t.Helper()
	lines := startRedisCLI(t, port, "--stat", "-i", "0.2")
	return func() (l statLine) {
		for lines.Scan() {
			var err error
			f := strings.Fields(lines.Text()) // such as "30  2.51M  9  0  301 (+1)  10"
			if len(f) < 6 || f[0][0] < '0' || f[0][0] > '9' {
				continue
			}
			f = append(f[:5], f[len(f)-1]) // the first line has no growth
			for i, to := range []*int{&l.keys, nil, &l.clients, &l.blocked, &l.requests, &l.connections} {
				if to == nil {
					continue
				}
				if *to, err = strconv.Atoi(f[i]); err != nil {
					t.Fatalf("%v in %q", err, lines.Text())
				}
			}
			unit := map[byte]float64{'B': 1, 'K': 1 << 10, 'M': 1 << 20, 'G': 1 << 30}[f[1][len(f[1])-1]]
			number, err := strconv.ParseFloat(f[1][:len(f[1])-1], 64)
			if l.memory = number * unit; err != nil || unit == 0 {
				t.Fatalf("%v in %q", err, lines.Text())
			}
			return l
		}
		t.Fatal("redis-cli --stat has ended", lines.Err())
		return l
	}
}

// TestRedisCLIFigures: redis-cli --stat shows the keys and memory of all nodes, and keyway's own clients and commands:
// each command that was sent counts once. --bigkeys, --memkeys, --latency and its like work through keyway.
func TestRedisCLIFigures(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Layouts(nodes)["ring"]).Ready()
	c, port := k.Dial(), k.Addr[strings.LastIndex(k.Addr, ":")+1:]
	for i := range 300 {
		c.Expect("OK", "SET", fmt.Sprint("key:", i), strings.Repeat("v", 50))
	}
	var idle []*redistest.Client
	for range 5 {
		idle = append(idle, k.Dial())
		idle[len(idle)-1].Expect("PONG", "PING")
	}
	idle[0].Send("BLPOP", "nothing", "0")
	idle[0].Flush()
	redistest.Eventually(t, 20*time.Second, "a client is blocked", func() bool {
		return infoField(t, c, "clients", "blocked_clients") == 1
	})
	received := infoField(t, c, "stats", "total_connections_received")
	next := statLines(t, port)
	first := next()
	memory := 0
	for _, n := range nodes {
		memory += infoField(t, redistest.Dial(t, n.Addr), "memory", "used_memory")
	}
	if first.keys != 300 || first.clients != 7 || first.blocked != 1 || first.connections != received+1 ||
		math.Abs(first.memory-float64(memory)) > float64(memory)/4 {
		t.Errorf("%+v; %d connections before, %d bytes on the nodes", first, received, memory)
	}
	for i := range 500 {
		c.MustDo("GET", fmt.Sprint("key:", i))
	}
	for infos := 1; ; infos++ { // each line of redis-cli is a command, too
		l := next()
		if sent := l.requests - first.requests - infos; sent == 500 {
			break
		} else if sent > 500 {
			t.Fatalf("%d commands are shown, and 500 were sent", sent)
		}
	}
	for option, want := range map[string]string{
		"--bigkeys": "Sampled 300 keys in the keyspace!", "--memkeys": "Sampled 300 keys in the keyspace!",
		"--latency": " ", "--latency-history": "seconds range", "--latency-dist": "From 0 to 100%",
	} {
		out := startRedisCLI(t, port, option, "-i", "0.01")
		for text := ""; !strings.Contains(text, want); {
			if !out.Scan() || strings.Contains(out.Text(), "ERR") {
				t.Errorf("redis-cli %s: %s%s, %v", option, text, out.Text(), out.Err())
				break
			}
			text += out.Text() + "\n"
		}
	}
}

// TestInfoForTools: INFO has the fields that tools such as RedisInsight read, as numbers that are right for all nodes
// together: each key, hit and miss counts once, and what is keyway's own is that of keyway.
func TestInfoForTools(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	k := redistest.Serve(t, "threads: 2\n"+redistest.Layouts(nodes)["ring"]).Ready()
	db := redis.NewClient(&redis.Options{Addr: k.Addr, PoolSize: 1})
	t.Cleanup(func() { db.Close() })
	ctx := context.Background()
	before := infoOf(t, db)
	for i := range 100 {
		db.Set(ctx, fmt.Sprint("key:", i), "v", time.Duration(i%2)*time.Hour)
	}
	for i := range 150 {
		db.Get(ctx, fmt.Sprint("key:", i))
	}
	after := infoOf(t, db)
	for field, want := range map[string]float64{
		"Stats keyspace_hits": 100, "Stats keyspace_misses": 50, "Stats total_commands_processed": 251,
		"Clients connected_clients": 0, "Clients blocked_clients": 0, "Stats total_connections_received": 0,
		"Stats total_error_replies": 0, "Stats evicted_keys": 0, "Stats expired_keys": 0,
		"Stats rejected_connections": 0,
	} {
		if got := after[field] - before[field]; got != want {
			t.Errorf("%s grew by %v, not by %v", field, got, want)
		}
	}
	for field, sum := range map[string]bool{
		"Memory used_memory": true, "Memory used_memory_rss": true, "Memory total_system_memory": false,
		"Memory mem_fragmentation_ratio": false, "Stats instantaneous_ops_per_sec": false,
		"Stats instantaneous_input_kbps": false, "Stats instantaneous_output_kbps": false, "CPU used_cpu_sys": false,
		"CPU used_cpu_user": false, "Server uptime_in_seconds": false, "Server tcp_port": false,
		"Clients maxclients": false, "Memory maxmemory": false, "Replication connected_slaves": false,
	} {
		got, has := after[field]
		least, most := 0.0, 0.0
		for _, n := range nodes {
			node := redis.NewClient(&redis.Options{Addr: n.Addr})
			defer node.Close()
			value := infoOf(t, node)[field]
			least, most = least+value/2, most+2*value
		}
		if !has || sum && (got < least || got > most) {
			t.Errorf("%s is %v, and the nodes' sum is about %v", field, got, most/2)
		}
	}
	all, err := db.InfoMap(ctx, "keyspace", "replication", "commandstats", "server").Result()
	keyspace := all["Keyspace"]["db0"]
	if err != nil || !strings.HasPrefix(keyspace, "keys=100,expires=50,") || all["Replication"]["role"] != "master" ||
		!strings.Contains(all["Commandstats"]["cmdstat_get"], "calls=150,") || all["Server"]["redis_version"] == "" {
		t.Errorf("%v: %v", err, all)
	}
}

// infoOf returns the numbers in INFO, by section and name.
func infoOf(t *testing.T, db *redis.Client) map[string]float64 {
	t.Helper()
	all, err := db.InfoMap(context.Background()).Result()
	if err != nil {
		t.Fatal(err)
	}
	numbers := map[string]float64{}
	for section, fields := range all {
		for name, value := range fields {
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				numbers[section+" "+name] = n
			}
		}
	}
	return numbers
}
