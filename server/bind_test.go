package server

import "testing"

func TestIPv4AddressesAcceptNoIPv6(t *testing.T) {
	for addr, want := range map[string]string{
		"0.0.0.0:6380": "tcp4", "127.0.0.1:6380": "tcp4", "[::]:6380": "tcp", "[::1]:6380": "tcp",
		":6380": "tcp", "localhost:6380": "tcp",
	} {
		if got := network(addr); got != want {
			t.Errorf("%s: listens in %s, want %s", addr, got, want)
		}
	}
}
