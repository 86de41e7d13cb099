package proxy

import (
	"fmt"
	"testing"

	"github.com/keyway-proxy/keyway/clients"
)

// BenchmarkClientRows looks for the first 100 of 10,000 clients of a thread, in the worst order: each comes before
// those that were looked at earlier. The thread does nothing else meanwhile.
func BenchmarkClientRows(b *testing.B) {
	r := newRig(b, Options{})
	for i := range 10_000 {
		r.w.Open(nil, fmt.Sprint("127.0.0.1:", i), "keyway:1")
	}
	for b.Loop() {
		if n := len(ClientRows(r.w, clients.Query{Sort: "id", Count: 100})); n != 100 {
			b.Fatal(n)
		}
	}
}
