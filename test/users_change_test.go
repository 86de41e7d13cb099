package test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// userChanges are pipelines of one client each, in this order. A pipeline's later commands must
// see what the earlier ones have changed.
var userChanges = []string{
	"ACL SETUSER a; ACL LIST",
	"ACL SETUSER a on >x ~a* +get; ACL GETUSER a; AUTH a x; GET a1; GET b; SET a1 v; ACL LIST",
	"ACL SETUSER a +nosuch; ACL SETUSER a ~* ~b; ACL SETUSER a (~x +get; ACL SETUSER a (~x +foo); ACL GETUSER a",
	"ACL SETUSER a #abc; ACL SETUSER a <nopw; ACL SETUSER a !abc; ACL SETUSER a %X~k; ACL SETUSER a & x; ACL GETUSER a",
	"ACL SETUSER a (~x +get) (%R~y +set); ACL GETUSER a; ACL SETUSER a clearselectors +@read -get; ACL GETUSER a",
	"ACL SETUSER a resetkeys ~k <x >y; AUTH a x; AUTH a y; GET k; ACL WHOAMI; ACL SETUSER a on; ACL LIST",
	"ACL SETUSER a reset; ACL LIST; ACL SETUSER b on nopass +@all ~* &*; AUTH b x; ACL SETUSER b -get; GET k; PING",
	"AUTH b x; ACL SETUSER b off; SET k v; AUTH b x; ACL SETUSER b on; AUTH b any; ACL SETUSER b resetpass; AUTH b any",
	"ACL DELUSER default a; ACL DELUSER nobody; ACL DELUSER a nobody b b; ACL LIST; ACL DELUSER; ACL SETUSER",
	"ACL LOAD x; ACL SAVE x; MULTI; ACL SETUSER m on; SET k v; ACL DELUSER m n; EXEC; ACL USERS",
	"MULTI; ACL SETUSER; EXEC",
	"MULTI; ACL SETUSER m ~a; ACL DELUSER m; ACL SETUSER m ~c; ACL SETUSER m ~d; EXEC; ACL GETUSER m",
	"ACL DELUSER m",
	"ACL SETUSER c on nopass +@all -acl|setuser ~* &*; AUTH c x; ACL SETUSER c +@all; ACL DELUSER d; ACL LIST",
	"ACL SETUSER e on nopass +@all ~* &*; AUTH e x; ECHO before; ACL DELUSER e c; ECHO after; ACL WHOAMI",
	"SUBSCRIBE x; ACL SETUSER f; UNSUBSCRIBE",
	"ACL SETUSER default -ping; PING; ACL SETUSER default +@all; PING; ACL LIST",
	"ACL SETUSER g on >pw ~g* resetchannels &g +@all -config +config|get; ACL SETUSER h off; ACL SAVE; ACL LIST",
	"ACL SETUSER g -@all; ACL DELUSER h; ACL LIST; ACL LOAD; ACL LIST; ACL LOG RESET",
	"ACL SETUSER default off; PING; ACL WHOAMI",
	"PING; ACL LIST",
}

