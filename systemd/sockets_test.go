package systemd

import "testing"

// TestSocketsOfTheEnvironment: the sockets of another process are none of this one, and a wrong
// environment has none.
func TestSocketsOfTheEnvironment(t *testing.T) {
	for _, env := range []map[string]string{
		{},
		{"LISTEN_FDS": "2"},
		{"LISTEN_PID": "8", "LISTEN_FDS": "2"},
		{"LISTEN_PID": "7", "LISTEN_FDS": "two"},
		{"LISTEN_PID": "7", "LISTEN_FDS": "-1"},
	} {
		lookup := func(name string) (string, bool) {
			text, ok := env[name]
			return text, ok
		}
		if got := Sockets(lookup, 7); len(got) != 0 {
			t.Errorf("%v: %d sockets", env, len(got))
		}
	}
}
