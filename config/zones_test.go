package config

import (
	"strings"
	"testing"
)

// TestZones: networks and patterns say in which zone a node is, by its address.
func TestZones(t *testing.T) {
	const text = "listen: 127.0.0.1:0\nslots: {seeds: [127.0.0.1:1]}\nreplicas:\n  zone: b\n  zones:\n" +
		"    a: [10.0.1.0/24, \"redis-a-*\", \"127.0.0.1:7001\"]\n    b: [\"10.0.*\", \"fd00::/8\"]\n"
	c, err := Parse("k.yml", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"10.0.1.7:6379": "a", "10.0.2.7:6379": "b", "redis-a-0.svc:6379": "a", "127.0.0.1:7001": "a",
		"127.0.0.1:7002": "", "[fd00::1]:6379": "b", "10.1.0.1:6379": "",
	} {
		if zone := c.Replicas.ZoneOf(addr); zone != want {
			t.Errorf("%s is in zone %q, want %q", addr, zone, want)
		}
	}
	wrong := strings.Replace(text, "redis-a-*", "redis-[a", 1)
	_, err = Parse("k.yml", []byte(wrong), nil)
	if err == nil || !strings.Contains(err.Error(), "syntax error in pattern") {
		t.Errorf("%v", err)
	}
}
