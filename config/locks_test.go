package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestQuorumRules(t *testing.T) {
	const head = "layout: ring\nnodes: [{name: a, addr: 127.0.0.1:7101, replicas: [127.0.0.1:7201]}]\n" +
		"listen: 127.0.0.1:6380\n"
	parse := func(rule string) (*Config, error) {
		text := head + "locks: {quorum: [" + rule + "]}\n"
		return Parse("f", []byte(text), func(string) (string, bool) { return "", false })
	}
	c, err := parse(`{match: "lock:*", nodes: [h1:1, h2:1, h3:1]}`)
	if err != nil {
		t.Fatal(err)
	}
	r := c.Locks.Quorum[0]
	if r.Timeout != 50*time.Millisecond || r.Drift != 0.01 || r.MaxLease != time.Minute || r.Fencing {
		t.Errorf("the defaults are %+v", r)
	}
	c, err = parse(`{match: "l*", nodes: [h1:1, h2:1, h3:1], timeout: 20ms, drift: 0.02, max_lease: 10s, ` +
		`fencing: true}`)
	if err != nil {
		t.Fatal(err)
	}
	r = c.Locks.Quorum[0]
	if r.Timeout != 20*time.Millisecond || r.Drift != 0.02 || r.MaxLease != 10*time.Second || !r.Fencing {
		t.Errorf("read: %+v", r)
	}
	for rule, want := range map[string]string{
		`{nodes: [h1:1, h2:1, h3:1]}`:                     "a rule without match; add match: a pattern",
		`{match: l, nodes: [h1:1, h2:1]}`:                 "2 nodes, and a majority needs an odd number of at least 3",
		`{match: l, nodes: [h1:1]}`:                       "1 nodes, and a majority needs an odd number",
		`{match: l, nodes: [h1:1, h2:1, h1:1]}`:           `nodes[2]: "h1:1" is already listed; list each node once`,
		`{match: l, nodes: [h1:1, h2:1, 127.0.0.1:7101]}`: `"127.0.0.1:7101" is also nodes[0].addr; use Redis`,
		`{match: l, nodes: [h1:1, h2:1, 127.0.0.1:7201]}`: `"127.0.0.1:7201" is also nodes[0].replicas[0]`,
		`{match: l, nodes: [h1:1, h2:1, 127.0.0.1:6380]}`: "is where keyway itself listens",
		`{match: l, nodes: [h1:1, h2:1, h3]}`:             "is not an address",
		"{THREE}, {THREE}":                                "locks.quorum[0] has the same; remove one of the two",
		`{THREE, timeout: 0s}`:                            "timeout: out of range; write a duration from 1ms to 10s",
		`{THREE, drift: 0.6}`:                             "drift: out of range; write a number from 0 to 0.5",
		`{THREE, drift: much}`:                            `drift: "much" is not a number; write a number`,
		`{THREE, max_lease: 100ms}`:                       "max_lease: out of range; write a duration from 1s to 24h",
		`{THREE, timeout: 5s, max_lease: 8s}`:             "max_lease: 8s, and the timeout is 5s; write more",
	} {
		rule = strings.ReplaceAll(rule, "THREE", "match: l, nodes: [h1:1, h2:1, h3:1]")
		if _, err := parse(rule); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %s", rule, err, want)
		}
	}
}

// TestLockAccounts: a rule without an account uses that of backend; otherwise it uses nothing of
// backend.
func TestLockAccounts(t *testing.T) {
	const rule = "{match: l, nodes: [h1:1, h2:1, h3:1], "
	for text, want := range map[string]string{
		rule + "fencing: true}":                            "u/p",
		rule + "username: v, password: q}":                 "v/q",
		rule + "password: q}":                              "/q",
		rule + `password: ""}`:                             "/",
		rule + "password_file: one}":                       "/secret",
		rule + "password_file: two}":                       `password_file: the file "two" has 2 lines`,
		rule + "password_file: one, password: q}":          "both password and password_file",
		rule + "password: q}, " + rule + "password: r}":    `nodes[0]: locks.quorum[0] has another user`,
		rule + "password: q}, " + rule + "fencing: false}": "write the same username and password in both rules",
	} {
		dir := t.TempDir()
		for name, content := range map[string]string{"one": "secret\n", "two": "a\nb\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		yaml := "layout: ring\nnodes: [{name: a, addr: a:1}]\nbackend: {username: u, password: p}\n" +
			"locks: {quorum: [" + text + "]}\n"
		c, err := Parse(filepath.Join(dir, "f"), []byte(yaml), func(string) (string, bool) { return "", false })
		got := fmt.Sprint(err)
		if err == nil {
			l, _ := LoginOfLocks(c, 0)
			got = l.Username + "/" + l.Password
		}
		if !strings.Contains(got, want) || err == nil && got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
		if strings.Contains(text, "file: one}") && len(c.SecretFiles()) != 1 {
			t.Errorf("watched: %v", c.SecretFiles())
		}
	}
}
