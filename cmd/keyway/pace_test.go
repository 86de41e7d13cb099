package main

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/register"
)

// TestSpeedFlags: a rate or a latency that is no bound is refused, instead of being taken for no limit.
func TestSpeedFlags(t *testing.T) {
	for _, command := range []string{"switch", "migrate", "verify", "rate"} {
		for _, c := range []struct{ flag, value, want string }{
			{"--rate", "-1", "a number of keys per second, or 0"},
			{"--rate", "1e3", "a number of keys per second, or 0"},
			{"--latency", "-1ms", "a duration such as 2ms, or 0"},
			{"--latency", "2", "a duration such as 2ms, or 0"},
		} {
			if command == "rate" && c.flag == "--rate" {
				continue
			}
			cmd, _, err := root().Find([]string{command})
			if err != nil {
				t.Fatal(err)
			}
			if got := cmd.Flag("latency").Value.String(); got != register.DefaultLatency.String() {
				t.Errorf("%s: the latency is %s", command, got)
			}
			if err := cmd.ParseFlags([]string{c.flag, c.value}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %s %s: %v", command, c.flag, c.value, err)
			}
			if err := cmd.ParseFlags([]string{c.flag, "0"}); err != nil {
				t.Errorf("%s %s 0: %v", command, c.flag, err)
			}
		}
	}
}
