package test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// successor matches the log line of a process whose successor is about to take the clients over.
var successor = regexp.MustCompile(`the new process can serve".* pid=(\d+)`)

// awaitSuccessor returns the id of the process that the last upgrade has started.
func (u *upgraded) awaitSuccessor(nth int) (pid int) {
	u.t.Helper()
	redistest.Eventually(u.t, 20*time.Second, "the new process can serve", func() bool {
		all := successor.FindAllStringSubmatch(u.Log(), -1)
		if len(all) >= nth {
			pid, _ = strconv.Atoi(all[nth-1][1])
		}
		return pid > 0
	})
	return pid
}

// listeners are four subscribers of a channel, one of which also gets its messages by a pattern, and
// a client that publishes.
type listeners struct {
	t           *testing.T
	subscribers []*redistest.Client
	publisher   *redistest.Client
}

func (u *upgraded) listeners() *listeners {
	l := &listeners{t: u.t, publisher: redistest.Dial(u.t, u.Addr)}
	for range 4 {
		s := redistest.Dial(u.t, u.Addr)
		s.MustDo("SUBSCRIBE", "news")
		l.subscribers = append(l.subscribers, s)
	}
	l.subscribers[0].MustDo("PSUBSCRIBE", "n?ws")
	return l
}

// publish publishes a message, which each subscriber must get next.
func (l *listeners) publish(text string) {
	l.t.Helper()
	l.publisher.Expect("5", "PUBLISH", "news", text)
	for i, s := range append(l.subscribers, l.subscribers[0]) {
		if m, err := s.Receive(); err != nil || m.Elems[len(m.Elems)-1].Text != text {
			l.t.Fatalf("subscriber %d gets %s, %v instead of %q", i, m, err, text)
		}
	}
}

// TestUpgradeFailsBeforeTheNewProcessServes: a new process that is killed, or stops to answer, while it
// takes the subscribers over has done nothing that anybody notices. The old one goes on with every
// client and every subscription.
func TestUpgradeFailsBeforeTheNewProcessServes(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	u := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"]+"threads: 1\n")
	l := u.listeners()
	l.publish("before")
	for n, kill := range []bool{true, false} {
		// The subscribers wait for one that is in a transaction, so that the test can stop the new process.
		busy := redistest.Dial(t, u.Addr)
		busy.MustDo("HELLO", "3")
		id := busy.MustDo("CLIENT", "ID").String()
		busy.MustDo("SUBSCRIBE", "other")
		busy.Expect("OK", "MULTI")
		ended := make(chan string)
		go func() {
			printed, err := u.Begin()
			ended <- fmt.Sprint(printed, err)
		}()
		pid := u.awaitSuccessor(n + 1)
		_ = syscall.Kill(pid, syscall.SIGSTOP)
		redistest.Eventually(t, 20*time.Second, "the subscribers are on their way", func() bool {
			return strings.Count(u.Log(), "handing subscribers over") > n
		})
		if kill {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if printed := <-ended; !strings.Contains(printed, "has failed") {
			t.Errorf("upgrade %d: %s", n, printed)
		}
		if got := l.publisher.MustDo("CLIENT", "LIST", "ID", id).Text; got != "" {
			t.Fatalf("the subscriber that was not ready is still there: %s", got)
		}
		l.publish(fmt.Sprint("after ", n))
		l.subscribers[1].MustDo("UNSUBSCRIBE", "news")
		l.subscribers[1].MustDo("SUBSCRIBE", "news")
		l.publish(fmt.Sprint("later ", n))
		redistest.Dial(t, u.Addr).MustDo("SET", "a", "1")
	}
	if printed, err := u.Upgrade(); err != nil {
		t.Errorf("%v: %s", err, printed)
	}
	l.publish("at the end")
}

// TestUpgradeFailsWhenTheNewProcessServes: if the new process is killed, the old one goes on with the
// clients that have not gone, and accepts others.
func TestUpgradeFailsWhenTheNewProcessServes(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	u := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"])
	first := u.PID()
	c, gone, subscriber := redistest.Dial(t, u.Addr), redistest.Dial(t, u.Addr), redistest.Dial(t, u.Addr)
	subscriber.MustDo("SUBSCRIBE", "news")
	gone.MustDo("PING")
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "SET", "a", "1")
	if printed, err := u.Begin(); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	if printed, err := u.Run("reload"); err != nil {
		t.Errorf("the new process does not reload: %v: %s", err, printed)
	}
	_ = syscall.Kill(first, syscall.SIGHUP)
	redistest.Eventually(t, 20*time.Second, "the old process refuses to reload", func() bool {
		return strings.Contains(u.Log(), "an upgrade is under way")
	})
	gone.MustDo("PING")
	_ = syscall.Kill(u.PID(), syscall.SIGKILL)
	u.SetPID(first)
	for _, s := range []*redistest.Client{gone, subscriber} {
		if m, err := s.Receive(); err == nil {
			t.Errorf("a client of the killed process gets %s", m)
		}
	}
	c.Expect("[OK]", "EXEC")
	d := redistest.Dial(t, u.Addr)
	d.Expect("1", "GET", "a")
	d.MustDo("SUBSCRIBE", "news")
	c.Expect("1", "PUBLISH", "news", "x")
	if printed, err := u.Upgrade(); err != nil {
		t.Errorf("%v: %s", err, printed)
	}
	c.Expect("1", "PUBLISH", "news", "y")
	c.Expect("1", "GET", "a")
}

