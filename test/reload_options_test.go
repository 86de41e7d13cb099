package test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestReloadReads lets replicas serve reads and stops it again, while clients read what they
// have written. No client may see an error or miss its own write.
func TestReloadReads(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	master := redistest.Start(t)
	replica := redistest.Replica(t, master)
	nodes := fmt.Sprintf("nodes:\n  - {name: a, addr: %s, replicas: [%s]}\n", master.Addr, replica.Addr)
	r := startReloadable(t, nodes, "layout: ring\ninstance: kw\n")
	l := &load{t: t, addr: r.listen}
	l.run(10, func(c *redistest.Client, id int) error {
		key := fmt.Sprintf("own:%d", id)
		return l.each(func(i int) error {
			if err := expect(c, "OK", "SET", key, strconv.Itoa(i)); err != nil {
				return err
			}
			return expect(c, strconv.Itoa(i), "GET", key)
		})
	})
	master.Do("SET", "old", "1")
	l.run(10, func(c *redistest.Client, _ int) error {
		return l.each(func(int) error { return expect(c, "1", "GET", "old") })
	})
	served := getsOf
	const optIn = "replica\nreplicas: {opt_in: true}"
	for _, reads := range []string{"prefer-replica", "nearest", "replica", optIn, "prefer-replica"} {
		toReplica := reads != optIn && reads != "nearest"
		r.reload("layout: ring\ninstance: kw\nreads: " + reads + "\n")
		before := served(replica)
		if toReplica {
			redistest.Eventually(t, 20*time.Second, "the replica serves", func() bool {
				return served(replica) > before+10
			})
		}
		r.reload("layout: ring\ninstance: kw\n")
		redistest.Eventually(t, 20*time.Second, "keyway has left the replica", func() bool {
			return !strings.Contains(replica.Do("CLIENT", "LIST").Text, "name=keyway:")
		})
		before = served(replica)
		for now := l.commands.Load(); l.commands.Load() < now+100 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
		if after := served(replica); after != before {
			t.Errorf("the replica has served %d reads that belong to the master", after-before)
		}
	}
	l.stop.Store(true)
	l.clients.Wait()
}

// TestReloadOptIn: with opt_in, a client that has sent READONLY goes on reading from replicas,
// and the others stop.
func TestReloadOptIn(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	master := redistest.Start(t)
	replica := redistest.Replica(t, master)
	nodes := fmt.Sprintf("nodes:\n  - {name: a, addr: %s, replicas: [%s]}\n", master.Addr, replica.Addr)
	r := startReloadable(t, nodes, "layout: ring\nreads: prefer-replica\n")
	for _, n := range []*redistest.Node{master, replica} {
		n.Do("CONFIG", "SET", "slave-read-only", "no")
	}
	replica.Do("SET", "where", "replica")
	master.Do("SET", "where", "master")
	redistest.Eventually(t, 20*time.Second, "the replica has it", func() bool {
		return replica.Do("GET", "where").Text == "master"
	})
	replica.Do("SET", "where", "replica")
	willing, other := redistest.Dial(t, r.listen), redistest.Dial(t, r.listen)
	willing.Expect("OK", "READONLY")
	r.reload("layout: ring\nreads: prefer-replica\nreplicas: {opt_in: true}\n")
	redistest.Eventually(t, 20*time.Second, "the replica serves who asked for it", func() bool {
		return willing.Do("GET", "where").Text == "replica"
	})
	other.Expect("master", "GET", "where")
	r.reload("layout: ring\nreads: prefer-replica\n")
	redistest.Eventually(t, 20*time.Second, "the replica serves all", func() bool {
		return other.Do("GET", "where").Text == "replica"
	})
}

// TestReloadConnections changes the number of connections under load: no reply is lost or in
// another order, and the nodes soon have as many connections as the file says.
func TestReloadConnections(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	r := startReloadable(t, redistest.NodesYAML(nodes), "layout: ring\ninstance: one\n")
	l := &load{t: t, addr: r.listen}
	l.run(20, func(c *redistest.Client, id int) error {
		count := 0
		return l.each(func(int) error {
			for range 10 {
				c.Send("INCR", fmt.Sprintf("count:%d", id))
			}
			if err := c.Flush(); err != nil {
				return err
			}
			for range 10 {
				count++
				if reply, err := c.Receive(); err != nil || reply.Int != int64(count) {
					return fmt.Errorf("got %v %v, want %d", reply, err, count)
				}
			}
			return nil
		})
	})
	name := func(n *redistest.Node, instance string) (connections int) {
		for line := range strings.Lines(n.Do("CLIENT", "LIST").Text) {
			says := strings.Contains(line, "-idle:") // only which epoch keyway is in
			if strings.Contains(line, " name=keyway:"+instance) && !says {
				connections++
			}
		}
		return connections
	}
	for i, want := range []int{4, 2, 8, 1} {
		instance := fmt.Sprintf("kw-%d", i)
		r.reload(fmt.Sprintf("layout: ring\ninstance: %s\nbackend: {connections: %d}\n", instance, want))
		for _, n := range nodes {
			what := fmt.Sprintf("%d connections called %s", want, instance)
			redistest.Eventually(t, 20*time.Second, what, func() bool {
				return name(n, instance+":") == want && name(n, "") == want
			})
		}
		for now := l.commands.Load(); l.commands.Load() < now+20 && !t.Failed(); {
			time.Sleep(time.Millisecond)
		}
	}
	l.stop.Store(true)
	l.clients.Wait()
}

