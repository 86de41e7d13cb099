package test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// nodesUsers are the users of the nodes in these tests. keyway itself is the user keyway, and admin
// changes the others.
const nodesUsers = "user default on nopass ~* &* -@all +ping +get\n" +
	"user keyway on >kw ~* &* +@all\n" +
	"user admin on >ad ~* &* +@all\n" +
	"user app on >pw >other ~app:* %R~shared:* &app:* +@all -@dangerous\n" +
	"user reader on >pw %R~* -@all +@read +@connection\n" +
	"user none on >pw -@all\n" +
	"user queue on >pw -@all +multi +exec\n" +
	"user out off >pw ~* &* +@all\n" +
	"user mix on nopass ~a* resetchannels -@all +get (%W~b* resetchannels -@all +set) (~* &x* -@all +@pubsub)\n"

// sentToNodesUsers are lines of commands of one client each, separated by semicolons.
var sentToNodesUsers = []string{
	"ACL WHOAMI; GET a; SET a 1; AUTH app pw; ACL WHOAMI; AUTH app other; ACL WHOAMI; " +
		"AUTH default any; GET a; AUTH any",
	"AUTH nobody x; AUTH app wrong; AUTH out pw; AUTH app; AUTH app pw x y; HELLO 2 AUTH app bad; GET a; PING",
	"AUTH app pw; SET app:1 v; GET app:1; GET b; SET shared:1 v; GET shared:1; COPY shared:1 app:2; " +
		"COPY app:1 shared:2",
	"AUTH app pw; MGET app:1 app:2; MGET app:1 b; MSET app:1 1 b 2; EXISTS shared:1 b; DEL shared:1; KEYS *; FLUSHALL",
	"AUTH app pw; SET app:1 v GET; SET shared:1 v GET; EVAL x 1 b; EVAL return{KEYS[1]} 1 app:1; EVALSHA x 1 b",
	"AUTH app pw; SORT app:l BY w_*; SORT app:l GET w_*; SORT app:l BY nosort; SORT app:l GET #; SORT_RO app:l GET #",
	"AUTH app pw; PUBLISH app:1 m; PUBLISH b m; SPUBLISH b m; SUBSCRIBE b; PSUBSCRIBE b*; " +
		"PSUBSCRIBE app:x*; SSUBSCRIBE b",
	"AUTH app pw; PSUBSCRIBE app:*; SUBSCRIBE app:1; PING; UNSUBSCRIBE b; SUBSCRIBE app:1 b; PUNSUBSCRIBE; UNSUBSCRIBE",
	"AUTH app pw; MULTI; INCR app:n; GET app:n; EXEC; MULTI; DISCARD; WATCH app:n; MULTI; INCR app:n; " +
		"EXEC; WATCH b; EXEC",
	"AUTH app pw; GET; GET app:1 x; NOSUCH app:1; CONFIG GET x; CONFIG NOSUCH; CONFIG SET a b; ACL SETUSER x; ACL LIST",
	"AUTH app pw; BITFIELD shared:b GET u8 0; BITFIELD shared:b SET u8 0 1; XREAD STREAMS app:s b 0 0; OBJECT HELP x",
	"AUTH app pw; RPUSH app:q 1; BLPOP app:q 1; BLPOP b 1; CLIENT LIST; CLIENT KILL ID 9999; MONITOR; " +
		"SLOWLOG GET; INFO",
	"AUTH app pw; SELECT 1; SET app:1 in1; SELECT 0; GET app:1; SCAN 0 COUNT 1000 MATCH none; DBSIZE; WAIT 0 1; TIME x",
	"AUTH reader pw; GET b; SET b 1; EXISTS b; MULTI; EXEC; PING; SELECT 0; BLPOP b 0; WATCH b; SORT b BY x*; INFO",
	"AUTH reader pw; CLIENT SETNAME me; CLIENT GETNAME; CLIENT REPLY ON; CLIENT ID x; ECHO e; " +
		"SELECT 1; GET b; HELLO 3; GET b",
	"AUTH mix x; GET a1; GET b1; SET b1 v; SET a1 v; PUBLISH x1 m; PUBLISH y m; PSUBSCRIBE y*; PING",
	"AUTH mix x; PSUBSCRIBE x; RESET; AUTH app pw; RESET; GET b; SET b 1; PING",
	"AUTH app pw; HELLO 3; ACL WHOAMI; GET b; GET app:none; RESET",
	"HELLO 3 AUTH app pw; GET app:none; SET b 1; AUTH reader wrong; ACL WHOAMI; AUTH reader pw; " +
		"SET app:1 v; GET b; RESET",
	"AUTH none pw; GET a; PING; ECHO a; TIME; ROLE; COMMAND; CLIENT ID; SUBSCRIBE a; MULTI; EXEC; WAIT 0 0; QUIT",
	"AUTH admin ad; ACL USERS; ACL GETUSER app; ACL GETUSER nobody; ACL CAT x; ACL DRYRUN app GET b; " +
		"ACL DRYRUN app GET app:1",
}

