package command

import "testing"

// The cases are what redis-server 7.0.15 answered to KEYS with one key.
func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"*", "", true}, {"*", "abc", true}, {"a*", "abc", true}, {"*c", "abc", true}, {"*b*", "abc", true}, {"a*d", "abc", false},
		{"?", "a", true}, {"?", "", false}, {"a?c", "abc", true}, {"**", "x", true}, {"a**", "a", true},
		{"[abc]", "b", true}, {"[abc]", "d", false}, {"[^abc]", "d", true}, {"[^abc]", "a", false}, {"[a-c]x", "bx", true}, {"[c-a]x", "bx", true}, {"[a-c]", "d", false},
		{"\\*", "*", true}, {"\\*", "a", false}, {"a\\", "a\\", true}, {"[\\]]", "]", true}, {"[a", "a", true}, {"n?ws", "news", true}, {"__keyevent@*__:*", "__keyevent@0__:del", true},
	} {
		if got := Glob([]byte(c.pattern), []byte(c.s)); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.s, got)
		}
	}
}
