package test

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// importTwemproxy runs keyway import on a file with that text.
func importTwemproxy(t *testing.T, text string, flags ...string) (stdout, stderr string, status int) {
	t.Helper()
	file := redistest.WriteFile(t, "nutcracker.yml", text)
	cmd := exec.Command(redistest.Build(t), append([]string{"import", file}, flags...)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// TestImportedPoolsFindTheirKeys writes keys through the real twemproxy, replaces it by a keyway
// with the imported configuration at the same address, and finds every key through keyway.
func TestImportedPoolsFindTheirKeys(t *testing.T) {
	t.Parallel()
	path, err := exec.LookPath("nutcracker")
	if err != nil {
		t.Fatal("twemproxy is not installed; install it with: apt-get install -y nutcracker (Debian) " +
			"or brew install twemproxy (macOS)")
	}
	for name, tc := range map[string]struct{ keys, password, warns string }{
		"ketama with a hash tag": {"  distribution: ketama\n  hash: murmur\n  hash_tag: \"{}\"\n", "", ""},
		"modula":                 {"  distribution: modula\n  hash: jenkins\n  hash_tag: \"$$\"\n", "", ""},
		"all defaults":           {"", "", ""},
		"a database":             {"  redis_db: 3\n", "", ""},
		"a password":             {"  redis_auth: s3$cret\n  timeout: 5000\n  preconnect: true\n", "s3$cret", ""},
		"a database, a password": {"  redis_db: 3\n  redis_auth: s3$cret\n", "s3$cret", "SELECT 3 before AUTH"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
			yml := "pool:\n  listen: " + addr + "\n  redis: true\n" + tc.keys + "  servers:\n"
			for i, name := range []string{" first", "", " a-third"} {
				yml += fmt.Sprintf("   - %s:%d%s\n", redistest.Start(t, "--requirepass", tc.password).Addr, 1+i, name)
			}
			file := redistest.WriteFile(t, "nutcracker.yml", yml)
			old := redistest.StartCommand(t, path, "-c", file, "-s", fmt.Sprint(redistest.FreePort(t)))
			listens(t, addr)
			keys := twemproxyKeys(500)
			c := dialWithPassword(t, addr, tc.password)
			for _, key := range keys {
				c.Expect("OK", "SET", key, "of "+key)
			}
			c.Close()
			old.Kill()
			made, stderr, status := importTwemproxy(t, yml)
			if status != 0 || !strings.Contains(stderr, tc.warns) || tc.warns == "" && stderr != "" {
				t.Fatalf("status %d\n%s\n%s", status, stderr, made)
			}
			p := redistest.StartProcess(t, "serve", "-c", redistest.WriteFile(t, "keyway.yml", made))
			listens(t, addr)
			c = dialWithPassword(t, addr, tc.password)
			for _, key := range keys {
				if r := c.Do("GET", key); r.Text != "of "+key {
					t.Fatalf("GET %q: %v", key, r)
				}
			}
			p.End()
		})
	}
}

// dialWithPassword connects, and authenticates unless the password is empty. It fails the test
// if the other side asks for none.
func dialWithPassword(t *testing.T, addr, password string) *redistest.Client {
	c := redistest.Dial(t, addr)
	if password == "" {
		return c
	}
	if r := c.Do("GET", "x"); !strings.HasPrefix(r.Text, "NOAUTH Authentication required") {
		t.Errorf("without a password: %v", r)
	}
	c.Expect("OK", "AUTH", password)
	return c
}

// TestImportChoosesAPool: of a file with several pools, import writes the one that is named, and
// says which it leaves out, and why.
func TestImportChoosesAPool(t *testing.T) {
	t.Parallel()
	pool := func(name, keys, server string) string {
		return name + ":\n  listen: 127.0.0.1:22121\n" + keys + "  servers:\n   - " + server + "\n"
	}
	cache := pool("cache", "", "127.0.0.1:11211:1")
	a := pool("a", "  redis: true\n  redis_db: 2\n", "127.0.0.1:7101:1")
	b := pool("b", "  redis: true\n", "127.0.0.1:7102:1")
	other := strings.Replace(b, "22121", "22122", 1)
	heavy := pool("heavy", "  redis: true\n", "127.0.0.1:7102:2000000")
	for _, tc := range []struct {
		text         string
		flags        []string
		status       int
		stdout, errs string
	}{
		{a, nil, 0, "{name: 127.0.0.1:7101, addr: 127.0.0.1:7101, weight: 1}", ""},
		{cache + a, nil, 2, "7101", "left out: pool cache: its servers are memcached (redis: true is missing)\n"},
		{cache + a + b, []string{"--pool", "b"}, 0, "7102", ""},
		{cache + a + other, nil, 2, "pools:\n\n  a:\n", "pool cache: its servers are memcached"},
		{a + b, nil, 1, "", "keyway cannot serve this: pools.b.listen: the pool a listens on \"127.0.0.1:22121\"; "},
		{a + b, []string{"--pool", "c"}, 1, "", "has no pool \"c\"; write --pool with one of a, b\n"},
		{cache, nil, 1, "", "has no pool that keyway can serve\n"},
		{heavy, nil, 1, "", "keyway cannot serve this: nodes[0].weight: weight 2000000; choose"},
		{"a: 1\n", nil, 1, "", "nutcracker.yml:1: \"a\" is no pool"},
	} {
		stdout, stderr, status := importTwemproxy(t, tc.text, tc.flags...)
		if status != tc.status || !strings.Contains(stdout, tc.stdout) || tc.stdout == "" && stdout != "" ||
			!strings.Contains(stderr, tc.errs) || tc.errs == "" && stderr != "" {
			t.Errorf("%s %v: status %d\n%s\n%s", tc.text, tc.flags, status, stderr, stdout)
		}
	}
	out, err := exec.Command(redistest.Build(t), "import").CombinedOutput()
	want := "keyway import needs twemproxy's file; write keyway import nutcracker.yml > keyway.yml"
	if err == nil || !strings.Contains(string(out), want) {
		t.Errorf("%v\n%s", err, out)
	}
	out, err = exec.Command(redistest.Build(t), "import", "/nowhere.yml").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "reading twemproxy's configuration: open /nowhere.yml: no such") {
		t.Errorf("%v\n%s", err, out)
	}
}
