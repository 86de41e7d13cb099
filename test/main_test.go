package test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyway-proxy/keyway/test/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built.path != "" {
			os.RemoveAll(filepath.Dir(built.path))
		}
		os.Exit(code)
	}))
}

// layouts is one configuration for all four layouts of the same three nodes:
// only the first line differs.
func layouts(nodes []*redistest.Node) map[string]string {
	common := redistest.NodesYAML(nodes) + `
slots: {static: {a: 0-5460, b: 5461-10922, c: 10923-16383}}
range:
  rules:
    - {prefix: "user:", from: 1, to: 1000, node: a}
    - {prefix: "user:", from: 1001, to: 2000, node: b}
    - {from: "a", to: "m", node: c}
  default: a
`
	m := map[string]string{}
	for _, l := range []string{"slots", "ring", "range", "modulo"} {
		m[l] = fmt.Sprintf("layout: %s\n", l) + common
	}
	return m
}

// apart returns three keys that live on different nodes in every layout that
// hashes, and in the range layout above.
func apart(t *testing.T, k *redistest.Keyway, nodes []*redistest.Node) []string {
	t.Helper()
	c := k.Dial()
	found := map[int]string{}
	for _, pattern := range []string{"user:%d", "bb%d"} {
		for i := 1; i < 2000 && len(found) < len(nodes); i += 7 {
			key := fmt.Sprintf(pattern, i)
			c.MustDo("SET", key, "x")
			for n, node := range nodes {
				if found[n] == "" && slices.Contains(node.Keys(), key) {
					found[n] = key
				}
			}
			c.MustDo("DEL", key)
		}
	}
	var keys []string
	for n := range nodes {
		if found[n] == "" {
			t.Fatalf("no key found that lives on node %d", n)
		}
		keys = append(keys, found[n])
	}
	return keys
}
