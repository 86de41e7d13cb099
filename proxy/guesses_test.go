package proxy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/acl"
)

// guess sends AUTH from an address, over a connection of its own, and returns what comes back
// within a time.
func (r *rig) guess(from, password string, within time.Duration) string {
	s := r.w.Open(nil, from, "")
	r.w.Received(s, []byte("AUTH "+password+"\r\n"))
	r.endTurn()
	if within > 0 {
		r.pass(within)
	}
	got := string(s.Output())
	s.Wrote(len(got))
	r.w.Gone(s)
	return got
}

func withPassword(t *testing.T) *rig {
	t.Helper()
	users, _, err := acl.Make([]acl.Definition{acl.WithPasswords([]string{"pw"})})
	if err != nil {
		t.Fatal(err)
	}
	return newRig(t, Options{Permissions: Permissions{Users: users}})
}

// TestGuessesAreForgotten: an address whose attempts are delayed is delayed no more after many
// other addresses have failed, since a thread remembers only so many; and not before.
func TestGuessesAreForgotten(t *testing.T) {
	for others, want := range map[int]string{4000: "", 4096: "+OK\r\n", 20000: "+OK\r\n"} {
		r := withPassword(t)
		for range 6 {
			if got := r.guess("10.0.0.1:1", "no", 0); !strings.HasPrefix(got, "-WRONGPASS") {
				t.Fatalf("%q", got)
			}
		}
		for i := range others {
			r.guess(fmt.Sprintf("11.%d.%d.%d:1", i>>16, i>>8&255, i&255), "no", 0)
		}
		if got := r.guess("10.0.0.1:2", "pw", 0); got != want {
			t.Errorf("after %d other addresses: %q", others, got)
		}
	}
}

// TestGuessesOfOneAddress: which connections have one address, and how long a crowd waits.
func TestGuessesOfOneAddress(t *testing.T) {
	for _, tc := range []struct {
		bad, good string
		isSame    bool
	}{
		{"10.0.0.1:1", "10.0.0.1:2", true},
		{"10.0.0.1:1", "10.0.0.2:1", false},
		{"[2001:db8::1]:1", "[2001:db8::ffff:1]:2", true},
		{"[2001:db8::1]:1", "[2001:db8:0:1::1]:1", false},
		{"[::ffff:10.0.0.1]:1", "10.0.0.1:2", true},
		{"unix", "unix", true},
		{"unix", "127.0.0.1:1", false},
	} {
		r := withPassword(t)
		for range 5 {
			r.guess(tc.bad, "no", 0)
		}
		if got := r.guess(tc.good, "pw", 0); got != "+OK\r\n" {
			t.Errorf("%v: 5 wrong passwords delay: %q", tc, got)
		}
		r.guess(tc.bad, "no", 0)
		if got := r.guess(tc.good, "pw", 0); (got == "") != tc.isSame {
			t.Errorf("%v: %q", tc, got)
		}
	}
	// At the longest delay, 40 clients at once wait 1 s to 2.95 s. A client that leaves makes
	// nobody wait.
	r := withPassword(t)
	for i := range 10 {
		r.guess("10.0.0.1:1", "no", time.Duration(max(0, i-5))*200*time.Millisecond)
	}
	for range 1000 {
		r.guess("10.0.0.1:1", "no", 0)
	}
	var crowd []*Session
	for range 40 {
		s := r.w.Open(nil, "10.0.0.1:1", "")
		r.w.Received(s, []byte("AUTH pw\r\n"))
		crowd = append(crowd, s)
	}
	answered := func(within time.Duration) (n int) {
		r.pass(within)
		for _, s := range crowd {
			if string(s.Output()) == "+OK\r\n" {
				n++
			}
		}
		return n
	}
	if n := answered(990 * time.Millisecond); n != 0 {
		t.Errorf("%d were answered before a second", n)
	}
	if n := answered(500 * time.Millisecond); n < 8 || n > 12 {
		t.Errorf("%d of 40 were answered after 1.5 s", n)
	}
	if n := answered(1500 * time.Millisecond); n != 40 {
		t.Errorf("%d of 40 were answered after 3 s", n)
	}
}
