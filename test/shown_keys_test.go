package test

import (
	"encoding/json"
	"log/slog"
	"os/exec"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestKeysAreShownCut: verify, migrate and plan print a key on one line, without control
// characters and cut after 64 bytes.
func TestKeysAreShownCut(t *testing.T) {
	t.Parallel()
	nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
	layout := even(nodes)
	other := strings.Replace(layout, "default: b", "default: a", 1)
	key := "x\x1b[2J\r\n" + strings.Repeat("long", 50)
	shown := `"x\x1b[2J\r\n` + key[7:64] + `"...`
	nodes[0].Do("SET", key, "1")
	out, status := keyway(t, "verify", "-c", layout)
	if status != 2 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{shown + " on a belongs to b"})
	out, _ = keyway(t, "plan", layout, strings.Replace(layout, "to: 99", "to: 98", 1))
	printed(t, out, []string{"such as " + shown + ";"})
	nodes[1].Do("SET", key, "2")
	out, status = keyway(t, "migrate", layout, other)
	if status != 2 {
		t.Errorf("status %d", status)
	}
	printed(t, out, []string{"set aside: " + shown + " on b (database 0)", `"keyway:stray:b:x\x1b[2J\r\n`})
}

// TestVerifyJSONHasNoNull: lists in the output of verify --json are lists, if they are empty
// too, and a repair that fails says what it has done before.
func TestVerifyJSONHasNoNull(t *testing.T) {
	t.Parallel()
	nodes := []*redistest.Node{redistest.Start(t), redistest.Start(t)}
	nodes[0].Do("SET", "on-a", "x")
	for _, args := range [][]string{
		{"verify", "--json", "-c", even(nodes)},
		{"verify", "--json", "--repair", "-c", even(nodes)},
		{"verify", "--json", "-c", even(nodes)},
	} {
		out, _ := keyway(t, args...)
		if strings.Contains(out, "null") || !json.Valid([]byte(out)) {
			t.Errorf("%q: %s", args[:3], out)
		}
	}
	nodes[0].Do("MSET", "twice", "1", "full", "x")
	nodes[1].Do("SET", "twice", "2")
	nodes[1].Do("CONFIG", "SET", "maxmemory", "1")
	file := redistest.WriteFile(t, "keyway.yml", even(nodes))
	out, err := exec.Command(redistest.Build(t), "verify", "--json", "--repair", "-c", file).Output()
	var r struct {
		Before *struct{ Misplaced int }
		After  *struct{}
	}
	if err == nil || json.Unmarshal(out, &r) != nil || r.Before == nil || r.Before.Misplaced != 2 || r.After != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// TestUnreachableNodeHasARemedy: the log says what to do about a node that cannot be reached.
func TestUnreachableNodeHasARemedy(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t)
	k, l := logged(t, redistest.Ring(node.Addr), slog.LevelInfo)
	k.Ready()
	node.Kill()
	l.has(t, "level=WARN", "node unreachable", "node=a",
		`connection refused" remedy="start it, or correct its address"`)
	secured := redistest.Start(t, "--requirepass", "secret")
	_, l = logged(t, redistest.Ring(secured.Addr), slog.LevelInfo)
	l.has(t, "level=WARN", "node unreachable", "NOAUTH", `remedy="write backend.password"`)
}
