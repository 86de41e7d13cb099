package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestReloadUnderLoad reloads while 50 clients send commands, transactions, blocking
// commands and messages. No client may see an error, and no count may be wrong.
// KEYWAY_RELOADS=200 is the long form.
func TestReloadUnderLoad(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	reloads := 25
	if n, err := strconv.Atoi(os.Getenv("KEYWAY_RELOADS")); err == nil {
		reloads = n
	}
	r := startReloadable(t, "threads: 2\n"+redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	l := &load{t: t, addr: r.listen}
	l.start()
	before := l.commands.Load()
	for i := range reloads {
		r.text = loadVariant(i)
		r.head = fmt.Sprintf("listen: %s\nadmin: %s\n", r.listen, r.admin)
		if i%2 == 0 {
			r.head = fmt.Sprintf("listen: [unix://%s/s.sock, %s]\nadmin: %s\n", r.dir, r.listen, r.admin)
		}
		r.write()
		reply, err := http.Post("http://"+r.admin+"/reload", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(reply.Body)
		reply.Body.Close()
		if reply.StatusCode != http.StatusOK || !strings.HasPrefix(string(body), "reloaded ") {
			t.Fatalf("reload %d: %s %s", i, reply.Status, body)
		}
		// Let each reload meet commands, also where the machine is slow.
		for now := l.commands.Load(); l.commands.Load() < now+100 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	l.stop.Store(true)
	l.clients.Wait()
	t.Logf("%d commands during %d reloads", l.commands.Load()-before, reloads)
}

// expect sends a command and returns an error unless the reply is want.
func expect(c *redistest.Client, want string, args ...string) error {
	reply, err := c.TryDo(args...)
	if err != nil {
		return fmt.Errorf("%v: %w", args, err)
	}
	if got := reply.String(); got != want && reply.Text != want {
		return fmt.Errorf("%v: got %s, want %s", args, got, want)
	}
	return nil
}

// loadVariant returns the rest of the file for the i-th reload. Each differs from the one
// before in every key that a reload may change without a client's notice.
func loadVariant(i int) string {
	k := 1 + i%3
	return fmt.Sprintf(`layout: ring
log: {level: %s, format: %s}
clients: {max: %d, idle_timeout: %ds}
backend: {connect_timeout: %ds, request_timeout: %ds, exclusive: %d, integrity: %d, connections: %d}
slowlog: {slower_than: %dms, entries: %d}
limits: {max_bulk: %dmb, max_args: %d, max_inline: %dkb, max_request: %dmb, client_output: %dmb, memory: %dgb}
ready: %s
shutdown: {timeout: %ds}
commands: {allow: [%s], deny: [%s]}
instance: kw-%d
locks: {observe: %v, patterns: ["%d:*"]}
reads: %s
replicas: {opt_in: %v, max_lag: %ds}
scripts: {keyless: "%d"}
cluster: {emulate: %v, announce: "127.0.0.1:%d"}
`, []string{"info", "warn", "error"}[i%3], []string{"text", "json"}[i%2], 1000*k, 100*k,
		k, 5+k, 100*k, 100*k, k, 10*k, 10*k, 100*k, 100_000*k, 64*k, 100*k, 100*k, k, []string{"any", "all"}[i%2], k,
		[]string{"config", "bgsave", "flushall"}[i%3], []string{"keys", "flushdb", "debug"}[i%3], i%2, i%2 == 1, i,
		[]string{"master", "prefer-replica"}[i%2], i%2 == 1, k, i, i%2 == 0, 7000+k)
}

// load is 50 clients that check every reply.
type load struct {
	t        *testing.T
	addr     string
	stop     atomic.Bool
	clients  sync.WaitGroup
	commands atomic.Int64
}

// run starts n clients.
func (l *load) run(n int, client func(c *redistest.Client, id int) error) {
	for id := range n {
		c := redistest.Dial(l.t, l.addr)
		l.clients.Go(func() {
			if err := client(c, id); err != nil {
				l.t.Errorf("a client: %v", err)
			}
		})
	}
}

// each repeats a command until the load ends.
func (l *load) each(check func(i int) error) error {
	for i := 1; !l.stop.Load() && !l.t.Failed(); i++ {
		if err := check(i); err != nil {
			return err
		}
		l.commands.Add(1)
	}
	return nil
}

// start starts all clients.
func (l *load) start() {
	l.run(26, func(c *redistest.Client, id int) error {
		return l.each(func(i int) error {
			return expect(c, strconv.Itoa(i), "INCR", fmt.Sprintf("count:%d", id))
		})
	})
	l.run(10, l.transactions)
	l.queues()
	l.subscribers()
}

// queues starts five clients that are blocked most of the time, and five that push.
func (l *load) queues() {
	l.run(5, func(c *redistest.Client, id int) error { // blocked, until the next client pushes
		return inOrder(1, func() (redistest.Reply, error) { return c.TryDo("BLPOP", fmt.Sprintf("list:%d", id), "0") })
	})
	l.run(5, func(c *redistest.Client, id int) error {
		list := fmt.Sprintf("list:%d", id)
		err := l.each(func(i int) error {
			time.Sleep(3 * time.Millisecond) // fewer elements than the consumer can take
			_, err := c.TryDo("RPUSH", list, strconv.Itoa(i))
			return err
		})
		c.TryDo("RPUSH", list, "end")
		return err
	})
}

// subscribers starts two subscribers and their publishers.
func (l *load) subscribers() {
	var subscribed sync.WaitGroup
	subscribed.Add(2)
	l.run(2, func(c *redistest.Client, id int) error {
		reply, err := c.TryDo("SUBSCRIBE", fmt.Sprintf("news:%d", id))
		subscribed.Done()
		if err != nil || len(reply.Elems) != 3 {
			return fmt.Errorf("SUBSCRIBE: %v %v", reply, err)
		}
		return inOrder(2, c.Receive)
	})
	subscribed.Wait()
	l.run(2, func(c *redistest.Client, id int) error {
		channel := fmt.Sprintf("news:%d", id)
		err := l.each(func(i int) error {
			time.Sleep(3 * time.Millisecond) // fewer messages than the subscriber can take
			return expect(c, "1", "PUBLISH", channel, strconv.Itoa(i))
		})
		c.TryDo("PUBLISH", channel, "end")
		return err
	})
}

func (l *load) transactions(c *redistest.Client, id int) error {
	key := fmt.Sprintf("{txn:%d}", id)
	return l.each(func(i int) error {
		for _, step := range [][]string{
			{"OK", "WATCH", key}, {"OK", "MULTI"}, {"QUEUED", "INCR", key}, {"QUEUED", "INCR", key + "x"},
			{fmt.Sprintf("[%d %d]", i, i), "EXEC"},
		} {
			if err := expect(c, step[0], step[1:]...); err != nil {
				return err
			}
		}
		return nil
	})
}

// inOrder receives replies whose element at is 1, 2, 3... until it is "end".
func inOrder(at int, receive func() (redistest.Reply, error)) error {
	for i := 1; ; i++ {
		reply, err := receive()
		switch {
		case err != nil:
			return err
		case len(reply.Elems) <= at:
			return fmt.Errorf("got %s", reply)
		case reply.Elems[at].Text == "end":
			return nil
		case reply.Elems[at].Text != strconv.Itoa(i):
			return fmt.Errorf("got %s, want %d", reply, i)
		}
	}
}
