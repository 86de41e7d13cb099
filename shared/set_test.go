package shared

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
)

// receiver counts the replies to its requests.
type receiver struct{ replies, failures int }

func (r *receiver) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if p.Last {
		r.replies++
	}
}

func (r *receiver) Failed(*pool.Conn, []byte, pool.Failure) { r.failures++ }

// fixture makes connections to one node.
type fixture struct{ pool *pool.Set }

func newFixture() fixture {
	config := pool.Config{ConnectTimeout: time.Second, RequestTimeout: time.Minute}
	return fixture{pool.NewSet(config, rand.New(rand.NewPCG(1, 2)))}
}

func (f fixture) conn(m pool.Mode) *pool.Conn {
	c := f.pool.Conn("10.0.0.1:6379", nil)
	c.Mode = m
	return c
}

// greet brings a connection of the plain mode up.
func greet(t *testing.T, c *pool.Conn) *pool.Conn {
	t.Helper()
	c.Open(0)
	c.Connected(0)
	said := written(c)
	_, nonce, _ := strings.Cut(said, "PING\r\n")
	if strings.Contains(said, "FUNCTION") {
		nonce = "*0\r\n" + nonce
	}
	if c.Received([]byte(nonce), 0); c.State() != pool.Ready {
		t.Fatalf("the connection is %v: %s", c.State(), c.Reason())
	}
	return c
}

func written(c *pool.Conn) (all string) {
	for b := c.NextWrite(); len(b) > 0; b = c.NextWrite() {
		all += string(b)
		c.Wrote(len(b), 0)
	}
	return all
}

// send sends a request and lets it leave.
func send(c *pool.Conn, to pool.Receiver) {
	c.Send(to, []byte("*1\r\n$6\r\nDBSIZE\r\n"), 0, 0)
	written(c)
}

func TestFind(t *testing.T) {
	f := newFixture()
	alice, bob := new(pool.Account), new(pool.Account)
	modes := []pool.Mode{{}, {DB: 3}, {RESP3: true}, {NoTouch: true}, {User: alice}, {User: bob}, {User: bob, DB: 3}}
	var s Set
	for _, m := range modes {
		s.Conns = append(s.Conns, f.conn(m), f.conn(m))
	}
	for i, m := range modes {
		for hint := range 20 {
			if at := s.Find(m, 2, hint); at != 2*i {
				t.Errorf("mode %d, looked for at %d first, was found at %d", i, hint, at)
			}
		}
	}
	if at := s.Find(pool.Mode{User: alice, DB: 3}, 2, 8); at != -1 {
		t.Errorf("a mode without connections was found at %d", at)
	}
	removed := s.Remove(pool.Mode{RESP3: true})
	if len(removed) != 2 || len(s.Conns) != 12 || s.Find(pool.Mode{RESP3: true}, 2, 0) != -1 {
		t.Error("a mode that was removed is still there")
	}
}

func TestReplacedConnectionAnswersAndEnds(t *testing.T) {
	f := newFixture()
	old, fresh := greet(t, f.conn(pool.Mode{})), f.conn(pool.Mode{})
	s := Set{Conns: []*pool.Conn{old}}
	before := s.Conns
	var to receiver
	send(old, &to)
	if s.Replace(0, fresh); s.Conns[0] != fresh || !slices.Equal(s.Retired, []*pool.Conn{old}) || before[0] != old {
		t.Fatal("the connection has not retired, or a loop over the former ones is disturbed")
	}
	if !s.IsUp() || s.InFlight() != 0 || s.Memory() == 0 {
		t.Error("a retired connection does not count as it should")
	}
	slow := 0
	onSlow := func(*pool.Conn) { slow++ }
	if ended := s.Tick(1, time.Second, onSlow); len(ended) > 0 || len(s.Retired) != 1 {
		t.Fatal("a connection ends before its reply has come")
	}
	old.Received([]byte("$500000\r\n"+strings.Repeat("x", 400000)), 10)
	if s.Tick(20, 5, onSlow); slow != 1 {
		t.Error("a reply that takes long was not noticed")
	}
	old.Received([]byte(strings.Repeat("x", 100000)+"\r\n"), 30)
	ended := s.Tick(40, 5, onSlow)
	if !slices.Equal(ended, []*pool.Conn{old}) || len(s.Retired) > 0 || to.replies != 1 {
		t.Error("a connection without requests has not ended")
	}
	var count metrics.Node
	if s.Count(&count); count.State != "idle" || count.InFlight != 0 {
		t.Errorf("the state of the node is %q, with %d requests", count.State, count.InFlight)
	}
}

