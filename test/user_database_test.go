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

// usersWithDatabases are users, some of whom begin in another database than 0.
const usersWithDatabases = `users:
  - {name: default, acl: "on nopass ~* &* +@all", database: 2}
  - {name: app, acl: "on >pw ~* &* +@all", database: 3}
  - {name: other, acl: "on >pw ~* &* +@all", database: 5}
  - {name: plain, acl: "on >pw ~* &* +@all"}
`

// inDatabase checks in which database a client is, by what CLIENT INFO says and by where it writes.
func inDatabase(t *testing.T, c *redistest.Client, nodes []*redistest.Node, want int, when string) {
	t.Helper()
	key := "written:" + when
	c.Expect("OK", "SET", key, "v")
	if info := c.MustDo("CLIENT", "INFO").Text; !strings.Contains(info, fmt.Sprintf(" db=%d ", want)) {
		t.Errorf("%s: %s, want database %d", when, info, want)
	}
	found := 0
	for _, n := range nodes {
		direct := redistest.Dial(t, n.Addr)
		direct.MustDo("SELECT", fmt.Sprint(want))
		found += int(direct.Do("DEL", key).Int) // 0 at a node of a cluster that does not own it
		direct.Close()
	}
	if found != 1 {
		t.Errorf("%s: no node has the key in database %d", when, want)
	}
}

// TestDatabaseOfUser: a client is in the database of the user whom it becomes, however it becomes that
// user, and stays where it is when it authenticates again as the same one.
func TestDatabaseOfUser(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	for name, layout := range redistest.Layouts(nodes) {
		t.Run(name, func(t *testing.T) {
			k := redistest.Serve(t, layout+"threads: 2\n"+usersWithDatabases).Ready()
			c := k.Dial()
			in := func(want int, when string) {
				t.Helper()
				inDatabase(t, c, nodes, want, when)
			}
			in(2, "at first")
			c.Expect("OK", "AUTH", "app", "pw")
			in(3, "after AUTH")
			c.Expect("OK", "SELECT", "4")
			c.Expect("OK", "AUTH", "app", "pw")
			in(4, "after AUTH of the same user")
			c.Expect("-WRONGPASS invalid username-password pair or user is disabled.", "AUTH", "other", "no")
			in(4, "after a wrong password")
			c.MustDo("HELLO", "3", "AUTH", "other", "pw")
			in(5, "after HELLO AUTH")
			c.Expect("OK", "AUTH", "plain", "pw")
			in(0, "as a user without a database")
			c.Expect("RESET", "RESET")
			in(2, "after RESET")
			c.Expect("OK", "WATCH", "k")
			c.Expect("OK", "AUTH", "app", "pw")
			c.Expect("OK", "MULTI")
			c.Expect("QUEUED", "SET", "k", "of app")
			c.Expect("[OK]", "EXEC")
			c.Expect("of app", "GET", "k")
			in(3, "with watched keys")
			c.MustDo("HELLO", "3")
			c.Expect("OK", "CLIENT", "TRACKING", "ON")
			c.Send("AUTH", "other", "pw")
			c.Flush()
			for _, want := range []string{"[invalidate (nil)]", "OK"} {
				if m, err := c.Receive(); err != nil || m.String() != want {
					t.Errorf("a client that caches is told %s, %v instead of %s", m, err, want)
				}
			}
			in(5, "with tracking")
		})
	}
}

// TestDatabaseOfUserInOrder: commands that a client has sent before AUTH act in the database that it
// leaves, before any command that it sends afterwards.
func TestDatabaseOfUserInOrder(t *testing.T) {
	t.Parallel()
	for _, authenticate := range []string{"AUTH app pw", "HELLO 2 AUTH app pw", "HELLO 2 SETNAME x AUTH app pw"} {
		node := redistest.Start(t)
		k := redistest.Serve(t, redistest.Ring(node.Addr)+usersWithDatabases).Ready()
		warm, c := k.Dial(), k.Dial()
		warm.Expect("OK", "AUTH", "app", "pw") // now there is a connection in database 3, and none in 2
		warm.Expect("OK", "SET", "k", "of app")
		c.Raw("SET k v\r\n" + authenticate + "\r\nFLUSHALL\r\n")
		c.Flush()
		for range 3 {
			if m, err := c.Receive(); err != nil || m.Kind == '-' {
				t.Errorf("%s: %s, %v", authenticate, m, err)
			}
		}
		if got := node.Do("INFO", "keyspace").Text; strings.Contains(got, "db") {
			t.Errorf("%s: FLUSHALL has overtaken an earlier command: %s", authenticate, got)
		}
	}
}

