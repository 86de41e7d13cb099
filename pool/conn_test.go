package pool

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// asker writes down what becomes of its requests.
type asker struct {
	name string
	log  *[]string
	part string
}

func (a *asker) Reply(_ *Conn, frame []byte, p Piece) {
	a.part += string(p.Bytes)
	if p.Last {
		*a.log = append(*a.log, fmt.Sprintf("%s: %q", a.name, a.part))
	}
}

func (a *asker) Failed(_ *Conn, _ []byte, f Failure) {
	*a.log = append(*a.log,
		fmt.Sprintf("%s failed: sent %v, midway %v, timeout %v", a.name, f.Sent, f.Midway, f.Timeout))
}

// bench is a connection and a clock.
type bench struct {
	t   *testing.T
	set *Set
	c   *Conn
	now int64
	log []string
}

func newBench(t *testing.T, cfg Config) *bench {
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = time.Second
	}
	if cfg.RequestTimeout == 0 {
		cfg.RequestTimeout = 2 * time.Second
	}
	b := &bench{t: t, set: NewSet(cfg, rand.New(rand.NewPCG(1, 2))), now: int64(time.Hour)}
	b.c = b.set.Conn("10.0.0.1:6379", nil)
	return b
}

func (b *bench) pass(d time.Duration) { b.now += int64(d); b.c.Tick(b.now) }

// written takes n bytes that the connection wants to write, all of them for -1.
func (b *bench) written(n int) string {
	out := ""
	for n != 0 {
		w := b.c.NextWrite()
		if len(w) == 0 {
			break
		}
		if n > 0 {
			w = w[:min(n, len(w))]
			n -= len(w)
		}
		out += string(w)
		b.c.Wrote(len(w), b.now)
	}
	return out
}

// ready brings the connection up.
func (b *bench) ready() *bench {
	b.c.Open(b.now)
	b.c.Connected(b.now)
	b.c.Received([]byte(greetingReply(b.written(-1))), b.now)
	if b.c.State() != Ready {
		b.t.Fatalf("the connection is %s: %s", b.c.State(), b.c.Reason())
	}
	return b
}

func (b *bench) send(name string) {
	b.c.Send(&asker{name: name, log: &b.log}, []byte("<"+name+">"), b.now, b.now+int64(2*time.Second))
}

func (b *bench) expect(want ...string) {
	b.t.Helper()
	if got := strings.Join(b.log, "; "); got != strings.Join(want, "; ") {
		b.t.Errorf("\n got %s\nwant %s", got, strings.Join(want, "; "))
	}
	b.log = nil
}

func TestRepliesInOrder(t *testing.T) {
	b := newBench(t, Config{}).ready()
	b.send("a")
	b.send("b")
	b.send("c")
	if got := b.written(-1); got != "<a><b><c>" {
		t.Errorf("written: %q", got)
	}
	b.c.Received([]byte("+A\r\n$1\r"), b.now)
	b.expect(`a: "+A\r\n"`)
	b.c.Received([]byte("\nB\r\n*2\r\n:1\r\n:2\r\n"), b.now)
	b.expect(`b: "$1\r\nB\r\n"`, `c: "*2\r\n:1\r\n:2\r\n"`)
	if b.c.InFlight() != 0 || b.c.InFlightBytes() != 0 {
		t.Errorf("%d in flight, %d bytes held", b.c.InFlight(), b.c.InFlightBytes())
	}
}

// Requests wait for the greeting; AUTH comes first and alone (redis #15640).
func TestRequestsWaitForTheGreeting(t *testing.T) {
	b := newBench(t, Config{Account: Account{Username: "app", Password: "pw"}})
	b.send("a")
	if b.c.Duty() != Dial {
		t.Error("nothing was dialed")
	}
	b.c.Connected(b.now)
	if got := b.written(-1); got != string(resp.AppendCommand(nil, "AUTH", "app", "pw")) {
		t.Errorf("first: %q", got)
	}
	b.c.Received([]byte("+OK\r\n"), b.now)
	if got := b.written(-1); !strings.HasPrefix(got, askRegister+"*2\r\n$4\r\nPING\r\n") {
		t.Errorf("then: %q", got)
	}
	b.c.Received([]byte(noRegister+"$8\r\nkeyway-1\r\n"), b.now)
	if got := b.written(-1); got != "<a>" {
		t.Errorf("at last: %q", got)
	}
}