// TestUpgradeWhenTheOldProcessIsKilled: a new process goes on alone with the clients that it has.
func TestUpgradeWhenTheOldProcessIsKilled(t *testing.T) {
	t.Parallel()
	u := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"])
	first := u.PID()
	c, stays := redistest.Dial(t, u.Addr), redistest.Dial(t, u.Addr)
	stays.Expect("OK", "MULTI")
	if printed, err := u.Begin(); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	c.MustDo("SET", "a", "1")
	_ = syscall.Kill(first, syscall.SIGKILL)
	if m, err := stays.Receive(); err == nil {
		t.Errorf("the client of the killed process gets %s", m)
	}
	c.Expect("1", "GET", "a")
	redistest.Dial(t, u.Addr).Expect("1", "GET", "a")
	if printed, err := u.Upgrade(); err != nil {
		t.Errorf("%v: %s", err, printed)
	}
	c.Expect("1", "GET", "a")
}

// everyKind are the listeners of a keyway with two pools.
type everyKind struct {
	*upgraded
	ca                               *redistest.Authority
	plain, secure, file, forBalancer string
}

func serveEveryKind(t *testing.T) *everyKind {
	t.Helper()
	dir, err := os.MkdirTemp("", "up") // t.TempDir's path can be too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	addr := func() string { return fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)) }
	k := &everyKind{
		ca: redistest.NewAuthority(t), plain: addr(), secure: addr(), file: filepath.Join(dir, "socket"),
		forBalancer: addr(),
	}
	cert, key := k.ca.Issue("server", time.Hour)
	ring := func() string {
		return fmt.Sprintf("layout: ring, nodes: [{name: a, addr: %q}]", redistest.Start(t).Addr)
	}
	yaml := fmt.Sprintf("threads: 2\npools:\n  one: {listen: [%q, {addr: %q, tls: {cert: %q, key: %q}}], %s}\n",
		k.plain, k.secure, cert, key, ring())
	yaml += fmt.Sprintf("  two: {protected_mode: false, %s,\n"+
		"    listen: [%q, {addr: %q, proxy_protocol: {from: 127.0.0.1}}]}\n", ring(), "unix://"+k.file, k.forBalancer)
	k.upgraded = &upgraded{Successive: redistest.ServeSuccessiveAt(t, k.plain, yaml), t: t}
	return k
}

// overTLS connects a client to the listener that speaks TLS.
func (k *everyKind) overTLS() *redistest.Client {
	return redistest.DialTLS(k.t, k.secure, k.ca.Config(""))
}

// behindBalancer connects a client through a balancer, which says that it is of 192.0.2.7:4711.
func (k *everyKind) behindBalancer() *redistest.Client {
	conn, err := net.Dial("tcp", k.forBalancer)
	if err != nil {
		k.t.Fatal(err)
	}
	fmt.Fprintf(conn, "PROXY TCP4 192.0.2.7 192.0.2.1 4711 6379\r\n")
	return redistest.Over(k.t, conn)
}

// TestUpgradeOfAllListeners: every pool and every kind of listener is served by the new process, and
// clients at each go over, but for those that speak TLS: these are closed between commands.
func TestUpgradeOfAllListeners(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	k := serveEveryKind(t)
	kept := []*redistest.Client{redistest.Dial(t, k.plain), redistest.Dial(t, k.file), k.behindBalancer()}
	for range 3 {
		closed, subscriber := k.overTLS(), redistest.Dial(t, k.file)
		closed.Expect("PONG", "PING")
		subscriber.MustDo("SUBSCRIBE", "news")
		half := k.overTLS() // has sent no command
		if printed, err := k.Upgrade(); err != nil {
			t.Fatalf("%v: %s", err, printed)
		}
		for _, c := range []*redistest.Client{closed, half} {
			if m, err := c.Receive(); err == nil {
				t.Errorf("a client over TLS gets %s", m)
			}
		}
		k.overTLS().Expect("PONG", "PING")
		redistest.Dial(t, k.file).Expect("1", "PUBLISH", "news", "x")
		if m, err := subscriber.Receive(); err != nil || m.String() != "[message news x]" {
			t.Errorf("the subscriber gets %s, %v", m, err)
		}
		subscriber.Close()
		k.behindBalancer().Expect("PONG", "PING")
		for i, c := range kept {
			c.Expect("PONG", "PING")
			if info := c.MustDo("CLIENT", "INFO").Text; i == 2 && !strings.Contains(info, " addr=192.0.2.7:4711 ") {
				t.Errorf("the client behind the balancer is %s", info)
			}
		}
	}
}

