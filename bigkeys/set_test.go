package bigkeys

import (
	"strconv"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

func frame(args ...string) []byte { return resp.AppendCommand(nil, args...) }

func TestSet(t *testing.T) {
	var s Set
	get, mget := command.Lookup([]byte("GET")), command.Lookup([]byte("MGET"))
	if !s.IsEmpty() || s.Find([]byte("k")) != 0 {
		t.Error("an empty set has a key")
	}
	s.Forget(5)
	if s.Add(mget, frame("MGET", "k")) != 0 || s.Add(get, frame("GET")) != 0 || s.Add(get, []byte("*2\r\n")) != 0 {
		t.Error("a frame without just one key has added one")
	}
	hash := s.Add(get, frame("GET", "k"))
	if hash == 0 || s.IsEmpty() || s.Find([]byte("k")) != hash || s.Find([]byte("l")) != 0 {
		t.Error("the set has not just that key")
	}
	if s.Forget(s.Add(get, frame("GET", "other"))); s.Find([]byte("k")) != hash || s.Find([]byte("other")) != 0 {
		t.Error("not just one key was forgotten")
	}
	for i := range 100_000 {
		s.Add(get, frame("GET", strconv.Itoa(i)))
	}
	kept := 0
	for i := range 100_000 {
		if s.Find([]byte(strconv.Itoa(i))) != 0 {
			kept++
		}
	}
	if kept == 0 || kept > 1024 {
		t.Errorf("the set has %d keys", kept)
	}
}

func TestAnnounces(t *testing.T) {
	for b, want := range map[string]bool{
		"$1048576\r\n": true, "$1048575\r\nabc": false, "=1048576\r\n": true, "*65536\r\n": true, "*65535\r\n": false,
		"~65536\r\n": true, "%65536\r\n": true, ":1048576\r\n": false, "+1048576\r\n": false, "$104857": false,
		"$\r\n": false, "$-1\r\n": false, "-ERR\r\n": false, "$": false,
	} {
		if got := Announces([]byte(b)); got != want {
			t.Errorf("%q: %v, want %v", b, got, want)
		}
	}
}
