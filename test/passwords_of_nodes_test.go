package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// tokens is a file with the password that nodes take from the user app, and a command that prints
// it.
type tokens struct {
	t     *testing.T
	nodes []*redistest.Node
	file  string
}

// newTokens makes nodes take one.
func newTokens(t *testing.T, nodes []*redistest.Node) *tokens {
	t.Helper()
	k := &tokens{t: t, nodes: nodes, file: filepath.Join(t.TempDir(), "token")}
	k.print("one")
	k.take("resetpass", ">one")
	return k
}

// take changes what the nodes take from app.
func (k *tokens) take(rules ...string) {
	k.t.Helper()
	for _, n := range k.nodes {
		admin := redistest.Dial(k.t, n.Addr)
		admin.Expect("OK", append([]string{"ACL", "SETUSER", "app", "on", "~*", "&*", "+@all"}, rules...)...)
		admin.Close()
	}
}

// print makes the command print a token from now on.
func (k *tokens) print(token string) {
	k.t.Helper()
	if err := os.WriteFile(k.file+".new", []byte(token+"\n"), 0o600); err != nil {
		k.t.Fatal(err)
	}
	if err := os.Rename(k.file+".new", k.file); err != nil {
		k.t.Fatal(err)
	}
}

// login returns the keys of a section that logs in with the tokens.
func (k *tokens) login(more string) string {
	return fmt.Sprintf("{username: app, password_command: [cat, %s]%s}", k.file, more)
}

// kill ends the connections that have logged in as app.
func (k *tokens) kill() {
	k.t.Helper()
	for _, n := range k.nodes {
		redistest.Ask(n.Addr, "CLIENT", "KILL", "USER", "app")
	}
}

// rotateUnderLoad replaces the token of the nodes while clients need new connections to them: for
// databases, blocking commands, transactions and RESP3. No client may see an error.
func rotateUnderLoad(t *testing.T, addr string, rotate func()) {
	loads := []func(c *redistest.Client, i int) error{
		func(c *redistest.Client, i int) error { return expect(c, "OK", "SET", fmt.Sprint("key:", i%100), "1") },
		inDatabases,
		func(_ *redistest.Client, i int) error { return onOwnConnections(addr, i) },
	}
	stop, failed := make(chan struct{}), make(chan error, len(loads))
	for _, load := range loads {
		c := redistest.Dial(t, addr)
		go func() {
			var err error
			for i := 0; err == nil; i++ {
				select {
				case <-stop:
					failed <- nil
					return
				default:
					err = load(c, i)
				}
			}
			failed <- err
		}()
	}
	time.Sleep(300 * time.Millisecond) // of load before the rotation
	rotate()
	time.Sleep(time.Second) // of load after it
	close(stop)
	for range loads {
		if err := <-failed; err != nil {
			t.Error(err)
		}
	}
}

// inDatabases writes in one database after the other. The first command in each needs new connections.
func inDatabases(c *redistest.Client, i int) error {
	time.Sleep(2 * time.Millisecond)
	if err := expect(c, "OK", "SELECT", fmt.Sprint(i/50%16)); err != nil {
		return err
	}
	return expect(c, "OK", "SET", fmt.Sprint("key:", i%100), "1")
}

