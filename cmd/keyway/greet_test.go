package main

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/router"
)

// TestGreetNamesAnAddressToConnectTo: the demo may listen on all addresses, but nobody
// connects to 0.0.0.0.
func TestGreetNamesAnAddressToConnectTo(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:6380":   "  redis-cli -p 6380 MGET",
		"[::]:6380":      "  redis-cli -h ::1 -p 6380 MGET",
		"127.0.0.1:6380": "  redis-cli -p 6380 MGET",
		"10.0.0.5:6380":  "  redis-cli -h 10.0.0.5 -p 6380 MGET",
	} {
		var out strings.Builder
		greet(&out, &router.Table{}, addr)
		if !strings.Contains(out.String(), want) {
			t.Errorf("%s: %s", addr, &out)
		}
	}
}