// serveNodes starts a keyway that takes the users of these nodes. Its configuration ends with more.
func serveNodes(t *testing.T, more string) *redistest.Keyway {
	t.Helper()
	return redistest.Serve(t, "auth: passthrough\nthreads: 2\nbackend: {username: keyway, password: kw}\n"+more).Ready()
}

// TestNodesUsersLikeRedis: clients get from keyway, byte for byte, what they get from a Redis with the
// same users, although keyway has none of its own.
func TestNodesUsersLikeRedis(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", nodesUsers)
	like, node := redistest.Redis.Start(t, "--aclfile", file), redistest.Redis.Start(t, "--aclfile", file)
	keyway := serveNodes(t, redistest.Ring(node.Addr))
	for _, session := range sentToNodesUsers {
		var send strings.Builder
		for _, line := range strings.Split(session, "; ") {
			send.WriteString(line + "\r\n")
		}
		send.WriteString("QUIT\r\n")
		want, closed := redistest.Exchange(t, like.Addr, send.String(), nil)
		got, _ := redistest.ExchangeLike(t, keyway.Addr, send.String(), nil, want, closed)
		if normal(got) != normal(want) {
			t.Errorf("%s\nkeyway %q\nRedis  %q", session, normal(got), normal(want))
		}
	}
}

// TestNoCommandBypassesNodesRules: a user without rights gets an error from every command that there
// is, also from those that keyway answers by itself.
func TestNoCommandBypassesNodesRules(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", nodesUsers)
	start := func() string { return redistest.Start(t, "--aclfile", file).Addr }
	ring := redistest.Ring(start(), start())
	for name, more := range map[string]string{
		"plain":     ring,
		"emulating": "cluster: {emulate: true, announce: \"127.0.0.1:1\", peers: [\"127.0.0.1:2\"]}\n" + ring,
		"allowing":  "commands: {allow: [shutdown, cluster, save]}\n" + ring,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			keyway := serveNodes(t, more)
			c := keyway.Dial()
			c.Expect("OK", "AUTH", "none", "pw")
			for _, cmd := range command.ByID {
				if cmd.Has(command.NoAuth) {
					continue
				}
				args := strings.Split(cmd.Name, "|")
				for len(args) < max(cmd.Arity, -cmd.Arity) {
					args = append(args, "1")
				}
				if got := c.Do(args...); got.Kind != '-' {
					t.Errorf("%q: got %v", args, got)
				} else if mustBeDenied(cmd) && !strings.HasPrefix(got.Text, "NOPERM ") {
					t.Errorf("%q: got %v, not NOPERM", args, got)
				}
			}
			if got := redistest.Ask(keyway.Addr, "PING").Text; got != "PONG" {
				t.Errorf("the default user gets %q", got)
			}
			noneInTransactions(t, keyway.Dial())
		})
	}
}

// noneInTransactions requires that a user who may only MULTI and EXEC executes nothing by them.
func noneInTransactions(t *testing.T, c *redistest.Client) {
	t.Helper()
	c.Expect("OK", "AUTH", "queue", "pw")
	for _, cmd := range command.ByID {
		if cmd.Has(command.NoAuth) || cmd.ActsInMulti() {
			continue
		}
		args := strings.Split(cmd.Name, "|")
		for len(args) < max(cmd.Arity, -cmd.Arity) {
			args = append(args, "1")
		}
		c.Expect("OK", "MULTI")
		refused := c.Do(args...).Kind == '-'
		if got := c.Do("EXEC"); got.Kind != '-' && !(refused && len(got.Elems) == 0) {
			t.Errorf("MULTI, %q, EXEC: got %v", args, got)
		}
	}
}