// onOwnConnections makes a new client, in RESP2 or RESP3, run commands on connections of its own.
func onOwnConnections(addr string, i int) error {
	c, err := redistest.TryDial(addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if i%2 == 0 {
		if r, err := c.TryDo("HELLO", "3"); err != nil || r.Kind == '-' {
			return fmt.Errorf("HELLO: %s, %v", r, err)
		}
	}
	key := fmt.Sprint("watched:", i%100)
	for _, cmd := range [][]string{{"OK", "WATCH", key}, {"OK", "MULTI"}, {"QUEUED", "INCR", key}} {
		if err := expect(c, cmd[0], cmd[1:]...); err != nil {
			return err
		}
	}
	if r, err := c.TryDo("EXEC"); err != nil || len(r.Elems) != 1 {
		return fmt.Errorf("EXEC: %s, %v", r, err)
	}
	if r, err := c.TryDo("BLPOP", fmt.Sprint("list:", i%100), "0.01"); err != nil || r.Kind == '-' {
		return fmt.Errorf("BLPOP: %s, %v", r, err)
	}
	return nil
}

// TestPasswordCommandRotates: a token that the nodes do not take any more is replaced at once, or
// before that when its time has come. Clients see no error in any case.
func TestPasswordCommandRotates(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	k := newTokens(t, redistest.Three(t))
	r := startReloadable(t, "threads: 2\n"+redistest.NodesYAML(k.nodes),
		"layout: ring\nbackend: "+k.login(", password_refresh: 0")+"\n")
	rotateUnderLoad(t, r.listen, func() {
		k.print("two")
		k.take("resetpass", ">two")
	})
	redistest.Eventually(t, 10*time.Second, "the token was replaced", func() bool {
		return strings.Contains(r.stderr.String(), `msg="new password" key=backend.password value="not shown"`)
	})
	k.kill()
	c := redistest.Dial(t, r.listen)
	redistest.Eventually(t, 10*time.Second, "keyway logs in with the second token", func() bool {
		return c.Do("SET", "a", "1").Text == "OK"
	})

	// By time: the nodes take both tokens for a while, and none is ever refused.
	out := r.reload("layout: ring\nbackend: " + k.login(", password_refresh: 1s") + "\n")
	if !strings.Contains(out, "backend.password_refresh: 0s -> 1s") || strings.Contains(out, "backend.password:") {
		t.Error(out)
	}
	logged := strings.Count(r.stderr.String(), "new password")
	rotateUnderLoad(t, r.listen, func() {
		k.take(">three")
		k.print("three")
		redistest.Eventually(t, 10*time.Second, "the third token is in use", func() bool {
			return strings.Count(r.stderr.String(), "new password") > logged
		})
		k.take("<two")
	})
	k.kill()
	redistest.Eventually(t, 10*time.Second, "keyway logs in with the third token", func() bool {
		return c.Do("SET", "a", "1").Text == "OK"
	})
	for _, token := range []string{"two", "three"} {
		if strings.Contains(r.stderr.String(), "="+token) || strings.Contains(r.stderr.String(), `"`+token) {
			t.Error("the log has a token")
		}
	}
}

// TestPasswordCommandFails: at start, the error says what the command has said. Later the last
// password stays, the log and the metrics say what is wrong, and clients go on.
func TestPasswordCommandFails(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	k := newTokens(t, redistest.Three(t))
	config := redistest.NodesYAML(k.nodes) + "layout: ring\nlisten: 127.0.0.1:0\nbackend: "
	for command, want := range map[string]string{
		`[sh, -c, "echo no such role >&2; exit 4"]`: `"sh" failed: exit status 4: no such role; run the command as ` +
			"keyway's user to see what is wrong",
		"[./gone.sh]": "gone.sh: no such file or directory; run the command",
		"[true]":      `"true" prints nothing; run`,
		"cat token":   "write the program and its arguments as a list: [PROGRAM, ARGUMENT, ...]",
	} {
		file := redistest.WriteFile(t, "keyway.yml", config+"{password_command: "+command+"}\n")
		out, status := keyway(t, "serve", "-c", file)
		if status != 1 || !strings.Contains(out, "keyway.yml:7:") || !strings.Contains(out, want) {
			t.Errorf("%s: status %d: %s, want %s", command, status, out, want)
		}
		if out, status := keyway(t, "check", "-c", file); status != 0 {
			t.Errorf("check without --connect needs no password: %s", out)
		}
	}
	r := startReloadable(t, redistest.NodesYAML(k.nodes),
		"layout: ring\nbackend: "+k.login(", password_refresh: 1s")+"\n")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "SET", "a", "1")
	os.Remove(k.file)
	redistest.Eventually(t, 20*time.Second, "the log has the failure", func() bool {
		return strings.Contains(r.stderr.String(), "cannot get a new password; keyway keeps the last one")
	})
	if page := get(t, "http://"+r.admin+"/metrics"); !strings.Contains(page,
		`keyway_password_command_failures_total{key="backend"} `) {
		t.Error(page)
	}
	redistest.Dial(t, r.listen).Expect("1", "GET", "a")
	k.kill() // the last password is good for new connections
	redistest.Eventually(t, 10*time.Second, "keyway logs in again", func() bool {
		return c.Do("SET", "a", "2").Text == "OK"
	})
	if out := r.refusedText("layout: ring\nbackend: {username: app, password_command: [false]}\n"); !strings.Contains(
		out, `backend.password_command: "false" failed: exit status 1`) {
		t.Error(out)
	}
	c.Expect("2", "GET", "a")
	k.print("one")
	redistest.Eventually(t, 30*time.Second, "the command works again", func() bool {
		return strings.Contains(r.stderr.String(), "works again")
	})
}

// refusedText is like refused, with another rest of the file, which it takes back.
func (r *reloadable) refusedText(text string) string {
	r.t.Helper()
	before := r.text
	r.text = text
	out := r.refused()
	r.text = before
	r.write()
	return out
}

