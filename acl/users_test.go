package acl_test

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// TestAuthenticate: who gets in with which password.
func TestAuthenticate(t *testing.T) {
	us, _, err := acl.Make([]acl.Definition{
		{Name: "two", Rules: "on >one >two"}, {Name: "off", Rules: "off >one"}, {Name: "none", Rules: "on"},
		{Name: "any", Rules: "on nopass"}, {Name: "default", Rules: "on >x ~* &* +@all"},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		user, password string
		right          bool
	}{
		{"two", "one", true}, {"two", "two", true}, {"two", "", false}, {"two", "On", false}, {"off", "one", false},
		{"none", "", false}, {"any", "", true}, {"any", "x", true}, {"nobody", "", false}, {"default", "x", true},
	} {
		u := us.Authenticate([]byte(c.user), []byte(c.password))
		if (u != nil) != c.right || u != nil && u.Name != c.user {
			t.Errorf("%s %s: %+v", c.user, c.password, u)
		}
	}
	if us.Default.Admits() || !acl.Anyone.Default.Admits() || !us.Default.Unlimited || us.Named("any").Unlimited {
		t.Error("wrong facts about users")
	}
}

// TestCommandsOfModules: the rules about a command that only a node knows are those about its
// name and its categories, in their order.
func TestCommandsOfModules(t *testing.T) {
	set := command.Learn([]byte("*1\r\n*6\r\n$8\r\njson.set\r\n:-4\r\n*1\r\n+write\r\n:1\r\n:1\r\n:1\r\n"))
	p := new(resp.Parser)
	if _, st, err := p.Next(resp.AppendCommand(nil, "JSON.SET", "a", "$", "1"), &resp.DefaultLimits); st != resp.Ready {
		t.Fatal(err)
	}
	for rules, want := range map[string]acl.Denial{
		"~* +@all": acl.Permitted, "~*": acl.DeniedCommand, "~* +json.set": acl.Permitted, "~* +@json": acl.Permitted,
		"~* +@all -json.set": acl.DeniedCommand, "~* +@json -json.set": acl.DeniedCommand,
		"~* -json.set +@json": acl.Permitted, "~* +@all -@json": acl.DeniedCommand, "~* +@all -get": acl.Permitted,
		"~b +@all": acl.DeniedKey, "%R~a +@all": acl.DeniedKey, "~a +@all": acl.Permitted,
		"~* +@write": acl.DeniedCommand,
	} {
		us, _, err := acl.Make([]acl.Definition{{Name: "u", Rules: rules}})
		if err != nil {
			t.Fatal(err)
		}
		if got := us.Named("u").Check(set, p, new(acl.Scratch)); got.Why != want {
			t.Errorf("%s: %v, want %v", rules, got, want)
		}
	}
}

// TestPatternsOfChannels: a client may subscribe to a pattern only if a rule has it, letter for
// letter.
func TestPatternsOfChannels(t *testing.T) {
	us, _, err := acl.Make([]acl.Definition{{Name: "u", Rules: "&c* &d? +@all"}})
	if err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]acl.Denial{
		"psubscribe c*": acl.Permitted, "psubscribe c1": acl.DeniedChannel, "psubscribe c1*": acl.DeniedChannel,
		"psubscribe c* d1": acl.DeniedChannel, "subscribe c1 d1": acl.Permitted, "subscribe d": acl.DeniedChannel,
	} {
		cmd, a := parse(t, strings.Fields(args)...)
		if got := us.Named("u").Check(cmd, a, new(acl.Scratch)); got.Why != want {
			t.Errorf("%s: %v, want %v", args, got, want)
		}
	}
}

// TestSetChangesNoOthers: the users that ACL SETUSER makes share nothing that changes with those
// of before. A wrong rule makes none.
func TestSetChangesNoOthers(t *testing.T) {
	const rules = "on >x ~a %R~b &c -@all +get +select|0 (~d +set)"
	before, _, err := acl.Make([]acl.Definition{{Name: "u", Rules: rules}, {Name: "v", Rules: "on"}})
	if err != nil {
		t.Fatal(err)
	}
	text := before.Text()
	for _, rule := range []string{
		"~b", "%W~b", "~e", "&f", "-get", "+select|1", "+select|0", "+@all", "-select", "resetkeys", ">y", "<x",
		"clearselectors", "(+get)", "reset", "off", "nopass", "resetchannels",
	} {
		after, err := before.Set("u", []string{rule, "~more", "+ping"})
		if err != nil || after.Text() == text || before.Text() != text {
			t.Errorf("%s: %v\n%s%s", rule, err, before.Text(), after.Text())
		}
		if again, _, err := acl.Make(definitions(after.Text())); err != nil || again.Text() != after.Text() {
			t.Errorf("%s: not the same when read again: %v", rule, err)
		}
	}
	after, err := before.Set("u", []string{"~more", "+nosuch"})
	if err == nil || after != nil || before.Text() != text {
		t.Errorf("a wrong rule: %v %v", after, err)
	}
	var n int
	after, n = before.Without([]string{"v", "v", "nobody"})
	if n != 1 || after.Named("v") != nil || before.Named("v") == nil {
		t.Errorf("%d users are deleted: %q", n, after.Names())
	}
}

func definitions(text string) (all []acl.Definition) {
	for line := range strings.Lines(text) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 3)
		all = append(all, acl.Definition{Name: words[1], Rules: words[2]})
	}
	return all
}
