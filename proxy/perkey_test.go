package proxy

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/emulation"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

// The rigs' per-key script: ARGV[1] is for all keys, then there is one for each.
const (
	perKeyText = "local r = {} for i, k in ipairs(KEYS) do r[i] = redis.call('GET', k) == ARGV[i+1] end return r"
	noScript   = "-NOSCRIPT No matching script. Please use EVAL.\r\n"
)

var perKeySHA = lua.SHA1([]byte(perKeyText))

func declared() lua.PerKeyScripts {
	normal := lua.SHA1(lua.NormalScript([]byte(perKeyText)))
	return lua.NewPerKeyScripts([]lua.PerKey{
		{SHA: perKeySHA, Normal: normal, Argv: []lua.Argv{lua.Shared, lua.Each}},
	})
}

// onA2 lies on a too, in another slot.
const onA2 = "c"

// A per-key script whose keys live apart becomes a call for each key, and the
// replies one array in the keys' order.
func TestPerKeyScript(t *testing.T) {
	spaced := strings.ReplaceAll(perKeyText, " ", "\n ")
	for _, text := range []string{perKeyText, spaced} {
		r := newRig(t, Options{PerKey: declared()})
		r.feed(cmd("EVAL", text, "3", onA, onB, onA2, "ttl", "1", "2", "3") + cmd("PING"))
		want := cmd("EVAL", text, "1", onA, "ttl", "1") + cmd("EVAL", text, "1", onA2, "ttl", "3")
		if got := r.sent(0); got != want {
			t.Fatalf("a was sent %q, want %q", got, want)
		}
		if got, want := r.sent(1), cmd("EVAL", text, "1", onB, "ttl", "2"); got != want {
			t.Fatalf("b was sent %q, want %q", got, want)
		}
		r.node(0, "*1\r\n:1\r\n*1\r\n:3\r\n")
		if got := r.got(); got != "" {
			t.Errorf("before all was answered the client got %q", got)
		}
		r.node(1, "*1\r\n:2\r\n")
		if got := r.got(); got != "*3\r\n:1\r\n:2\r\n:3\r\n+PONG\r\n" {
			t.Errorf("the client got %q", got)
		}
		r.feed(cmd("EVAL", text, "2", onA, onB, "ttl", "1"))
		if got := r.got(); got != string(resp.AppendError(nil, errtext.PerKeyArgs)) {
			t.Errorf("ARGV that do not fit: %q", got)
		}
	}
}

// Other scripts over several nodes are refused, and what lives together goes as it is.
func TestScriptsThatAreNotPerKey(t *testing.T) {
	r := newRig(t, Options{PerKey: declared()})
	r.feed(cmd("EVAL", "return 1", "2", onA, onB))
	r.feed(cmd("FCALL", "f", "2", onA, onB))
	if got := r.got(); strings.Count(got, "-CROSSSLOT ") != 2 {
		t.Errorf("%q", got)
	}
	whole := cmd("EVAL", perKeyText, "2", "{b}1", "{b}2", "ttl", "1", "2")
	r.feed(whole)
	if got := r.sent(0); got != whole {
		t.Errorf("sent %q", got)
	}
}

// A unit lives where its first key does if the others only begin names: Redisson sends
// an empty one for a read lock that it has released.
func TestPerKeyScriptWithPrefixes(t *testing.T) {
	for _, prefix := range []bool{true, false} {
		p := lua.PerKey{SHA: perKeySHA, Keys: 2, Prefix: prefix, Argv: []lua.Argv{lua.Shared, lua.Each}}
		r := newRig(t, Options{PerKey: lua.NewPerKeyScripts([]lua.PerKey{p})})
		r.feed(cmd("EVAL", perKeyText, "4", onA, "{"+onB+"}", onB, "{"+onB+"}", "ttl", "1", "2"))
		if !prefix {
			if got := r.got(); !strings.HasPrefix(got, "-CROSSSLOT ") {
				t.Errorf("keys of one unit that live apart: %q", got)
			}
			continue
		}
		if got, want := r.sent(0), cmd("EVAL", perKeyText, "2", onA, "{"+onB+"}", "ttl", "1"); got != want {
			t.Errorf("a was sent %q, want %q", got, want)
		}
		if got, want := r.sent(1), cmd("EVAL", perKeyText, "2", onB, "{"+onB+"}", "ttl", "2"); got != want {
			t.Errorf("b was sent %q, want %q", got, want)
		}
	}
}

