package acl_test

import (
	"testing"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/names"
)

// TestPrefixIsNoRule: no rule, and no change by ACL SETUSER or DELUSER, takes a user's prefix away.
func TestPrefixIsNoRule(t *testing.T) {
	us, _, err := acl.Make([]acl.Definition{{
		Name: "u", Rules: "on reset +get", Settings: acl.Settings{Prefix: names.New("app:", false)},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, rules := range [][]string{{"reset"}, {"resetkeys", "+set"}, {"reset", "on", "nopass", "~*", "&*", "+@all"}} {
		if got := us.Named("u").Prefix.String(); got != "app:" {
			t.Errorf("the prefix is %q", got)
		}
		us, _ = us.Without([]string{"u"})
		if us, err = us.Set("u", rules); err != nil {
			t.Fatal(err)
		}
	}
	if got := us.Named("u").Prefix.String(); got != "app:" {
		t.Errorf("the prefix is %q", got)
	}
}
