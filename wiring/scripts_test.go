package wiring

import (
	"strings"
	"testing"
)

// A declaration that cannot be meant is an error at the start, which says what to write.
func TestPerKeyScriptsOfTheConfiguration(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{"{sha: 6a3d31570dc6f4b0bd32bcdc8e75667747c6f635, keys: 2, argv: [shared, counted], reply: sum}", ""},
		{`{text: "return {redis.call('DEL', KEYS[1])}"}`, ""},
		{"{argv: [each]}", "per_key[0]: a script is named by its SHA-1 or by its text; write either"},
		{"{sha: 6A3D31570DC6F4B0BD32BCDC8E75667747C6F635, text: x}", "write either"},
		{"{sha: 6a3d}", `per_key[0].sha: "6a3d" is not a SHA-1`},
		{"{text: x, keys: -1}", "per_key[0].keys: out of range"},
		{"{text: x, reply: map}", `per_key[0].reply: unknown reply "map"`},
		{"{text: x, argv: [all]}", `per_key[0].argv: "all" is none of shared, each, counted`},
		{"{text: x, argv: [each, shared, each]}", `"shared" stands between words that repeat`},
	} {
		_, err := perKeyScripts(parse(t, "slots: {seeds: [127.0.0.1:1]}\nscripts: {per_key: ["+c.script+"]}\n"))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v", c.script, err)
		}
	}
}
