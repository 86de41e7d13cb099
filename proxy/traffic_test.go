package proxy

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/slots"
)

// nodeOf returns which of a rig's nodes has a key.
func nodeOf(key string) int {
	if slots.Of([]byte(key)) < 8192 {
		return 0
	}
	return 1
}

// TestHotKeysOfCommands: each key of a command counts once, with what the command does, its share of the bytes,
// its node, database and client; so do the keys of a transaction.
func TestHotKeysOfCommands(t *testing.T) {
	r := newRig(t, Options{Now: int64(time.Hour)})
	r.feed(cmd("CLIENT", "SETNAME", "me"))
	const one, two = "{x}1", "{x}2"
	node := nodeOf(one)
	for _, c := range []struct{ command, reply string }{
		{cmd("GET", one), "$3\r\nabc\r\n"}, {cmd("SET", one, "v"), "+OK\r\n"}, {cmd("PUBLISH", "c", "m"), ":0\r\n"},
		{cmd("MGET", one, two), "*2\r\n$1\r\na\r\n$1\r\nb\r\n"}, {cmd("GET", one), "-WRONGTYPE x\r\n"},
	} {
		r.feed(c.command)
		to := node
		if strings.Contains(c.command, "PUBLISH") {
			to = nodeOf("c") // keyway knows no keys of it, whichever node has got it
			for _, n := range []int{0, 1} {
				if r.sent(n) != "" {
					to = n
				}
			}
		} else {
			r.sent(to)
		}
		r.node(to, c.reply)
	}
	r.feed(cmd("MULTI") + cmd("SET", two, "w") + cmd("GET", one) + cmd("EXEC"))
	r.sent(node)
	r.node(node, "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n$1\r\nv\r\n")
	rows := hotkeys.Join([]hotkeys.Part{HotKeys(r.w)}, hotkeys.ByCommands, 10)
	mget, exec := cmd("MGET", one, two)+"*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*2\r\n+OK\r\n$1\r\nv\r\n"
	const all = `"db":0,"node":"%s","reads_per_second":%d,"writes_per_second":1,"bytes_per_second":%d,`
	name := r.w.Nodes[node].Name()
	ofOne := len(cmd("GET", one)+"$3\r\nabc\r\n"+cmd("SET", one, "v")+"+OK\r\n"+cmd("GET", one)+"-WRONGTYPE x\r\n") +
		len(mget)/2 + len(cmd("GET", one)) + len(exec)/2
	ofTwo := len(mget)/2 + len(cmd("SET", two, "w")) + len(exec)/2
	want := "[" + `{"key":"{x}1",` + fmt.Sprintf(all, name, 4, ofOne) + `"share":0.714,` +
		`{"key":"{x}2",` + fmt.Sprintf(all, name, 1, ofTwo) + `"share":0.285,`
	got, _ := json.Marshal(rows)
	const who = `"share_of_client":1,"client_id":1,"client":"peer:1","client_name":"me"}`
	rest := regexp.MustCompile(`"share":0\.(\d{3})\d*,"share_of_bytes":[0-9.]+,` + who + `[\],]`)
	short := rest.ReplaceAll(got, []byte(`"share":0.$1,`))
	if string(short) != want {
		t.Errorf("got\n%s\nwant\n%s", short, want)
	}
}

// TestHotKeysOfDeadNode: the keys of commands that a node has failed to answer count, too: each once, whether keyway
// knows that it was not executed or does not.
func TestHotKeysOfDeadNode(t *testing.T) {
	r := newRig(t, Options{Now: int64(time.Hour)})
	r.feed(cmd("SET", "{x}", "v") + cmd("INCR", "{x}"))
	r.sent(nodeOf("{x}"))
	r.dies(nodeOf("{x}"))
	for range 8 {
		r.feed(cmd("GET", "{x}"))
		r.pass(50 * time.Millisecond)
	}
	if got := r.got(); strings.Count(got, "\r\n") != 10 || strings.Count(got, "\r\n-") != 9 || got[0] != '-' {
		t.Fatalf("got %q", got)
	}
	rows, _ := json.Marshal(hotkeys.Join([]hotkeys.Part{HotKeys(r.w)}, hotkeys.ByCommands, 10))
	if !strings.Contains(string(rows), `"reads_per_second":8,"writes_per_second":2,`) {
		t.Errorf("%s", rows)
	}
}

