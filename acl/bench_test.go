package acl_test

import (
	"testing"

	"github.com/keyway-proxy/keyway/acl"
)

// BenchmarkCheck checks a command of a user with a few rules.
func BenchmarkCheck(b *testing.B) {
	users, _, err := acl.Make([]acl.Definition{{
		Name: "app", Rules: "on nopass ~key:* %R~shared:* &app:* +@read +@write -keys",
	}})
	if err != nil {
		b.Fatal(err)
	}
	user, mem := users.Named("app"), new(acl.Scratch)
	cmd, args := parse(b, "GET", "shared:000000012345")
	b.ReportAllocs()
	for b.Loop() {
		if v := user.Check(cmd, args, mem); v.Why != acl.Permitted {
			b.Fatal(v)
		}
	}
}
