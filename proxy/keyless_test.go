package proxy

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/router"
)

// Scripts without keys run on one node, whoever sends them; what only reads or computes
// is not warned of, and the rest once.
func TestScriptsWithoutKeys(t *testing.T) {
	const writes = "return redis.call('LPUSH', 'q', ARGV[1])"
	sha := lua.SHA1([]byte(writes))
	for _, c := range []struct {
		name, keyless string
		node          int
	}{{"the empty key's node", "", 0}, {"another key's node", "{a}", 1}} {
		r := newRig(t, Options{Keyless: c.keyless})
		for range 3 {
			r.s = r.w.Open(nil, "peer", "keyway:1")
			for _, frame := range []string{
				cmd("EVAL", writes, "0", "x"), cmd("EVALSHA", strings.ToUpper(sha), "0", "x"), cmd("FCALL", "f", "0"),
				cmd("EVAL", "return 1", "0"), cmd("EVAL", "#!lua flags=no-writes\nreturn redis.call('GET', 'q')", "0"), cmd("EVAL_RO", writes, "0", "x"),
			} {
				r.feed(frame)
				other, got := r.sent(1-c.node), r.sent(c.node)
				if other != "" || got == "" {
					t.Errorf("%s: %q: one node was sent %q, the other %q", c.name, frame, got, other)
				}
				r.node(c.node, ":1\r\n")
				r.got()
			}
		}
		notes := strings.Join(r.w.EndTurn().Notes, "\n")
		if strings.Count(notes, "EVAL "+sha+" has no KEYS and may write") != 1 || strings.Count(notes, "FCALL f has no KEYS") != 1 || strings.Count(notes, "\n") != 1 {
			t.Errorf("%s: warnings: %s", c.name, notes)
		}
		if r.w.stats.Keyless != 9 {
			t.Errorf("%s: counted %d", c.name, r.w.stats.Keyless)
		}
		r.feed(cmd("MULTI") + cmd("EVAL", writes, "0", "x") + cmd("EXEC"))
		if other, got := r.sent(1-c.node), r.sent(c.node); other != "" || !strings.Contains(got, "EXEC") {
			t.Errorf("%s: in MULTI: one node was sent %q, the other %q", c.name, got, other)
		}
	}
}

// Where no rule holds the key that scripts without keys go by, it is the node that
// comes first by its name, for every keyway.
func TestScriptsWithoutKeysInRanges(t *testing.T) {
	nodes := []router.Node{{Name: "b", Addr: "10.0.0.2:1", Master: true}, {Name: "a", Addr: "10.0.0.1:1", Master: true}}
	table, err := router.NewRange(nodes, []router.Rule{{Text: "a", TextTo: "m", Node: 0}}, router.None, "{}")
	if err != nil {
		t.Fatal(err)
	}
	r := newRig(t, Options{})
	r.w.SetTable(table)
	if group, id := r.w.keylessPlace(); id != 1 || group != 1 {
		t.Errorf("node %d, group %d", id, group)
	}
}
