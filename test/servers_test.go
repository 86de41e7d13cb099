package test

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestServers: keyway serves clusters of every kind of server.
func TestServers(t *testing.T) {
	t.Parallel()
	for _, server := range redistest.Servers() {
		t.Run(server.Name, func(t *testing.T) {
			t.Parallel()
			cluster := server.Cluster(t, 3, 0)
			k := redistest.Serve(t, cluster.SeedsYAML()).Ready()
			c := k.Dial()
			keys := []string{"a", "b", "c", "d", "e", "f"}
			for _, key := range keys {
				c.Expect("OK", "SET", key, "1")
			}
			c.Expect("["+strings.TrimSuffix(strings.Repeat("1 ", len(keys)), " ")+"]", append([]string{"MGET"}, keys...)...)
			c.Expect("6", "DBSIZE")
		})
	}
}