func TestGreetingRefused(t *testing.T) {
	for name, speak := range map[string]func(b *bench){
		"error before any request": func(b *bench) {
			b.c.Received([]byte("-ERR max number of clients reached\r\n"), b.now)
		},
		"status before any request": func(b *bench) {
			b.c.Received([]byte("+OK\r\n"), b.now)
		},
		"wrong password": func(b *bench) {
			b.written(-1)
			b.c.Received([]byte("-WRONGPASS x\r\n"), b.now)
		},
		"wrong nonce": func(b *bench) {
			b.written(-1)
			b.c.Received([]byte(noRegister+"$8\r\nkeyway-9\r\n"), b.now)
		},
		"no register": func(b *bench) {
			b.written(-1)
			b.c.Received([]byte("$8\r\nkeyway-1\r\n"), b.now)
		},
		"a push": func(b *bench) {
			b.written(-1)
			b.c.Received([]byte(">1\r\n+x\r\n"), b.now)
		},
		"garbage": func(b *bench) {
			b.written(-1)
			b.c.Received([]byte("HTTP/1.1 400\r\n"), b.now)
		},
		"silence": func(b *bench) {
			b.written(-1)
			b.pass(2 * time.Second)
		},
		"closed again and again": func(b *bench) {
			b.c.dialing.failures = 6
			b.c.Fail(b.now, "EOF")
		},
	} {
		b := newBench(t, Config{})
		b.send("a")
		b.c.Duty()
		b.c.Connected(b.now)
		speak(b)
		b.expect("a failed: sent false, midway false, timeout false")
		if b.c.State() != Down || b.c.Duty() != Hangup || b.c.ConnectError() == "" {
			t.Errorf("%s: the connection is %s", name, b.c.State())
		}
	}
}

// TestGreetingAsksForTheRole: where sentinels rule, a node that was a master in their last
// report may be a replica by now.
func TestGreetingAsksForTheRole(t *testing.T) {
	for role, ready := range map[string]bool{
		"*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n":                              true,
		"*5\r\n$5\r\nslave\r\n$1\r\na\r\n:1\r\n$9\r\nconnected\r\n:5\r\n": false,
		"*2\r\n$8\r\nsentinel\r\n*0\r\n":                                  false,
		"+master\r\n":                                                     false,
		"-NOPERM no\r\n":                                                  false,
	} {
		b := newBench(t, Config{})
		b.c.Master = true
		b.send("a")
		b.c.Connected(b.now)
		if got := b.written(-1); got != "*1\r\n$4\r\nROLE\r\n" {
			t.Fatalf("greeted with %q", got)
		}
		b.c.Received([]byte(role), b.now)
		if ping := b.written(-1); ping != "" {
			b.c.Received([]byte(greetingReply(ping)), b.now)
		}
		if got := b.c.State() == Ready; got != ready {
			t.Errorf("%q: the connection is %s (%s)", role, b.c.State(), b.c.Reason())
		}
	}
}

// A request that was written may have been executed; one that was not cannot have been.
func TestLossTellsWhatWasSent(t *testing.T) {
	b := newBench(t, Config{}).ready()
	for _, n := range []string{"a", "b", "c", "d"} {
		b.send(n)
	}
	b.written(len("<a><b><"))
	b.c.Received([]byte("+A\r\n"), b.now)
	b.log = nil
	b.c.Fail(b.now, "reset")
	b.expect("b failed: sent true, midway false, timeout false", "c failed: sent true, midway false, timeout false",
		"d failed: sent false, midway false, timeout false")
}