// isHealthy reports whether an admin address is served.
func isHealthy(addr string) bool {
	asker := http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := asker.Get("http://" + addr + "/healthz")
	if err != nil {
		return false
	}
	reply.Body.Close()
	return reply.StatusCode == http.StatusOK
}

// moveAdmin writes another admin address to the file, and asks for a reload at the present one.
func (r *reloadable) moveAdmin(to string) (status int, text string) {
	r.t.Helper()
	r.head = fmt.Sprintf("listen: %s\n", r.listen)
	if to != "" {
		r.head += fmt.Sprintf("admin: %s\n", to)
	}
	r.write()
	asker := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	reply, err := asker.Post("http://"+r.admin+"/reload", "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	return reply.StatusCode, string(body)
}

// TestReloadAdmin moves the admin address. The request that asks for it, which arrives at the
// old one, is answered; then nobody listens there.
func TestReloadAdmin(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	first, second := r.admin, fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	if status, text := r.moveAdmin(second); status != http.StatusOK ||
		text != fmt.Sprintf("reloaded %s\n  admin: %s -> %s\n", r.file, first, second) {
		t.Errorf("%d %s", status, text)
	}
	redistest.Eventually(t, 10*time.Second, "the old address is closed", func() bool { return !isHealthy(first) })
	if !isHealthy(second) {
		t.Error("the new address is not served")
	}

	// An address that is taken changes nothing, not even another key of the file.
	r.admin = second
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	r.text = "layout: ring\nclients: {max: 5}\n"
	want := fmt.Sprintf("%s:2:8: admin: cannot listen on %s: listen tcp4 %[2]s: bind: address already in use; "+
		"end what uses the address, or listen elsewhere\n", r.file, taken.Addr())
	if status, text := r.moveAdmin(taken.Addr().String()); status != http.StatusConflict || text != want {
		t.Errorf("%d %s", status, text)
	}
	info := redistest.Ask(r.listen, "INFO", "clients").Text
	if !isHealthy(second) || strings.Contains(info, "maxclients:5\r") {
		t.Errorf("a refused reload has changed something: %s", info)
	}

	// A refusal for another reason closes the new address again.
	r.text = "layout: ring\nthreads: 2\n"
	if status, text := r.moveAdmin(first); status != http.StatusConflict || !isHealthy(second) {
		t.Errorf("%d %s", status, text)
	}
	if c, err := net.Dial("tcp", first); err == nil {
		c.Close()
		t.Error("a refused reload has left its new address open")
	}
}

// TestReloadAdminToAllAddresses exchanges the admin address for all of the machine's addresses
// of its port, and back, and then for none, and back.
func TestReloadAdminToAllAddresses(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	second := r.admin
	_, port, _ := net.SplitHostPort(second)
	for _, admin := range []string{"0.0.0.0:" + port, second} {
		if status, text := r.moveAdmin(admin); status != http.StatusOK {
			t.Errorf("%d %s", status, text)
		}
		if !isHealthy(second) {
			t.Errorf("%s is not served after the move to %s", second, admin)
		}
	}
	if status, text := r.moveAdmin(""); status != http.StatusOK {
		t.Errorf("%d %s", status, text)
	}
	redistest.Eventually(t, 10*time.Second, "no address is served", func() bool { return !isHealthy(second) })
	r.head += fmt.Sprintf("admin: %s\n", second)
	r.write()
	r.process.Signal(syscall.SIGHUP)
	redistest.Eventually(t, 10*time.Second, "the address is served again", func() bool { return isHealthy(second) })
}

// TestReloadListenerToAllAddresses exchanges an address for all of the machine's addresses of
// the same port, and back, while clients connect to it. None may be refused.
func TestReloadListenerToAllAddresses(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	for _, threads := range []int{1, 2} {
		t.Run(fmt.Sprintf("threads=%d", threads), func(t *testing.T) {
			text := fmt.Sprintf("layout: ring\nthreads: %d\n", threads)
			r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), text)
			_, port, _ := net.SplitHostPort(r.listen)
			l := &load{t: t, addr: r.listen}
			var connected atomic.Int64
			for range 4 {
				l.clients.Go(func() {
					for !l.stop.Load() && !t.Failed() {
						if err := pings(r.listen); err != nil {
							t.Errorf("a client: %v", err)
						}
						connected.Add(1)
						time.Sleep(time.Millisecond) // so that not all ports of this machine are used up
					}
				})
			}
			for i := range 4 {
				addr := r.listen
				if i%2 == 0 {
					addr = "0.0.0.0:" + port
				}
				r.head = fmt.Sprintf("listen: %s\nadmin: %s\n", addr, r.admin)
				r.reload(r.text)
				for now := connected.Load(); connected.Load() < now+20 && !t.Failed(); {
					time.Sleep(time.Millisecond)
				}
			}
			l.stop.Store(true)
			l.clients.Wait()
			// A listener of another process is in the way as before.
			r.head = fmt.Sprintf("listen: 0.0.0.0:%s\nadmin: %s\n", port, r.admin)
			r.reload(r.text)
			other, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer other.Close()
			_, taken, _ := net.SplitHostPort(other.Addr().String())
			r.head = fmt.Sprintf("listen: 0.0.0.0:%s\nadmin: %s\n", taken, r.admin)
			if out := r.refused(); !strings.Contains(out, "address already in use; end what uses the address") {
				t.Error(out)
			}
		})
	}
}

