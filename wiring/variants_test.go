package wiring

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/config"
)

// modulo returns a configuration of the layout modulo with nodes of these names.
func modulo(t *testing.T, names string) *config.Config {
	t.Helper()
	yaml := "layout: modulo\nnodes:\n"
	for i, name := range names {
		weight := 1
		if name == 'b' {
			weight = 2
		}
		yaml += fmt.Sprintf("  - {name: %c, addr: \"127.0.0.1:%d\", weight: %d}\n", name, i+1, weight)
	}
	return parse(t, yaml)
}

// TestVariantsOfModulo: for each node that was added to modulo or removed from it, one
// variant places all keys as before.
func TestVariantsOfModulo(t *testing.T) {
	for _, change := range []struct{ before, after, want string }{
		{"ab", "abc", "this file without node c"},
		{"bc", "abc", "this file without node a"},
		{"abcd", "abc", "this file with one more node, whose name comes after c"},
		{"abcdefg", "abcde", ""},
		{"acb", "ab", "this file with one more node, whose name comes after b"},
		{"xab", "ab", "this file with one more node, whose name comes after b"},
	} {
		before, err := Table(modulo(t, change.before))
		if err != nil {
			t.Fatal(err)
		}
		var found []string
		for _, v := range variants(modulo(t, change.after)) {
			same := 0
			for i := range 1000 {
				key := fmt.Appendf(nil, "key:%d", i)
				_, was := before.Place(key)
				_, is := v.Table.Place(key)
				// Nobody sees the keys of a node that is no more.
				gone := !strings.Contains(change.after, before.Nodes[was].Name)
				if gone || before.Nodes[was].Name == v.Table.Nodes[is].Name {
					same++
				}
			}
			if same == 1000 {
				found = append(found, v.Name)
			}
		}
		if change.want == "" && len(found) > 0 || change.want != "" && !slices.Contains(found, change.want) {
			t.Errorf("%s to %s: %q, want %q", change.before, change.after, found, change.want)
		}
	}
}