// TestUserChangesLikeRedis: ACL SETUSER, DELUSER, LOAD and SAVE do what they do in Redis, reply
// for reply, and write the same file.
func TestUserChangesLikeRedis(t *testing.T) {
	t.Parallel()
	var files []string
	for _, name := range []string{"redis.acl", "keyway.acl"} {
		files = append(files, redistest.WriteFile(t, name, userLines))
	}
	redis, node := redistest.Redis.Start(t, "--aclfile", files[0]).Addr, redistest.Redis.Start(t)
	keyway := redistest.ServeProcess(t, "threads: 2\nusers_file: "+files[1]+"\n"+redistest.Ring(node.Addr)).Addr
	for _, session := range userChanges {
		send := strings.ReplaceAll(session, "; ", "\r\n") + "\r\nECHO the-end\r\nQUIT\r\n"
		want, closed := redistest.Exchange(t, redis, send, nil)
		got, _ := redistest.ExchangeLike(t, keyway, send, nil, want, closed)
		if got != want {
			t.Errorf("%s\nkeyway %q\nRedis  %q", session, got, want)
		}
	}
	saved := func(file string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	if got, want := saved(files[1]), saved(files[0]); got != want || !strings.Contains(got, "user g on #") {
		t.Errorf("keyway has saved\n%sRedis\n%s", got, want)
	}
}

// TestUserFileErrorsLikeRedis: ACL LOAD of a wrong file names all errors as Redis does, and
// changes nothing.
func TestUserFileErrorsLikeRedis(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "users.acl", userLines)
	redis, node := redistest.Redis.Start(t, "--aclfile", file).Addr, redistest.Redis.Start(t)
	keyway := redistest.ServeProcess(t, "threads: 2\nusers_file: "+file+"\n"+redistest.Ring(node.Addr)).Addr
	before := redistest.Ask(keyway, "ACL", "LIST").String()
	for _, text := range []string{
		"user a +nosuch\n\nuser b on on\nuser b on\nfoo\nuser\nuser c (+get\nuser d ~* ~b #abc +@nix +x\n",
		"user a on\nuser a on +nosuch\n", "# comment", "user a (+get\nuser b >x y z\n", "user  on\n",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		want, got := redistest.Ask(redis, "ACL", "LOAD"), redistest.Ask(keyway, "ACL", "LOAD")
		if text != "user  on\n" && got.String() != want.String() || got.Kind != '-' {
			t.Errorf("%q:\nkeyway %s\nRedis  %s", text, got, want)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	want, got := redistest.Ask(redis, "ACL", "LOAD"), redistest.Ask(keyway, "ACL", "LOAD")
	if got.String() != want.String() {
		t.Errorf("no file:\nkeyway %s\nRedis  %s", got, want)
	}
	if got := redistest.Ask(keyway, "ACL", "LIST").String(); got != before {
		t.Errorf("the users were %s, and are %s now", before, got)
	}
}

// TestUserChangesReachAll: a change holds for the clients of all threads when it is answered.
// Clients of a deleted user, and those that listen to what they may not hear any more, are
// closed; all others stay.
func TestUserChangesReachAll(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k := redistest.Serve(t, "threads: 3\n"+redistest.Ring(node.Addr)).Ready()
	admin := k.Dial()
	admin.Expect("OK", "ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all")
	admin.Expect("OK", "ACL", "SETUSER", "stays", "on", ">pw", "~*", "&a", "+@all")
	as := func(user string) (clients []*redistest.Client) {
		for range 12 {
			c := k.Dial()
			c.Expect("OK", "AUTH", user, "pw")
			clients = append(clients, c)
		}
		return clients
	}
	app, stays, listens := as("app"), as("stays"), as("stays")
	for i, c := range listens {
		c.Do("SUBSCRIBE", "a")
		if i%2 == 0 {
			stays[i].Do("SUBSCRIBE", "a")
		}
	}
	admin.Expect("OK", "ACL", "SETUSER", "app", "-get", "off", "<pw")
	for _, c := range app {
		c.Expect("-NOPERM this user has no permissions to run the 'get' command", "GET", "k")
		c.Expect("OK", "SET", "k", "v") // off and without a password: those that are in stay in
	}
	admin.Expect("OK", "ACL", "SETUSER", "stays", "&b") // a is still allowed
	admin.Expect("18", "PUBLISH", "a", "m")
	admin.Expect("OK", "ACL", "SETUSER", "stays", "resetchannels", "&b")
	for _, c := range listens {
		c.Receive() // the message
		if got, err := c.Receive(); err == nil {
			t.Fatalf("a client that may not listen any more gets %v", got)
		}
	}
	admin.Expect("1", "ACL", "DELUSER", "app", "nobody")
	for _, c := range app {
		if got, err := c.TryDo("PING"); err == nil {
			t.Fatalf("a client of a deleted user gets %v", got)
		}
	}
	for i, c := range stays {
		if i%2 != 0 {
			c.Expect("PONG", "PING")
		}
	}
}

// TestUserChangesAtOnce: changes by clients of all threads are applied one after another, so
// none is lost.
func TestUserChangesAtOnce(t *testing.T) {
	t.Parallel()
	k := redistest.Serve(t, "threads: 4\n"+redistest.Ring(redistest.Start(t).Addr)).Ready()
	var changing sync.WaitGroup
	for i := range 16 {
		c := k.Dial()
		changing.Go(func() {
			for j := range 20 {
				if got := c.Do("ACL", "SETUSER", fmt.Sprintf("u%d-%d", i, j), "on"); got.Text != "OK" {
					t.Errorf("%v", got)
				}
				if got := c.Do("ACL", "SETUSER", "all", fmt.Sprintf("~%d-%d", i, j)); got.Text != "OK" {
					t.Errorf("%v", got)
				}
				if got := c.Do("ACL", "DELUSER", fmt.Sprintf("u%d-%d", i, j-1)); got.Int != min(1, int64(j)) {
					t.Errorf("DELUSER: %v", got)
				}
			}
		})
	}
	changing.Wait()
	for range 12 {
		if n := len(redistest.Ask(k.Addr, "ACL", "USERS").Elems); n != 16+2 {
			t.Errorf("%d users", n)
		}
		if n := strings.Count(redistest.Ask(k.Addr, "ACL", "GETUSER", "all").String(), "~"); n != 16*20 {
			t.Errorf("%d patterns", n)
		}
	}
}

// TestUserChangesAndReloads: changes by clients stay over a reload that concerns no users. A
// changed file of users replaces them. What ACL SAVE writes is no change of the file, and
// reaches other keyways with the same file.
func TestUserChangesAndReloads(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\nthreads: 2\n")
	file := filepath.Join(r.dir, "users.acl")
	const yaml = "layout: ring\nthreads: 2\nusers_file: users.acl\n"
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	users := func(addr string) string { return redistest.Ask(addr, "ACL", "USERS").String() }
	write("user app on >pw ~* +@all\n")
	r.reload(yaml)
	other := redistest.ServeProcess(t, "users_file: "+file+"\n"+r.nodes+"layout: ring\n").Addr
	admin := redistest.Dial(t, r.listen)
	admin.Expect("OK", "ACL", "SETUSER", "made", "on", ">hunter2", "~*")
	r.reload(yaml + "slowlog: {entries: 77}\n")
	if got := users(r.listen); got != "[app default made]" {
		t.Fatalf("after a reload that concerns no users: %s", got)
	}
	admin.Expect("OK", "ACL", "SAVE")
	admin.Expect("OK", "ACL", "SETUSER", "later", "on")
	redistest.Eventually(t, 20*time.Second, "the other keyway reads the file", func() bool {
		return users(other) == "[app default made]"
	})
	redistest.Eventually(t, 20*time.Second, "keyway looks at the file", func() bool {
		return strings.Contains(r.stderr.String(), `cause="a changed file"`)
	})
	if got := users(r.listen); got != "[app default later made]" {
		t.Fatalf("after keyway has seen the file that it saved: %s", got)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("the saved file: %v %v", info.Mode(), err)
	}
	if left, _ := filepath.Glob(file + ".*"); len(left) > 0 {
		t.Errorf("SAVE leaves %s", left)
	}
	write("user app on >pw ~* +@all\nuser new on\n")
	redistest.Eventually(t, 20*time.Second, "the changed file replaces the users", func() bool {
		return users(r.listen) == "[app default new]"
	})
	redistest.Eventually(t, 20*time.Second, "the log says so", func() bool {
		return strings.Contains(r.stderr.String(), "replace those that clients have changed by ACL SETUSER or DELUSER")
	})
	text := r.stderr.String()
	if !strings.Contains(text, `msg="users changed" command="ACL SETUSER made" client=127.0.0.1:`) ||
		!strings.Contains(text, `msg="users saved" file=users.acl`) || strings.Contains(text, "hunter2") {
		t.Errorf("the log:\n%s", text)
	}
}

// TestUsersWithoutFile: what ACL LOAD and SAVE say if there is no file, or if it must not have
// the default user.
func TestUsersWithoutFile(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	p := redistest.ServeProcess(t, "users: [{name: app, acl: \"on >pw +acl\"}]\n"+redistest.Ring(node.Addr))
	k := redistest.Serve(t, redistest.Ring(node.Addr)).Ready()
	for _, addr := range []string{p.Addr, k.Addr} {
		c := redistest.Dial(t, addr)
		for _, sub := range []string{"LOAD", "SAVE"} {
			c.Expect("-ERR keyway: the configuration has no users_file; add one, or change its users and reload keyway",
				"ACL", sub)
		}
		c.Expect("-ERR Usernames can't contain spaces or null characters", "ACL", "SETUSER", "")
		c.Expect("-ERR Usernames can't contain spaces or null characters", "ACL", "SETUSER", "a b")
		c.Expect("-ERR Usernames can't contain spaces or null characters", "ACL", "SETUSER", "a\x00b")
		c.Expect("-ERR Error in ACL SETUSER modifier '+select|0  user x': Syntax error",
			"ACL", "SETUSER", "a", "+select|0 \nuser x")
	}
	r := startReloadable(t, redistest.NodesYAML([]*redistest.Node{node}), "layout: ring\n")
	file := filepath.Join(r.dir, "users.acl")
	if err := os.WriteFile(file, []byte("user app on >pw\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.reload("layout: ring\nclients: {password: pw}\nusers_file: users.acl\n")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "AUTH", "pw")
	c.Expect("OK", "ACL", "SAVE")
	text, _ := os.ReadFile(file)
	if lines := strings.Split(string(text), "\n"); !slices.ContainsFunc(lines, func(l string) bool {
		return strings.HasPrefix(l, "user app ")
	}) || strings.Contains(string(text), "default") {
		t.Errorf("the file is %s", text)
	}
	const failed = "-ERR There was an error trying to save the ACLs. Please check the server logs for more information"
	c.Expect("OK", "ACL", "SETUSER", "default", ">more")
	c.Expect(failed, "ACL", "SAVE") // keyway could not load the default user from both
	c.Expect("OK", "ACL", "SETUSER", "default", "<more")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	c.Expect(failed, "ACL", "SAVE")
}

// TestOpenDefaultUser: keyway check and the log warn if there are users, and the default user can
// run all commands without a password.
func TestOpenDefaultUser(t *testing.T) {
	t.Parallel()
	const warning = "there are users, but clients that do not authenticate can run all commands as the default user; " +
		"write a line \"user default off\", or give that user a password"
	r := startReloadable(t, redistest.NodesYAML([]*redistest.Node{redistest.Start(t)}), "layout: ring\n")
	for _, c := range []struct {
		yaml   string
		isOpen bool
	}{
		{"", false},
		{"clients: {password: x}\nusers: [{name: a}]\n", false},
		{"users: [{name: a}, {name: default, acl: \"on >x +@all\"}]\n", false},
		{"users: [{name: a}, {name: default, acl: \"on nopass ~* +@all -keys\"}]\n", false},
		{"users: [{name: default, acl: \"on nopass +@all\"}]\n", false},
		{"users: [{name: a}, {name: default, acl: \"off nopass +@all\"}]\n", false},
		{"users: [{name: a}, {name: default, acl: \"on nopass ~x +@all\"}]\n", true},
		{"users: [{name: a}]\n", true},
	} {
		r.text = "layout: ring\n" + c.yaml
		r.write()
		out, _ := exec.Command(redistest.Build(t), "check", "-c", r.file).CombinedOutput()
		if got := strings.Contains(string(out), "\nwarning: "+warning+"\n"); got != c.isOpen {
			t.Errorf("%s: %s", c.yaml, out)
		}
		if got := strings.Contains(r.stderr.String(), "level=WARN"); got {
			t.Errorf("the log warns of what is not open: %s", r.stderr.String())
		}
	}
	r.reload(r.text)
	r.logs(`level=WARN msg="` + warning)
}
