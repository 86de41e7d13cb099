package test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// pools is a keyway process with two pools, sessions and cache, of a node each.
type pools struct {
	*redistest.Process
	t               *testing.T
	file, admin     string
	sessions, cache *redistest.Node
	addrs           map[string]string // by pool
}

// servePools starts two pools in one process. keys are lines of the pool cache.
func servePools(t *testing.T, keys string) *pools {
	t.Helper()
	p := &pools{
		t: t, sessions: redistest.Start(t), cache: redistest.Start(t), addrs: map[string]string{},
		admin: fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t)),
	}
	for _, name := range []string{"sessions", "cache", "third"} {
		p.addrs[name] = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	}
	text := p.yaml(p.pool("sessions", p.sessions, ""), p.pool("cache", p.cache, keys))
	p.file = redistest.WriteFile(t, "keyway.yml", text)
	p.Process = redistest.StartProcess(t, "serve", "-c", p.file)
	for _, name := range []string{"sessions", "cache"} {
		p.serves(name)
	}
	return p
}

// pool returns the part of the file for one pool.
func (p *pools) pool(name string, n *redistest.Node, keys string) string {
	return fmt.Sprintf("  %s:\n    listen: %s\n    layout: ring\n    nodes: [{name: a, addr: %q}]\n"+
		"    placement: {misplaced: off}\n%s", name, p.addrs[name], n.Addr, keys)
}

func (p *pools) yaml(of ...string) string {
	return "admin: " + p.admin + "\nthreads: 2\npools:\n" + strings.Join(of, "")
}

// serves waits until clients of the pool get replies from its node, or the demand for a password.
func (p *pools) serves(name string) {
	p.t.Helper()
	redistest.Eventually(p.t, 10*time.Second, "the pool "+name+" answers", func() bool {
		r := redistest.Ask(p.addrs[name], "EXISTS", "nothing")
		return r.Kind == ':' || strings.HasPrefix(r.Text, "NOAUTH")
	})
}

func (p *pools) dial(name string) *redistest.Client { return redistest.Dial(p.t, p.addrs[name]) }

// keyway runs a command of keyway with the file.
func (p *pools) keyway(args ...string) string {
	p.t.Helper()
	args = append([]string{args[0], "-c", p.file}, args[1:]...)
	out, _ := exec.Command(redistest.Build(p.t), args...).CombinedOutput()
	return string(out)
}

// page returns the status and the text of a page of the admin address.
func (p *pools) page(path string) (int, string) {
	p.t.Helper()
	r, err := http.Get("http://" + p.admin + path)
	if err != nil {
		p.t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		p.t.Fatal(err)
	}
	return r.StatusCode, string(text)
}

// expect fails the test unless the text has the words.
func (p *pools) expect(text string, words ...string) {
	p.t.Helper()
	for _, w := range words {
		if !strings.Contains(text, w) {
			p.t.Errorf("no %q in:\n%s", w, text)
		}
	}
}

