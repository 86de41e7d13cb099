package faults

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tidwall/redcon"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// scripted is a member of a cluster that says what the test wants. It owns the
// slots from first to last and knows one other member.
type scripted struct {
	host        string
	port        int
	first, last int
	other       *scripted
	srv         *redcon.Server
	fetches     atomic.Int64 // times it was asked for the topology
	redirects   atomic.Int64
	tries       sync.Map // how often each key was asked for
}

// newScripted starts two members, on IPv4 and, with a name of its own, on IPv6.
func newScripted(t *testing.T) (a, b *scripted) {
	t.Helper()
	a = &scripted{host: "127.0.0.1", first: 0, last: 8191}
	b = &scripted{host: "127.0.0.1", first: 8192, last: 16383}
	if ln, err := net.Listen("tcp", "[::1]:0"); err == nil {
		ln.Close()
		b.host = "::1"
	}
	a.other, b.other = b, a
	for _, s := range []*scripted{a, b} {
		s.port = redistest.FreePort(t)
		s.srv = redcon.NewServer(net.JoinHostPort(s.host, strconv.Itoa(s.port)), s.answer, nil, nil)
		started := make(chan error, 1)
		go s.srv.ListenServeAndSignal(started)
		if err := <-started; err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.srv.Close() })
	}
	return a, b
}

func (s *scripted) slots() string {
	return fmt.Sprintf("*3\r\n:%d\r\n:%d\r\n*4\r\n$%d\r\n%s\r\n:%d\r\n$%d\r\n%s\r\n"+
		"*2\r\n$8\r\nhostname\r\n$9\r\nlocalhost\r\n",
		s.first, s.last, len(s.host), s.host, s.port, len("id-0000"), fmt.Sprintf("id-%04d", s.first))
}

// answer obeys the key: its first word is what the member that owns it says.
func (s *scripted) answer(conn redcon.Conn, cmd redcon.Command) {
	args := make([]string, len(cmd.Args))
	for i, a := range cmd.Args {
		args[i] = string(a)
	}
	asking := conn.Context() != nil
	conn.SetContext(nil)
	switch strings.ToUpper(args[0]) {
	case "PING":
		conn.WriteBulkString(args[len(args)-1])
	case "INFO":
		conn.WriteBulkString("redis_version:6.2.0\r\n")
	case "ASKING":
		conn.SetContext(true)
		conn.WriteString("OK")
	case "CLUSTER":
		switch strings.ToUpper(args[1]) {
		case "INFO":
			conn.WriteBulkString("cluster_state:ok\r\ncluster_current_epoch:1\r\n")
		case "SLOTS":
			s.fetches.Add(1)
			conn.WriteRaw([]byte("*2\r\n" + s.slots() + s.other.slots()))
		default: // SHARDS came with Redis 7
			conn.WriteError("ERR Unknown subcommand or wrong number of arguments for 'shards'. Try CLUSTER HELP.")
		}
	case "GET":
		s.get(conn, args[1], asking)
	default:
		conn.WriteError("ERR unknown command")
	}
}

func (s *scripted) get(conn redcon.Conn, key string, asking bool) {
	slot := keySlot(key)
	mine := int(slot) >= s.first && int(slot) <= s.last
	to := func(kind, host string) {
		s.redirects.Add(1)
		conn.WriteError(fmt.Sprintf("%s %d %s:%d", kind, slot, host, s.other.port))
	}
	n, _ := s.tries.LoadOrStore(key, new(atomic.Int64))
	try := n.(*atomic.Int64).Add(1)
	switch word, _, _ := strings.Cut(key, ":"); {
	case word == "circle":
		to("MOVED", s.other.host)
	case word == "ask" && mine:
		to("ASK", s.other.host)
	case word == "ask" && !asking:
		to("MOVED", s.other.host) // it is not to be had without ASKING
	case word == "moved" && mine:
		to("MOVED", s.other.host)
	case word == "empty" && mine:
		if s.other.host == s.host {
			to("MOVED", "")
		} else {
			to("MOVED", s.other.host) // an empty host is that of the node that answers
		}
	case word == "hostname" && mine:
		to("MOVED", "localhost")
	case word == "try" && try < 4:
		conn.WriteError("TRYAGAIN Multiple keys request during rehashing of slot")
	case word == "tryon":
		conn.WriteError("TRYAGAIN Multiple keys request during rehashing of slot")
	case word == "down" && try < 3:
		conn.WriteError("CLUSTERDOWN The cluster is down")
	case word == "unbound":
		conn.WriteError("CLUSTERDOWN Hash slot not served")
	default:
		conn.WriteBulkString("value of " + key)
	}
}

