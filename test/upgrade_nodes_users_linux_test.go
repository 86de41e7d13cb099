package test

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestUpgradeWithNodesUsers: in an upgrade, clients who are users of the nodes are closed between two
// commands, since the new process has no passwords; those that have not authenticated go over.
func TestUpgradeWithNodesUsers(t *testing.T) {
	t.Parallel()
	redistest.OfAProcess(t)
	users := strings.Replace(nodesUsers, "+ping +get", "+@all", 1) // newUpgraded asks as the default user
	file := redistest.WriteFile(t, "users.acl", users)
	node := redistest.Redis.Start(t, "--aclfile", file)
	u := newUpgraded(t, "auth: passthrough\nbackend: {username: keyway, password: kw}\n"+redistest.Ring(node.Addr))
	quiet, app, listener := redistest.Dial(t, u.Addr), redistest.Dial(t, u.Addr), redistest.Dial(t, u.Addr)
	app.Expect("OK", "AUTH", "app", "pw")
	app.Expect("OK", "SET", "app:1", "one")
	listener.Expect("OK", "AUTH", "app", "pw")
	listener.MustDo("SUBSCRIBE", "app:news")
	if printed, err := u.Upgrade(); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	closed(t, app)
	closed(t, listener)
	quiet.Expect("OK", "AUTH", "app", "pw")
	quiet.Expect("one", "GET", "app:1")
}
