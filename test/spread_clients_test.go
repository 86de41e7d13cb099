package test

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestClientsSpreadEvenly: no thread has more than 1.2 times its share of the clients, however few they
// are and however fast they come, whether each thread has a socket of its own or all share one, with epoll and
// without, and after most of one have left.
func TestClientsSpreadEvenly(t *testing.T) {
	t.Parallel()
	const threads = 2
	node := redistest.Start(t)
	for _, way := range []string{"tcp", "unix", "tcp without epoll", "unix without epoll"} {
		t.Run(way, func(t *testing.T) {
			addr := "127.0.0.1:0"
			if strings.HasPrefix(way, "unix") {
				addr = "unix://" + filepath.Join(t.TempDir(), "s")
			}
			k := redistest.ServeWith(t, "listen: \""+addr+"\"\nthreads: 2\n"+redistest.Ring(node.Addr),
				server.Options{Streams: strings.HasSuffix(way, "without epoll")}).Ready()
			connected := map[*redistest.Client]int64{}
			connect := func(n int) {
				var added []*redistest.Client
				for range n {
					added = append(added, redistest.Dial(t, k.Addr))
				}
				for _, c := range added {
					connected[c] = c.MustDo("CLIENT", "ID").Int
				}
			}
			even := func() {
				t.Helper()
				of := map[int64]int{}
				for _, id := range connected {
					of[id%threads]++ // each thread gives its clients every other number
				}
				for thread, n := range of {
					if 10*threads*n > 12*len(connected) {
						t.Errorf("thread %d has %d of %d clients", thread, n, len(connected))
					}
				}
			}
			connect(50)
			even()
			for c, id := range connected {
				if id%threads == 0 && len(connected) > 30 {
					c.Close()
					delete(connected, c)
				}
			}
			for c := range connected {
				redistest.Eventually(t, 10*time.Second, "keyway knows that they have left", func() bool {
					return infoField(t, c, "clients", "connected_clients") == len(connected)
				})
				break
			}
			connect(20)
			even()
		})
	}
}