// TestUpgradeWithMuchToSend: subscribers of thousands of channels, and those that have much to read,
// go over with all of it. So do messages and values of which a part has arrived.
func TestUpgradeWithMuchToSend(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	u := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"])
	many := redistest.Dial(t, u.Addr)
	const channels = 5000
	for i := range channels {
		many.Send("SUBSCRIBE", fmt.Sprintf("a channel with a long name %d", i))
	}
	many.Flush()
	for range channels {
		if _, err := many.Receive(); err != nil {
			t.Fatal(err)
		}
	}
	slow := redistest.Dial(t, u.Addr)
	slow.MustDo("SUBSCRIBE", "news")
	c := redistest.Dial(t, u.Addr)
	text := strings.Repeat("x", 300_000)
	const messages = 25
	for i := range messages {
		c.Expect("1", "PUBLISH", "news", fmt.Sprintf("%d %s", i, text))
	}
	u.each(func(c *redistest.Client, n int) {
		c.Expect("OK", "SET", "large", text+strconv.Itoa(n))
		if got := c.MustDo("GET", "large").Text; got != text+strconv.Itoa(n) {
			t.Errorf("GET returns %d bytes", len(got))
		}
	})
	large := redistest.Dial(t, u.Addr)
	large.MustDo("SUBSCRIBE", "large")
	published := 0
	u.each(func(c *redistest.Client, n int) {
		c.Expect("1", "PUBLISH", "large", fmt.Sprintf("%d %s", n, text))
		if m, err := large.Receive(); err != nil || m.Elems[2].Text != fmt.Sprintf("%d %s", n, text) {
			t.Errorf("message %d: %.80s, %v", n, m, err)
		}
		published = n
	})
	u.upgrades(4)
	for i := range messages {
		if m, err := slow.Receive(); err != nil || m.Elems[2].Text != fmt.Sprintf("%d %s", i, text) {
			t.Fatalf("message %d: %.80s, %v", i, m, err)
		}
	}
	for _, i := range []int{0, channels / 2, channels - 1} {
		c.Expect("1", "PUBLISH", fmt.Sprintf("a channel with a long name %d", i), "x")
		if _, err := many.Receive(); err != nil {
			t.Errorf("channel %d: %v", i, err)
		}
	}
	if published == 0 {
		t.Error("no large message was published")
	}
}

// TestUpgradeWithADeadNode: subscribers go over though a node cannot be reached.
func TestUpgradeWithADeadNode(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	u := newUpgraded(t, redistest.Layouts(nodes)["ring"])
	subscriber, c := redistest.Dial(t, u.Addr), redistest.Dial(t, u.Addr)
	subscriber.MustDo("SUBSCRIBE", "news")
	nodes[2].Kill()
	if printed, err := u.Upgrade(); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	sent := false
	for i := 0; !sent; i++ { // a PUBLISH goes to the channel's node, which may be the dead one
		key := fmt.Sprintf("news%d", i)
		subscriber.MustDo("SUBSCRIBE", key)
		if got := c.Do("PUBLISH", key, "x"); got.Kind != '-' {
			sent = true
			if got.Int != 1 {
				t.Errorf("PUBLISH: %s", got)
			}
		}
	}
}

// TestUpgradeDuringAnUpgrade: while a client has not gone over yet, another upgrade is refused and harms
// nothing. Afterwards it succeeds.
func TestUpgradeDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	s := newUpgraded(t, redistest.Layouts(redistest.Three(t))["ring"])
	c := redistest.Dial(t, s.Addr)
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "SET", "a", "1")
	if out, err := s.Begin(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if out, err := s.Run("upgrade"); err == nil || !strings.Contains(out, "an upgrade is under way") {
		t.Fatalf("a second upgrade: %v: %s", err, out)
	}
	redistest.Eventually(t, 20*time.Second, "the log says so too, as for SIGUSR2", func() bool {
		return strings.Contains(s.Log(), "not upgraded; this process goes on")
	})
	c.MustDo("EXEC")
	redistest.Eventually(t, 20*time.Second, "the client has gone over", func() bool {
		return strings.Contains(s.Log(), "this process has the clients of the one before")
	})
	c.Expect("1", "GET", "a")
	if out, err := s.Upgrade(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c.Expect("1", "GET", "a")
}