// TestPasswordCommandOfAll: the commands hold for the seeds of a cluster, for sentinels, for lock
// nodes, and for the tools; new tokens too.
func TestPasswordCommandOfAll(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	t.Run("cluster", func(t *testing.T) {
		cluster := redistest.NewCluster(t, 3, 0)
		k := newTokens(t, cluster.Nodes)
		r := startReloadable(t, cluster.SeedsYAML(), "backend: "+k.login(", password_refresh: 0")+"\n")
		k.take("resetpass", ">two")
		k.print("two")
		k.kill() // also those that follow the cluster
		c := redistest.Dial(t, r.listen)
		redistest.Eventually(t, 20*time.Second, "keyway logs in with the second token", func() bool {
			return c.Do("SET", "a", "1").Text == "OK"
		})
		if out, status := keyway(t, "check", "-c", r.file, "--connect"); status != 0 {
			t.Error(out)
		}
		if out, status := keyway(t, "route", "-c", r.file, "a"); status != 0 {
			t.Error(out)
		}
	})
	t.Run("sentinels", func(t *testing.T) {
		w := redistest.NewWatched(t, "m")
		k := newTokens(t, w.Sentinels)
		sentinel := fmt.Sprintf("{master: m, addrs: [%s, %s, %s], %s", w.Sentinels[0].Addr, w.Sentinels[1].Addr,
			w.Sentinels[2].Addr, k.login(", password_refresh: 0")[1:])
		r := startReloadable(t, "nodes: [{name: a, sentinel: "+sentinel+"}]\n", "layout: ring\n")
		k.take("resetpass", ">two")
		k.print("two")
		k.kill()
		redistest.Eventually(t, 20*time.Second, "keyway asks the sentinels with the second token", func() bool {
			return strings.Contains(r.stderr.String(), "key=nodes[a].sentinel.password ") &&
				strings.Contains(redistest.Ask(w.Sentinels[0].Addr, "CLIENT", "LIST").Text, "user=app")
		})
		if out, status := keyway(t, "check", "-c", r.file, "--connect"); status != 0 {
			t.Error(out)
		}
	})
	t.Run("locks", passwordCommandOfLockNodes)
}

func passwordCommandOfLockNodes(t *testing.T) {
	nodes, holders := redistest.Three(t), redistest.Three(t)
	k := newTokens(t, holders)
	rule := fmt.Sprintf("locks: {quorum: [{match: 'lock:*', nodes: [%s, %s, %s], max_lease: 1s, %s]}\n",
		holders[0].Addr, holders[1].Addr, holders[2].Addr, k.login(", password_refresh: 0")[1:])
	r := startReloadable(t, redistest.NodesYAML(nodes), "layout: ring\n"+rule)
	c := redistest.Dial(t, r.listen)
	acquire := func(key string) {
		t.Helper()
		redistest.Eventually(t, 20*time.Second, "the lock is acquired", func() bool {
			return c.Do("SET", key, "me", "NX", "PX", "900").Text == "OK"
		})
	}
	acquire("lock:a")
	k.take("resetpass", ">two")
	k.print("two")
	k.kill()
	acquire("lock:b")
	if out, status := keyway(t, "check", "-c", r.file, "--connect"); status != 0 {
		t.Error(out)
	}
}

// single are three nodes: a takes the password first, b the user app with the password second, and c
// the password third. keyway gets the first from its environment, the second from a file, and the
// third from backend.
type single struct {
	nodes  []*redistest.Node
	second string // the file
}

func newSingle(t *testing.T) *single {
	t.Helper()
	s := &single{redistest.Three(t), redistest.WriteFile(t, "second", "second\n")}
	s.nodes[0].Do("CONFIG", "SET", "requirepass", "first")
	s.nodes[1].Do("ACL", "SETUSER", "app", "on", "~*", "&*", "+@all", ">second")
	s.nodes[2].Do("CONFIG", "SET", "requirepass", "third")
	t.Setenv("FIRST_PASSWORD", "first")
	return s
}

// text returns the configuration. third is the rest of c's entry.
func (s *single) text(third string) string {
	return fmt.Sprintf("layout: ring\nbackend: {password: third}\nnodes:\n"+
		"  - {name: a, addr: %s, password: \"${FIRST_PASSWORD}\"}\n"+
		"  - {name: b, addr: %s, username: app, password_file: %s}\n"+
		"  - {name: c, addr: %s%s}\n", s.nodes[0].Addr, s.nodes[1].Addr, s.second, s.nodes[2].Addr, third)
}