func TestUnaskedRepliesEndTheConnection(t *testing.T) {
	for name, speak := range map[string]func(b *bench){
		"a reply nobody waits for": func(b *bench) {
			b.c.Received([]byte("+x\r\n"), b.now)
		},
		"one reply too many": func(b *bench) {
			b.send("a")
			b.written(-1)
			b.c.Received([]byte("+A\r\n+x\r\n"), b.now)
			b.log = nil
		},
		"a reply to what is not written yet": func(b *bench) {
			b.send("a")
			b.c.Received([]byte("+A\r\n"), b.now)
			b.expect("a failed: sent false, midway false, timeout false")
		},
		"a reply to what is not written yet, behind another's": func(b *bench) {
			b.send("a")
			b.send("b")
			b.written(3)
			b.c.Received([]byte("+A\r\n+B\r\n"), b.now)
			b.expect(`a: "+A\r\n"`, "b failed: sent false, midway false, timeout false")
		},
		"no register": func(b *bench) {
			b.written(-1)
			b.c.Received([]byte("$8\r\nkeyway-1\r\n"), b.now)
		},
		"a push": func(b *bench) {
			b.send("a")
			b.written(-1)
			b.c.Received([]byte(">1\r\n+x\r\n"), b.now)
			b.log = nil
		},
		"garbage": func(b *bench) {
			b.send("a")
			b.written(-1)
			b.c.Received([]byte("?\r\n"), b.now)
			b.log = nil
		},
	} {
		b := newBench(t, Config{}).ready()
		speak(b)
		if b.c.State() == Ready || b.c.Stats.Violations != 1 || len(b.log) != 0 {
			t.Errorf("%s: %s, %+v, %v", name, b.c.State(), b.c.Stats, b.log)
		}
	}
}

// A large reply is passed on in pieces; when the node dies inside it, that is
// told.
func TestLargeReplyInPieces(t *testing.T) {
	b := newBench(t, Config{}).ready()
	b.send("a")
	b.send("b")
	b.written(-1)
	big := "$100000\r\n" + strings.Repeat("x", 100000) + "\r\n"
	for i := 0; i < len(big); i += 1000 {
		b.c.Received([]byte(big[i:min(i+1000, len(big))]), b.now)
		if n := cap(b.c.input.part); n > 4*maxBufferedReply {
			t.Fatalf("%d bytes are held back", n)
		}
	}
	if len(b.log) != 1 || len(b.log[0]) < 100000 {
		t.Fatalf("%.100q", b.log)
	}
	b.log = nil
	b.c.Received([]byte(big[:50000]), b.now)
	b.c.Fail(b.now, "EOF")
	b.expect("b failed: sent true, midway true, timeout false")
}

// Reconnects back off with jitter, up to two seconds; meanwhile requests would
// fail at once.
func TestBackoff(t *testing.T) {
	b := newBench(t, Config{})
	b.c.Open(b.now)
	dials, began := 0, b.now
	for b.now-began < int64(60*time.Second) {
		if b.c.Duty() == Dial {
			dials++
			b.c.Fail(b.now, "connection refused")
			if b.c.ConnectError() == "" {
				t.Fatal("requests would wait for a node that is down")
			}
		}
		b.pass(10 * time.Millisecond)
	}
	if dials < 30 || dials > 70 {
		t.Errorf("%d dials in a minute", dials)
	}
}

// Frames are kept until their replies have come, so that a redirect can send
// them again, and given back then.
func TestFramesLiveUntilAnswered(t *testing.T) {
	b := newBench(t, Config{}).ready()
	frames := map[string]string{}
	r := &keeper{frames: frames}
	for i := range 3000 {
		b.c.Send(r, fmt.Appendf(nil, "<%d %s>", i, strings.Repeat("y", i%200)), b.now, 0)
	}
	b.written(-1)
	for i := range 3000 {
		b.c.Received(fmt.Appendf(nil, ":%d\r\n", i), b.now)
	}
	for i := range 3000 {
		if want := fmt.Sprintf("<%d %s>", i, strings.Repeat("y", i%200)); frames[fmt.Sprintf(":%d\r\n", i)] != want {
			t.Fatalf("the frame of reply %d is %.40q", i, frames[fmt.Sprintf(":%d\r\n", i)])
		}
	}
	if b.c.InFlightBytes() != 0 || len(b.c.queue.chunks) != 0 {
		t.Errorf("%d bytes and %d chunks are still held", b.c.InFlightBytes(), len(b.c.queue.chunks))
	}
}

