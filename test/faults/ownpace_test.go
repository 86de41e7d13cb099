package faults

import (
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestSlowReadOnItsOwnConnection: a client at 200 Mbit/s reads a value that is larger than
// the limit of unread output, over a connection that no other client uses. So keyway reads
// it from the node no faster than the client does.
func TestSlowReadOnItsOwnConnection(t *testing.T) {
	t.Parallel()
	value := strings.Repeat("0123456789abcdef", scale(64<<20, 400<<20)/16)
	for name, commands := range map[string][][]string{
		"known to be large": {{"GET", "big"}},
		"watched":           {{"WATCH", "watched"}, {"GET", "big"}},
		"blocking":          {{"BLMOVE", "list", "other", "LEFT", "LEFT", "0"}},
	} {
		t.Run(name, func(t *testing.T) {
			node := redistest.Start(t)
			yaml := "layout: ring\nlimits: {client_output: 16mb}\n" + redistest.NodesYAML([]*redistest.Node{node})
			k := redistest.Serve(t, yaml).Ready()
			c := k.Dial()
			c.Expect("OK", "SET", "big", value)
			c.Expect("1", "RPUSH", "list", value)
			link := redistest.NewFaults(t, k.Addr, func(int) redistest.Plan { return redistest.Plan{Rate: 200e6 / 8} })
			slow := redistest.Dial(t, link.Addr)
			var reply string
			passed := make(chan error)
			go func() {
				for _, args := range commands {
					r, err := slow.TryDo(args...)
					if reply = r.Text; err != nil {
						passed <- fmt.Errorf("%q: %w", args, err)
						return
					}
				}
				passed <- nil
			}()
			most := 0
			for done := false; !done; {
				select {
				case err := <-passed:
					if done = true; err != nil || reply != value {
						t.Errorf("the slow client: %d bytes, %v", len(reply), err)
					}
				default:
					most = max(most, k.Snapshot()[0].OutputBytes)
				}
			}
			if most > 4<<20 {
				t.Errorf("keyway has held %d KiB for it", most>>10)
			}
		})
	}
}
