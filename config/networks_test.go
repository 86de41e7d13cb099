package config

import (
	"net/netip"
	"strings"
	"testing"
)

// TestNetworks: which addresses clients.allow has.
func TestNetworks(t *testing.T) {
	for text, addrs := range map[string]struct{ in, out string }{
		"10.0.0.0/8":               {"10.0.0.0 10.255.255.255 ::ffff:10.1.2.3", "9.255.255.255 11.0.0.0 ::1"},
		"[10.1.2.3, fd00::/8]":     {"10.1.2.3 fd12::1 fd12::1%eth0", "10.1.2.4 fe80::1"},
		"[\"::ffff:10.1.2.3\"]":    {"10.1.2.3", "10.1.2.4"},
		"0.0.0.0/0":                {"1.2.3.4 127.0.0.1", "::1"},
		"[127.0.0.0/8, \"::1\"]":   {"127.0.0.1 127.9.9.9 ::1", "128.0.0.1 ::2"},
		"[192.0.2.0/25, 10.0.0.1]": {"192.0.2.127 10.0.0.1", "192.0.2.128 10.0.0.2"},
	} {
		c, err := parse(t, "clients: {allow: "+text+"}\nslots: {seeds: [a:1]}\n")
		if err != nil {
			t.Fatal(err)
		}
		for a := range strings.FieldsSeq(addrs.in) {
			if !c.Clients.Allow.Contain(netip.MustParseAddr(a)) {
				t.Errorf("%s does not contain %s", text, a)
			}
		}
		for a := range strings.FieldsSeq(addrs.out) {
			if c.Clients.Allow.Contain(netip.MustParseAddr(a)) {
				t.Errorf("%s contains %s", text, a)
			}
		}
	}
}

// TestNetworkErrors: what is not a network is named with its place, and with what to write.
func TestNetworkErrors(t *testing.T) {
	for text, want := range map[string]string{
		"clients: {allow: [10.0.0.0/8, 10.0.0.1/8]}": "test.yml:1:31: clients.allow[1]: \"10.0.0.1/8\" is not a " +
			"network; write 10.0.0.0/8, or 10.0.0.1 for this address alone",
		"clients: {allow: office}": "test.yml:1:18: clients.allow: \"office\" is not a network; " +
			"write an IP address or a network, such as 10.1.2.3, 10.0.0.0/8 or fd00::/8",
		"clients: {allow: []}": "test.yml:1:18: clients.allow: no network; name one, such as 10.0.0.0/8, " +
			"or leave the key out",
		"listen: [{addr: 127.0.0.1:1, proxy_protocol: {}}]": "test.yml:1:46: listen[0].proxy_protocol: nobody may " +
			"send the PROXY protocol; add from: [ADDRESS], the addresses of the balancers",
		"listen: [{addr: 127.0.0.1:1, proxy_protocol: true}]": "test.yml:1:46: listen[0].proxy_protocol: a single " +
			"value where keys are expected; write keys and values: from",
		"listen: [{addr: \"unix:///x\", proxy_protocol: {from: 10.0.0.1}}]": "test.yml:1:10: listen[0]: the PROXY " +
			"protocol over a socket file; write an address of 127.0.0.1 for a balancer of this machine",
		"listen: [127.0.0.1:1, {addr: 127.0.0.1:1, proxy_protocol: {from: 10.0.0.1}}]": "test.yml:1:23: listen[1]: " +
			"\"127.0.0.1:1\" is already listed; keep one of them, or write another port",
	} {
		if _, err := parse(t, text+"\nslots: {seeds: [a:1]}\n"); err == nil || err.Error() != want {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

func parse(t *testing.T, text string) (*Config, error) {
	t.Helper()
	return Parse("test.yml", []byte(text), func(string) (string, bool) { return "", false })
}