type keeper struct{ frames map[string]string }

func (k *keeper) Reply(_ *Conn, frame []byte, p Piece)    { k.frames[string(p.Bytes)] = string(frame) }
func (k *keeper) Failed(_ *Conn, frame []byte, f Failure) {}

type sink struct{}

func (sink) Reply(*Conn, []byte, Piece)    {}
func (sink) Failed(*Conn, []byte, Failure) {}

func TestSendAllocatesNothing(t *testing.T) {
	b := newBench(t, Config{}).ready()
	frame := []byte("*2\r\n$3\r\nGET\r\n$1\r\na\r\n")
	reply := []byte("$5\r\nhello\r\n")
	into := make([]*Link, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		for range 16 {
			b.c.Send(sink{}, frame, b.now, b.now+int64(time.Second))
		}
		for w := b.c.NextWrite(); len(w) > 0; w = b.c.NextWrite() {
			b.c.Wrote(len(w), b.now)
		}
		for range 16 {
			b.c.Received(reply, b.now)
		}
		into = b.set.Take(into[:0])
	}); n > 0 {
		t.Errorf("%v allocations for 16 requests", n)
	}
}

// A node that cannot save answers PING with MISCONF and serves reads.
func TestNodeThatCannotSaveIsServed(t *testing.T) {
	b := newBench(t, Config{})
	b.c.Open(b.now)
	b.c.Connected(b.now)
	b.written(-1)
	b.c.Received([]byte(noRegister+"-MISCONF Redis is configured to save RDB snapshots, but\r\n"), b.now)
	if b.c.State() != Ready {
		t.Errorf("the connection is %s: %s", b.c.State(), b.c.Reason())
	}
}

// A node that is busy with a script serves what ends the script, over a connection for that. It
// is dialed often, since the script
// may end at any time.
func TestBusyNodeTakesWhatEndsTheScript(t *testing.T) {
	const busy = "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.\r\n"
	for name, c := range map[string]struct {
		prepare func(c *Conn)
		want    State
	}{
		"for that": {func(c *Conn) { c.WhileBusy = true }, Ready},
		"plain":    {func(*Conn) {}, Ready},
		"user":     {func(c *Conn) { c.User = &Account{Username: "u"} }, Down},
		"database": {func(c *Conn) { c.DB = 1 }, Down},
		"master":   {func(c *Conn) { c.Master = true }, Down},
		"tracking": {func(c *Conn) { c.Pushes = noPushes{} }, Down},
		"feed":     {nil, Down},
	} {
		b := newBench(t, Config{})
		l, tick := &b.c.Link, b.c.Tick
		if c.prepare != nil {
			c.prepare(b.c)
		} else {
			f := b.set.Feed("10.0.0.1:6379", nil, new(messages))
			l, tick = &f.Link, f.Tick
		}
		l.Open(b.now)
		for range 10 {
			l.Connected(b.now)
			l.Wrote(len(l.NextWrite()), b.now)
			l.Received([]byte(busy), b.now)
			if name == "plain" {
				l.Received([]byte(busy), b.now)
			}
			if l.State() != c.want {
				t.Fatalf("%s: the link is %s: %s", name, l.State(), l.Reason())
			}
			if c.want == Ready {
				break
			}
			if got := "-" + l.ConnectError() + "\r\n"; got != busy {
				t.Errorf("%s: requests are refused with %q", name, got)
			}
			b.now += int64(backoffMin)
			if tick(b.now); l.State() != Dialing {
				t.Fatalf("%s: the link is %s after the shortest back-off", name, l.State())
			}
		}
	}
}

type noPushes struct{}

func (noPushes) Pushed(*Conn, []byte) {}
func (noPushes) Ready(*Conn)          {}
func (noPushes) Lost(*Conn)           {}

