package test

import (
	"regexp"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestPlanAndMigrateBehindSentinels: plan and migrate ask the sentinels for the masters. The
// plan says how many keys migrate moves, and replicas have them, too.
func TestPlanAndMigrateBehindSentinels(t *testing.T) {
	t.Parallel()
	w := redistest.NewWatched(t, "first", "second")
	older := "layout: ring\n" + w.NodesYAML()
	newer := older + "ring: {hash: md5}\n"
	want := written(t, older, 500, "0")
	first := func(pattern, out string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("no %q in:\n%s", pattern, out)
		}
		return m[1]
	}
	out, status := keyway(t, "plan", older, newer)
	if status != 0 {
		t.Errorf("status %d", status)
	}
	planned := first(`(?m)^keys +(\d+) of 500 move`, out)
	printed(t, out, []string{"READY"})
	out, status = keyway(t, "migrate", older, newer)
	if status != 0 {
		t.Errorf("status %d", status)
	}
	if moved := first(`moved (\d+) keys`, out); moved != planned || moved == "0" {
		t.Errorf("%s keys have moved, %s were planned", moved, planned)
	}
	once(t, newer, w.Masters, want, "0")
	for i, r := range w.Replicas {
		if here, there := r.Do("DBSIZE").Int, w.Masters[i].Do("DBSIZE").Int; here != there {
			t.Errorf("a replica has %d keys, its master %d", here, there)
		}
	}
	for _, s := range w.Sentinels {
		s.Kill()
	}
	for _, command := range []string{"plan", "migrate"} {
		out, status = keyway(t, command, older, newer)
		if status != 1 {
			t.Errorf("%s: status %d", command, status)
		}
		printed(t, out, []string{"nodes[0].sentinel: no sentinel reports the address of first", "start it"})
	}
}
