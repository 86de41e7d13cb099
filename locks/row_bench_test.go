package locks

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkRows is how long KEYWAY LOCKS stops two threads that keep 10,000 locks together: each of them
// for its rows, and one for joining them.
func BenchmarkRows(b *testing.B) {
	t := NewTable(Config{Size: MaxLocks, Patterns: []string{"lock:*"}})
	for i := range MaxLocks / 2 {
		key := fmt.Appendf(nil, "lock:order:%06d", i*7919%MaxLocks)
		t.Apply(&Event{At: int64(i) * int64(time.Microsecond), How: setNX, Outcome: Done, Key: key, hash: hashOf(key),
			Token: key, Lease: int64(time.Minute)})
	}
	part := Part{Rows: t.Rows(int64(time.Second), Query{})}
	b.Run("of one thread", func(b *testing.B) {
		for b.Loop() {
			t.Rows(int64(time.Second), Query{})
		}
	})
	for _, count := range []int{100, MaxLocks} {
		b.Run(fmt.Sprintf("join, count=%d", count), func(b *testing.B) {
			for b.Loop() {
				Join([]Part{part, part}, count)
			}
		})
	}
}
