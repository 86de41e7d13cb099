package proxy

import (
	"fmt"
	"slices"
	"strings"
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
		of := NewClientSearch(clients.Query{Sort: "id", Count: 100})
		for of.Next(r.w) {
		}
		if n := len(of.Rows()); n != 100 {
			b.Fatal(n)
		}
	}
}

// TestClientListInPieces: CLIENT LIST of many clients takes several turns, in which others are served. It has each
// client once, but not one that leaves meanwhile.
func TestClientListInPieces(t *testing.T) {
	r := newRig(t, Options{})
	all := []*Session{r.s}
	for range 1000 {
		all = append(all, r.w.Open(nil, "peer:2", "keyway:1"))
	}
	r.w.Received(r.s, []byte(cmd("CLIENT", "LIST")))
	list, turns := "", 0
	for ; list == "" && turns < 100; turns++ {
		other := all[len(all)-2]
		r.w.Received(other, []byte(cmd("PING")))
		asks := slices.Clone(r.endTurn().Asks)
		r.w.Taken()
		for _, ask := range asks {
			ask.Do(r.w)
		}
		if got := string(other.Output()); got != "+PONG\r\n" {
			t.Fatalf("in turn %d another client got %q", turns, got)
		}
		other.Wrote(len("+PONG\r\n"))
		if turns == 0 {
			r.w.Gone(all[len(all)-1])
		}
		for out := r.s.Output(); len(out) > 0; out = r.s.Output() {
			list += string(out)
			r.s.Wrote(len(out))
		}
	}
	if turns < 3 {
		t.Errorf("it took %d turns", turns)
	}
	if n := strings.Count(list, "\n"); n != len(all)+1 { // the frame has two lines, and one client has left
		t.Errorf("it has %d lines", n)
	}
	for i, s := range all[:len(all)-1] {
		if n := strings.Count(list, fmt.Sprintf("id=%d ", s.ID())); n != 1 {
			t.Fatalf("client %d is listed %d times", i, n)
		}
	}
}
