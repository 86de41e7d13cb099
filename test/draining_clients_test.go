package test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// drained is two keyways behind a balancer: a client that connects gets to the first one as
// long as that is ready.
type drained struct {
	t             *testing.T
	first, second *redistest.Process
	admin         string
	failures      redistest.Log
}

func newDrained(t *testing.T, shutdown, layout string) *drained {
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	return &drained{
		t: t, admin: admin, second: redistest.ServeProcess(t, layout),
		first: redistest.ServeProcess(t, "threads: 2\nadmin: "+admin+"\nshutdown: "+shutdown+"\n"+layout),
	}
}

func (d *drained) isReady() bool {
	r, err := http.Get("http://" + d.admin + "/readyz")
	if err != nil {
		return false
	}
	r.Body.Close()
	return r.StatusCode == http.StatusOK
}

func (d *drained) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	addr := d.second.Addr
	if d.isReady() {
		addr = d.first.Addr
	}
	return new(net.Dialer).DialContext(ctx, "tcp", addr)
}

// client returns a client that does not retry: it returns each error of a connection.
func (d *drained) client() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: "balancer", Dialer: d.dial, MaxRetries: -1, PoolSize: 1})
	d.t.Cleanup(func() { c.Close() })
	return c
}

func (d *drained) failed(what string, err error) { fmt.Fprintf(&d.failures, "%s: %v\n", what, err) }

// settled is how long a client is silent before keyway may close it between two replies.
const settled = 200 * time.Millisecond

// TestDrainIsNotNoticed: while a keyway stops, no client that connects to another one gets an
// error, and no command is lost or executed twice: not of busy and of idle clients, not in a
// transaction, not in a blocking command.
func TestDrainIsNotNoticed(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	nodes := redistest.Three(t)
	layout := redistest.Ring(nodes[0].Addr, nodes[1].Addr, nodes[2].Addr)
	d := newDrained(t, "{delay: 300ms, drain: 3s}", layout)
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	counts := make([]int64, 50)
	for i := range counts {
		c, key := d.client(), fmt.Sprintf("count:%d", i)
		clients.Go(func() {
			for answered := time.Now(); ctx.Err() == nil; answered = time.Now() {
				time.Sleep(time.Duration(i%4*i) * time.Millisecond)
				silent := time.Since(answered)
				switch err := increment(c, key, i%5 == 4); {
				case err == nil:
					counts[i]++
				case errors.Is(err, io.EOF) && silent > settled/2:
					// The machine was busy, and keyway took the client for one that has nothing to send.
				default:
					d.failed(key, err)
					return
				}
			}
		})
	}
	queue := d.queue(ctx, &clients)
	d.first.Cmd.Process.Signal(syscall.SIGTERM)
	if err := d.first.Cmd.Wait(); err != nil {
		t.Errorf("keyway ended with %v", err)
	}
	time.Sleep(100 * time.Millisecond) // the clients go on with the other keyway
	stop()
	clients.Wait()
	if text := d.failures.String(); text != "" {
		t.Errorf("clients noticed:\n%s", text)
	}
	c := d.client()
	for i, count := range counts {
		if got, err := c.Get(t.Context(), fmt.Sprintf("count:%d", i)).Int64(); err != nil || got != count {
			t.Errorf("client %d has counted %d, its key has %d (%v)", i, count, got, err)
		}
	}
	queue()
	log := d.first.Stderr.String()
	for _, want := range []string{
		"cut_transaction=0 cut_unread=0 cut_unanswered=0", "no new clients; closing those",
	} {
		if !strings.Contains(log, want) {
			t.Errorf("the log has no %q:\n%s", want, log)
		}
	}
}

// increment increments a counter, perhaps in a transaction of three round trips.
func increment(c *redis.Client, key string, inTransaction bool) error {
	ctx := context.Background()
	if !inTransaction {
		return c.Incr(ctx, key).Err()
	}
	return c.Watch(ctx, func(tx *redis.Tx) error {
		n, err := tx.Get(ctx, key).Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
		_, err = tx.TxPipelined(ctx, func(p redis.Pipeliner) error {
			p.Set(ctx, key, n+1, 0)
			return nil
		})
		return err
	}, key)
}

// queue starts clients that pass numbers through a list. Of the clients that wait for them, half
// wait without a timeout, so these have to send the command again: they retry. Call check after
// the end of ctx.
func (d *drained) queue(ctx context.Context, clients *sync.WaitGroup) (check func()) {
	var sent, received atomic.Int64
	var twice sync.Map
	push := d.client()
	clients.Go(func() {
		for ctx.Err() == nil {
			if err := push.RPush(context.Background(), "queue", sent.Add(1)).Err(); err != nil {
				d.failed("RPUSH", err)
				return
			}
			time.Sleep(30 * time.Millisecond)
		}
		push.RPush(context.Background(), "queue", -1, -1, -1, -1) // end the others
	})
	for i := range 4 {
		c, timeout := d.client(), time.Second
		if i%2 == 0 {
			c = redis.NewClient(&redis.Options{Addr: "balancer", Dialer: d.dial, PoolSize: 1})
			d.t.Cleanup(func() { c.Close() })
			timeout = 0
		}
		clients.Go(func() {
			for {
				got, err := c.BLPop(context.Background(), timeout, "queue").Result()
				switch {
				case errors.Is(err, redis.Nil):
					continue
				case err != nil:
					d.failed("BLPOP "+timeout.String(), err)
					return
				case got[1] == "-1":
					return
				}
				received.Add(1)
				if _, before := twice.LoadOrStore(got[1], true); before {
					d.failed("BLPOP", errors.New("got an element twice: "+got[1]))
				}
			}
		})
	}
	return func() {
		if sent.Load() != received.Load() {
			d.t.Errorf("%d elements were pushed, %d popped", sent.Load(), received.Load())
		}
	}
}

