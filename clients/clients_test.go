package clients

import (
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// parsed returns the arguments of a command.
func parsed(t *testing.T, args ...string) command.Args {
	t.Helper()
	p := new(resp.Parser)
	if _, st, err := p.Next(resp.AppendCommand(nil, args...), &resp.DefaultLimits); err != nil || st != resp.Ready {
		t.Fatalf("%q: %v", args, err)
	}
	return p
}

// others are the clients that the tests select from; client 2 has subscriptions.
var others = []Identity{
	{ID: 1, Addr: "peer:1", LocalAddr: "here:1", User: "default", Age: 5 * time.Second},
	{ID: 2, Addr: "peer:2", LocalAddr: "here:1", User: "default", Age: 90 * time.Second, Subscribed: true},
	{ID: 3, Addr: "peer:3", LocalAddr: "here:2", User: "app", Age: 90 * time.Second},
}

func isUser(name []byte) bool { return string(name) == "default" || string(name) == "app" }

// selected returns the IDs that the filter selects, as digits.
func selected(f *Filter) (ids string) {
	for _, c := range others {
		if f.Selects(c) {
			ids += string(rune('0' + c.ID))
		}
	}
	return ids
}

// TestKillSelectsByAllOptions: the options of CLIENT KILL all have to fit, and the client that asks is
// spared unless it says SKIPME no or uses the old form.
func TestKillSelectsByAllOptions(t *testing.T) {
	for options, want := range map[string]string{
		"peer:3":                  "3",
		"SKIPME no":               "123",
		"skipme yes":              "12",
		"ID 2":                    "2",
		"ID 3":                    "",
		"ADDR peer:3 SKIPME no":   "3",
		"LADDR here:1":            "12",
		"TYPE pubsub":             "2",
		"type NORMAL":             "1",
		"TYPE master":             "",
		"TYPE master TYPE normal": "",
		"MAXAGE 60":               "2",
		"USER default ID 1":       "1",
		"USER app SKIPME no":      "3",
		"USER app":                "",
		"LADDR here:1 MAXAGE 60":  "2",
	} {
		args := strings.Fields(options)
		f, old, text := ParseKill(parsed(t, append([]string{"CLIENT", "KILL"}, args...)...), 3, isUser)
		if text != "" || old != (len(args) == 1) || selected(f) != want {
			t.Errorf("%s: %q, old %t, selects %q", options, text, old, selected(f))
		}
	}
	for options, want := range map[string]string{
		"ID 0":           "ERR client-id should be greater than 0",
		"MAXAGE x":       "ERR maxage is not an integer or out of range",
		"TYPE boss":      "ERR Unknown client type 'boss'",
		"USER me":        "ERR No such user 'me'",
		"SKIPME perhaps": "ERR syntax error",
		"COLOR red":      "ERR syntax error",
		"ID 1 ADDR":      "ERR syntax error",
	} {
		args := append([]string{"CLIENT", "KILL"}, strings.Fields(options)...)
		if _, _, text := ParseKill(parsed(t, args...), 3, isUser); text != want {
			t.Errorf("%s: %q", options, text)
		}
	}
}

// TestListSelectsByTypeOrID: CLIENT LIST selects by type or by several IDs.
func TestListSelectsByTypeOrID(t *testing.T) {
	for options, want := range map[string]string{"": "123", "TYPE pubsub": "2", "TYPE replica": "", "ID 3 1 9": "13"} {
		f, text := ParseList(parsed(t, append([]string{"CLIENT", "LIST"}, strings.Fields(options)...)...))
		if text != "" || selected(f) != want {
			t.Errorf("%s: %q, selects %q", options, text, selected(f))
		}
	}
	for options, want := range map[string]string{
		"ID x": "ERR Invalid client ID", "TYPE boss": "ERR Unknown client type 'boss'", "ID": "ERR syntax error",
		"TYPE normal pubsub": "ERR syntax error",
	} {
		_, text := ParseList(parsed(t, append([]string{"CLIENT", "LIST"}, strings.Fields(options)...)...))
		if text != want {
			t.Errorf("%s: %q", options, text)
		}
	}
}

// TestLineOfClientList: a client's line has Redis's fields in Redis's order.
func TestLineOfClientList(t *testing.T) {
	c := Client{
		Identity: others[1], About: About{Name: "me"}, Idle: 3 * time.Second, Flags: "P", DB: 4, Version: resp.V3,
		Command: "client|list", Redirects: -1,
		Channels: 1, Patterns: 2, ShardChannels: 3, Queued: -1, Watched: 6, Asking: 20,
		Input: 7, InputFree: 8, TransactionBytes: 9, OutputBytes: 100, OutputChunks: 2, FirstSize: 70, Parked: 5,
		Memory: 1000, BytesIn: 11, BytesOut: 12, Commands: 13,
	}
	c.SetInfo([]byte("LIB-NAME"), []byte("lib"))
	c.SetInfo([]byte("lib-ver"), []byte("1.0"))
	want := "id=2 addr=peer:2 laddr=here:1 fd=0 name=me age=90 idle=3 flags=P db=4 sub=1 psub=2 ssub=3 multi=-1 " +
		"watch=6 qbuf=20 qbuf-free=8 argv-mem=20 multi-mem=9 obl=70 oll=2 omem=35 tot-mem=1000 events=rw " +
		"cmd=client|list user=default redir=-1 resp=3 lib-name=lib lib-ver=1.0 " +
		"tot-net-in=11 tot-net-out=12 tot-cmds=13\n"
	if got := string(c.AppendLine(nil)); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	fresh := Client{}
	got := string(fresh.AppendLine(nil))
	if !strings.Contains(got, " events=r cmd=NULL ") || strings.Contains(got, "lib-") {
		t.Errorf("%s", got)
	}
}

// TestInfoIsChecked: a client announces only known attributes, in printable ASCII.
func TestInfoIsChecked(t *testing.T) {
	for _, c := range [][3]string{
		{"lib-name", "go-redis", ""},
		{"LIB-VER", "9.0", ""},
		{"lib-color", "red", "ERR Unrecognized option 'lib-color'"},
		{"LIB-NAME", "two words", "ERR lib-name cannot contain spaces, newlines or special characters."},
		{"lib-ver", "caf\xc3\xa9", "ERR lib-ver cannot contain spaces, newlines or special characters."},
	} {
		if got := CheckInfo([]byte(c[0]), []byte(c[1])); got != c[2] {
			t.Errorf("%s %s: %q", c[0], c[1], got)
		}
	}
}

// TestMonitoredLine: MONITOR shows time, database, address and arguments as Redis does, no
// secret, and no operators' command.
func TestMonitoredLine(t *testing.T) {
	at := time.Unix(1000, 5_000)
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"set", "a b", "\x00\"\\\r\n\xff"}, `"set" "a b" "\x00\"\\\r\n\xff"`},
		{[]string{"AUTH", "me", "hunter2"}, `"AUTH" "(redacted)" "(redacted)"`},
	} {
		cmd := command.Lookup([]byte(c.args[0]))
		want := "+1000.000005 [3 peer:1] " + c.want + "\r\n"
		if got := string(AppendMonitored(nil, at, 3, "peer:1", cmd, parsed(t, c.args...))); got != want {
			t.Errorf("%s\nwant %s", got, want)
		}
	}
	config := command.Lookup([]byte("config"))
	if !IsShown(nil) || !IsShown(command.Lookup([]byte("get"))) || IsShown(config.Sub([]byte("set"))) {
		t.Error("other commands are shown")
	}
}