// TestPoolsKeepApart: clients of one pool see no key, message, invalidation, client or user of
// another pool in the same process.
func TestPoolsKeepApart(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	p := servePools(t, "    users: [{name: default, acl: off}, {name: bob, acl: \"on >pw ~* &* +@all\"}]\n")
	s, c := p.dial("sessions"), p.dial("cache")
	c.Expect("-NOAUTH Authentication required.", "GET", "k")
	c.Expect("OK", "AUTH", "bob", "pw")
	if r := s.Do("AUTH", "bob", "pw"); !strings.HasPrefix(r.Text, "WRONGPASS") {
		t.Errorf("a user of the other pool: %v", r)
	}
	s.Expect("OK", "SET", "k", "of sessions")
	c.Expect("OK", "SET", "k", "of cache")
	s.Expect("of sessions", "GET", "k")
	if n, m := p.sessions.Do("GET", "k").Text, p.cache.Do("GET", "k").Text; n != "of sessions" || m != "of cache" {
		t.Errorf("on the nodes: %q %q", n, m)
	}

	for name, client := range map[string]*redistest.Client{"sessions": s, "cache": c} {
		if text := client.Do("INFO", "keyway").Text; !strings.Contains(text, "\r\npool:"+name+"\r\n") {
			t.Errorf("INFO in %s:\n%s", name, text)
		}
	}

	sub := p.dial("sessions")
	sub.MustDo("SUBSCRIBE", "news")
	c.Expect("0", "PUBLISH", "news", "of cache")
	tracking := p.dial("sessions")
	tracking.MustDo("HELLO", "3")
	tracking.Expect("OK", "CLIENT", "TRACKING", "ON")
	tracking.Expect("of sessions", "GET", "k")
	monitor := p.dial("sessions")
	monitor.Expect("OK", "MONITOR")
	c.Expect("OK", "SET", "k", "changed")
	if list := c.Do("CLIENT", "LIST").Text; strings.Count(list, "\n") != 1 || !strings.Contains(list, "user=bob") {
		t.Errorf("CLIENT LIST of cache:\n%s", list)
	}
	c.Expect("0", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

	// What the clients of sessions get next is of their own pool.
	s.Expect("1", "PUBLISH", "news", "of sessions")
	if r, err := sub.Receive(); err != nil || len(r.Elems) != 3 || r.Elems[2].Text != "of sessions" {
		t.Errorf("the subscriber got %v %v", r, err)
	}
	s.Expect("OK", "SET", "k", "2")
	if r, err := tracking.Receive(); err != nil || r.Elems[0].Text != "invalidate" {
		t.Errorf("the client that tracks got %v %v", r, err)
	}
	for _, want := range []string{"PUBLISH", "SET"} {
		r, err := monitor.Receive()
		if err != nil || !strings.Contains(r.Text, fmt.Sprintf("%q", want)) || strings.Contains(r.Text, "of cache") {
			t.Errorf("MONITOR: %v %v, want %s", r, err, want)
		}
	}
	p.End()
}

// TestPoolsOfDeadNodes: one pool's hanging node delays no client of another pool, and /readyz,
// metrics and keyway health tell the pools apart.
func TestPoolsOfDeadNodes(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	p := servePools(t, "    backend: {connect_timeout: 500ms, request_timeout: 30s}\n")
	hanging := make([]*redistest.Client, 20)
	p.cache.Freeze()
	for i := range hanging {
		hanging[i] = p.dial("cache")
		hanging[i].Send("INCR", "waits")
		if err := hanging[i].Flush(); err != nil {
			t.Fatal(err)
		}
	}
	s := p.dial("sessions")
	for i := range 1000 {
		s.Expect(fmt.Sprint(i+1), "INCR", "n")
	}
	p.cache.Thaw()
	for _, c := range hanging { // they waited all the time
		if r, err := c.Receive(); err != nil || r.Kind != ':' {
			t.Errorf("a client of the pool that hung: %v %v", r, err)
		}
	}
	p.cache.Kill()
	redistest.Eventually(t, 10*time.Second, "keyway misses the node", func() bool {
		status, _ := p.page("/readyz?pool=cache")
		return status == http.StatusServiceUnavailable
	})
	status, text := p.page("/readyz")
	if p.expect(text, "ok\npool cache: no node can serve\npool cache: node a "+p.cache.Addr); status != 200 {
		t.Errorf("/readyz of all pools: %d", status)
	}
	if status, _ := p.page("/readyz?nodes=all"); status != 503 {
		t.Errorf("/readyz?nodes=all: %d", status)
	}
	if status, text := p.page("/readyz?pool=x"); status != 400 || text != "pool=x: keyway serves sessions, cache\n" {
		t.Errorf("/readyz of an unknown pool: %d %s", status, text)
	}
	p.expect(p.keyway("health", "--ready", "--pool", "sessions"), "ok\n")
	p.expect(p.keyway("health", "--ready", "--pool", "cache"), "no node can serve")
	_, metrics := p.page("/metrics")
	p.expect(metrics, fmt.Sprintf("keyway_node_up{addr=%q,node=\"a\",pool=\"cache\"} 0", p.cache.Addr),
		fmt.Sprintf("keyway_node_up{addr=%q,node=\"a\",pool=\"sessions\"} 1", p.sessions.Addr),
		"\nkeyway_clients{pool=\"sessions\"} 1\n", "\nkeyway_uptime_seconds ")
	if _, text := p.page("/placement"); text != "keyway serves several pools: add pool=NAME, one of sessions, cache\n" {
		t.Errorf("/placement without a pool: %s", text)
	}
	p.End()
	p.expect(p.Stderr.String(), "pool=cache node=a", "msg=listening pool=sessions")
}

// TestReloadOfPools: a reload adds, changes and removes pools. If it refuses one change, it
// applies none.
func TestReloadOfPools(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	p := servePools(t, "")
	write := func(of ...string) {
		if err := os.WriteFile(p.file, []byte(p.yaml(of...)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cache, sessions := p.pool("cache", p.cache, ""), p.pool("sessions", p.sessions, "")
	few := "    clients: {max: 77}\n"
	third := p.pool("third", redistest.Start(t), "")
	s := p.dial("sessions")
	s.Expect("OK", "SET", "k", "1")

	write(sessions+few, cache, third)
	p.expect(p.keyway("reload"), "reloaded ", "  pools: sessions, cache -> sessions, cache, third\n",
		"  pools.sessions.clients.max: 10000 -> 77\n")
	p.serves("third")
	write(sessions, cache)
	p.expect(p.keyway("reload"), "  pools: sessions, cache, third -> sessions, cache\n")
	redistest.Eventually(t, 10*time.Second, "the pool third is gone", func() bool {
		c, err := redistest.TryDial(p.addrs["third"])
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	s.Expect("1", "GET", "k")

	// One change of each reload is refused: what the other pools have stays too.
	moving := strings.Replace(cache, "name: a", "name: b", 1)
	gone := strings.Replace(cache, "nodes: [{name: a, addr: ",
		"nodes: [{name: a, addr: \"127.0.0.1:1\", replicas: []}] #", 1)
	swapped := strings.Replace(cache, p.addrs["cache"], p.addrs["sessions"], 1)
	elsewhere := strings.Replace(sessions, p.addrs["sessions"], p.addrs["third"], 1)
	for _, tc := range []struct{ file, want string }{
		{p.yaml(sessions+few, gone), "node a cannot be reached"},
		{p.yaml(elsewhere+few, swapped), "pools.cache.listen: the pool sessions listens on"},
		{strings.Replace(p.yaml(sessions+few, moving), "threads: 2", "threads: 3", 1), "threads: 2 -> 3: a reload"},
		{p.yaml(sessions+few, cache, strings.Replace(third, "ring", "rings", 1)), "pools.third.layout: unknown layout"},
		{"admin: " + p.admin + "\nlisten: 127.0.0.1:0\nlayout: ring\nnodes: [{name: a, addr: \"127.0.0.1:1\"}]\n",
			"pools: a reload cannot change whether the file has pools"},
	} {
		if err := os.WriteFile(p.file, []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		out, _ := exec.Command(redistest.Build(t), "reload", "--admin", p.admin).CombinedOutput()
		p.expect(string(out), "not reloaded: ", tc.want)
		p.expect(s.Do("INFO", "clients").Text, "maxclients:10000\r\n") // of the pool sessions
	}
	p.End()
}
