package command

import (
	"strings"
	"testing"
	"time"
)

// The cases are what redis-server 7.0.15 answered to PUBSUB CHANNELS with one channel.
func TestGlob(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"", "", true}, {"", "a", false}, {"a", "", false}, {"*", "", false}, {"**", "", false},
		{"*", "abc", true}, {"a*", "abc", true}, {"*c", "abc", true}, {"*b*", "abc", true}, {"a*d", "abc", false},
		{"a*c*e", "abcde", true}, {"*ab", "aab", true}, {"*a*b*c", "aabbc", true}, {"*a?c", "abcabc", true},
		{"a*", "a", true},
		{"?", "a", true}, {"?", "", false}, {"a?c", "abc", true}, {"**", "x", true}, {"a**", "a", true},
		{"[abc]", "b", true}, {"[abc]", "d", false}, {"[^abc]", "d", true}, {"[^abc]", "a", false},
		{"[a-c]x", "bx", true}, {"[c-a]x", "bx", true}, {"[a-c]", "d", false}, {"[a-\xff]", "b", false},
		{"[a-\xff]", "A", true},
		{"\\*", "*", true}, {"\\*", "a", false}, {"a\\", "a\\", true}, {"[\\]]", "]", true}, {"[a", "a", true},
		{"[", "a", false}, {"[^", "a", true},
		{"n?ws", "news", true}, {"__keyevent@*__:*", "__keyevent@0__:del", true},
	} {
		if got := Glob([]byte(c.pattern), []byte(c.s)); got != c.want {
			t.Errorf("%q and %q: %v", c.pattern, c.s, got)
		}
	}
}

// TestGlobOfManyStars: what stars could match in exponentially many ways takes a
// moment.
func TestGlobOfManyStars(t *testing.T) {
	done := make(chan bool)
	go func() { done <- Glob([]byte(strings.Repeat("*a", 30)+"*b"), []byte(strings.Repeat("a", 10_000))) }()
	select {
	case match := <-done:
		if match {
			t.Error("they match")
		}
	case <-time.After(30 * time.Second):
		t.Fatal("no answer within 30 s")
	}
}

// matches is Glob written as a table: which ends of s each end of the pattern matches.
func matches(pattern, s []byte) bool {
	if len(s) == 0 {
		return len(pattern) == 0
	}
	ends := make([]bool, len(s)+1) // ends[i]: the pattern so far matches s[:i]
	ends[0] = true
	for len(pattern) > 0 {
		next := make([]bool, len(s)+1)
		if pattern[0] == '*' {
			for i := range next {
				next[i] = ends[i] || i > 0 && next[i-1]
			}
			pattern, ends = pattern[1:], next
			continue
		}
		rest := pattern
		for i := range s {
			var match bool
			rest, match = element(pattern, s[i])
			next[i+1] = match && ends[i]
		}
		pattern, ends = rest, next
	}
	return ends[len(s)]
}

func FuzzGlob(f *testing.F) {
	for _, seed := range [][2]string{{"*a*b", "aab"}, {"[^a-c]*\\*", "d*"}, {"a[", "a"}, {"**?", "x"}, {"*[", "ab"}} {
		f.Add([]byte(seed[0]), []byte(seed[1]))
	}
	f.Fuzz(func(t *testing.T, pattern, s []byte) {
		if got, want := Glob(pattern, s), matches(pattern, s); got != want {
			t.Errorf("%q and %q: %v", pattern, s, got)
		}
	})
}