// mustBeDenied reports whether nothing but the rights may be the reason why the command is refused:
// others are unknown to Redis 7.0, or keyway refuses them for everybody or for their arguments.
func mustBeDenied(cmd *command.Command) bool {
	switch cmd.Handling {
	case command.ByKey, command.AnyMaster, command.Local, command.Split:
		const argumentsAreWrong = "command|getkeys"
		return len(cmd.Subs) == 0 && strings.HasPrefix(cmd.Since, "2.") && cmd.Name != argumentsAreWrong
	}
	return false
}

// TestNodesUsersChange: what changes at the nodes counts at once: passwords for the next AUTH, rights
// for the next command of clients that are connected, also of commands that keyway answers. Clients
// that listen to what they may not hear any more are closed, and so are those of a deleted user.
func TestNodesUsersChange(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", nodesUsers)
	nodes := []*redistest.Node{redistest.Start(t, "--aclfile", file), redistest.Start(t, "--aclfile", file)}
	keyway := serveNodes(t, redistest.Ring(nodes[0].Addr, nodes[1].Addr))
	change := func(args ...string) {
		t.Helper()
		for _, n := range nodes {
			admin := redistest.Dial(t, n.Addr)
			admin.Expect("OK", "AUTH", "admin", "ad")
			if got := admin.Do(args...); got.Kind == '-' {
				t.Fatalf("%q: %v", args, got)
			}
			admin.Close()
		}
	}
	as := func(password string) *redistest.Client {
		c := keyway.Dial()
		c.Expect("OK", "AUTH", "app", password)
		return c
	}
	app, listener := as("pw"), as("pw")
	for i := range 20 { // on both nodes
		app.Expect("OK", "SET", "app:"+string(rune('a'+i)), "1")
	}
	if got := listener.Do("SUBSCRIBE", "app:news"); got.Kind == '-' {
		t.Fatal(got)
	}
	change("ACL", "SETUSER", "app", "<pw", ">new", "-get", "-config", "resetchannels", "&other")
	if got := redistest.Ask(keyway.Addr, "AUTH", "app", "pw").Text; !strings.HasPrefix(got, "WRONGPASS") {
		t.Errorf("the former password: %s", got)
	}
	as("new").Expect("OK", "SET", "app:a", "2")
	app.Expect("OK", "SET", "app:a", "2") // its connection has authenticated before
	denies(t, app, "GET", "app:a")
	closed(t, listener)
	again := as("new")
	again.Expect("PONG", "PING")
	change("ACL", "DELUSER", "app")
	for _, c := range []*redistest.Client{app, again} {
		if got, err := c.TryDo("SET", "app:a", "3"); err == nil && !strings.HasPrefix(got.Text, "WRONGPASS ") &&
			!strings.HasPrefix(got.Text, "ERR keyway: ") { // it may have been on the way
			t.Errorf("a deleted user gets %v", got)
		} else if err == nil && strings.HasPrefix(got.Text, "WRONGPASS ") {
			closed(t, c)
		}
	}
	if got := redistest.Ask(keyway.Addr, "AUTH", "app", "new").Text; !strings.HasPrefix(got, "WRONGPASS") {
		t.Errorf("a deleted user: %s", got)
	}
}

// TestMonitorOfNodesUsersEnds: a client that watches all commands is closed once the nodes delete its user
// or take the right from it, though it sends nothing. Others watch on.
func TestMonitorOfNodesUsersEnds(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, "--aclfile", redistest.WriteFile(t, "users.acl", nodesUsers+
		"user gone on >pw +monitor\nuser robbed on >pw +monitor\n"))
	keyway := serveNodes(t, redistest.Ring(node.Addr))
	admin := redistest.Dial(t, node.Addr)
	admin.Expect("OK", "AUTH", "admin", "ad")
	stays, gone, robbed := keyway.Dial(), keyway.Dial(), keyway.Dial()
	stays.Expect("OK", "AUTH", "admin", "ad")
	gone.Expect("OK", "AUTH", "gone", "pw")
	robbed.Expect("OK", "AUTH", "robbed", "pw")
	for _, c := range []*redistest.Client{robbed, gone, stays} { // which show no MONITOR
		c.Expect("OK", "MONITOR")
	}
	if got := admin.Do("ACL", "DELUSER", "gone"); got.Kind == '-' {
		t.Fatal(got)
	}
	admin.Expect("OK", "ACL", "SETUSER", "robbed", "-monitor")
	closed(t, gone)
	closed(t, robbed)
	keyway.Dial().Expect("PONG", "PING")
	if m, err := stays.Receive(); err != nil || !strings.HasSuffix(m.Text, `"PING"`) {
		t.Errorf("a client that may watch gets %v, %v", m, err)
	}
}

