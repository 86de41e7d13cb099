package command

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/resp"
)

func parse(t *testing.T, line string) Args {
	t.Helper()
	p := new(resp.Parser)
	if _, st, err := p.Next([]byte(line+"\r\n"), &resp.DefaultLimits); st != resp.Ready || err != nil {
		t.Fatal(line, st, err)
	}
	return p
}

func TestLookupFindsEveryCommand(t *testing.T) {
	for _, c := range ByID {
		container, sub, isSub := strings.Cut(c.Name, "|")
		got := Lookup([]byte(strings.ToUpper(container)))
		if isSub && got != nil {
			got = got.Sub([]byte(strings.ToUpper(sub)))
		}
		if got != c {
			t.Errorf("%s is not found", c.Name)
		}
		if ByID[c.ID] != c {
			t.Errorf("%s has the ID of another", c.Name)
		}
	}
	for _, name := range []string{"", "gett", "ge", "nothing", strings.Repeat("x", 100), "get\x00", "client|id"} {
		if c := Lookup([]byte(name)); c != nil {
			t.Errorf("%q is taken for %s", name, c.Name)
		}
	}
	name := []byte("HGetAll")
	if n := testing.AllocsPerRun(100, func() { Lookup(name) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Nothing that changes the number of replies or the state of a connection may
// come onto a shared one.
func TestStateCommandsAreNotShared(t *testing.T) {
	for name := range strings.FieldsSeq(`
		client|reply client|tracking client|caching client|setname client|no-evict client|pause client|kill
		subscribe psubscribe ssubscribe unsubscribe punsubscribe sunsubscribe monitor sync psync replconf
		hello auth reset quit select readonly readwrite asking multi exec discard watch unwatch
		blpop brpop blmove brpoplpush blmpop bzpopmin bzpopmax bzmpop wait waitaof
		script|debug debug shutdown replicaof slaveof failover cluster|reset migrate himport
	`) {
		container, sub, isSub := strings.Cut(name, "|")
		c := Lookup([]byte(container))
		if c != nil && isSub {
			c = c.Sub([]byte(sub))
		}
		if c == nil {
			t.Errorf("no command %s", name)
			continue
		}
		switch c.Handling {
		case ByKey, Split, AnyMaster, AllMasters:
			t.Errorf("%s reaches shared connections: %s", name, c.Handling)
		}
	}
	for name, want := range map[string]Handling{
		"get": ByKey, "eval": ByKey, "hexpire": ByKey, "vadd": ByKey, "arset": ByKey, "msetnx": ByKey, "msetex": ByKey,
		"xread": Block, "blpop": Block, "mget": Split, "del": Split, "dbsize": AllMasters,
		"ping": Local, "scan": Local, "publish": Local, "spublish": Local, "config": NotYet, "bgsave": Refused,
	} {
		if got := Lookup([]byte(name)).Handling; name != "config" && got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}

func TestAllowIncludesSubcommands(t *testing.T) {
	ids, err := Allow([]string{"config", "memory doctor", "BGSAVE"})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"config|get", "config|set", "memory|doctor", "bgsave"} {
		container, sub, isSub := strings.Cut(name, "|")
		c := Lookup([]byte(container))
		if isSub {
			c = c.Sub([]byte(sub))
		}
		if !ids[c.ID] {
			t.Errorf("%s is not allowed", name)
		}
	}
	for name := range strings.FieldsSeq("monitor nothing config|nothing subscribe multi script|debug waitaof debug") {
		if _, err := Allow([]string{name}); err == nil {
			t.Errorf("%s was allowed", name)
		}
	}
}

func TestMerge(t *testing.T) {
	replies := func(s ...string) [][]byte {
		var b [][]byte
		for _, p := range s {
			b = append(b, []byte(p))
		}
		return b
	}
	sub := func(c, s string) *Command { return Lookup([]byte(c)).Sub([]byte(s)) }
	for _, tc := range []struct {
		cmd     *Command
		replies [][]byte
		want    string
	}{
		{Lookup([]byte("del")), replies(":1\r\n", ":0\r\n", ":5\r\n"), ":6\r\n"},
		{Lookup([]byte("del")), replies(":1\r\n", "-ERR x\r\n", ":5\r\n"), "-ERR x\r\n"},
		{
			Lookup([]byte("del")), replies(":1\r\n", "+odd\r\n"),
			`-ERR keyway: a node's reply cannot be merged: "+odd\r\n"` + "\r\n",
		},
		{Lookup([]byte("mset")), replies("+OK\r\n", "+OK\r\n"), "+OK\r\n"},
		{Lookup([]byte("mset")), replies("+OK\r\n", "-OOM x\r\n"), "-OOM x\r\n"},
		{
			Lookup([]byte("keys")), replies("*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*1\r\n$1\r\nc\r\n"),
			"*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n",
		},
		{Lookup([]byte("randomkey")), replies("$-1\r\n", "$1\r\na\r\n"), "$1\r\na\r\n"},
		{Lookup([]byte("randomkey")), replies("$-1\r\n", "$-1\r\n"), "$-1\r\n"},
		{Lookup([]byte("wait")), replies(":2\r\n", ":1\r\n"), ":1\r\n"},
		{sub("script", "exists"), replies("*2\r\n:1\r\n:1\r\n", "*2\r\n:1\r\n:0\r\n"), "*2\r\n:1\r\n:0\r\n"},
		{sub("script", "load"), replies("$1\r\na\r\n", "$1\r\na\r\n"), "$1\r\na\r\n"},
	} {
		if got := string(tc.cmd.Merge(nil, tc.replies, 0)); got != tc.want {
			t.Errorf("%s of %q: %q, want %q", tc.cmd.Name, tc.replies, got, tc.want)
		}
	}
	got := MergeByKey(nil, replies("*2\r\n$1\r\na\r\n$-1\r\n", "-ERR down\r\n", "*1\r\n$1\r\nz\r\n"),
		[]int32{0, 1, 2, 0, 1})
	if want := "*5\r\n$1\r\na\r\n-ERR down\r\n$1\r\nz\r\n$-1\r\n-ERR down\r\n"; string(got) != want {
		t.Errorf("by key: %q, want %q", got, want)
	}
	// TS.MADD has errors for elements: they do not make the whole reply an error.
	got = MergeByKey(nil, replies("*2\r\n-ERR one\r\n-ERR two\r\n", ":9\r\n", "*1\r\n:1\r\n"), []int32{0, 2, 0, 1})
	want := "*4\r\n-ERR one\r\n:1\r\n-ERR two\r\n" + `-ERR keyway: a node's reply cannot be merged: ":9\r\n"` + "\r\n"
	if string(got) != want {
		t.Errorf("by key: %q, want %q", got, want)
	}
}

func TestAppendPart(t *testing.T) {
	a := parse(t, "MSET a 1 b 2 c 3 a 4")
	got := Lookup([]byte("mset")).AppendPart(nil, a, 0, []int32{3, 0, 0, 0}, 2)
	if want := "*5\r\n$4\r\nMSET\r\n$1\r\na\r\n$1\r\n1\r\n$1\r\na\r\n$1\r\n4\r\n"; string(got) != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// The reply of Redis 7 to COMMAND INFO for a module's command, and of Redis 6.
func TestCommandInfoOfModules(t *testing.T) {
	seven := "*1\r\n*10\r\n$9\r\nmod.write\r\n:-3\r\n*2\r\n+write\r\n+module\r\n:2\r\n:2\r\n:1\r\n*0\r\n*0\r\n" +
		"*1\r\n*6\r\n$5\r\nflags\r\n*1\r\n+RW\r\n" +
		"$12\r\nbegin_search\r\n*4\r\n$4\r\ntype\r\n$5\r\nindex\r\n$4\r\nspec\r\n*2\r\n$5\r\nindex\r\n:2\r\n" +
		"$9\r\nfind_keys\r\n*4\r\n$4\r\ntype\r\n$5\r\nrange\r\n$4\r\nspec\r\n*6\r\n" +
		"$7\r\nlastkey\r\n:0\r\n$7\r\nkeystep\r\n:1\r\n$5\r\nlimit\r\n:0\r\n*0\r\n"
	six := "*1\r\n*7\r\n$9\r\nmod.write\r\n:-3\r\n*1\r\n+write\r\n:2\r\n:2\r\n:1\r\n*0\r\n"
	for version, reply := range map[string]string{"7": seven, "6": six} {
		c := Learn([]byte(reply))
		if c == nil || c.Name != "mod.write" || c.Arity != -3 || c.Handling != ByKey || c.Single != 2 ||
			!c.Unproven() || c.ID != LearnedID {
			t.Errorf("Redis %s: %+v", version, c)
			continue
		}
		if keys := c.Keys(parse(t, "mod.write x y z"), nil); len(keys) != 1 || keys[0] != 2 {
			t.Errorf("Redis %s: keys %v", version, keys)
		}
	}
	resp3 := strings.NewReplacer(
		"*2\r\n+write", "~2\r\n+write",
		"*6\r\n$5\r\nflags\r\n*1", "%3\r\n$5\r\nflags\r\n~1",
		"*4\r\n$4\r\ntype", "%2\r\n$4\r\ntype",
		"*2\r\n$5\r\nindex", "%1\r\n$5\r\nindex",
		"*6\r\n$7\r\nlastkey", "%3\r\n$7\r\nlastkey",
	).Replace(seven)
	if a, b := Learn([]byte(seven)), Learn([]byte(resp3)); !reflect.DeepEqual(a, b) {
		t.Errorf("of RESP3: %+v, of RESP2: %+v", b, a)
	}
	for _, reply := range []string{
		"", "*1\r\n*-1\r\n", "*1\r\n$-1\r\n", "*0\r\n", "-ERR x\r\n", "*1\r\n*2\r\n$1\r\na\r\n:1\r\n", "*1\r\n*6\r\n",
		strings.Repeat("*1\r\n", 100),
	} {
		if c := Learn([]byte(reply)); c != nil {
			t.Errorf("%q teaches %+v", reply, c)
		}
	}
}

// TestModuleCommandsThatNameTooFewKeys: where a module names one key, or none, what is known of its
// command counts.
func TestModuleCommandsThatNameTooFewKeys(t *testing.T) {
	learn := func(name string) *Command { // as its module describes it
		one := "*1\r\n*7\r\n$" + strconv.Itoa(len(name)) + "\r\n" + name +
			"\r\n:-1\r\n*1\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n*0\r\n"
		return Learn([]byte(one))
	}
	for line, want := range map[string]string{
		"JSON.MGET a b c $.n":                 "split [1 2 3]",
		"JSON.MSET a $ 1 b $ 2":               "split [1 4]",
		"TS.MADD a 1 1 b 2 2":                 "split [1 4]",
		"CMS.MERGE d 2 a b":                   "carried [1 3 4]",
		"TDIGEST.MERGE d 2 a b":               "carried [1 3 4]",
		"TS.CREATERULE a b AGGREGATION avg 1": "carried [1 2]",
		"TS.MGET FILTER a=b":                  "merged []",
		"FT.SUGADD s hello 1":                 "carried [1]",
		"BF.ADD f x":                          "carried [1]",
	} {
		a := parse(t, line)
		c := learn(string(a.Arg(0)))
		if got := fmt.Sprint(c.Handling, c.Keys(a, nil)); got != want {
			t.Errorf("%s: %s, want %s", line, got, want)
		}
		if c.NeedsAll(a) {
			t.Errorf("%s works with one node only", line)
		}
	}
	for _, line := range []string{"FT.SEARCH i *", "ft._list", "TS.MRANGE - + FILTER a=b GROUPBY n REDUCE max"} {
		a := parse(t, line)
		if c := learn(string(a.Arg(0))); !c.NeedsAll(a) || c.Refusal == "" {
			t.Errorf("%s works with several nodes", line)
		}
	}
	a := parse(t, "JSON.MGET a b c d $.n")
	got := string(learn("json.mget").AppendPart(nil, a, 1, []int32{0, 3, 0, 0}, 2))
	if want := "*4\r\n$9\r\nJSON.MGET\r\n$1\r\nb\r\n$1\r\nd\r\n$3\r\n$.n\r\n"; got != want {
		t.Errorf("one call: %q, want %q", got, want)
	}
	const a1, b0, c3 = "*2\r\n$1\r\na\r\n:1\r\n", "*2\r\n$1\r\nb\r\n*0\r\n", "*2\r\n$1\r\nc\r\n:3\r\n"
	const toA, toB = "$1\r\na\r\n:1\r\n", "$1\r\nb\r\n:2\r\n"
	for replies, want := range map[[2]string]string{
		{"*1\r\n" + b0, "*2\r\n" + a1 + c3}:    "*3\r\n" + a1 + b0 + c3,
		{"%1\r\n" + toB, "%2\r\n" + toB + toA}: "%2\r\n" + toA + toB,
		{"~0\r\n", "~1\r\n$1\r\na\r\n"}:        "~1\r\n$1\r\na\r\n",
		{"*0\r\n", "-ERR x\r\n"}:               "-ERR x\r\n",
	} {
		got := learn("ts.mget").Merge(nil, [][]byte{[]byte(replies[0]), []byte(replies[1])}, 0)
		if string(got) != want {
			t.Errorf("%q: %q, want %q", replies, got, want)
		}
	}
}

// FuzzKeys: whatever the arguments, key positions lie among them, and a
// command that a node has described cannot make keyway fail.
func FuzzKeys(f *testing.F) {
	for _, s := range []string{
		"EVAL s 2 a b", "XREAD STREAMS a b 0 0", "SORT a STORE", "MIGRATE h 1 \"\" 0 1 KEYS",
		"ZUNIONSTORE d 99999999999 a", "GEORADIUS a 1 2 3 km STORE", "MSET a",
	} {
		f.Add([]byte(s), []byte("*1\r\n*6\r\n$1\r\na\r\n:-1\r\n*0\r\n:1\r\n:-1\r\n:1\r\n"))
	}
	f.Fuzz(func(t *testing.T, line, described []byte) {
		var p resp.Parser
		if _, st, err := p.Next(append(line, '\n'), &resp.DefaultLimits); st != resp.Ready || err != nil {
			return
		}
		check := func(c *Command) {
			if c == nil {
				return
			}
			for _, k := range c.Keys(&p, nil) {
				if k < 1 || k >= p.Len() {
					t.Fatalf("%s: key at %d of %d", c.Name, k, p.Len())
				}
			}
		}
		if c := Lookup(p.Arg(0)); c != nil && c.ArityOK(p.Len()) {
			check(c)
			if p.Len() > 1 {
				if s := c.Sub(p.Arg(1)); s != nil && s.ArityOK(p.Len()) {
					check(s)
				}
			}
		}
		check(Learn(described))
	})
}