// TestDatabaseOfACertificate: the user of a certificate begins in its database.
func TestDatabaseOfACertificate(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, false, ", client_ca: %s, user_from: cn", usersWithDatabases)
	s.ca.Issue("app", time.Hour)
	c := redistest.DialTLS(t, s.tls, s.ca.Config("app"))
	info := c.MustDo("CLIENT", "INFO").Text
	if !strings.Contains(info, " user=app ") || !strings.Contains(info, " db=3 ") {
		t.Error(info)
	}
}

// TestReloadDatabaseOfUser: a reload changes the database for clients that authenticate later, with
// users_file too. One whose database the nodes lack is refused, and changes nothing.
func TestReloadDatabaseOfUser(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	r := startReloadable(t, redistest.NodesYAML(nodes), "layout: ring\n"+usersWithDatabases)
	before := redistest.Dial(t, r.listen)
	before.Expect("OK", "AUTH", "app", "pw")
	inDatabase(t, before, nodes, 3, "before")
	file := filepath.Join(r.dir, "users.acl")
	if err := os.WriteFile(file, []byte("user app on >pw ~* &* +@all\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const settings = "layout: ring\nusers_file: users.acl\nusers: [{name: app, database: %d}]\n"
	r.reload(fmt.Sprintf(settings, 6))
	inDatabase(t, before, nodes, 3, "after the reload")
	before.Expect("OK", "AUTH", "app", "pw")
	inDatabase(t, before, nodes, 3, "after the reload and AUTH of the same user")
	later := redistest.Dial(t, r.listen)
	inDatabase(t, later, nodes, 0, "as the default user")
	later.Expect("OK", "AUTH", "app", "pw")
	inDatabase(t, later, nodes, 6, "later")
	r.text = fmt.Sprintf(settings, 16)
	if got := r.refused(); !strings.Contains(got, "users[0].database: node ") ||
		!strings.Contains(got, "does not let keyway select database 16: ERR DB index is out of range") {
		t.Error(got)
	}
	again := redistest.Dial(t, r.listen)
	again.Expect("OK", "AUTH", "app", "pw")
	inDatabase(t, again, nodes, 6, "after a reload that was refused")
}

// TestDatabaseOfUserThatIsNotThere: keyway does not start, and keyway check fails, if the nodes lack
// the database of a user, as those of a Redis Cluster do.
func TestDatabaseOfUserThatIsNotThere(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	standalone := redistest.Ring(redistest.Start(t).Addr)
	for _, c := range []struct{ yaml, flag, user, want string }{
		{standalone, "--connect", "{name: app, acl: \"on\", database: 16}", "ERR DB index is out of range"},
		{redistest.Redis.Cluster(t, 3, 0).SeedsYAML(), "", "{name: app, acl: \"on\", database: 1}",
			"does not let keyway select database 1: "},
		{standalone, "", "{name: app, acl: \"on\", database: 65536}", "users[0].database: out of range"},
		{standalone, "", "{name: app, acl: \"on\", database: -1}", "users[0].database: out of range"},
	} {
		yaml := c.yaml + "users: [" + c.user + "]\n"
		flags := []string{}
		if c.flag != "" {
			flags = append(flags, c.flag)
		}
		out, ok := check(t, yaml, flags...)
		if ok || !strings.Contains(out, c.want) || !strings.Contains(out, "users[0].database") {
			t.Errorf("check: %s", out)
		}
		p := redistest.StartProcess(t, "serve", "-c", redistest.WriteFile(t, "keyway.yml",
			fmt.Sprintf("listen: 127.0.0.1:%d\n", redistest.FreePort(t))+yaml))
		if err := p.Cmd.Wait(); err == nil || !strings.Contains(p.Stderr.String(), "users[0].database") {
			t.Errorf("serve: %v, %s", err, p.Stderr.String())
		}
	}
	if out, ok := check(t, standalone+"users: [{name: app, acl: \"on\", database: 15}]\n", "--connect"); !ok {
		t.Error(out)
	}
}

// TestDatabaseOfUserInACluster: a cluster that has several databases, as Valkey 9 can, has those of
// users too.
func TestDatabaseOfUserInACluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.Valkey.Cluster(t, 3, 0, "--cluster-databases", "4")
	yaml := cluster.SeedsYAML() + "users: [{name: app, acl: \"on >pw ~* +@all\", database: 3}]\n"
	if out, ok := check(t, yaml); !ok {
		t.Error(out)
	}
	c := redistest.Serve(t, yaml).Ready().Dial()
	c.Expect("OK", "AUTH", "app", "pw")
	for _, key := range []string{"a", "b", "c", "d"} {
		inDatabase(t, c, cluster.Nodes, 3, key)
	}
}
