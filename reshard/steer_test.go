package reshard

import (
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/register"
)

// TestPaceText: a limit up to the lowest rate holds whatever the nodes' latency is, so nothing else is said.
func TestPaceText(t *testing.T) {
	for _, c := range []struct {
		pace register.Pace
		want string
	}{
		{register.Pace{}, "as fast as it goes"},
		{register.Pace{Latency: time.Millisecond}, "auto: fewer keys while a node takes longer than 1ms"},
		{register.Pace{Rate: 5}, "at most 5 keys/s"},
		{register.Pace{Rate: migrate.LeastRate, Latency: time.Millisecond}, "at most 2000 keys/s"},
		{
			register.Pace{Rate: migrate.LeastRate + 1, Latency: time.Millisecond},
			"at most 2001 keys/s, and fewer while a node takes longer than 1ms",
		},
		{register.Pace{Paused: true, Rate: 5}, "paused; keyway resume goes on: at most 5 keys/s"},
	} {
		if got := PaceText(c.pace); got != c.want {
			t.Errorf("%+v: %s", c.pace, got)
		}
	}
}
