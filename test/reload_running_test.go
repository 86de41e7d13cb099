package test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// reloadable is a keyway process whose file a test changes.
type reloadable struct {
	t                 testing.TB
	dir, file         string
	listen, admin     string // addresses
	head, nodes, text string // of the file: the addresses, the nodes, and the rest
	process           *os.Process
	stderr            redistest.Log
}

// startReloadable starts a keyway over nodes. text is the rest of its file.
func startReloadable(t testing.TB, nodes, text string) *reloadable {
	t.Helper()
	r := &reloadable{t: t, dir: t.TempDir(), nodes: nodes, text: text}
	r.file = filepath.Join(r.dir, "keyway.yml")
	r.listen = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	r.admin = fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	r.head = fmt.Sprintf("listen: %s\nadmin: %s\n", r.listen, r.admin)
	r.write()
	cmd := exec.Command(redistest.Build(t), "serve", "-c", r.file)
	cmd.Stderr = &r.stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			t.Log(r.stderr.String())
		}
	})
	r.process = cmd.Process
	redistest.Eventually(t, 10*time.Second, "keyway listens", func() bool {
		return strings.Contains(r.stderr.String(), "msg=listening") && redistest.Ask(r.listen, "PING").Kind != 0
	})
	return r
}

// logs waits until the log contains a text, quotation marks as in the source.
func (r *reloadable) logs(text string) {
	r.t.Helper()
	redistest.Eventually(r.t, 10*time.Second, "the log says "+text, func() bool {
		return strings.Contains(strings.ReplaceAll(r.stderr.String(), `\"`, `"`), text)
	})
}