// The error of one key is the error of the whole.
func TestPerKeyScriptFailsInPart(t *testing.T) {
	const inPart = "-ERR keyway: EVAL may have been executed on some nodes only; of one: "
	for _, tc := range []struct{ a, b, want string }{
		{"*1\r\n:1\r\n", "-ERR script\r\n", inPart + "ERR script\r\n"},
		{"-ERR first\r\n", "-ERR second\r\n", "-ERR first\r\n"},
		{"*1\r\n:1\r\n", "", inPart + "ERR keyway: the connection to node b (10.0.0.2:1) ended " +
			"after the command was sent (reset); it may have been executed\r\n"},
	} {
		r := newRig(t, Options{PerKey: declared()})
		r.feed(cmd("EVAL", perKeyText, "2", onA, onB, "ttl", "1", "2"))
		r.sent(0)
		r.sent(1)
		r.node(0, tc.a)
		if tc.b == "" {
			r.shared(1).Fail(r.now, "reset")
		} else {
			r.node(1, tc.b)
		}
		if got := r.got(); got != tc.want {
			t.Errorf("%q and %q: got %q", tc.a, tc.b, got)
		}
	}
}

// EVALSHA goes in full to a node that is not known to have the script, again in
// full to one that has lost it; one that keyway does not know is asked of the client.
func TestPerKeyScriptBySHA(t *testing.T) {
	r := newRig(t, Options{PerKey: declared()})
	sha := cmd("EVALSHA", perKeySHA, "2", onA, onB, "ttl", "1", "2")
	r.feed(sha)
	if got := r.got(); got != noScript {
		t.Fatalf("unknown: got %q", got)
	}
	r.feed(cmd("EVAL", perKeyText, "1", onA, "ttl", "1")) // makes it known
	r.sent(0)
	r.node(0, "*1\r\n:1\r\n")
	r.got()
	full := func(key, arg string) string { return cmd("EVAL", perKeyText, "1", key, "ttl", arg) }
	short := func(key, arg string) string { return cmd("EVALSHA", perKeySHA, "1", key, "ttl", arg) }
	r.feed(sha)
	if a, b := r.sent(0), r.sent(1); a != full(onA, "1") || b != full(onB, "2") {
		t.Fatalf("sent %q and %q", a, b)
	}
	r.node(0, "*1\r\n:1\r\n")
	r.node(1, "*1\r\n:2\r\n")
	r.got()
	r.feed(sha)
	if a, b := r.sent(0), r.sent(1); a != short(onA, "1") || b != short(onB, "2") {
		t.Fatalf("sent %q and %q", a, b)
	}
	r.node(0, "*1\r\n:1\r\n")
	r.node(1, noScript)
	if got := r.sent(1); got != cmd("SCRIPT", "EXISTS", perKeySHA) {
		t.Fatalf("b was asked %q", got)
	}
	r.node(1, "*1\r\n:0\r\n")
	if got := r.sent(1); got != full(onB, "2") {
		t.Errorf("b was sent %q", got)
	}
	r.node(1, "*1\r\n:2\r\n")
	if got := r.got(); got != "*2\r\n:1\r\n:2\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// A script that another thread has just learned of is split all the same.
func TestPerKeyScriptThatASiblingKnows(t *testing.T) {
	for _, known := range []bool{true, false} {
		o := Options{Workers: 2, PerKey: declared()}
		r, sibling := newRig(t, o), newRig(t, o)
		if known {
			sibling.feed(cmd("EVAL", perKeyText, "1", onA, "ttl", "1"))
		}
		r.feed(cmd("EVALSHA", perKeySHA, "2", onA, onB, "ttl", "1", "2") + cmd("PING"))
		r.asked(sibling)
		want := noScript + "+PONG\r\n"
		if r.endTurn(); known {
			if a, b := r.sent(0), r.sent(1); a != cmd("EVAL", perKeyText, "1", onA, "ttl", "1") ||
				b != cmd("EVAL", perKeyText, "1", onB, "ttl", "2") {
				t.Errorf("sent %q and %q", a, b)
			}
			r.node(0, "*1\r\n:1\r\n")
			r.node(1, "*1\r\n:2\r\n")
			want = "*2\r\n:1\r\n:2\r\n+PONG\r\n"
		}
		if got := r.got(); got != want {
			t.Errorf("known %v: got %q", known, got)
		}
	}
}

// A key whose slot is moving is followed without the others.
func TestPerKeyScriptFollowsItsSlots(t *testing.T) {
	r := newClusterRig(t, Options{PerKey: declared()})
	r.feed(cmd("EVAL", perKeyText, "3", onA, onA2, onB, "ttl", "1", "2", "3"))
	r.sent(0)
	r.sent(1)
	moved := "-ASK 3300 10.0.0.2:1\r\n"
	r.node(0, moved+"*1\r\n:2\r\n")
	r.endTurn()
	if got := r.sent(0); got != cmd("EXISTS", onA) {
		t.Fatalf("a was asked %q", got)
	}
	r.node(0, moved)
	r.endTurn()
	if got := r.sent(1); !strings.HasSuffix(got, cmd("EVAL", perKeyText, "1", onA, "ttl", "1")) ||
		!strings.Contains(got, "ASKING") {
		t.Errorf("b was sent %q", got)
	}
	r.node(1, "*1\r\n:3\r\n+OK\r\n*1\r\n:1\r\n")
	if got := r.got(); got != "*3\r\n:1\r\n:2\r\n:3\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// A slot without an owner holds up its own key only.
func TestPerKeyScriptOfAnUnownedSlot(t *testing.T) {
	r := newClusterRig(t, Options{PerKey: declared()})
	owned := r.w.Table
	m, err := slots.NewMap([]slots.Node{{ID: "a", Addr: "10.0.0.1:1", Master: true},
		{ID: "b", Addr: "10.0.0.2:1", Master: true}},
		[][]slots.Range{{{First: 0, Last: 3000}}, {{First: 9000, Last: 16383}}})
	if err != nil {
		t.Fatal(err)
	}
	r.w.SetTable(router.NewSlots(m))
	r.feed(cmd("EVAL", perKeyText, "2", onA, onB, "ttl", "1", "2"))
	if a, b := r.sent(0), r.sent(1); a != "" || b != cmd("EVAL", perKeyText, "1", onB, "ttl", "2") {
		t.Fatalf("sent %q and %q", a, b)
	}
	r.node(1, "*1\r\n:2\r\n")
	r.w.SetTable(owned)
	r.pass(200 * time.Millisecond)
	if got := r.sent(0); got == cmd("EXISTS", onA) {
		r.node(0, ":1\r\n")
		r.pass(200 * time.Millisecond)
	}
	if got := r.sent(0); got != cmd("EVAL", perKeyText, "1", onA, "ttl", "1") {
		t.Fatalf("a was sent %q", got)
	}
	r.node(0, "*1\r\n:1\r\n")
	if got := r.got(); got != "*2\r\n:1\r\n:2\r\n" {
		t.Errorf("the client got %q", got)
	}
}

// A cluster's client sees that its keys share a slot. It is told why they still live
// apart, with the code that makes no client try again.
func TestKeysOfOneSlotApart(t *testing.T) {
	const one, two = "user:989", "user:3640"
	if slots.Of([]byte(one)) != slots.Of([]byte(two)) {
		t.Fatal("the keys are of two slots")
	}
	nodes := []router.Node{{Name: "a", Addr: "10.0.0.1:1", Master: true}, {Name: "b", Addr: "10.0.0.2:1", Master: true}}
	ring, err := router.NewRing(nodes, router.Hashed{Hash: "fnv1a_64", HashTag: "{}", Weights: []int{1, 1}})
	if err != nil {
		t.Fatal(err)
	}
	for _, emulates := range []bool{true, false} {
		o := Options{}
		if emulates {
			o.Cluster = emulation.New("10.0.0.9:1", nil)
		}
		r := newRig(t, o)
		r.w.SetTable(ring)
		r.feed(cmd("RENAME", one, two))
		got := r.got()
		if !strings.HasPrefix(got, "-CROSSSLOT ") || strings.Contains(got, "share slot ") != emulates ||
			strings.Contains(got, "don't hash to the same slot") == emulates {
			t.Errorf("emulation %v: %q", emulates, got)
		}
	}
}