// A node that is made a master is tried at once, whatever its back-off says.
func TestNewMasterIsDialedAtOnce(t *testing.T) {
	b := newBench(t, Config{})
	b.c.Open(b.now)
	b.c.Fail(b.now, "connection refused")
	if b.c.ConnectError() == "" || b.c.State() != Down {
		t.Fatalf("%s: %q", b.c.State(), b.c.ConnectError())
	}
	b.c.RetryNow(b.now)
	if b.c.ConnectError() != "" || b.c.State() != Dialing {
		t.Errorf("%s: %q", b.c.State(), b.c.ConnectError())
	}
	b.ready()
}

// A connection that fails with much unwritten gives each of its buffers back
// once: those who send next do not share one.
func TestBuffersOfAFailedConnection(t *testing.T) {
	b := newBench(t, Config{}).ready()
	for range 400 {
		b.send(strings.Repeat("x", 1000)) // some six buffers
	}
	b.c.Fail(b.now, "reset")
	var sent [16]string
	var conns [len(sent)]*Conn
	for i := range conns {
		conns[i] = b.c.set.Conn("other", nil)
		conns[i].Open(b.now)
		sent[i] = fmt.Sprintf("<%d>", i)
		conns[i].Send(&asker{log: new([]string)}, []byte(sent[i]), b.now, 0)
	}
	for i, c := range conns {
		c.Connected(b.now)
		ping := string(c.NextWrite())
		c.Wrote(len(ping), b.now)
		c.Received([]byte(greetingReply(ping)), b.now)
		if got := string(c.NextWrite()); got != sent[i] {
			t.Errorf("connection %d writes %q", i, got)
		}
	}
}

// Nothing comes between the frames of a block, not even an integrity check.
func TestBlockStaysTogether(t *testing.T) {
	b := newBench(t, Config{}).ready()
	b.c.CheckEvery = 1
	each, last := &asker{name: "each", log: &b.log}, &asker{name: "last", log: &b.log}
	b.c.SendBlock(each, last, []byte("<1><2><3>"), []int{3, 6, 9}, b.now, b.now+int64(time.Second))
	if got := b.written(-1); !strings.HasPrefix(got, "<1><2><3>*2\r\n$4\r\nPING") {
		t.Errorf("written: %q", got)
	}
	b.c.Received([]byte("+A\r\n+B\r\n+C\r\n"), b.now)
	if len(b.log) != 3 || !strings.HasPrefix(b.log[2], "last: ") {
		t.Errorf("%q", b.log)
	}
}

// TestRefusedPasswordIsRenewed: while a password that is renewed is refused, requests wait for the
// next attempts, and fail when too many were in vain. Other passwords fail them at once.
func TestRefusedPasswordIsRenewed(t *testing.T) {
	refused := func(b *bench) {
		b.c.Duty()
		b.c.Connected(b.now)
		b.written(-1)
		b.c.Received([]byte("-WRONGPASS invalid username-password pair or user is disabled.\r\n"), b.now)
		if !PasswordRefused(&b.c.Link) || b.c.Duty() != Hangup {
			t.Error("nobody learns that the password was refused")
		}
	}
	b := newBench(t, Config{Account: Account{Password: "old"}})
	b.send("a")
	refused(b)
	if b.c.InFlight() != 0 || b.c.ConnectError() == "" {
		t.Error("the request waits for the same password")
	}

	b = newBench(t, Config{Account: Account{Password: "old", Renewed: true}})
	b.send("a")
	refused(b)
	b.send("b")
	if b.c.InFlight() != 2 || b.c.ConnectError() != "" {
		t.Fatal("the requests do not wait")
	}
	b.c.set.Account.Password = "new"
	b.c.RetryNow(b.now)
	b.c.Connected(b.now)
	if got := b.written(-1); got != string(resp.AppendCommand(nil, "AUTH", "new")) {
		t.Errorf("%q", got)
	}

	b = newBench(t, Config{Account: Account{Password: "old", Renewed: true}})
	b.send("a")
	for attempts := 1; b.c.InFlight() > 0; attempts++ {
		if attempts > 20 {
			t.Fatal("the request waits for ever")
		}
		refused(b)
		b.now = b.c.dialing.retryAt
		b.c.Tick(b.now)
	}
	if b.c.ConnectError() == "" {
		t.Error("later requests wait too")
	}
}
