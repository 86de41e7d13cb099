package faults

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestFirstReadOfALargeValue: a client at 200 Mbit/s or less reads a value that keyway does not
// know to be large, and that is larger than the limit of unread output. It gets the value.
// Reads of other clients that were sent after it do not wait for that, and writes are
// answered.
func TestFirstReadOfALargeValue(t *testing.T) {
	t.Parallel()
	const limit = 16 << 20
	size := scale(64<<20, 400<<20)
	rate := min(200e6/8, size/8) // eight seconds at least, which others' reads do not take on a busy machine
	for name, c := range map[string]struct {
		limit  int
		behind [][]string
		wait   bool // for the large value
	}{
		"reads behind it": {
			limit,
			[][]string{{"GET", "small"}, {"GETRANGE", "big", "0", "7"}, {"MGET", "small", "none"}},
			false,
		},
		"a write behind it":    {size * 5 / 8, [][]string{{"SET", "small", "there"}, {"GET", "small"}}, true},
		"nothing is behind it": {limit, nil, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			node := redistest.Start(t)
			value := strings.Repeat("0123456789abcdef", size/16)
			node.Do("SET", "big", value)
			node.Do("SET", "small", "there")
			yaml := fmt.Sprintf("limits: {client_output: %d}\n", c.limit) + redistest.Ring(node.Addr)
			k := redistest.Serve(t, yaml).Ready()
			link := redistest.NewFaults(t, k.Addr, func(int) redistest.Plan { return redistest.Plan{Rate: rate} })
			slow := redistest.Dial(t, link.Addr)
			inFlight := func(n int) func() bool {
				return func() bool { return k.Snapshot()[0].Nodes[0].InFlight >= n }
			}
			node.Freeze()
			slow.Send("GET", "big")
			slow.Flush()
			redistest.Eventually(t, 10*time.Second, "the read is on its way", inFlight(1))
			var others []*redistest.Client
			for i, command := range c.behind {
				others = append(others, k.Dial())
				others[i].Send(command...)
				others[i].Flush()
				redistest.Eventually(t, 10*time.Second, "what is behind it too", inFlight(i+2))
			}
			node.Thaw()
			done := make(chan struct{})
			go func() {
				defer close(done)
				if r, err := slow.Receive(); err != nil || r.Text != value {
					t.Errorf("the slow client: %d bytes, %v", len(r.Text), err)
				}
			}()
			for i, command := range c.behind {
				if answeredAfter(t, others[i], done) && !c.wait {
					t.Errorf("%q has waited for the large value", command)
				}
			}
			<-done
		})
	}
}

// answeredAfter waits for a client's reply, which must not be an error, and reports whether
// done was closed before.
func answeredAfter(t *testing.T, c *redistest.Client, done <-chan struct{}) bool {
	t.Helper()
	if r, err := c.Receive(); err != nil || r.Kind == '-' {
		t.Errorf("%.100s, %v", r, err)
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}