// TestLongCommandsCountInPart: of a command with very many keys, keyway looks at some. They stand for all.
func TestLongCommandsCountInPart(t *testing.T) {
	r := newRig(t, Options{Now: int64(time.Hour)})
	args := []string{"UNLINK"}
	for i := range 1000 {
		args = append(args, fmt.Sprintf("{x}%d", i%10))
	}
	for range 20 {
		r.feed(cmd(args...))
		r.sent(nodeOf("{x}"))
		r.node(nodeOf("{x}"), ":1000\r\n")
	}
	rows, all := hotkeys.Join([]hotkeys.Part{HotKeys(r.w)}, hotkeys.ByCommands, 20), 0.0
	for _, row := range rows {
		all += row.Writes
	}
	if len(rows) != 10 || all < 18_000 || all > 22_000 {
		t.Errorf("%d rows, %v writes", len(rows), all)
	}
}

// TestBigKeysOfCommands: keyway sees a large value in each command that writes one, and a large reply to a command
// with one key, also if it comes in pieces. It does not see what is smaller, or was refused.
func TestBigKeysOfCommands(t *testing.T) {
	const over = 100_000
	r := newRig(t, Options{KeyTraffic: KeyTraffic{BigKeys: over}})
	long := strings.Repeat("v", over)
	pieces := "*2\r\n$50000\r\n" + long[:50_000] + "\r\n$50000\r\n" + long[:50_000] + "\r\n"
	for _, c := range []struct {
		command, reply string
	}{
		{cmd("SET", "{x}set", long), "+OK\r\n"},
		{cmd("SET", "{x}refused", long), "-OOM command not allowed\r\n"},
		{cmd("SET", "{x}less", long[1:]), "+OK\r\n"},
		{cmd("GET", "{x}get"), "$100000\r\n" + long + "\r\n"},
		{cmd("GET", "{x}half"), "$50000\r\n" + long[:50_000] + "\r\n"},
		{cmd("MSET", "{x}m1", "v", "{x}m2", long), "+OK\r\n"},
		{cmd("MGET", "{x}a", "{x}b"), pieces},
		{cmd("RPUSH", "{x}list", long[:50_000], long[:50_000]), ":2\r\n"},
		{cmd("LRANGE", "{x}pieces", "0", "-1"), pieces},
		{cmd("MULTI") + cmd("SET", "{x}multi", long) + cmd("EXEC"), "+OK\r\n+QUEUED\r\n*1\r\n+OK\r\n"},
	} {
		node := nodeOf("{x}")
		r.feed(c.command)
		r.sent(node)
		for reply := c.reply; reply != ""; { // in pieces
			n := min(len(reply), 30_000)
			r.node(node, reply[:n])
			reply = reply[n:]
		}
	}
	got := map[string]string{}
	for _, row := range bigkeys.Join([][]bigkeys.Row{BigKeys(r.w)}, 100) {
		text, _ := json.Marshal(row)
		_, text, _ = bytes.Cut(text, []byte(`"bytes":`))
		const who = `,"client_id":1,"client":"peer:1","client_name":"","time":"1970-`
		got[row.Key], _, _ = strings.Cut(string(text), who)
	}
	value := func(by string) string { return `100000,"kind":"value","command":"` + by + `"` }
	want := map[string]string{
		"{x}set": value("SET"), "{x}get": `100011,"kind":"reply","command":"GET"`, "{x}m2": value("MSET"),
		"{x}list": value("RPUSH"), "{x}pieces": fmt.Sprint(len(pieces), `,"kind":"reply","command":"LRANGE"`),
		"{x}multi": value("SET"),
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

// TestHotKeysAllocateNothing: neither do commands that keyway looks at allocate memory, nor does the change of the
// window.
func TestHotKeysAllocateNothing(t *testing.T) {
	r := newRig(t, Options{Now: int64(time.Hour)})
	i := 0
	var in, reply []byte
	turn := func() {
		r.now += int64(time.Millisecond)
		i++
		in, reply = in[:0], append(reply[:0], "$1\r\nv\r\n"...)
		in = fmt.Appendf(in, "*2\r\n$3\r\nGET\r\n$10\r\n{x}%07d\r\n", i%100_000)
		r.turn(in, func() { r.shared(nodeOf("{x}")).Received(reply, r.now) })
	}
	for range 1000 {
		turn()
	}
	if n := testing.AllocsPerRun(12_000, turn); n > 1 { // fmt makes one for the number
		t.Errorf("%v allocations", n)
	}
}

// TestAskForHotKeys: KEYWAY HOTKEYS and KEYWAY BIGKEYS as clients see them.
func TestAskForHotKeys(t *testing.T) {
	r := newRig(t, Options{KeyTraffic: KeyTraffic{BigKeys: 10}, Now: int64(time.Hour)})
	r.got()
	for _, c := range []struct{ args, want string }{
		{"HOTKEYS", "*0\r\n"}, {"BIGKEYS", "*0\r\n"}, {"HOTKEYS COUNT 0", "-ERR count should be greater than 0\r\n"},
		{"HOTKEYS BY size", "-ERR BY must be one of commands, reads, writes, bytes\r\n"},
		{"HOTKEYS BY", "-ERR syntax error\r\n"},
		{"BIGKEYS COUNT x", "-ERR count should be greater than 0\r\n"}, {"BIGKEYS BY bytes", "-ERR syntax error\r\n"},
		{"HOTKEYS MATCH x", "-ERR syntax error\r\n"}, {"BIGKEYS COUNT", "-ERR syntax error\r\n"},
	} {
		r.feed(cmd(append([]string{"KEYWAY"}, strings.Fields(c.args)...)...))
		if got := r.got(); got != c.want {
			t.Errorf("%s: %q", c.args, got)
		}
	}
	node := nodeOf("key")
	r.feed(cmd("SET", "key", "0123456789"))
	r.sent(node)
	r.node(node, "+OK\r\n")
	r.got()
	const client = "$9\r\nclient-id\r\n:1\r\n$6\r\nclient\r\n$6\r\npeer:1\r\n$11\r\nclient-name\r\n$0\r\n\r\n"
	key := "$3\r\nkey\r\n$3\r\nkey\r\n$2\r\ndb\r\n:0\r\n$4\r\nnode\r\n$1\r\n" + []string{"a", "b"}[node] + "\r\n"
	r.feed(cmd("KEYWAY", "HOTKEYS", "BY", "WRITES", "COUNT", "1"))
	want := "*1\r\n*24\r\n" + key + "$16\r\nreads-per-second\r\n$3\r\n0.0\r\n" +
		"$17\r\nwrites-per-second\r\n$3\r\n1.0\r\n" +
		"$16\r\nbytes-per-second\r\n$2\r\n44\r\n$5\r\nshare\r\n$6\r\n1.0000\r\n" +
		"$14\r\nshare-of-bytes\r\n$6\r\n1.0000\r\n$15\r\nshare-of-client\r\n$6\r\n1.0000\r\n" + client
	if got := r.got(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	r.feed(cmd("KEYWAY", "BIGKEYS"))
	want = "*1\r\n*22\r\n" + key + "$5\r\nbytes\r\n:10\r\n$4\r\nkind\r\n$5\r\nvalue\r\n" +
		"$7\r\ncommand\r\n$3\r\nSET\r\n" + client + "$9\r\nunix-time\r\n:1000\r\n$5\r\ntimes\r\n:1\r\n"
	if got := r.got(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

// TestLoadThatFallsIsSeen: after a heavy load, of which keyway looks at little, it sees the few commands that follow.
func TestLoadThatFallsIsSeen(t *testing.T) {
	r := newRig(t, Options{Now: int64(time.Hour)})
	in, node := strings.Repeat(cmd("GET", "heavy"), 1000), nodeOf("heavy")
	reply := []byte(strings.Repeat("$1\r\nv\r\n", 1000))
	for range 100 {
		r.turn([]byte(in), func() { r.shared(node).Received(reply, r.now) })
	}
	r.pass(12 * time.Second)
	node = nodeOf("light")
	for range 8 {
		r.pass(time.Second)
		r.feed(cmd("GET", "light"))
		r.sent(node)
		r.node(node, "$1\r\nv\r\n")
		r.got()
	}
	rows := hotkeys.Join([]hotkeys.Part{HotKeys(r.w)}, hotkeys.ByCommands, 10)
	if len(rows) != 1 || rows[0].Key != "light" || rows[0].Share != 1 {
		t.Errorf("%+v", rows)
	}
}
