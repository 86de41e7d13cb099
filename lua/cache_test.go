package lua

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

const text = "return redis.call('get', KEYS[1])"

// A node gets the text until it has run the script, and again once it may have lost it.
func TestNodesGetTextUntilTheyHaveRunIt(t *testing.T) {
	c := NewCache(PerKeyScripts{})
	sha := SHA1([]byte(text))
	short := parsed(t, "EVALSHA "+sha+" 1 k")
	cmd := command.Lookup([]byte("EVALSHA"))
	sends := func(node uint, want string) {
		t.Helper()
		if got := string(c.AppendEval(nil, cmd, node, short)); got != want {
			t.Errorf("node %d: %q, want %q", node, got, want)
		}
	}
	full := string(resp.AppendCommand(nil, "EVAL", text, "1", "k"))
	sends(1, "") // nobody knows the script
	if !c.Add([]byte(text)) || c.Add([]byte(text)) {
		t.Error("a script is new once")
	}
	sends(1, full)
	c.Ran(1, []byte(full))
	sends(1, "")
	sends(2, full)
	sends(NoNode, full)
	c.Lacks(1, sha)
	sends(1, full)
	c.Ran(1, []byte(full))
	c.Forget(1)
	sends(1, full)
	c.Ran(1, []byte(full))
	c.Clear()
	sends(1, "")
	sends(2, "")

	c.Add([]byte(text))
	readOnly, upper := command.Lookup([]byte("EVALSHA_RO")), []byte(strings.ToUpper(sha))
	if name, got := c.Eval(readOnly, 2, upper); name != "EVAL_RO" || string(got) != text {
		t.Errorf("EVALSHA_RO becomes %s %q", name, got)
	}
	if name, got := c.Eval(command.Lookup([]byte("GET")), 2, []byte(sha)); got != nil {
		t.Errorf("GET becomes %s %q", name, got)
	}
}

// The oldest scripts make room for new ones, and a huge script is not kept.
func TestCacheIsBounded(t *testing.T) {
	c := NewCache(PerKeyScripts{})
	if c.Add(make([]byte, maxBytes/4+1)) {
		t.Error("a huge script is kept")
	}
	big := bytes.Repeat([]byte("-"), maxBytes/4-8)
	nth := func(i int) []byte { return fmt.Append(big, i) }
	for i := range 9 {
		c.Add(nth(i))
	}
	for i := range 9 {
		if kept := c.Text([]byte(SHA1(nth(i)))) != nil; kept != (i >= 5) {
			t.Errorf("script %d is kept: %t", i, kept)
		}
	}
	for i := range maxScripts + 5 {
		c.Add(fmt.Append(nil, "return ", i))
	}
	if len(c.bySHA) != maxScripts || len(c.byHash) != maxScripts || len(c.order) != maxScripts {
		t.Errorf("%d, %d, %d scripts", len(c.bySHA), len(c.byHash), len(c.order))
	}
	if c.Clear(); c.bytes != 0 || len(c.bySHA) != 0 {
		t.Errorf("%d bytes are left", c.bytes)
	}
}

// A script may write unless it calls nothing or declares no-writes.
func TestWhichScriptsMayWrite(t *testing.T) {
	for _, s := range []struct {
		text               string
		mayWrite, declares bool
	}{
		{text, true, false}, {"return 1", false, false}, {"#!lua flags=no-writes\n" + text, false, true},
		{"#!lua name=x flags=allow-stale,no-writes\n" + text, false, true},
		{"#!lua flags=allow-stale\n" + text, true, false},
		{"#!lua\n" + text + "-- flags=no-writes", true, false}, {"#!lua flags=no-writes-yet\n" + text, true, false},
	} {
		c := NewCache(PerKeyScripts{})
		c.Add([]byte(s.text))
		cmd, a := command.Lookup([]byte("EVALSHA")), parsed(t, "EVALSHA "+SHA1([]byte(s.text))+" 0")
		may, declares := c.MayWrite(cmd, a), c.DeclaresNoWrites(cmd, a)
		if may != s.mayWrite || declares != s.declares {
			t.Errorf("%q: may write: %t, declares no-writes: %t", s.text, may, declares)
		}
	}
	c := NewCache(PerKeyScripts{})
	unknown, cmd := parsed(t, "EVALSHA 0123456789012345678901234567890123456789 0"), command.Lookup([]byte("EVALSHA"))
	if !c.MayWrite(cmd, unknown) || c.DeclaresNoWrites(cmd, unknown) {
		t.Error("an unknown script is taken for harmless")
	}
}

// SCRIPT EXISTS reports the scripts that the cache has besides those of the nodes.
func TestScriptExists(t *testing.T) {
	c := NewCache(PerKeyScripts{})
	c.Add([]byte(text))
	known := c.AppendKnown(nil, parsed(t, "SCRIPT EXISTS x "+SHA1([]byte(text))+" y"))
	for reply, want := range map[string]string{
		"*3\r\n:0\r\n:0\r\n:1\r\n": "*3\r\n:0\r\n:1\r\n:1\r\n",
		"*1\r\n:0\r\n":             "*1\r\n:0\r\n",
		"-ERR no\r\n":              "-ERR no\r\n",
	} {
		if got := string(AppendExists(nil, []byte(reply), known)); got != want {
			t.Errorf("%q becomes %q, want %q", reply, got, want)
		}
	}
}

// The operator is warned once of each name, and of a bounded number.
func TestWarnOnce(t *testing.T) {
	c, n := NewCache(PerKeyScripts{}), 0
	for i := range 2 * maxWarned {
		for range 2 {
			if c.Warn(fmt.Sprint(i)) {
				n++
			}
		}
	}
	if n != maxWarned {
		t.Errorf("%d warnings", n)
	}
}
