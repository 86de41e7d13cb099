package test

import (
	"fmt"
	"os"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyway-proxy/keyway/test/redistest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		redistest.RemoveBuilt()
		os.Exit(code)
	}))
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
