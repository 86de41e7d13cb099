package guard

import (
	"strings"
	"testing"
)

// TestConnectionNames: what the names of connections say is read as it was written, and so are
// the names of versions that know no epochs.
func TestConnectionNames(t *testing.T) {
	const long = "kw:e99999999999999999999"
	for name, want := range map[string]Connection{
		ConnectionName("kw-1", 0, "1a"):                     {Instance: "kw-1"},
		ConnectionName("host:6379", 42, "1a"):               {Instance: "host:6379", Epoch: 42},
		StateName("kw-1", 3, WithWish("idle", "2b"), "1a"):  {Instance: "kw-1", Epoch: 3, State: "idle", Wish: "2b"},
		StateName("host:6379", 42, "held", "1a"):            {Instance: "host:6379", Epoch: 42, State: "held"},
		"keyway:kw-1:1a":                                    {Instance: "kw-1", Epoch: Unsaid},
		"keyway:host:6379:1a":                               {Instance: "host:6379", Epoch: Unsaid},
		"keyway:e7:1a":                                      {Instance: "e7", Epoch: Unsaid},
		"keyway:kw:e:1a":                                    {Instance: "kw:e", Epoch: Unsaid},
		"keyway:kw:e-1:1a":                                  {Instance: "kw:e-1", Epoch: Unsaid},
		"keyway:" + long + ":1a":                            {Instance: long, Epoch: Unsaid},
		ConnectionName(ConnectionName("a", 3, ""), 4, "1a"): {Instance: "keyway:a:e3:", Epoch: 4},
	} {
		want.ID, want.Host, want.Placement = "3", "10.0.0.1", "1a"
		if got, ok := ParseConnection(client("10.0.0.1:500", name)); !ok || got != want {
			t.Errorf("%s: %+v, %v", name, got, ok)
		}
	}
	for name := range strings.FieldsSeq("metrics keyway:plan keyway:switch keyway-move:x:y keyway: keyway::1a") {
		if got, ok := ParseConnection(client("10.0.0.1:500", name)); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
	for line, want := range map[string]bool{
		"id=1 name=keyway:a:e0:b flags=P resp=2": true,
		"id=1 name=keyway:a:e0:b flags=P resp=3": false, // it accepts any command
		"id=1 name=keyway:a:e0:b flags=P":        false,
		"id=1 name=keyway:a:e0:b flags=N resp=2": false,
	} {
		if got, ok := ParseConnection(line); !ok || got.Subscribed != want {
			t.Errorf("%s: %+v", line, got)
		}
	}
}
