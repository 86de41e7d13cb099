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

// TestLimitsOfUsers: errors in the limits of users say where they are, and what is allowed.
func TestLimitsOfUsers(t *testing.T) {
	for _, c := range []struct{ user, want string }{
		{"max_clients: 5, max_in_flight: 0, rate: {commands: 10000/s, bytes: 50mb/s, burst: 1ms, max_wait: 1h}", ""},
		{"deny: [keys], rate: {commands: 1/s}", ""},
		{"max_clients: -1", "users[0].max_clients: out of range; write a whole number up to 1073741824, or 0"},
		{"max_in_flight: 1073741825", "users[0].max_in_flight: out of range; write a whole number up to 1073741824"},
		{"max_client: 5", `unknown key "max_client"; did you mean "max_clients"?`},
		{"rate: 10000/s", "users[0].rate: a single value where keys are expected; write keys and values: commands"},
		{"rate: {}", "users[0].rate: neither commands nor bytes; add commands, such as 10000/s, or bytes, such as"},
		{"rate: {commands: 10000}", `users[0].rate.commands: "10000" is not a rate; write a whole number of ` +
			`commands a second, from 1/s to 1073741824/s, such as 10000/s`},
		{"rate: {commands: 0/s}", `"0/s" is not a rate`},
		{"rate: {commands: 10/m}", `"10/m" is not a rate`},
		{"rate: {bytes: 50mb}", `users[0].rate.bytes: "50mb" is not a rate; write a size a second, from 1kb/s to`},
		{"rate: {bytes: 1000/s}", `"1000/s" is not a rate`},
		{"rate: {bytes: 1mb/s, burst: 2m}", "users[0].rate.burst: out of range; write a duration from 1ms to 1m, such"},
		{"rate: {bytes: 1mb/s, max_wait: 0s}", "users[0].rate.max_wait: out of range; write a duration from 1ms to 1h"},
		{"rate: {bytes: 1mb/s, maximum_wait: 10s}", `unknown key "maximum_wait"`},
	} {
		text := "nodes: [{name: a, addr: 127.0.0.1:6379}]\nlayout: ring\nusers:\n  - {name: u, " + c.user + "}\n"
		got, err := Parse("x.yml", []byte(text), func(string) (string, bool) { return "", false })
		switch {
		case err != nil && (c.want == "" || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s:\n got %v\nwant %s", c.user, err, c.want)
		case err == nil && c.want != "":
			t.Errorf("%s: no error, want %s", c.user, c.want)
		case err == nil && got.Users[0].Rate.MaxWait == 0:
			t.Errorf("%s: a rate without max_wait", c.user)
		}
	}
}
