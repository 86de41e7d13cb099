package test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestRenewalsWhileANodeHangs: a renewal of locks on three nodes extends those on two while
// the third hangs. The first one fails after request_timeout; later ones wait no longer than
// for an attempt to connect. So a client that renews again after an error, as Redisson does,
// keeps the locks that live elsewhere.
func TestRenewalsWhileANodeHangs(t *testing.T) {
	t.Parallel()
	nodes := redistest.Three(t)
	text := "\nbackend: {request_timeout: 1s}\nscripts: {per_key: [{argv: [shared, each], text: " +
		fmt.Sprintf("%q", strings.ReplaceAll(renew, "\n", " ")) + "}]}\n"
	c := redistest.Serve(t, redistest.Layouts(nodes)["ring"]+text).Ready().Dial()
	keys, argv := []string{}, []string{"60000"}
	for i := range 60 {
		keys, argv = append(keys, fmt.Sprint("lock:", i)), append(argv, fmt.Sprint(i))
	}
	call := append(append([]string{"EVAL", renew, "60"}, keys...), argv...)
	for i, key := range keys {
		c.MustDo("SET", key, fmt.Sprint(i))
	}
	hung, healthy := nodes[0].Keys(), redistest.Dial(t, nodes[1].Addr)
	if len(hung) == 0 {
		t.Fatal("no lock is on the node that hangs")
	}
	nodes[0].Freeze()
	t.Cleanup(nodes[0].Thaw)
	for _, want := range []string{"may have been executed", "cannot be reached"} {
		for i, key := range keys {
			if !slices.Contains(hung, key) {
				c.MustDo("SET", key, fmt.Sprint(i), "PX", "30000")
			}
		}
		if r := c.Do(call...); r.Kind != '-' || !strings.Contains(r.Text, want) {
			t.Fatalf("a renewal while a node hangs: %s, want %q", r, want)
		}
		for _, key := range nodes[1].Keys() {
			if left := healthy.MustDo("PTTL", key).Int; left <= 30000 {
				t.Errorf("%s, on another node, has %d ms left", key, left)
			}
		}
	}
}