// TestPasswordsOfSingleNodes: nodes have users and passwords of their own, which all commands of
// keyway use. A wrong one is named by its key.
func TestPasswordsOfSingleNodes(t *testing.T) {
	redistest.OfAProcess(t)
	s := newSingle(t)
	r := startReloadable(t, "", s.text(""))
	c := redistest.Dial(t, r.listen)
	for i := range 100 {
		c.Expect("OK", "SET", fmt.Sprint("key:", i), "1")
	}
	if got := redistest.Ask(r.listen, "DBSIZE").Int; got != 100 {
		t.Errorf("%d keys", got)
	}
	for _, args := range [][]string{
		{"check", "-c", r.file, "--connect"},
		{"verify", "-c", r.file},
		{"plan", r.file, r.file},
		{"plan", "-c", r.file, "--admin", r.admin},
		{"migrate", r.file, r.file, "--while-serving"},
	} {
		if out, status := keyway(t, args...); status != 0 {
			t.Errorf("%s: status %d: %s", args, status, out)
		}
	}
	wrong := redistest.WriteFile(t, "wrong.yml", "listen: 127.0.0.1:0\nring: {hash: md5}\n"+
		s.text(", password_command: [echo, bad]"))
	for _, args := range [][]string{
		{"check", "-c", wrong, "--connect"}, {"verify", "-c", wrong}, {"plan", wrong, r.file},
	} {
		out, status := keyway(t, args...)
		if status == 0 || !strings.Contains(out, "correct nodes[2].username and nodes[2].password_command") {
			t.Errorf("%s: status %d: %s", args, status, out)
		}
	}
	if shown := get(t, "http://"+r.admin+"/placement"); strings.Contains(shown, "first") ||
		strings.Contains(shown, "second") || strings.Contains(shown, "app") {
		t.Errorf("others are told: %s", shown)
	}
}

// TestPasswordsOfSingleNodesChange: a reload and a changed file replace the password of one node. No
// client is closed.
func TestPasswordsOfSingleNodesChange(t *testing.T) {
	redistest.OfAProcess(t)
	s := newSingle(t)
	r := startReloadable(t, "", s.text(""))
	c := redistest.Dial(t, r.listen)
	admin := redistest.Dial(t, s.nodes[2].Addr)
	admin.Expect("OK", "AUTH", "third")
	admin.Expect("OK", "ACL", "SETUSER", "default", ">fourth")
	out := r.reload(s.text(", password: fourth"))
	if !strings.Contains(out, "nodes[c].password: changed (not shown)") {
		t.Error(out)
	}
	admin.Expect("OK", "ACL", "SETUSER", "default", "<third")
	admin.MustDo("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
	works := func(what string) {
		t.Helper()
		redistest.Eventually(t, 10*time.Second, what, func() bool {
			ok := true
			for i := range 100 {
				ok = ok && c.Do("SET", fmt.Sprint("key:", i), "2").Text == "OK"
			}
			return ok
		})
	}
	works("keyway logs in with the new password")

	s.nodes[1].Do("ACL", "SETUSER", "app", "resetpass", ">fifth")
	if err := os.WriteFile(s.second, []byte("fifth\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	redistest.Eventually(t, 10*time.Second, "the file is read again", func() bool {
		return strings.Contains(r.stderr.String(), "key=nodes[b].password ")
	})
	s.nodes[1].Do("CLIENT", "KILL", "USER", "app")
	works("keyway logs in by the file")
	if strings.Contains(r.stderr.String(), "fourth") || strings.Contains(r.stderr.String(), "fifth") {
		t.Error("the log has a password")
	}
}

// TestPasswordOfAClusterChanges: the password of a cluster's nodes is replaced as the documentation says,
// and no client notices. keyway logs in by the new one, also to follow the cluster and to replicas that
// become masters.
func TestPasswordOfAClusterChanges(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	cluster := redistest.NewCluster(t, 3, 1)
	k := &tokens{t: t, nodes: cluster.Nodes}
	k.take("resetpass", ">old")
	r := startReloadable(t, cluster.SeedsYAML(), "backend: {username: app, password: old}\n")
	redistest.Eventually(t, 20*time.Second, "keyway serves", func() bool {
		return redistest.Ask(r.listen, "EXISTS", "a").Kind == ':'
	})
	l := &load{t: t, addr: r.listen}
	l.run(5, func(c *redistest.Client, id int) error {
		return l.each(func(i int) error { return expect(c, "OK", "SET", fmt.Sprintf("key:%d:%d", id, i%50), "v") })
	})
	k.take(">new")
	r.reload("backend: {username: app, password: new}\n")
	k.take("<old")
	for now := l.commands.Load(); l.commands.Load() < now+100 && !t.Failed(); {
		time.Sleep(time.Millisecond)
	}
	l.stop.Store(true)
	l.clients.Wait()
	k.kill()
	cluster.Nodes[3].Do("CLUSTER", "FAILOVER")
	c := redistest.Dial(t, r.listen)
	redistest.Eventually(t, 20*time.Second, "the replica is a master", func() bool {
		return strings.Contains(cluster.Nodes[3].Do("ROLE").String(), "master")
	})
	redistest.Eventually(t, 20*time.Second, "keyway serves all keys", func() bool {
		for i := range 50 { // of all masters
			if c.Do("SET", fmt.Sprint("key:0:", i), "v").Text != "OK" {
				return false
			}
		}
		return true
	})
}
