package test

import (
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// userLines are the users of these tests, in the language of an ACL file.
const userLines = "user default on nopass ~* &* +@all\n\n" +
	"user app on >pw #5994471abb01112afcc18159f6cc74b4f511b99806da59b3caf5a9c173cacfc5 ~app:* %R~shared:* " +
	"&app:* +@all -@dangerous\n" +
	`user reader on >pw %R~* -@all +@read +@connection
user out off >pw ~* &* +@all
user mix on nopass ~a* resetchannels -@all +get (%W~b* resetchannels -@all +set) (~* &x* -@all +@pubsub)
`

// sentByUsers are lines of commands of one client each, separated by semicolons.
var sentByUsers = []string{
	"ACL WHOAMI; AUTH app pw; ACL WHOAMI; AUTH app 12345; ACL WHOAMI; AUTH default any; ACL WHOAMI; AUTH any",
	"AUTH nobody x; AUTH app wrong; AUTH out pw; AUTH app; AUTH app pw x y; HELLO 2 AUTH app bad; ACL WHOAMI",
	"AUTH app pw; SET app:1 v; GET app:1; GET b; SET shared:1 v; GET shared:1; " +
		"COPY shared:1 app:2; COPY app:1 shared:2",
	"AUTH app pw; MGET app:1 app:2; MGET app:1 b; MSET app:1 1 b 2; " +
		"EXISTS shared:1 b; DEL shared:1; KEYS *; FLUSHALL",
	"AUTH app pw; SET app:1 v GET; SET shared:1 v GET; EVAL x 1 b; EVAL return{KEYS[1]} 1 app:1; EVALSHA x 1 b",
	"AUTH app pw; SORT app:l BY w_*; SORT app:l GET w_*; SORT app:l BY nosort; SORT app:l GET #; SORT_RO app:l GET #",
	"AUTH app pw; PUBLISH app:1 m; PUBLISH b m; SPUBLISH b m; SUBSCRIBE b; " +
		"PSUBSCRIBE b*; PSUBSCRIBE app:x*; SSUBSCRIBE b",
	"AUTH app pw; PSUBSCRIBE app:*; SUBSCRIBE app:1; PING; UNSUBSCRIBE b",
	"AUTH app pw; SUBSCRIBE app:1 b; MULTI; SET app:1 1; SET b 1; EXEC; MULTI; INCR app:1; EXEC",
	"AUTH app pw; GET; GET app:1 x; NOSUCH app:1; CONFIG GET x; CONFIG NOSUCH; " +
		"CONFIG SET a b; ACL SETUSER x; ACL LIST",
	"AUTH app pw; BITFIELD shared:b GET u8 0; BITFIELD shared:b SET u8 0 1; XREAD STREAMS app:s b 0 0; OBJECT HELP x",
	"AUTH reader pw; GET b; SET b 1; EXISTS b; MULTI; EXEC; PING; SELECT 0; BLPOP b 0; WATCH b; SORT b BY x*; INFO",
	"AUTH mix x; GET a1; GET b1; SET b1 v; SET a1 v; SET b1 v GET; PUBLISH x1 m; PUBLISH y m; PSUBSCRIBE x*; PING",
	"AUTH mix x; PSUBSCRIBE x; RESET; ACL WHOAMI; AUTH app pw; RESET; ACL WHOAMI; SET b 1",
	"AUTH app pw; HELLO 3; ACL WHOAMI; GET b; ACL GETUSER app; RESET",
	"ACL USERS; ACL LIST; ACL GETUSER default; ACL GETUSER app; ACL GETUSER mix; " +
		"ACL GETUSER nobody; ACL CAT; ACL CAT x",
	"HELLO 3; ACL GETUSER mix; ACL GETUSER nobody; ACL USERS x; ACL GETUSER; " +
		"ACL CAT read x; ACL NOSUCH; ACL; ACL LOG a b",
	"ACL DRYRUN app GET app:1; ACL DRYRUN app GET b; ACL DRYRUN app SET shared:1 v; ACL DRYRUN app PUBLISH b m",
	"ACL DRYRUN app FLUSHALL; ACL DRYRUN nobody GET a; ACL DRYRUN app NOSUCH; " +
		"ACL DRYRUN app GET; ACL DRYRUN app CONFIG x",
	"ACL DRYRUN app CONFIG GET x; ACL DRYRUN mix SET b1 v; ACL DRYRUN mix SET b1 v GET; ACL DRYRUN reader config",
	"ACL LOG x; ACL LOG RESET; ACL LOG; ACL LOG -1; ACL HELP x; ACL DRYRUN app; CLIENT KILL USER nobody",
}

// startUsers starts a Redis with the users, and a keyway with the same before another node.
func startUsers(t *testing.T) (redis, keyway string) {
	t.Helper()
	file := redistest.WriteFile(t, "users.acl", userLines)
	like, node := redistest.Redis.Start(t, "--aclfile", file), redistest.Redis.Start(t) // whose texts keyway has
	return like.Addr, redistest.Serve(t, "threads: 2\nusers_file: "+file+"\n"+redistest.Ring(node.Addr)).Ready().Addr
}

// TestUsersLikeRedis: clients of all kinds of users get from keyway, byte for byte, what they get
// from a Redis with the same ACL file.
func TestUsersLikeRedis(t *testing.T) {
	t.Parallel()
	redis, keyway := startUsers(t)
	for _, session := range sentByUsers {
		var send strings.Builder
		for _, line := range strings.Split(session, "; ") {
			send.WriteString(line + "\r\n")
		}
		send.WriteString("ECHO the-end\r\nQUIT\r\n")
		want, closed := redistest.Exchange(t, redis, send.String(), nil)
		got, _ := redistest.ExchangeLike(t, keyway, send.String(), nil, want, closed)
		if normal(got) != normal(want) {
			t.Errorf("%s\nkeyway %q\nRedis  %q", session, normal(got), normal(want))
		}
	}
}

// normal leaves out what differs for reasons that have nothing to do with users: the fields of
// HELLO.
func normal(reply string) string {
	return regexp.MustCompile(`%7\r\n\$6\r\nserver\r\n(?s:.*?)modules\r\n\*0\r\n`).ReplaceAllString(reply, "HELLO ")
}

// TestUserLogLikeRedis: ACL LOG has what was denied, over all threads.
func TestUserLogLikeRedis(t *testing.T) {
	t.Parallel()
	redis, keyway := startUsers(t)
	logged := func(addr string) (lines []string) {
		for range 8 { // on both threads
			c := redistest.Dial(t, addr)
			c.Do("AUTH", "app", "wrong")
			c.Do("AUTH", "app", "pw")
			c.Do("GET", "b")
			c.Do("FLUSHALL")
			c.Do("MULTI")
			c.Do("PUBLISH", "b", "m")
			c.Close()
		}
		for _, entry := range redistest.Ask(addr, "ACL", "LOG").Elems {
			line := ""
			for i := 0; i+1 < len(entry.Elems); i += 2 {
				switch name, value := entry.Elems[i].Text, entry.Elems[i+1]; name {
				case "age-seconds":
				case "client-info":
					if !strings.Contains(value.Text, "user=") || !strings.HasPrefix(value.Text, "id=") {
						t.Errorf("client-info is %q", value.Text)
					}
				default:
					line += name + " " + value.String() + ", "
				}
			}
			lines = append(lines, line)
		}
		slices.Sort(lines)
		return lines
	}
	want, got := logged(redis), logged(keyway)
	if !slices.Equal(want, got) {
		t.Errorf("keyway\n%s\nRedis\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if n := len(redistest.Ask(keyway, "ACL", "LOG", "2").Elems); n != 2 {
		t.Errorf("ACL LOG 2 has %d entries", n)
	}
	redistest.Ask(keyway, "ACL", "LOG", "RESET")
	if n := len(redistest.Ask(keyway, "ACL", "LOG").Elems); n != 0 {
		t.Errorf("ACL LOG has %d entries after RESET", n)
	}
}

// TestUsersReload: a changed users_file changes the rights of clients that stay connected, and
// closes those of a removed user and those that listen to what they may no longer hear.
func TestUsersReload(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\nthreads: 2\n")
	file := filepath.Join(r.dir, "users.acl")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("user app on >pw ~* &* +@all\nuser gone on >pw ~* &* +@all\nuser still on >pw ~* &news* +@all\n")
	r.reload("layout: ring\nthreads: 2\nusers_file: users.acl\n")
	as := func(user string) *redistest.Client {
		c := redistest.Dial(t, r.listen)
		c.Expect("OK", "AUTH", user, "pw")
		return c
	}
	app, gone, queued := as("app"), as("gone"), as("app")
	listener, stays := as("still"), as("app")
	listener.Do("SUBSCRIBE", "news:1")
	stays.Do("SUBSCRIBE", "a", "b")
	queued.Expect("OK", "MULTI")
	queued.Expect("QUEUED", "SET", "a:{x}", "1")
	queued.Expect("QUEUED", "SET", "b:{x}", "1")
	write("user app on >other ~a:* &a &b* +@all\nuser still on >pw ~* &other +@all\n")
	closed := func(c *redistest.Client) error {
		_, err := c.Receive()
		return err
	}
	if err := closed(gone); err == nil { // the file is read when it changes
		t.Error("the client of a removed user gets a reply")
	}
	if err := closed(listener); err == nil {
		t.Error("a client that may not listen any more gets a message")
	}
	redistest.Eventually(t, 20*time.Second, "all threads have the new users", func() bool {
		return strings.Contains(r.stderr.String(), `cause="a changed file" changes=`)
	})
	const noKey = "-NOPERM this user has no permissions to access one of the keys used as arguments"
	app.Expect(noKey, "SET", "b", "1")
	app.Expect("OK", "SET", "a:2", "1")
	queued.Expect("-EXECABORT Transaction discarded because of: NOPERM ACLs rules changed between the moment "+
		"the transaction was accumulated and the EXEC call.", "EXEC")
	app.Expect("0", "EXISTS", "a:{x}")
	if got := redistest.Ask(r.listen, "PUBLISH", "b", "m"); got.Int != 1 {
		t.Errorf("the client that may still listen is gone: %v", got)
	}
	if got := redistest.Ask(r.listen, "AUTH", "app", "pw").Text; !strings.HasPrefix(got, "WRONGPASS") {
		t.Errorf("the former password: %s", got)
	}
	write("user app on nopass ~a:* +nosuch\n")
	r.process.Signal(syscall.SIGHUP)
	redistest.Eventually(t, 20*time.Second, "the wrong rule is refused", func() bool {
		return strings.Contains(r.stderr.String(), "users.acl:1: Error in applying operation '+nosuch'")
	})
	app.Expect("OK", "SET", "a:2", "1")
}

// TestUsersInTheFile: what keyway check says about wrong users.
func TestUsersInTheFile(t *testing.T) {
	t.Parallel()
	binary, dir := redistest.Build(t), t.TempDir()
	check := func(users, yaml string) string {
		t.Helper()
		config := filepath.Join(dir, "keyway.yml")
		for name, text := range map[string]string{
			filepath.Join(dir, "users.acl"): users,
			config:                          "layout: ring\nnodes: [{name: a, addr: 127.0.0.1:1}]\n" + yaml,
		} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		out, _ := exec.Command(binary, "check", "-c", config).CombinedOutput()
		return strings.ReplaceAll(string(out), dir+"/", "")
	}
	for _, c := range [][2]string{
		{"user a on +get\n\nuser b +nosuch",
			"users.acl:3: Error in applying operation '+nosuch': Unknown command"},
		{"user a on ~* ~b",
			"users.acl:1: Adding a pattern after the * pattern"},
		{"user a on #abc",
			"users.acl:1: The password hash must be exactly 64 characters"},
		{"user a on\nuser a on",
			"users.acl:2: Duplicate user 'a' found"},
		{"# comment",
			"users.acl:1: should start with user keyword followed by"},
		{"user a (+get ~x",
			"users.acl:1: Unmatched parenthesis in selector definition"},
		{"user a >hunter2 hunter2",
			"users.acl:1: Syntax error"},
		{"user a on >hunter2 ~a:* (+set ~b) +@all",
			"is valid"},
	} {
		if out := check(c[0], "users_file: users.acl\n"); !strings.Contains(out, c[1]) ||
			strings.Contains(out, "hunter2") {
			t.Errorf("%s\n%s", c[0], out)
		}
	}
	for _, c := range [][2]string{
		{"users_file: nosuch.acl",
			"users_file: open nosuch.acl: no such file or directory; make"},
		{"users: [{name: a, acl: +x}]\nusers_file: users.acl",
			"users[0].acl: the rules of all users are in users_file; write the rules into the file, or remove"},
		{"users:\n- {name: a, acl: \"on +nosuch\"}",
			`keyway.yml:4:3: users[0]: user "a": Error in applying operation '+nosuch'`},
		{"users: [{acl: on}]", "users[0].name: a user without a name; add a name"},
		{"users: [{name: a}, {name: a}]", `users[1].name: user "a" appears twice; keep one of them`},
		{"clients: {password: x}\nusers: [{name: default}]",
			"clients.password: both a password for the default user"},
		{"users: [{name: default}, {name: a, acl: \"on >x ~a +get\"}]",
			"is valid"},
	} {
		if out := check("", c[0]+"\n"); !strings.Contains(out, c[1]) {
			t.Errorf("%s\n%s", c[0], out)
		}
	}
}

// TestUsersLogged: a failed authentication is logged with the user's name. CLIENT LIST has the
// user, and CLIENT KILL closes those of one.
func TestUsersLogged(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k, l := logged(t, "users: [{name: app, acl: \"on >pw ~app:* +@all\"}]\nclients: {password: admin}\n"+
		redistest.Ring(node.Addr), slog.LevelInfo)
	c := k.Ready().Dial()
	c.Expect("-NOAUTH Authentication required.", "GET", "a")
	c.Expect("-WRONGPASS invalid username-password pair or user is disabled.", "AUTH", "app", "hunter2")
	l.has(t, "client refused", `reason="wrong password"`, "client="+c.Conn.LocalAddr().String(), "user=app")
	c.Expect("OK", "AUTH", "admin")
	c.Expect("default", "ACL", "WHOAMI")
	other := k.Dial()
	other.Expect("OK", "AUTH", "app", "pw")
	got := c.Do("CLIENT", "LIST").Text
	if !strings.Contains(got, "user=app ") || !strings.Contains(got, "user=default ") {
		t.Errorf("CLIENT LIST: %s", got)
	}
	c.Expect("1", "CLIENT", "KILL", "USER", "app")
	if _, err := other.TryDo("PING"); err == nil {
		t.Error("CLIENT KILL USER left the client connected")
	}
	if strings.Contains(l.String(), "hunter2") {
		t.Errorf("%s", l)
	}
}
