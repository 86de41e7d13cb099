package test

import (
	"encoding/json"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// outputOf returns what a command of keyway prints.
func outputOf(t *testing.T, args ...string) string {
	t.Helper()
	out, err := exec.Command(redistest.Build(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("keyway %q: %v\n%s", args, err, out)
	}
	return string(out)
}

// TestRouteAsksARunningKeyway: with --admin, keyway route says where the running keyway has put keys, also
// those that are no text.
func TestRouteAsksARunningKeyway(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	adminAddr := freeAddr(t)
	k := redistest.ServeProcess(t, "admin: "+adminAddr+"\n"+redistest.Layouts(nodes)["ring"])
	k.Answers()
	c := redistest.Dial(t, k.Addr)
	keys := []string{"user:1", "{user:1}:cart", "Zoë&key=", "\xff\x01", `"quoted"`}
	for _, key := range keys {
		c.Expect("OK", "SET", key, "v")
	}
	out := outputOf(t, append([]string{"route", "--admin", adminAddr, "--json", "--"}, keys...)...)
	lines := strings.Split(strings.TrimSpace(out), "\n")
	shown := []string{"user:1", "{user:1}:cart", "Zoë&key=", `"\xff\x01"`, `"\"quoted\""`}
	if len(lines) != len(keys) {
		t.Fatalf("%d lines for %d keys: %s", len(lines), len(keys), out)
	}
	for i, line := range lines {
		var e router.Explanation
		if err := json.Unmarshal([]byte(line), &e); err != nil || e.Key != shown[i] {
			t.Errorf("%q: %v, %s", keys[i], err, line)
		}
		for _, n := range nodes {
			if found := slices.Contains(n.Keys(), keys[i]); found != (n.Addr == e.Addr) {
				t.Errorf("%s has %q: %v; keyway says %s", n.Addr, keys[i], found, e.Addr)
			}
		}
	}
	if page := outputOf(t, "route", "--admin", adminAddr, "\xff"); !strings.Contains(page, `"\xff"`) {
		t.Errorf("%q", page)
	}
	if status, body := fetch(t, "http://"+adminAddr+"/route"); status != 400 || !strings.Contains(body, "?key=") {
		t.Errorf("/route without a key: %d %s", status, body)
	}
}
