package lua

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

func parsed(t testing.TB, text string) command.Args {
	t.Helper()
	return parsedFrame(t, resp.AppendCommand(nil, strings.Fields(text)...))
}

func parsedFrame(t testing.TB, frame []byte) command.Args {
	t.Helper()
	p := new(resp.Parser)
	if _, st, err := p.Next(frame, &resp.DefaultLimits); st != resp.Ready || err != nil {
		t.Fatal(st, err)
	}
	return p
}

// Each unit is called with its own KEYS and with the ARGV that belong to them.
func TestUnitsOfScripts(t *testing.T) {
	for _, c := range []struct {
		keys       int
		argv, call string
		want       string // calls, or nothing if KEYS and ARGV do not fit
	}{
		{1, "shared each", "EVAL s 2 a b ttl A B", "EVAL s 1 a ttl A, EVAL s 1 b ttl B"},
		{1, "", "EVAL s 2 a b x y", "EVAL s 1 a x y, EVAL s 1 b x y"},
		{1, "", "EVAL s 2 a b", "EVAL s 1 a, EVAL s 1 b"},
		{2, "shared each", "EVAL s 4 a {a} b {b} ttl A B", "EVAL s 2 a {a} ttl A, EVAL s 2 b {b} ttl B"},
		{2, "shared counted", "EVAL s 4 a {a} b {b} ttl 2 A1 A2 0", "EVAL s 2 a {a} ttl 2 A1 A2, EVAL s 2 b {b} ttl 0"},
		{1, "each each shared", "EVAL s 2 a b A1 A2 B1 B2 ttl", "EVAL s 1 a A1 A2 ttl, EVAL s 1 b B1 B2 ttl"},
		{1, "counted each", "EVAL s 2 a b 1 A x 0 y", "EVAL s 1 a 1 A x, EVAL s 1 b 0 y"},
		{1, "shared", "EVAL s 2 a b x", "EVAL s 1 a x, EVAL s 1 b x"},

		{1, "shared each", "EVAL s 2 a b ttl A", ""},
		{1, "shared each", "EVAL s 2 a b ttl A B C", ""},
		{1, "shared each", "EVAL s 2 a b", ""},
		{1, "shared", "EVAL s 2 a b x y", ""},
		{2, "shared each", "EVAL s 3 a {a} b ttl A B", ""},
		{1, "shared counted", "EVAL s 2 a b ttl 3 A 0", ""},
		{1, "shared counted", "EVAL s 2 a b ttl -1 0", ""},
		{1, "shared counted", "EVAL s 2 a b ttl x 0", ""},
		{1, "shared counted", "EVAL s 2 a b ttl 9223372036854775807 0", ""},
		{1, "shared each shared", "EVAL s 1 a x", ""},
		{1, "each", "EVAL s 9 a b", ""},
		{1, "each", "EVAL s x a b", ""},
	} {
		argv, err := ParseArgv(strings.Fields(c.argv))
		if err != nil {
			t.Fatal(err)
		}
		a := parsed(t, c.call)
		units, ok := (&PerKey{Keys: c.keys, Argv: argv}).Units(a, nil)
		var got []string
		for i := 0; ok && i < len(units); i++ {
			p := parsedFrame(t, units[i].Append(nil, "EVAL", []byte("s"), a))
			var words []string
			for k := range p.Len() {
				words = append(words, string(p.Arg(k)))
			}
			got = append(got, strings.Join(words, " "))
		}
		if strings.Join(got, ", ") != c.want {
			t.Errorf("%d keys, argv %s: %s becomes %q, want %q", c.keys, c.argv, c.call, got, c.want)
		}
	}
	for _, bad := range []string{"shard", "each shared each", "shared each shared counted"} {
		if argv, err := ParseArgv(strings.Fields(bad)); err == nil {
			t.Errorf("%q is taken for %v", bad, argv)
		}
	}
}

// A unit's error is the whole reply; it never stands among the results.
func TestMergedUnits(t *testing.T) {
	for _, c := range []struct {
		sum           bool
		replies, want string
	}{
		{false, "*1\r\n:1\r\n|*2\r\n:0\r\n$1\r\nx\r\n", "*3\r\n:1\r\n:0\r\n$1\r\nx\r\n"},
		{false, "*1\r\n:1\r\n|-ERR no\r\n", "-ERR no\r\n"},
		{false, "*1\r\n:1\r\n|:1\r\n", "-ERR keyway: a node's reply cannot be merged: \":1\\r\\n\"\r\n"},
		{true, ":1\r\n|:2\r\n", ":3\r\n"},
		{true, ":1\r\n|-ERR no\r\n", "-ERR no\r\n"},
	} {
		var replies [][]byte
		for reply := range strings.SplitSeq(c.replies, "|") {
			replies = append(replies, []byte(reply))
		}
		if got := string((&PerKey{Sum: c.sum}).Merge(nil, replies)); got != c.want {
			t.Errorf("%q becomes %q, want %q", c.replies, got, c.want)
		}
	}
}

func TestNormalScript(t *testing.T) {
	const plain = `local r={}for i,k in ipairs(KEYS)do r[i]=redis.call("get",k)end return r`
	for _, same := range []string{
		plain,
		"local r = {};\nfor i, k in ipairs(KEYS) do\n\tr[i] = redis.call('get', k);\nend;\nreturn r;\n",
		"-- what\nlocal r --[[ long\ncomment ]] = {} for i, k in ipairs(KEYS) do --[==[ ]] ]==] " +
			"r[i] = redis.call(\"get\", k) end return r --",
	} {
		if got := string(NormalScript([]byte(same))); got != plain {
			t.Errorf("%q becomes %q", same, got)
		}
	}
	for _, apart := range [][2]string{
		{`return "a b"`, `return "ab"`},
		{`return "a--b"`, `return "a`},
		{`return [[a;b]]`, `return [[ab]]`},
		{`return a b`, `return ab`},
		{`local x = f; (g or h)()`, `local x = f (g or h)()`},
		{`return '"'`, `return """`},
		{`return 'A'`, `return 'a'`},
	} {
		if a, b := NormalScript([]byte(apart[0])), NormalScript([]byte(apart[1])); string(a) == string(b) {
			t.Errorf("%q and %q have the same normal form", apart[0], apart[1])
		}
	}
	for _, broken := range []string{"", "'", "\"\\", "[", "[=", "--", "--[[", "-", "[==[ x ]="} {
		NormalScript([]byte(broken))
	}
}

// A declared script is found however it is written, and wins over a known one.
func TestPerKeyScripts(t *testing.T) {
	text := []byte("return {redis.call('del', KEYS[1])}")
	known := knownPerKey[0]
	table := NewPerKeyScripts([]PerKey{
		{SHA: SHA1(text), Normal: SHA1(NormalScript(text)), Keys: 7},
		{SHA: known.SHA, Keys: 8},
	})
	for _, c := range []struct {
		sha, text string
		keys      int
	}{
		{SHA1(text), "", 7}, {"", "return { redis.call(\"del\", KEYS[1]) }", 7},
		{known.SHA, "", 8}, {"", "return 1", 0}, {knownPerKey[1].SHA, "", 2},
	} {
		keys := 0
		if p := table.find(c.sha, []byte(c.text)); p != nil {
			keys = p.Keys
		}
		if keys != c.keys {
			t.Errorf("%s %q: found the one with %d keys, want %d", c.sha, c.text, keys, c.keys)
		}
	}
}