// closed fails the test unless the server closes the client's connection, without sending anything.
func closed(t *testing.T, c *redistest.Client) {
	t.Helper()
	if m, err := c.Receive(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the client is not closed, and gets %v, %v", m, err)
	}
}

// denies fails the test unless the command is denied, in the words of any version.
func denies(t *testing.T, c *redistest.Client, args ...string) {
	t.Helper()
	if got := c.Do(args...); got.Kind != '-' || !strings.HasPrefix(got.Text, "NOPERM ") {
		t.Errorf("%q: got %v", args, got)
	}
}

// TestNodesDefaultUser: a client that does not authenticate is the nodes' default user, if that needs
// no password there; else it gets NOAUTH. keyway never lends it its own rights.
func TestNodesDefaultUser(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", nodesUsers)
	node := redistest.Start(t, "--aclfile", file)
	keyway := serveNodes(t, redistest.Ring(node.Addr))
	c := keyway.Dial()
	c.Expect("(nil)", "GET", "a")
	denies(t, c, "SET", "a", "1")
	if got := keyway.Dial().Do("HELLO", "3"); got.Kind != '%' {
		t.Errorf("HELLO 3: %v", got)
	}
	admin := redistest.Dial(t, node.Addr)
	admin.Expect("OK", "AUTH", "admin", "ad")
	admin.Expect("OK", "ACL", "SETUSER", "default", "resetpass", ">secret")
	late := keyway.Dial()
	for _, args := range [][]string{{"GET", "a"}, {"PING"}, {"NOSUCH"}, {"CLIENT", "LIST"}} {
		if got := late.Do(args...).Text; got != "NOAUTH Authentication required." {
			t.Errorf("%q: %s", args, got)
		}
	}
	if got := late.Do("HELLO", "3").Text; !strings.HasPrefix(got, "NOAUTH HELLO must be called") {
		t.Errorf("HELLO: %s", got)
	}
	late.Expect("OK", "AUTH", "secret")
	late.Expect("(nil)", "GET", "a")
	node.Kill()
	const noNode = "ERR keyway: no node could be asked"
	if got := keyway.Dial().Do("GET", "a").Text; !strings.HasPrefix(got, noNode) {
		t.Errorf("without a node: %s", got)
	}
	if got := keyway.Dial().Do("AUTH", "app", "pw").Text; !strings.HasPrefix(got, noNode) {
		t.Errorf("AUTH without a node: %s", got)
	}
}