func TestRefusedReplacement(t *testing.T) {
	f := newFixture()
	old, fresh := greet(t, f.conn(pool.Mode{})), f.conn(pool.Mode{})
	s := Set{Conns: []*pool.Conn{old}}
	s.Replace(0, fresh)
	fresh.Open(0)
	if refused := s.Reinstate(1); len(refused) > 0 {
		t.Fatal("a connection that is being dialed was taken for refused")
	}
	fresh.Fail(1, "the node refuses")
	now := int64(time.Hour)
	refused := s.Reinstate(now)
	if !slices.Equal(refused, []*pool.Conn{fresh}) || s.Conns[0] != old || len(s.Retired) > 0 {
		t.Fatal("the retired connection was not put back")
	}
	if s.MayReplace(now+int64(time.Second)-1) || !s.MayReplace(now+int64(time.Second)) {
		t.Error("a node that has refused a connection is not spared for a second")
	}
}

func TestResize(t *testing.T) {
	f := newFixture()
	three := pool.Mode{DB: 3}
	s := Set{Conns: []*pool.Conn{greet(t, f.conn(pool.Mode{})), f.conn(three)}}
	first := s.Conns[0]
	s.Resize(1, 3, 0, f.conn)
	if len(s.Conns) != 6 || s.Conns[0] != first || s.Find(three, 3, 0) != 3 || len(s.Retired) > 0 {
		t.Fatal("there are not three connections for each mode")
	}
	if s.Conns[1].State() != pool.Dialing || s.Conns[4].State() != pool.Idle {
		t.Error("a connection is opened if, and only if, the first of its mode is")
	}
	if s.Resize(3, 2, 0, f.conn); len(s.Conns) != 4 || len(s.Retired) != 2 || s.Find(three, 2, 0) != 2 {
		t.Error("there are not two connections for each mode, and two surplus ones")
	}
}

func TestRetireUsers(t *testing.T) {
	f := newFixture()
	alice, bob := new(pool.Account), new(pool.Account)
	of := f.conn(pool.Mode{User: alice})
	s := Set{Conns: []*pool.Conn{f.conn(pool.Mode{}), of, f.conn(pool.Mode{User: bob})}}
	s.RetireUsers(map[*pool.Account]bool{alice: true})
	if len(s.Conns) != 2 || !slices.Equal(s.Retired, []*pool.Conn{of}) {
		t.Error("not just the connections of one user have retired")
	}
	var to receiver
	send(s.Conns[0], &to)
	if s.Close(0, "the test ends"); to.failures != 1 {
		t.Error("a request outlived its connection")
	}
}

func TestHasSelected(t *testing.T) {
	f := newFixture()
	s := Set{Conns: []*pool.Conn{greet(t, f.conn(pool.Mode{})), f.conn(pool.Mode{DB: 3})}}
	if !s.HasSelected(pool.Mode{NoTouch: true}) || s.HasSelected(pool.Mode{DB: 3}) {
		t.Error("only the ready connection has selected its database")
	}
	if s.WasUp() {
		t.Error("no connection has been lost")
	}
	if s.Conns[0].Fail(1, "lost"); !s.WasUp() || s.IsUp() {
		t.Error("the connection has been lost")
	}
}
