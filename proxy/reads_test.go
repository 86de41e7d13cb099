package proxy

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/slots"
)

const infoFrame = "*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n"

// TestOwnWritesAreBounded: what a client has written is known by few keys or many,
// never by more than a bound, and read from the master all the same.
func TestOwnWritesAreBounded(t *testing.T) {
	r := readRig(t, Options{Reads: PreferReplica, ReplicaReads: ReplicaReads{MaxLag: 10 * time.Second}}, false)
	for i := range 3 * 4096 {
		r.feed(cmd("SET", fmt.Sprint("{b}", i), "1"))
		r.sent(0)
		r.node(0, "+OK\r\n")
		r.got()
	}
	r.wants(0, cmd("GET", "{b}0"), "$1\r\n1\r\n")
	r.wants(0, cmd("GET", "{b}5000"), "$1\r\n1\r\n")
	r.inStep(0)
	r.wants(r.replica(), cmd("GET", "{b}0"), "$1\r\n1\r\n")
}

// TestReadsNearest: who answers fastest is read, be it the master.
func TestReadsNearest(t *testing.T) {
	r := readRig(t, Options{Reads: FromNearest, ReplicaReads: ReplicaReads{MaxLag: time.Second}}, false)
	answers := func(fast int) {
		for range 40 {
			r.look()
			for _, node := range []int{0, 2, 3} {
				r.sent(node)
			}
			order := append([]int{fast}, slices.DeleteFunc([]int{0, 2, 3}, func(n int) bool { return n == fast })...)
			for i, node := range order {
				r.now += int64(i) * int64(time.Millisecond)
				r.w.Turn(r.now, time.Unix(1, 0))
				info := "role:slave\r\nmaster_link_status:up\r\nmaster_replid:s\r\nslave_repl_offset:1000\r\n"
				if node == 0 {
					info = "role:master\r\nmaster_replid:s\r\nmaster_repl_offset:1000\r\n"
				}
				r.node(node, fmt.Sprintf("$%d\r\n%s\r\n", len(info), info))
			}
		}
	}
	for _, fast := range []int{0, 3, 2} {
		answers(fast)
		r.wants(fast, cmd("GET", onA), "$1\r\n1\r\n")
	}
}

// BenchmarkWrites: what it costs to remember which keys a client has written, which
// reads from replicas need.
func BenchmarkWrites(b *testing.B) {
	b.Run("masters", func(b *testing.B) { writes(b, newRig(b, Options{})) })
	b.Run("replicas", func(b *testing.B) { writes(b, readRig(b, Options{Reads: PreferReplica}, false)) })
}

// writes has 8,192 keys written, 16 at a time.
func writes(b *testing.B, r *rig) {
	const turns = 512
	var in [turns][]byte
	var replies [turns][2][]byte
	for i := range turns * 16 {
		key := fmt.Sprintf("key:%012d", i)
		in[i/16] = append(in[i/16], cmd("SET", key, strings.Repeat("v", 64))...)
		node := slots.Of([]byte(key)) / 8192
		replies[i/16][node] = append(replies[i/16][node], "+OK\r\n"...)
	}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		r.now += 16_000
		r.turn(in[n%turns], func() {
			for node, b := range replies[n%turns] {
				r.shared(node).Received(b, r.now)
			}
		})
	}
}