// ended waits until keyway has closed a connection, and returns what came before.
func ended(t *testing.T, c net.Conn) string {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	b, err := io.ReadAll(c)
	if err != nil {
		t.Errorf("the connection ended with %v, after %q", err, b)
	}
	return string(b)
}

// inMulti returns clients in transactions.
func inMulti(dial func() *redistest.Client, count int) (clients []*redistest.Client) {
	for range count {
		c := dial()
		c.Expect("OK", "MULTI")
		clients = append(clients, c)
	}
	return clients
}

// TestDrainClosesBetweenCommands: clients in the middle of something may finish it. Blocked
// clients are told that their time is up, or are closed if they have none.
func TestDrainClosesBetweenCommands(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	node := redistest.Start(t)
	admin := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	yaml := "admin: " + admin + "\nshutdown: {drain: 3s, timeout: 1s}\n" + redistest.Ring(node.Addr)
	p := redistest.ServeProcess(t, yaml)
	dial := func() *redistest.Client { return redistest.Dial(t, p.Addr) }
	idle, multi, watch, finite, infinite, sub := dial(), dial(), dial(), dial(), dial(), dial()
	idle.Expect("OK", "SET", "k", "1")
	multi.Expect("OK", "MULTI")
	multi.Expect("QUEUED", "INCR", "k")
	watch.Expect("OK", "WATCH", "k")
	others := inMulti(dial, 20) // that an early end would meet before the idle client
	for c, timeout := range map[*redistest.Client]string{finite: "100", infinite: "0"} {
		c.Send("BLPOP", "nothing", timeout)
		c.Flush()
	}
	sub.Do("SUBSCRIBE", "news")
	redistest.Eventually(t, 10*time.Second, "two clients are blocked", func() bool {
		return strings.Contains(node.Do("INFO", "clients").Text, "blocked_clients:2")
	})
	p.Cmd.Process.Signal(syscall.SIGTERM)
	if got := ended(t, idle.Conn); got != "" {
		t.Errorf("the idle client got %q", got)
	}
	redistest.Eventually(t, 10*time.Second, "only clients in the middle of something are left", func() bool {
		_, body := fetch(t, "http://"+admin+"/readyz")
		return body == "keyway is stopping\nclients left: 25; in a transaction: 22, "+
			"waiting in a blocking command: 2, subscribed or monitoring: 1\n"
	})
	node.Do("PUBLISH", "news", "still here")
	if r, err := sub.Receive(); err != nil || r.Elems[2].Text != "still here" {
		t.Errorf("the subscriber got %v, %v", r, err)
	}
	multi.Expect("QUEUED", "INCR", "k")
	multi.Expect("[2 3]", "EXEC")
	for _, c := range others {
		c.Expect("[]", "EXEC")
	}
	for c, want := range map[*redistest.Client]string{
		multi: "", watch: "", finite: "*-1\r\n", infinite: "", sub: "",
	} {
		if got := ended(t, c.Conn); got != want {
			t.Errorf("before the end a client got %q, want %q", got, want)
		}
	}
	if err := p.Cmd.Wait(); err != nil {
		t.Errorf("keyway ended with %v", err)
	}
	node.Do("RPUSH", "nothing", "1")
	if r := node.Do("LLEN", "nothing"); r.Int != 1 {
		t.Error("an element was popped for a client that has left")
	}
	const want = "the clients are closed\" between_commands=24 released=1 cut_transaction=1 cut_unread=0"
	if log := p.Stderr.String(); !strings.Contains(log, want) {
		t.Errorf("the log has no %s:\n%s", want, log)
	}
}

// TestInterruptDoesNotWait: at a terminal nobody waits for the delay and the drain.
func TestInterruptDoesNotWait(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	p := redistest.ServeProcess(t, "shutdown: {delay: 1h, drain: 1h, timeout: 1h}\n"+redistest.Ring(node.Addr))
	idle, blocked := redistest.Dial(t, p.Addr), redistest.Dial(t, p.Addr)
	idle.Expect("OK", "SET", "k", "1")
	blocked.Send("BLPOP", "nothing", "1000")
	blocked.Flush()
	p.Cmd.Process.Signal(syscall.SIGINT)
	if got := ended(t, idle.Conn) + ended(t, blocked.Conn); got != "" && got != "*-1\r\n" {
		t.Errorf("the clients got %q", got)
	}
	if err := p.Cmd.Wait(); err != nil {
		t.Errorf("keyway ended with %v", err)
	}
}

// TestDrainTellsTLSClients: clients that speak TLS get their last reply, and are told that nothing
// was cut off behind it.
func TestDrainTellsTLSClients(t *testing.T) {
	t.Parallel()
	for _, streams := range []bool{false, true} {
		s := serveTLS(t, streams, "", "")
		idle := redistest.DialTLS(t, s.tls, s.ca.Config(""))
		idle.Expect("PONG", "PING")
		blocked := redistest.DialTLS(t, s.tls, s.ca.Config(""))
		blocked.Send("BLPOP", "nothing", "100")
		blocked.Flush()
		redistest.Eventually(t, 10*time.Second, "the client is blocked", func() bool {
			return s.Snapshot()[0].Waiting == 1
		})
		s.Stop()
		if got := ended(t, idle.Conn); got != "" {
			t.Errorf("streams %v: the idle client got %q", streams, got)
		}
		if got := ended(t, blocked.Conn); got != "*-1\r\n" {
			t.Errorf("streams %v: the blocked client got %q", streams, got)
		}
	}
}
