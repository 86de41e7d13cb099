package test

import (
	"slices"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// functionCommands are about libraries of functions. They show at most one, since nodes list
// several in any order. <dump> is the last reply to FUNCTION DUMP.
var functionCommands = []string{
	"FUNCTION LIST", "FUNCTION DUMP", "FUNCTION STATS", "FUNCTION FLUSH", "FUNCTION LIST",
	"FUNCTION LOAD <one>", "FUNCTION LOAD <one>", "FUNCTION LIST", "FUNCTION LIST WITHCODE",
	"FUNCTION LIST LIBRARYNAME keyway_*", "FUNCTION LIST LIBRARYNAME keyway_1 WITHCODE", "FUNCTION LIST x",
	"FUNCTION STATS", "FCALL one 0", "FCALL_RO one 0", "FCALL keyway_1 0", "FCALL KEYWAY_1 1 k",
	"FCALL_RO keyway_1 0",
	"FUNCTION DELETE keyway_1", "FUNCTION DELETE keyway_1_done", "FUNCTION DELETE nothing",
	"FUNCTION DUMP", "FUNCTION LOAD <two>", "FUNCTION RESTORE <dump>", "FUNCTION RESTORE <dump> APPEND",
	"FUNCTION RESTORE <dump> x", "FUNCTION RESTORE <dump> REPLACE", "FUNCTION STATS",
	"FUNCTION RESTORE <dump> FLUSH", "FUNCTION LIST", "FUNCTION STATS", "FUNCTION LOAD <two>",
	"FUNCTION FLUSH x", "FUNCTION FLUSH ASYNC SYNC", "FUNCTION RESTORE", "FUNCTION RESTORE x",
	"FUNCTION RESTORE <dump> APPEND x",
	"FUNCTION DELETE two", "MULTI", "FCALL keyway_1 0", "EXEC",
	"MULTI", "FUNCTION LIST", "GET nothing", "FUNCTION DUMP", "EXEC",
	"FLUSHALL", "FUNCTION FLUSH SYNC", "FUNCTION LIST", "FUNCTION RESTORE <dump> FLUSH", "FUNCTION FLUSH ASYNC",
	"FUNCTION LIST", "FUNCTION STATS", "FUNCTION DUMP", "GET nothing",
}

// TestFunctionsLikeRedisBesideARegister: through keyway, clients see and change their own
// functions as on a node without a register, and never the register. Its libraries are where
// they were in the end.
func TestFunctionsLikeRedisBesideARegister(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	libraries := map[string]string{
		"<one>": "#!lua name=one\nredis.register_function{function_name='one', " +
			"callback=function() return 1 end, flags={'no-writes'}}",
		"<two>": "#!lua name=two\nredis.register_function('two', function() return 2 end)",
	}
	oracle, nodes := redistest.Start(t), redistest.Three(t)
	yaml := "layout: ring\n" + redistest.NodesYAML(nodes)
	putInForce(t, 1, yaml, yaml, nodes...)
	for _, n := range nodes {
		endChange(n, 1)
	}
	k := redistest.ServeProcess(t, yaml)
	for _, protocol := range []string{"2", "3"} {
		ours, theirs := redistest.Dial(t, k.Addr), redistest.Dial(t, oracle.Addr)
		ours.MustDo("HELLO", protocol)
		theirs.MustDo("HELLO", protocol)
		theirs.MustDo("FUNCTION", "FLUSH")
		dump := ""
		for _, line := range functionCommands {
			args := strings.Fields(line)
			for i, a := range args {
				if a == "<dump>" {
					args[i] = dump
				} else if code := libraries[a]; code != "" {
					args[i] = code
				}
			}
			got, want := ours.Do(args...), theirs.Do(args...)
			// keyway refuses FCALL of a record when it is queued, Redis at EXEC.
			early := want.Text == "QUEUED" && got.Text == "ERR Function not found" ||
				strings.HasPrefix(got.Text, "EXECABORT") && want.Elems[0].Text == "ERR Function not found"
			if !early && (got.String() != want.String() || got.Kind != want.Kind) {
				t.Errorf("RESP%s: %s:\nkeyway says %s\nRedis says  %s", protocol, line, got, want)
			}
			if line == "FUNCTION DUMP" && got.Kind == '$' {
				dump = got.Text
			}
		}
	}
	c := redistest.Dial(t, k.Addr)
	keepRegister(t, c, libraries["<one>"])
	for _, n := range nodes {
		var names []string
		for _, library := range n.Do("FUNCTION", "LIST").Elems {
			names = append(names, library.Elems[1].Text)
		}
		slices.Sort(names)
		if got := strings.Join(names, " "); got != "keyway_1 keyway_1_done one" {
			t.Errorf("node %s has %s", n.Addr, got)
		}
	}
	k.End()
}

// keepRegister sends what would change the register on a node.
func keepRegister(t *testing.T, c *redistest.Client, library string) {
	t.Helper()
	const reserved = "-ERR keyway: names that begin with keyway_ are keyway's own; choose another name"
	c.Expect(reserved, "FUNCTION", "LOAD", register.Note("keyway_2"))
	c.Expect(reserved, "FUNCTION", "LOAD", "REPLACE", register.Note("keyway_1"))
	c.Expect(reserved, "FUNCTION", "LOAD", "#!lua \"name=\\x6beyway_2\"\n")
	for _, function := range []string{`'keyway_2'`, `"Keyway_2"`, `{function_name='keyway_2', callback=f}`} {
		c.Expect(reserved, "FUNCTION", "LOAD", "#!lua name=other\nlocal f = function() return 1 end\n"+
			"redis.register_function("+function+", f)")
	}
	c.MustDo("MULTI")
	c.Expect("-ERR keyway: 'FUNCTION FLUSH' cannot be queued in a transaction; send it outside MULTI",
		"FUNCTION", "FLUSH")
	c.MustDo("DISCARD")
	// The dump of a node that has another register brings none of it in.
	foreign := redistest.Start(t)
	foreign.Do("FUNCTION", "LOAD", library)
	foreign.Do("FUNCTION", "LOAD", register.Note("keyway_7"))
	for _, policy := range []string{"APPEND", "REPLACE", "FLUSH"} {
		c.Expect("OK", "FUNCTION", "RESTORE", foreign.Do("FUNCTION", "DUMP").Text, policy)
	}
}