// TestNodesUsersUseNodes: what keyway asks and does for a client does not need the client's rights:
// blocking commands end when the client leaves, WAIT and scripts work, and a pool's password that
// changes does not make clients' connections keyway's.
func TestNodesUsersUseNodes(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", nodesUsers+
		"user worker on >pw ~* -@all +blpop +lpush +set +wait +evalsha +script|load\n"+
		"user caching on >pw ~* -@all +get +client|tracking\n")
	node := redistest.Start(t, "--aclfile", file)
	keyway := serveNodes(t, redistest.Ring(node.Addr))
	as := func() *redistest.Client {
		c := keyway.Dial()
		c.Expect("OK", "AUTH", "worker", "pw")
		return c
	}
	blocked, worker := as(), as()
	blocked.Send("BLPOP", "q", "0")
	blocked.Flush()
	admin := redistest.Dial(t, node.Addr)
	admin.Expect("OK", "AUTH", "admin", "ad")
	waiting := func() bool {
		return strings.Contains(admin.Do("INFO", "clients").Text, "blocked_clients:1")
	}
	redistest.Eventually(t, 20*time.Second, "the client waits", waiting)
	blocked.Close()
	redistest.Eventually(t, 20*time.Second, "the node ends the wait", func() bool { return !waiting() })
	worker.Expect("1", "LPUSH", "q", "1")
	worker.Expect("OK", "SET", "a", "1")
	worker.Expect("0", "WAIT", "0", "10")
	sha := worker.Do("SCRIPT", "LOAD", "return KEYS[1]").Text
	worker.Expect("k", "EVALSHA", sha, "1", "k")
	if got := worker.Do("EVAL", "return 1", "0").Text; !strings.HasPrefix(got, "NOPERM ") {
		t.Errorf("EVAL: %s", got)
	}
	caching := keyway.Dial()
	caching.Do("HELLO", "3", "AUTH", "caching", "pw")
	caching.Expect("OK", "CLIENT", "TRACKING", "ON")
	caching.Expect("1", "GET", "a")
	worker.Expect("OK", "SET", "a", "2")
	if m, err := caching.Receive(); err != nil || m.String() != "[invalidate [a]]" {
		t.Errorf("a client that caches gets %v, %v", m, err)
	}
	caching.Expect("2", "GET", "a")
	denies(t, caching, "SET", "a", "3")
	manager := keyway.Dial()
	manager.Expect("OK", "AUTH", "admin", "ad")
	if got := manager.Do("KEYWAY", "LOCKS"); got.Kind == '-' {
		t.Errorf("KEYWAY LOCKS of one who may MONITOR: %v", got)
	}
	if got := worker.Do("KEYWAY", "LOCKS").Text; !strings.HasPrefix(got, "NOPERM ") {
		t.Errorf("KEYWAY LOCKS of one who may not: %s", got)
	}
	list := admin.Do("CLIENT", "LIST").Text
	if !strings.Contains(list, "user=worker") || !strings.Contains(list, "user=keyway") {
		t.Errorf("the node's connections:\n%s", list)
	}
}

// TestAuthNeedsARestart: a reload does not change who knows the users.
func TestAuthNeedsARestart(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	r.text += "auth: passthrough\n"
	if out := r.refused(); !strings.Contains(out, "auth: keyway -> passthrough: a reload cannot change this") {
		t.Errorf("printed %s", out)
	}
}

// TestNodesUsersReadReplicas: reads go to replicas also for users who may not send READONLY. If replicas
// do not know the user, masters answer.
func TestNodesUsersReadReplicas(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", "user default on nopass ~* &* +@all\nuser keyway on >kw ~* &* +@all\n"+
		"user getter on >pw ~* -@all +get\n")
	c := redistest.NewCluster(t, 3, 1, "--aclfile", file)
	keyway := serveNodes(t, "reads: prefer-replica\n"+c.SeedsYAML())
	served := func() (gets int) {
		for _, n := range c.Nodes[3:] {
			if strings.Contains(n.Do("INFO", "commandstats").Text, "cmdstat_get:") {
				gets++
			}
		}
		return gets
	}
	getter := keyway.Dial()
	getter.Expect("OK", "AUTH", "getter", "pw")
	redistest.Eventually(t, 20*time.Second, "replicas answer", func() bool {
		for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
			getter.Expect("(nil)", "GET", key)
		}
		return served() == 3
	})
	for _, n := range c.Nodes[3:] {
		n.Do("ACL", "DELUSER", "getter")
	}
	again := keyway.Dial()
	again.Expect("OK", "AUTH", "getter", "pw")
	for range 20 {
		for _, client := range []*redistest.Client{getter, again} {
			for _, key := range []string{"a", "b", "c", "d", "e", "f"} {
				client.Expect("(nil)", "GET", key)
			}
		}
	}
}

// TestGuessingNodesPasswords: wrong passwords of users of the nodes slow down their address, too.
func TestGuessingNodesPasswords(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", nodesUsers)
	node := redistest.Start(t, "--aclfile", file)
	keyway := serveNodes(t, redistest.Ring(node.Addr))
	c := keyway.Dial()
	for range 8 {
		if got := c.Do("AUTH", "app", "guess").Text; !strings.HasPrefix(got, "WRONGPASS ") {
			t.Errorf("a wrong password: %s", got)
		}
	}
	begin := time.Now()
	c.Expect("OK", "AUTH", "app", "pw")
	if took := time.Since(begin); took < 300*time.Millisecond || delayed(keyway) < 3 {
		t.Errorf("the attempt after 8 wrong ones took %v, and %d were delayed", took, delayed(keyway))
	}
}
