package demo

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/config"
)

// TestHintsNameAnAddressToConnectTo: the demo may listen on all addresses, but nobody
// connects to 0.0.0.0.
func TestHintsNameAnAddressToConnectTo(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:6380":   "  redis-cli -p 6380 MGET",
		"[::]:6380":      "  redis-cli -h ::1 -p 6380 MGET",
		"127.0.0.1:6380": "  redis-cli -p 6380 MGET",
		"10.0.0.5:6380":  "  redis-cli -h 10.0.0.5 -p 6380 MGET",
	} {
		if out := (Options{}).hints(reachable(addr)); !strings.Contains(out, want) {
			t.Errorf("%s: %s", addr, out)
		}
	}
}

// TestWrittenConfigurations: what --write writes is a configuration, for each layout and number of nodes.
func TestWrittenConfigurations(t *testing.T) {
	for _, layout := range config.Layouts {
		for _, n := range []int{1, 3, MaxNodes} {
			o := Options{Layout: layout, Nodes: n, Listen: "127.0.0.1:6380", Admin: DefaultAdmin}
			text := o.forRealNodes()
			c, err := config.Parse("keyway.yml", []byte(text), func(string) (string, bool) { return "", false })
			if err != nil || len(c.Nodes) != n || c.Layout != layout {
				t.Errorf("%s, %d nodes: %v\n%s", layout, n, err, text)
			}
		}
	}
}