// TestEveryRedirectEnds: every way in which a cluster's node can send a client
// elsewhere or put it off ends in the value, or in Redis's last word within the
// deadline. The client never sees where it was sent.
func TestEveryRedirectEnds(t *testing.T) {
	t.Parallel()
	a, _ := newScripted(t)
	k := redistest.Serve(t, fmt.Sprintf("layout: slots\nslots: {seeds: [\"%s\"]}\nbackend: {request_timeout: 500ms}\n",
		net.JoinHostPort(a.host, strconv.Itoa(a.port)))).Ready()
	for _, c := range []struct{ word, want string }{
		{"plain", ""}, {"ask", ""}, {"moved", ""}, {"empty", ""}, {"hostname", ""}, {"try", ""}, {"down", ""},
		{"circle", "CLUSTERDOWN keyway: the cluster's nodes redirect in a circle"},
		{"tryon", "TRYAGAIN Multiple keys request during rehashing of slot"},
		{"unbound", "CLUSTERDOWN Hash slot not served"},
	} {
		conn := k.Dial()
		for i := range 20 {
			key := fmt.Sprintf("%s:%d", c.word, i)
			began := time.Now()
			r := conn.Do("GET", key)
			switch {
			case c.want == "" && r.Text != "value of "+key:
				t.Errorf("%s: %s", key, r)
			case c.want != "" && !strings.HasPrefix(r.Text, c.want):
				t.Errorf("%s: %s, want %s", key, r, c.want)
			case time.Since(began) > 3*time.Second:
				t.Errorf("%s was answered after %s", key, time.Since(began))
			}
			if c.want != "" && i > 3 {
				break // each takes its whole time
			}
		}
		conn.Close()
	}
}

// TestStormOfRedirects: members that redirect every command to each other, thousands of
// times a second. Each command ends after five hops, and the topology is asked
// for twice a second at most.
func TestStormOfRedirects(t *testing.T) {
	a, b := newScripted(t)
	k := redistest.Serve(t, fmt.Sprintf("layout: slots\nslots: {seeds: [\"%s\"]}\n",
		net.JoinHostPort(a.host, strconv.Itoa(a.port)))).Ready()
	fetches, began := a.fetches.Load()+b.fetches.Load(), time.Now()
	var asked atomic.Int64
	var wg sync.WaitGroup
	for id := range 20 {
		conn := k.Dial()
		wg.Add(1)
		go func() {
			defer wg.Done()
			for time.Since(began) < time.Duration(scale(4, 20))*time.Second {
				for i := range 16 {
					conn.Send("GET", fmt.Sprintf("circle:%d:%d", id, i))
				}
				conn.Flush()
				for range 16 {
					r, err := conn.Receive()
					asked.Add(1)
					if err != nil || !strings.HasPrefix(r.Text, "CLUSTERDOWN keyway: ") {
						t.Errorf("%s %v", r, err)
						return
					}
				}
			}
		}()
	}
	wg.Wait()
	elapsed := time.Since(began)
	fetched, redirected := a.fetches.Load()+b.fetches.Load()-fetches, a.redirects.Load()+b.redirects.Load()
	t.Logf("%d commands in %s: %d redirects, %d topology fetches of two nodes each",
		asked.Load(), elapsed.Round(time.Millisecond), redirected, fetched/2)
	if redirected > 6*asked.Load() || redirected < asked.Load() {
		t.Errorf("%d redirects for %d commands", redirected, asked.Load())
	}
	if limit := 2*2*int64(elapsed/time.Second+1) + 4; fetched > limit {
		t.Errorf("the topology was asked for %d times in %s", fetched, elapsed)
	}
}
