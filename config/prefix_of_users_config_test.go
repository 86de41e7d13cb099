package config

import (
	"fmt"
	"strings"
	"testing"
)

func TestPrefixesOfUsers(t *testing.T) {
	const nodes = "nodes: [{name: a, addr: 127.0.0.1:6379}]\nlayout: ring\nusers:\n"
	for users, want := range map[string]string{
		"a: a:, b: b:, c: {c}:, d: a:, e: ": "",
		"a: app, b: app2:": `"app2:" of user "b" begins with "app" of user "a", who would see these keys; ` +
			`end both with a sign that is in neither, such as a colon`,
		"a: a:b:, b: a:":                 `"a:b:" of user "a" begins with "a:" of user "b"`,
		"a: a*":                          `"a*" contains '*'; letters, digits and most signs of ASCII are allowed`,
		"a: a b":                         `contains ' '`,
		"a: \u00e4":                      `contains 'Ã'`,
		"a: {a":                          `"{a" opens a hash tag and does not close it; write a prefix such as app:`,
		"a: {}a":                         "contains {}, an empty hash tag, which makes hash tags in keys ineffective",
		"a: " + strings.Repeat("x", 129): "is longer than 128 bytes",
		"a: , scripts":                   `user "a" has no prefix; remove it: users without a prefix may run scripts`,
	} {
		text := nodes
		for user := range strings.SplitSeq(users, ", ") {
			if name, prefix, ok := strings.Cut(user, ": "); ok {
				text += fmt.Sprintf("  - {name: %s, prefix: %q", name, prefix)
			} else {
				text += ", scripts: true"
			}
			text += "}\n"
		}
		text = strings.ReplaceAll(text, "}\n, ", ", ")
		_, err := Parse("x.yml", []byte(text), func(string) (string, bool) { return "", false })
		if text := ""; err != nil {
			if text = err.Error(); want == "" || !strings.Contains(text, want) {
				t.Errorf("%s:\n got %s\nwant %s", users, text, want)
			}
		} else if want != "" {
			t.Errorf("%s: no error, want %s", users, want)
		}
	}
}
