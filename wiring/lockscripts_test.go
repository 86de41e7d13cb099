package wiring

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/quorum"
)

const ownSHA = "0123456789abcdef0123456789abcdef01234567"

// A declaration of a lock script that cannot be meant is an error, which says where it is and
// what to write.
func TestLockScriptsOfTheConfiguration(t *testing.T) {
	for _, c := range []struct{ script, want string }{
		{"{SHA, does: release}", ""},
		{"{SHA, does: release, done: OK, other: nil, none: -1}", ""},
		{"{SHA, does: ask, done: lease, other: 0}", ""},
		{"{SHA, does: acquire, lease: 2, again: true}, {text: 'return 1', does: renew, lease: 2, unit: s}", ""},
		{"{does: release}", "scripts[0]: a script is named by its SHA-1 or by its text; write either sha: or text:"},
		{"{SHA, text: x, does: release}", "write either sha: or text:"},
		{"{sha: 6a3d, does: release}", `scripts[0].sha: "6a3d" is not a SHA-1; write the 40 hex digits`},
		{"{SHA}", "scripts[0]: it does not say what the script does; add does: acquire, renew, release or ask"},
		{"{SHA, does: unlock}", `scripts[0].does: unknown word "unlock"; write acquire, renew, release or ask`},
		{"{SHA, does: release, token: 0}", "token: out of range; write the number of an ARGV, from 1 to 100"},
		{"{SHA, does: release, token: 101}", "token: out of range"},
		{"{SHA, does: renew}", "scripts[0]: a script that does renew must set a lease: nothing else would end"},
		{"{SHA, does: acquire, lease: 0}", "lease: out of range; write the number of an ARGV"},
		{"{SHA, does: renew, lease: 1}", "lease: ARGV[1] is the token; write the number of another ARGV"},
		{"{SHA, does: release, lease: 2}", "lease: a script that does release sets no lease; remove it"},
		{"{SHA, does: renew, lease: 2, unit: m}", `unit: unknown unit "m"; write ms or s`},
		{"{SHA, does: renew, lease: 2, again: true}", "again: only a script that does acquire can acquire"},
		{"{SHA, does: acquire, lease: 2, none: 0}", "none: when nobody has the lock, a script that does acquire"},
		{"{SHA, does: release, done: yes}", `done: unknown reply "yes"; write a whole number, OK or nil`},
		{"{SHA, does: release, done: lease}", `done: unknown reply "lease"`},
		{"{SHA, does: release, done: 0}", "scripts[0]: it returns 0 in each case, so a client cannot know"},
		{"{SHA, does: release, none: 1}", "scripts[0]: it returns 1 in each case"},
		{"{SHA, does: release}, {sha: " + strings.ToUpper(ownSHA) + ", does: ask}",
			"scripts[1]: locks.scripts[0] is the same script; remove one of the two"},
		{"{text: 'return 1', does: release}, {text: ' return  1', does: release}",
			"locks.scripts[0] is the same script"},
		{"{sha: c3f8721cbb97f72bc19e972846bd7aaf91901658, does: ask}",
			"x.yml:2:19: locks.scripts[0]: keyway knows this script of redis-py: it releases a lock; the " +
				"token is ARGV[1], and it returns 1 (other: 0, none: 0); remove the " +
				"declaration, or write what the script does"},
	} {
		script := strings.ReplaceAll(c.script, "SHA", "sha: "+ownSHA)
		_, err := lockScripts(parse(t, "slots: {seeds: [127.0.0.1:1]}\nlocks: {scripts: ["+script+"]}\n"))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %s", c.script, err, c.want)
		}
	}
}

// What a declaration leaves out has a default; what it says arrives.
func TestLockScriptsAreRead(t *testing.T) {
	known, err := lockScripts(parse(t, "slots: {seeds: [127.0.0.1:1]}\nlocks: {scripts: [{sha: "+ownSHA+
		", does: acquire, lease: 2}, "+
		"{text: return 2, does: renew, token: 3, lease: 1, unit: s, done: OK, other: nil}]}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		got  *quorum.Script
		want quorum.Script
	}{
		{known.OfSHA([]byte(strings.ToUpper(ownSHA))).OnMajority(), quorum.Script{
			Kind: quorum.Acquire, Token: 1, Lease: 2, Library: "declared",
			Returns: quorum.Returns{Done: ":1", Other: ":0", None: ":0"},
		}},
		{known.OfText([]byte("return 2 --")).OnMajority(), quorum.Script{
			Kind: quorum.Renew, Token: 3, Lease: 1, Seconds: true, Library: "declared",
			Returns: quorum.Returns{Done: "+OK", Other: quorum.Null, None: quorum.Null},
		}},
	} {
		if *c.got != c.want {
			t.Errorf("%+v, want %+v", *c.got, c.want)
		}
	}
}
