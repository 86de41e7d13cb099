package pool

import (
	"testing"
	"time"
)

// BenchmarkRequests measures 16 requests and their replies, which arrive in one read.
func BenchmarkRequests(b *testing.B) {
	r := newBench(new(testing.T), Config{}).ready()
	frame := []byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n")
	var replies []byte
	for range 16 {
		replies = append(replies, "$5\r\nhello\r\n"...)
	}
	b.ReportAllocs()
	for b.Loop() {
		for range 16 {
			r.c.Send(sink{}, frame, r.now, r.now+int64(time.Second))
		}
		for w := r.c.NextWrite(); len(w) > 0; w = r.c.NextWrite() {
			r.c.Wrote(len(w), r.now)
		}
		r.c.Received(replies, r.now)
	}
}
