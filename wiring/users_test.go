package wiring

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/config"
)

// TestDenyOfUsers: a wrong name among the commands that a user may not send is an error at its place.
func TestDenyOfUsers(t *testing.T) {
	const yaml = "nodes: [{name: a, addr: 127.0.0.1:6379}]\nlayout: ring\nusers:\n  - {name: u, deny: "
	for deny, want := range map[string]string{
		`[keys, "config|set"]`: "",
		"[keys, nosuch]":       `x.yml:4:21: users[0].deny: no command is called "nosuch"; name commands such as`,
		"auth":                 `users[0].deny: "auth" cannot be denied: clients need it to log in or to leave`,
	} {
		none := func(string) (string, bool) { return "", false }
		c, err := config.Parse("x.yml", []byte(yaml+deny+"}\n"), none)
		if err != nil {
			t.Fatal(err)
		}
		switch _, err := Users(c); {
		case err == nil && want != "":
			t.Errorf("%s: no error", deny)
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%s:\n got %v\nwant %s", deny, err, want)
		}
	}
}
