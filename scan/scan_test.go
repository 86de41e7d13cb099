package scan

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// reply is a node's reply to SCAN.
func reply(cursor string, keys ...string) []byte {
	return append(resp.AppendBulkString(resp.AppendArray(nil, 2), cursor), resp.AppendCommand(nil, keys...)...)
}

// next is the cursor of keyway's reply.
func next(t *testing.T, m Masters, master int, cursor string) []byte {
	t.Helper()
	b := m.AppendReply(nil, Place{Master: master}, m, reply(cursor, "a"))
	text, keys, ok := Page(b)
	if !ok || string(keys) != "*1\r\n$1\r\na\r\n" {
		t.Fatalf("%q", b)
	}
	return text
}

// TestCursorVisitsEachMaster: a walk continues on its master until that has no more keys,
// then on the next, and ends after the last.
func TestCursorVisitsEachMaster(t *testing.T) {
	m := Of([]string{"a:1", "b:1"})
	at := func(cursor []byte) string {
		place, ok := m.Parse(cursor)
		return fmt.Sprint(place.Master, place.Own, ok)
	}
	if got := at([]byte("0")); got != "0 0 true" {
		t.Errorf("begins at %s", got)
	}
	most := fmt.Sprint(uint64(1)<<41 - 1)
	for _, c := range []struct {
		master    int
		own, want string
	}{{0, "17", "0 17 true"}, {0, most, "0 " + most + " true"}, {0, "0", "1 0 true"}, {1, "5", "1 5 true"}} {
		if got := at(next(t, m, c.master, c.own)); got != c.want {
			t.Errorf("behind %s of master %d: %s", c.own, c.master, got)
		}
	}
	if got := string(next(t, m, 1, "0")); got != "0" {
		t.Errorf("ends with %s", got)
	}
	if got := at([]byte("x")); got != "0 0 false" {
		t.Errorf("not a number: %s", got)
	}
}

// TestCursorOfOtherMasters: a walk begins again if the masters, or their order, have changed.
func TestCursorOfOtherMasters(t *testing.T) {
	cursor := next(t, Of([]string{"a:1", "b:1"}), 1, "9")
	for _, addrs := range [][]string{{"b:1", "a:1"}, {"a:1"}, {"a:1", "b:1", "c:1"}, {"a:1b", ":1"}} {
		if at, ok := Of(addrs).Parse(cursor); at != (Place{}) || !ok {
			t.Errorf("%q: continues at %+v", addrs, at)
		}
	}
}

// TestCursorOfOtherEpochs: a walk begins again if keys begin or cease to move, if they move in
// another epoch, or if they have moved since its last page was asked for.
func TestCursorOfOtherEpochs(t *testing.T) {
	m := Of([]string{"a:1", "b:1"})
	states := []Masters{m, m.In(1, true), m.In(1, false), m.In(2, true), m.In(2, false)}
	for i := 0; len(states) == 5; i++ { // masters whose walk begins with the cursor 0
		if o := Of([]string{fmt.Sprint(i), "b:1"}); o.state == 0 {
			states = append(states, o)
		}
	}
	for i, began := range states {
		for k, now := range states {
			at, ok := now.Parse(next(t, began, 1, "9"))
			if i == k != (at == Place{Master: 1, Own: 9}) || i != k && at != (Place{}) || !ok {
				t.Errorf("state %d after %d: continues at %+v", k, i, at)
			}
			if i == k {
				continue
			}
			b := began.AppendReply(nil, Place{Master: 1, isAgain: true}, now, reply("0", "a")) // the last page
			text, _, _ := Page(b)
			if at, ok = now.Parse(text); string(text) == "0" || at != (Place{isAgain: k == 5}) || !ok {
				t.Errorf("state %d since a page of %d was asked for: %s, which continues at %+v", k, i, text, at)
			}
		}
	}
}

// TestTwoRounds: while keys move, a walk visits each master twice.
func TestTwoRounds(t *testing.T) {
	m := Of([]string{"a:1", "b:1"}).In(17, true)
	visited, cursor := "", []byte("0")
	for range 10 {
		at, ok := m.Parse(cursor)
		if !ok {
			t.Fatalf("%s is no cursor", cursor)
		}
		visited += fmt.Sprintf("%d:%d ", at.Master, at.Own)
		own := "5"
		if at.Own == 5 {
			own = "0"
		}
		cursor, _, _ = Page(m.AppendReply(nil, at, m, reply(own, "a")))
		if string(cursor) == "0" {
			break
		}
		if n, err := strconv.ParseInt(string(cursor), 10, 64); err != nil || n < 0 {
			t.Errorf("clients may not be able to read %s", cursor)
		}
	}
	if visited != "0:0 0:5 1:0 1:5 0:0 0:5 1:0 1:5 " {
		t.Errorf("visits %s", visited)
	}
}

// TestUnion: the keys of several replies to KEYS come once.
func TestUnion(t *testing.T) {
	union, ok := Union(nil, [][]byte{resp.AppendCommand(nil, "a", "a"), resp.AppendCommand(nil, "a")})
	if string(union) != "*1\r\n$1\r\na\r\n" || !ok {
		t.Errorf("%q", union)
	}
	if _, ok = Union(nil, [][]byte{[]byte(":1\r\n")}); ok {
		t.Error("a number is taken for keys")
	}
}

// TestUnreadableReplies: a client gets a node's error, and an error for a reply that keyway
// cannot read.
func TestUnreadableReplies(t *testing.T) {
	m := Of([]string{"a:1"})
	for text, want := range map[string]string{
		"-ERR no\r\n": "-ERR no\r\n", ":1\r\n": "-ERR keyway: a node's reply to SCAN cannot be read",
		string(reply("x")):             "-ERR keyway: a node's reply to SCAN cannot be read",
		string(reply("2199023255552")): "-ERR keyway: a node's SCAN cursor is beyond 41 bits",
	} {
		if got := string(m.AppendReply(nil, Place{}, m, []byte(text))); !strings.HasPrefix(got, want) {
			t.Errorf("%q: %q", text, got)
		}
	}
}

// TestSlotKeys: the keys of the slot count once, and no more are kept than the client wants.
func TestSlotKeys(t *testing.T) {
	page := resp.AppendCommand(nil, "{x}1", "other", "{x}2", "{x}1", "{x}3")
	slot := slots.Of([]byte("x"))
	all := KeysOf(slot, -1)
	all.Add(page)
	all.Add(page)
	if got := string(all.AppendReply(nil)); got != ":3\r\n" || all.Enough() {
		t.Errorf("number: %q", got)
	}
	two := KeysOf(slot, 2)
	if two.Enough() {
		t.Error("none is enough")
	}
	two.Add(page)
	got := string(two.AppendReply(nil))
	if !two.Enough() || !strings.HasPrefix(got, "*2\r\n") || strings.Contains(got, "{x}3") {
		t.Errorf("two: %q", got)
	}
}