// pings connects, sends PING, and disconnects. It tries again while the kernel resets the
// connection, which docs/limits.md allows for the moment of the change.
func pings(addr string) error {
	err := ping(addr)
	for end := time.Now().Add(5 * time.Second); errors.Is(err, syscall.ECONNRESET) && time.Now().Before(end); {
		err = ping(addr)
	}
	return err
}

func ping(addr string) error {
	c, err := redistest.TryDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	return expect(c, "PONG", "PING")
}

// TestReloadScripts: a script that keyway knows already can be split once it is declared.
func TestReloadScripts(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\nthreads: 2\n")
	c := redistest.Dial(t, r.listen)
	const script = "return redis.call('EXISTS', KEYS[1])"
	keys := []string{"EVALSHA", c.MustDo("SCRIPT", "LOAD", script).Text, "6"}
	for i := range 6 {
		key := fmt.Sprintf("key:%d", i)
		c.Expect("OK", "SET", key, "1")
		keys = append(keys, key)
	}
	if reply := c.Do(keys...); reply.Kind != '-' {
		t.Errorf("not declared yet: %v", reply)
	}
	out := r.reload("layout: ring\nthreads: 2\nscripts: {per_key: [{text: \"" + script + "\", reply: sum}]}\n")
	if !strings.Contains(out, "scripts.per_key[0].text: (none) -> "+script) {
		t.Error(out)
	}
	c.Expect("6", keys...)
	r.reload("layout: ring\nthreads: 2\n")
	if reply := c.Do(keys...); reply.Kind != '-' {
		t.Errorf("not declared any more: %v", reply)
	}
}

// TestDeniedCommands: what commands.deny names is refused with the error of Redis's ACL, also
// inside MULTI, until a reload allows it again.
func TestDeniedCommands(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	r := startReloadable(t, redistest.NodesYAML(nodes), "layout: ring\n")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "SET", "a", "1")
	r.expect(r.reload("layout: ring\ncommands: {allow: [config], deny: [flushall, \"config|set\", Keys]}\n"),
		"reloaded keyway.yml\n  commands.allow: (none) -> config\n"+
			"  commands.deny: (none) -> flushall, config|set, Keys\n")
	noperm := func(command string) string {
		return "-NOPERM User default has no permissions to run the '" + command + "' command"
	}
	c.Expect(noperm("flushall"), "FLUSHALL")
	c.Expect(noperm("keys"), "keys", "*")
	c.Expect(noperm("config|set"), "CONFIG", "SET", "maxmemory", "0")
	if reply := c.Do("CONFIG", "GET", "maxmemory"); len(reply.Elems) != 2 {
		t.Errorf("CONFIG GET: %v", reply)
	}
	c.Expect("OK", "MULTI")
	c.Expect("QUEUED", "SET", "a", "2")
	c.Expect(noperm("flushall"), "FLUSHALL")
	c.Expect("-EXECABORT Transaction discarded because of previous errors.", "EXEC")
	c.Expect("1", "GET", "a")
	r.reload("layout: ring\n")
	c.Expect("OK", "FLUSHALL")

	file := filepath.Join(t.TempDir(), "keyway.yml")
	for deny, want := range map[string]string{
		"deny: [nonesuch]":                        `commands.deny: no command is called "nonesuch"; `,
		"deny: [\"config|nonesuch\"]":             `commands.deny: no command is called "config|nonesuch"; `,
		"deny: [auth]":                            `"auth" cannot be denied: clients need it to log in or to leave; `,
		"allow: [config], deny: [config]":         `commands.deny: "config" is allowed and denied; `,
		"allow: [\"config|get\"], deny: [config]": `commands.deny: "config|get" is allowed and denied; `,
	} {
		text := redistest.NodesYAML(nodes) + "layout: ring\ncommands: {" + deny + "}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(redistest.Build(t), "check", "-c", file).CombinedOutput()
		if err == nil || !strings.Contains(string(out), want) {
			t.Errorf("%s: %s", deny, out)
		}
	}
}
