package proxy

import (
	"fmt"
	"testing"

	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/slots"
)

// releaseOfRedisPy is the SHA-1 of the script by which redis-py releases a lock.
const releaseOfRedisPy = "c3f8721cbb97f72bc19e972846bd7aaf91901658"

// lockTraffic is a pipeline of 20 commands: three locks are acquired and released, and 14 keys
// are read.
func lockTraffic() (in, fromA, fromB []byte) {
	send := func(key, reply string, args ...string) {
		in = append(in, cmd(args...)...)
		if slots.Of([]byte(key)) < 8192 {
			fromA = append(fromA, reply...)
		} else {
			fromB = append(fromB, reply...)
		}
	}
	for i := range 20 {
		key := fmt.Sprintf("key:%012d", i)
		lock, token := fmt.Sprintf("lock:order:%06d", i%10/3), fmt.Sprintf("%032x", i%10)
		switch {
		case i < 10 && i%3 == 1:
			send(lock, "+OK\r\n", "SET", lock, token, "NX", "PX", "30000")
		case i >= 10 && i%10%3 == 1:
			send(lock, ":1\r\n", "EVALSHA", releaseOfRedisPy, "1", lock, token)
		default:
			send(key, "$64\r\n"+fmt.Sprintf("%064d", i)+"\r\n", "GET", key)
		}
	}
	return in, fromA, fromB
}

// TestLocksAllocateNothing: neither do commands on locks allocate memory, nor does watching them.
func TestLocksAllocateNothing(t *testing.T) {
	in, fromA, fromB := lockTraffic()
	for _, observe := range []bool{false, true} {
		r := newRig(t, Options{WatchLocks: locks.Options{Observe: observe}})
		turn := func() {
			r.turn(in, func() {
				r.shared(0).Received(fromA, r.now)
				r.shared(1).Received(fromB, r.now)
			})
		}
		for range 10 {
			turn()
		}
		if n := testing.AllocsPerRun(200, turn); n > 0 {
			t.Errorf("%v allocations for 20 commands, 6 of them on locks; observe: %t", n, observe)
		}
	}
}

// BenchmarkWatchedLocks has 30 % of lock commands among reads. What observation costs is the
// difference between the two; docs/operations.md has it under load.
func BenchmarkWatchedLocks(b *testing.B) {
	in, fromA, fromB := lockTraffic()
	for _, observe := range []bool{false, true} {
		b.Run(fmt.Sprintf("observe=%t", observe), func(b *testing.B) {
			r := newRig(b, Options{WatchLocks: locks.Options{Observe: observe}})
			b.ReportAllocs()
			for b.Loop() {
				r.turn(in, func() {
					r.shared(0).Received(fromA, r.now)
					r.shared(1).Received(fromB, r.now)
				})
			}
		})
	}
}
