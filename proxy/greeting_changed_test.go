package proxy

import (
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// TestOtherGreetingIsTriedAtOnce: a node that has refused keyway for the epoch of the layout or
// for the password is asked again as soon as that has changed, not when the back-off ends.
func TestOtherGreetingIsTriedAtOnce(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(*Options)
		want   pool.State
	}{
		{"nothing", func(*Options) {}, pool.Down},
		{"a time", func(o *Options) { o.Backend.RequestTimeout = time.Minute }, pool.Down},
		{"epoch", func(o *Options) { o.Backend.Epoch = 1 }, pool.Dialing},
		{"password", func(o *Options) { o.Backend.Password = "x" }, pool.Dialing},
		{"user", func(o *Options) { o.Backend.Username = "x" }, pool.Dialing},
	} {
		r := newRig(t, Options{})
		down, up := r.shared(0), r.shared(1)
		down.Fail(r.now, "the node's register says otherwise")
		for range 5 { // dials at once after the first failures
			if down.State() == pool.Dialing {
				down.Fail(r.now, "the node's register says otherwise")
			}
		}
		o := r.w.Options
		tc.change(&o)
		Configure(r.w, o)
		if down.State() != tc.want || up.State() != pool.Ready {
			t.Errorf("after a change of %s the links are %s and %s, want %s and %s", tc.name, down.State(), up.State(),
				tc.want, pool.Ready)
		}
	}
}