func (r *reloadable) write() {
	r.t.Helper()
	if err := os.WriteFile(r.file, []byte(r.head+r.nodes+r.text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

// command runs keyway reload.
func (r *reloadable) command(args ...string) (out string, ok bool) {
	b, err := exec.Command(redistest.Build(r.t), append([]string{"reload", "-c", r.file}, args...)...).CombinedOutput()
	return strings.ReplaceAll(string(b), r.dir+"/", ""), err == nil
}

// reload replaces the rest of the file, reloads it, and returns what is printed.
func (r *reloadable) reload(text string, args ...string) string {
	r.t.Helper()
	r.text = text
	r.write()
	out, ok := r.command(args...)
	if !ok {
		r.t.Fatalf("reload: %s", out)
	}
	return out
}

// refused is like reload, but expects a refusal.
func (r *reloadable) refused(args ...string) string {
	r.t.Helper()
	r.write()
	out, ok := r.command(args...)
	if ok {
		r.t.Fatalf("not refused: %s", out)
	}
	return out
}

func (r *reloadable) expect(got, want string) {
	r.t.Helper()
	if got != want {
		r.t.Errorf("printed\n%s\nwant\n%s", got, want)
	}
}

// TestReloadSaysWhatChanged: the command prints each change, from what to what, and no
// secret. The log has the same.
func TestReloadSaysWhatChanged(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	r.expect(r.reload("layout: ring\nclients: {max: 5, password: s3cr3t}\nslowlog: {slower_than: 1s}\n"),
		"reloaded keyway.yml\n"+
			"  clients.password: changed (not shown)\n"+
			"  clients.max: 10000 -> 5\n"+
			"  slowlog.slower_than: 10ms -> 1s\n")
	for _, line := range []string{
		`msg="configuration changed" key=clients.password value="not shown"`,
		`msg="configuration changed" key=clients.max from=10000 to=5`,
		`msg=reloaded file=` + r.file + ` cause="keyway reload" changes=3`,
	} {
		redistest.Eventually(t, 10*time.Second, "the log has "+line, func() bool {
			return strings.Contains(r.stderr.String(), line)
		})
	}
	if strings.Contains(r.stderr.String(), "s3cr3t") {
		t.Error("the log shows a password")
	}
	r.expect(r.reload(r.text), "keyway.yml says what it said before\n")
}

// TestReloadRefusesWhole: a file with an error, with a key that needs a restart, or that
// would hide keys is refused, says why and what to do, and changes nothing.
func TestReloadRefusesWhole(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	yaml := r.nodes
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	taken := other.Addr().String()
	for _, tc := range []struct{ name, nodes, text, want string }{
		{"syntax", yaml, "layout: ring\nclients: {max: 5\n", "keyway: not reloaded: keyway.yml:8:10: " +
			"what opens here is not closed; close it with }\n"},
		{"unknown key", yaml, "layout: ring\nclients: {maxx: 5}\n",
			"keyway: not reloaded: keyway.yml:8:11: clients: unknown key \"maxx\"; did you mean \"max\"?\n"},
		{"restart", yaml, "layout: ring\nclients: {max: 5}\nthreads: 2\n", "keyway: not reloaded: threads: 1 -> 2: " +
			"a reload cannot change this, so nothing was changed; restart keyway, or take it back\n"},
		{"listener", yaml, "layout: ring\nclients: {max: 5}\n", fmt.Sprintf("keyway: not reloaded: keyway.yml:1:%d: "+
			"listen[1]: ", len("listen: [, ")+len(r.listen)+1) + "cannot listen on " + taken +
			": listen tcp4 " + taken + ": bind: address already in use; " +
			"end what uses the address, or listen elsewhere\n"},
	} {
		head := r.head
		if tc.name == "listener" {
			r.head = fmt.Sprintf("listen: [%s, %s]\nadmin: %s\n", r.listen, taken, r.admin)
		}
		r.nodes, r.text = tc.nodes, tc.text
		if got := withoutFigures(strings.ReplaceAll(r.refused(), r.file, "keyway.yml")); got != tc.want {
			t.Errorf("%s:\n%s\nwant\n%s", tc.name, got, tc.want)
		}
		r.head = head
	}
	info := redistest.Ask(r.listen, "INFO", "clients").Text
	if !strings.Contains(info, "maxclients:10000") {
		t.Errorf("a refused reload has changed clients.max: %s", info)
	}
	r.nodes = yaml
	r.expect(r.reload("layout: ring\n"), "keyway.yml says what it said before\n")
}

// withoutFigures replaces the percentages of a text by N.
func withoutFigures(text string) string {
	words := strings.Split(text, " ")
	for i := range len(words) - 1 {
		if strings.HasPrefix(words[i+1], "%") && strings.ContainsAny(words[i], "0123456789") {
			words[i] = "N"
		}
	}
	return strings.Join(words, " ")
}

// TestReloadAllowsMisplaced: with --allow-misplaced another hash is in force at once, also
// for clients that are connected.
func TestReloadAllowsMisplaced(t *testing.T) {
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	c := redistest.Dial(t, r.listen)
	for i := range 100 {
		c.Expect("OK", "SET", fmt.Sprintf("key:%d", i), "1")
	}
	out := r.reload("layout: ring\nring: {hash: md5}\n", "--allow-misplaced")
	if !strings.Contains(out, "murmur -> md5") {
		t.Error(out)
	}
	missing := 0
	for i := range 100 {
		if c.Do("EXISTS", fmt.Sprintf("key:%d", i)).Int == 0 {
			missing++
		}
	}
	if missing < 20 || missing > 98 {
		t.Errorf("%d of 100 keys are out of sight", missing)
	}
	r.reload("layout: ring\n", "--allow-misplaced")
	for i := range 100 {
		if c.Do("EXISTS", fmt.Sprintf("key:%d", i)).Int != 1 {
			t.Fatalf("key:%d is out of sight after the way back", i)
		}
	}
}

// TestReloadListeners: a new listener accepts clients, a removed one accepts none, and its
// clients stay.
func TestReloadListeners(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, "threads: 2\n"+redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	old := redistest.Dial(t, r.listen)
	second := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	socket := filepath.Join(r.dir, "keyway.sock")
	r.head = fmt.Sprintf("listen: [%s, unix://%s]\nadmin: %s\n", second, socket, r.admin)
	r.expect(strings.ReplaceAll(r.reload(r.text), r.dir+"/", ""),
		fmt.Sprintf("reloaded keyway.yml\n  listen: %s -> %s, unix://keyway.sock\n", r.listen, second))
	old.Expect("OK", "SET", "a", "1")
	redistest.Dial(t, second).Expect("1", "GET", "a")
	unix, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close()
	if c, err := net.Dial("tcp", r.listen); err == nil {
		c.Close()
		t.Error("the removed listener accepts a client")
	}
	old.Expect("1", "GET", "a")
	if port := redistest.Ask(second, "CONFIG", "GET", "port"); !strings.HasSuffix(second, ":"+port.Elems[1].Text) {
		t.Errorf("CONFIG GET port answers %s at %s", port, second)
	}
}

// TestReloadPasswords rotates the clients' password: during the rotation both are valid, and
// clients that have authenticated stay so.
func TestReloadPasswords(t *testing.T) {
	t.Parallel()
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\nclients: {password: old}\n")
	c := redistest.Dial(t, r.listen)
	c.Expect("OK", "AUTH", "old")
	accepts := func(password string) bool { return redistest.Ask(r.listen, "AUTH", password).Text == "OK" }
	r.reload("layout: ring\nclients: {password: [new, old]}\n")
	if !accepts("old") || !accepts("new") || accepts("other") {
		t.Error("both passwords should be valid, and no other")
	}
	r.reload("layout: ring\nclients: {password: new}\n")
	if accepts("old") || !accepts("new") {
		t.Error("only the new password should be valid")
	}
	c.Expect("OK", "SET", "a", "1")
	waiting := redistest.Dial(t, r.listen)
	if got := waiting.Do("GET", "a").Text; !strings.HasPrefix(got, "NOAUTH") {
		t.Error(got)
	}
	r.reload("layout: ring\n")
	waiting.Expect("1", "GET", "a")
}

// TestReloadTriggers: SIGHUP, a changed file with watch, a file that a symbolic link
// replaces, and a changed password file.
func TestReloadTriggers(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	r := startReloadable(t, redistest.NodesYAML(redistest.Three(t)), "layout: ring\n")
	maxClients := func() string {
		_, rest, _ := strings.Cut(redistest.Ask(r.listen, "INFO", "clients").Text, "maxclients:")
		text, _, _ := strings.Cut(rest, "\r")
		return text
	}
	await := func(want string) {
		t.Helper()
		redistest.Eventually(t, 20*time.Second, "clients.max is "+want, func() bool { return maxClients() == want })
	}
	r.text = "layout: ring\nclients: {max: 11}\nwatch: true\n"
	r.write()
	r.process.Signal(syscall.SIGHUP)
	await("11")
	r.text = "layout: ring\nclients: {max: 12}\nwatch: true\n"
	r.write()
	await("12")
	// As Kubernetes does: the file is a link into a directory that another link names.
	for name, n := range map[string]int{"v1": 13, "v2": 14} {
		os.Mkdir(filepath.Join(r.dir, name), 0o755)
		text := r.head + r.nodes + fmt.Sprintf("layout: ring\nclients: {max: %d}\nwatch: true\n", n)
		if err := os.WriteFile(filepath.Join(r.dir, name, "keyway.yml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	os.Symlink("v1", filepath.Join(r.dir, "data"))
	os.Symlink("data/keyway.yml", filepath.Join(r.dir, "link"))
	os.Rename(filepath.Join(r.dir, "link"), r.file)
	await("13")
	os.Symlink("v2", filepath.Join(r.dir, "data.new"))
	os.Rename(filepath.Join(r.dir, "data.new"), filepath.Join(r.dir, "data"))
	await("14")
	os.Remove(r.file)
	passwords := filepath.Join(r.dir, "passwords")
	os.WriteFile(passwords, []byte("one\n"), 0o600)
	r.reload("layout: ring\nclients: {password_file: passwords}\n") // without watch
	os.WriteFile(passwords, []byte("two\none\n"), 0o600)
	redistest.Eventually(t, 20*time.Second, "the new password is valid", func() bool {
		return redistest.Ask(r.listen, "AUTH", "two").Text == "OK"
	})
	redistest.Eventually(t, 10*time.Second, "the log says that the password was changed", func() bool {
		return strings.Contains(r.stderr.String(), `key=clients.password `)
	})
}

// TestReloadCommandErrors: what is said if keyway cannot be asked.
func TestReloadCommandErrors(t *testing.T) {
	t.Parallel()
	file := redistest.WriteFile(t, "keyway.yml", "slots: {seeds: [127.0.0.1:1]}\n")
	out, _ := exec.Command(redistest.Build(t), "reload", "-c", file).CombinedOutput()
	want := " has no admin address; send the process SIGHUP, or name the address of the running keyway with --admin\n"
	if !strings.HasSuffix(string(out), want) {
		t.Errorf("%s", out)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	out, err := exec.Command(redistest.Build(t), "reload", "--admin", addr).CombinedOutput()
	if err == nil || !strings.HasPrefix(string(out), "keyway: asking keyway at "+addr+": ") ||
		!strings.HasSuffix(string(out), "connection refused; start it, or name its admin address with --admin\n") {
		t.Errorf("%s", out)
	}
}
