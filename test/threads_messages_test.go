package test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestThreadsWorkAlone: commands about keys cost no messages between threads, whatever their number. So threads share
// nothing that grows with the load. Only what concerns all clients asks the other threads.
func TestThreadsWorkAlone(t *testing.T) {
	t.Parallel()
	const threads, clients, pipelines, depth = 4, 20, 20, 100
	nodes := redistest.Three(t)
	adminAddr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	yaml := fmt.Sprintf("threads: %d\nadmin: %s\nlayout: ring\n", threads, adminAddr)
	k := redistest.ServeProcess(t, yaml+redistest.NodesYAML(nodes))
	messages := func() float64 { return messagesBetweenThreads(t, adminAddr) }
	var all []*redistest.Client
	run := func(pipelines int) { askAboutKeys(t, all, pipelines, depth) }
	for range clients {
		all = append(all, redistest.Dial(t, k.Addr))
	}
	run(1) // threads tell each other of new clients and scripts
	before := messages()
	run(pipelines)
	used := messages() - before
	const commands = clients * pipelines * depth
	t.Logf("%d commands, %.0f messages", commands, used)
	// Threads are asked for their figures each second.
	if used > commands/50 {
		t.Errorf("%d commands took %.0f messages to threads", commands, used)
	}
	before = messages()
	const asked = 50
	for range asked {
		all[0].Do("CLIENT", "LIST")
	}
	if used := messages() - before; used < asked*(threads-1) {
		t.Errorf("%d times CLIENT LIST took %.0f messages to %d threads", asked, used, threads)
	}
}

// messagesBetweenThreads returns how many messages all threads have got.
func messagesBetweenThreads(t *testing.T, adminAddr string) (sum float64) {
	t.Helper()
	_, text := fetch(t, "http://"+adminAddr+"/metrics")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "keyway_thread_messages_total{") {
			var n float64
			fmt.Sscan(line[strings.LastIndexByte(line, ' ')+1:], &n)
			sum += n
		}
	}
	return sum
}

// askAboutKeys sends pipelines of reads, writes, split commands and scripts over all connections.
func askAboutKeys(t *testing.T, all []*redistest.Client, pipelines, depth int) {
	t.Helper()
	for p := range pipelines {
		for i, c := range all {
			for n := range depth {
				key := fmt.Sprintf("key:%d:%d", i, (p*depth+n)%500)
				switch n % 4 {
				case 0:
					c.Send("SET", key, "value")
				case 1:
					c.Send("MGET", key, key+"a", key+"b")
				case 2:
					c.Send("EVAL", "return redis.call('get', KEYS[1])", "1", key)
				default:
					c.Send("GET", key)
				}
			}
			c.Flush()
		}
		for _, c := range all {
			for range depth {
				if r, err := c.Receive(); err != nil || r.Kind == '-' {
					t.Fatal(r, err)
				}
			}
		}
	}
}
