package server

import (
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// TestTickUnderLoad: time acts though a turn follows a turn, each sooner than the
// tick that it asks for: a command whose slot has no owner is answered in its time.
func TestTickUnderLoad(t *testing.T) {
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true}}, [][]slots.Range{nil})
	if err != nil {
		t.Fatal(err)
	}
	const timeout = 200 * time.Millisecond
	th := &thread{
		worker: proxy.New(proxy.Options{Backend: pool.Config{ConnectTimeout: timeout, RequestTimeout: timeout}}, router.NewSlots(m)),
		turns:  -1000, // nothing leaves: there are no sockets
	}
	now := time.Hour
	th.BeginTurn(now, time.Now())
	s := th.worker.Open(nil, "peer:1", "keyway:1")
	th.worker.Feed(s, []byte("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"))
	th.EndTurn()
	for range 2 * timeout / time.Millisecond {
		now += time.Millisecond
		th.BeginTurn(now, time.Now())
		th.EndTurn()
	}
	if got := string(s.Output()); got != "-CLUSTERDOWN Hash slot not served\r\n" {
		t.Errorf("the client got %q", got)
	}
}
