package test

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// underWay starts a slow migration and waits until keys move.
func (m *migration) underWay(t *testing.T, flags ...string) *redistest.Process {
	t.Helper()
	before, _ := m.restores()
	p := m.start(t, flags...)
	redistest.Eventually(t, 20*time.Second, "keys move", func() bool {
		now, some := m.restores()
		return some && now != before
	})
	return p
}

// ends waits for a process and checks its exit status.
func ends(t *testing.T, p *redistest.Process, status int) {
	t.Helper()
	if _ = p.Cmd.Wait(); p.Cmd.ProcessState.ExitCode() != status {
		t.Errorf("exit status %d, expected %d:\n%s%s", p.Cmd.ProcessState.ExitCode(), status, p.Stdout, p.Stderr)
	}
}

// TestMigrateRefusesTheOppositeWay: while keys move, nobody moves them to where another file
// places them. Whoever brings them to the same places may help.
func TestMigrateRefusesTheOppositeWay(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 5000)
	p := m.underWay(t, "--rate", "300")
	for _, args := range [][]string{
		{"migrate", m.new, m.old}, {"verify", "--repair", "-c", m.old},
	} {
		out, status := keyway(t, args...)
		if status != 1 {
			t.Errorf("%q: status %d", args, status)
		}
		printed(t, out, []string{
			"node a (" + m.nodes[0].Addr + ")", "another keyway migrate, from 127.0.0.1:",
			"to where another file places them; wait until it has ended, or end it", "CLIENT KILL ID ",
		})
	}
	if out, status := keyway(t, "verify", "--repair", "-c", m.new); status != 0 {
		t.Errorf("the repair by the same file: status %d:\n%s", status, out)
	}
	p.Kill()
	m.finish(t)
}

// TestMigrateBothWaysAtOnce: two that start together and move keys in opposite directions
// lose no key.
func TestMigrateBothWaysAtOnce(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 3000)
	refused := 0
	for range 5 {
		there := m.start(t)
		back := redistest.StartProcess(t, "migrate", m.new, m.old, "--latency", "0")
		for _, p := range []*redistest.Process{there, back} {
			if err := p.Cmd.Wait(); err != nil {
				refused++
				printed(t, p.Stderr.String(), []string{"another keyway migrate, from 127.0.0.1:"})
			}
		}
	}
	if refused == 0 {
		t.Error("none saw the other")
	}
	m.finish(t)
}

// TestMigrateRefusesServingKeyways: keys do not move away from the clients of a keyway,
// unless that is intended; a keyway that starts later stops the migration.
func TestMigrateRefusesServingKeyways(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 4000)
	older := "instance: kw-1\n" + ringOf(m.nodes)
	serving := redistest.ServeProcess(t, older)
	refusal := []string{
		"node a (" + m.nodes[0].Addr + ")", "keyway serves it: kw-1 at 127.0.0.1 (placement ",
		"stop it first, or, if that is intended, write --while-serving",
	}
	for _, args := range [][]string{{"migrate", m.old, m.new}, {"verify", "--repair", "-c", m.new}} {
		out, status := keyway(t, args...)
		if status != 1 {
			t.Errorf("%q: status %d", args, status)
		}
		printed(t, out, refusal)
	}
	if _, some := m.restores(); some {
		t.Error("keys have moved")
	}
	if out, status := keyway(t, "verify", "--repair", "-c", m.old); status != 0 { // the file that kw-1 serves by
		t.Errorf("status %d:\n%s", status, out)
	}
	serving.End()

	p := m.underWay(t, "--rate", "200")
	serving = redistest.ServeProcess(t, "placement: {misplaced: allow}\n"+older)
	ends(t, p, 1)
	printed(t, p.Stderr.String(), refusal[1:])
	out, status := keyway(t, "migrate", m.old, m.new, "--latency", "0", "--while-serving")
	if status != 0 {
		t.Errorf("status %d:\n%s", status, out)
	}
	serving.End()
	once(t, m.newer, m.nodes, m.want, "0")
}

// TestMigrateNeedsToSeeOthers: a user that may not ask for a node's clients moves no keys.
func TestMigrateNeedsToSeeOthers(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 100)
	for _, right := range []string{"client|list", "client|setname"} {
		m.nodes[0].Do("ACL", "SETUSER", "default", "-"+right)
		out, status := keyway(t, "migrate", m.old, m.new)
		if status != 1 {
			t.Errorf("%s: status %d", right, status)
		}
		printed(t, out, []string{"node a (", "NOPERM", right, "ACL SETUSER"})
		out, status = keyway(t, "plan", m.old, m.new)
		if status != 2 {
			t.Errorf("plan: status %d", status)
		}
		printed(t, out, []string{"not ready: rights", "+" + right})
		m.nodes[0].Do("ACL", "SETUSER", "default", "+"+right)
	}
	m.finish(t)
}

// TestPlanIgnoresThoseWhoMoveKeys: a migration that is under way is no client that bypasses
// keyway.
func TestPlanIgnoresThoseWhoMoveKeys(t *testing.T) {
	t.Parallel()
	m := newMigration(t, 2000)
	p := m.underWay(t, "--rate", "500")
	out, _ := keyway(t, "plan", m.old, m.new)
	if strings.Contains(out, "keyway-move:") {
		t.Errorf("%s", out)
	}
	p.Kill()
}
