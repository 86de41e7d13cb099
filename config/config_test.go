package config

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func env(name string) (string, bool) {
	if name == "SECRET" {
		return "s3cret", true
	}
	return "", false
}

func TestFileWithAllKeys(t *testing.T) {
	text, err := os.ReadFile("testdata/all.good.yaml")
	if err != nil {
		t.Fatal(err)
	}
	c, err := Parse("all", text, env)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Listen) != 2 || c.Threads != 2 || c.Nodes[0].Weight != 3 || c.Nodes[1].Weight != 1 ||
		c.Nodes[2].Addr != "[::1]:7103" {
		t.Errorf("%+v", c)
	}
	if c.Backend.Password != "s3cret" || c.Clients.Password[0] != "xs3crety" ||
		c.Backend.RequestTimeout != 3*time.Second || c.Clients.IdleTimeout != 5*time.Minute {
		t.Errorf("%+v %+v", c.Backend, c.Clients)
	}
	if c.Limits.MaxBulk != 64<<20 || c.Limits.ClientOutput != 1<<30 || c.Limits.MaxInline != 4096 ||
		c.Limits.Memory != 2<<30 {
		t.Errorf("%+v", c.Limits)
	}
	if !c.Cluster.Emulate || c.Cluster.Announce != "10.0.0.1:6380" || len(c.Cluster.Peers) != 1 ||
		c.SlowLog.SlowerThan != 50*time.Millisecond || c.SlowLog.Entries != 20 {
		t.Errorf("%+v %+v", c.Cluster, c.SlowLog)
	}
	if s := c.Slots.Static["c"]; len(s) != 2 || s[1] != (SlotRange{16383, 16383}) {
		t.Errorf("%+v", s)
	}
	if *c.Range.Rules[0].Prefix != "user:" || *c.Range.Rules[0].From != "1" || c.Range.Rules[1].Prefix != nil {
		t.Errorf("%+v", c.Range.Rules)
	}
}

func TestEmptyFileHasTheDefaults(t *testing.T) {
	c, err := Parse("min", []byte("slots: {seeds: 127.0.0.1:7001}\n"), env)
	if err != nil {
		t.Fatal(err)
	}
	d := Default()
	if c.Listen[0] != d.Listen[0] || c.Layout != "slots" || c.Clients.Max != 10000 || c.Limits != d.Limits ||
		!reflect.DeepEqual(c.Backend, d.Backend) {
		t.Errorf("%+v", c)
	}
}

// Every example that ships is valid.
func TestExamplesAreValid(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yml")
	if err != nil || len(files) < 4 {
		t.Fatalf("examples: %v %v", files, err)
	}
	for _, f := range files {
		if _, err := Load(f); err != nil {
			t.Error(err)
		}
	}
}

const nodes = "nodes: [{name: a, addr: \"127.0.0.1:1\"}, {name: b, addr: \"127.0.0.1:2\"}]\n"

// errorCase is a configuration and a part of the error that it causes.
type errorCase struct{ yaml, want string }

func checkErrors(t *testing.T, cases []errorCase) {
	t.Helper()
	for _, tc := range cases {
		_, err := Parse("f.yml", []byte(tc.yaml), env)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q:\n got %v\nwant %s", tc.yaml, err, tc.want)
		}
	}
}

// TestErrorsSayWhereAndWhat: errors name file, line, column, key and what to write instead.
func TestErrorsSayWhereAndWhat(t *testing.T) {
	checkErrors(t, []errorCase{
		{"layuot: slots\n", `f.yml:1:1: unknown key "layuot"; did you mean "layout"?`},
		{"ring:\n  hsh: x\n", `f.yml:2:3: ring: unknown key "hsh"; did you mean "hash"?`},
		{"cluster: {emulate: maybe}\n",
			`f.yml:1:20: cluster.emulate: "maybe" is neither true nor false; write true or false`},
		{"layout: ring\n" + nodes + "cluster: {emulate: true}\n",
			`f.yml:3:20: cluster.emulate: no address for clients; ` +
				`add announce: HOST:PORT, the address at which clients find this keyway`},
		{"layout: ring\n" + nodes + "cluster: {emulate: true, announce: \"a:1\", peers: [\"b:1\", \"a:1\"]}\n",
			`cluster.peers[1]: "a:1" is already listed; list each other keyway once`},
		{"layout: ring\nhash_tag: \"[]\"\n" + nodes + "cluster: {emulate: true, announce: \"a:1\"}\n",
			`f.yml:2:11: hash_tag: "[]", but the clients of an emulated cluster ` +
				`need keys with the same {tag} to live together; write "{}", or`},
		{"layout: modulo\nhash_tag: \"\"\n" + nodes + "cluster: {emulate: true, announce: \"a:1\"}\n",
			`f.yml:2:11: hash_tag: "", but the clients of an emulated`},
		{"layout: ring\n" + nodes + "slowlog: {entries: 0}\n", `f.yml:3:20: slowlog.entries: out of range`},
		{"zzzzzz: 1\n",
			`f.yml:1:1: unknown key "zzzzzz"; known here: listen, admin, audit, traces, access_log, threads`},
		{"threads: many\n",
			`f.yml:1:10: threads: "many" is not a whole number; write a whole number from 1 to 256, or auto`},
		{"threads: 0\nslots: {seeds: [a:1]}\n",
			"f.yml:1:10: threads: out of range; write a whole number from 1 to 256, or auto"},
		{"layout: rings\n", `f.yml:1:9: layout: unknown layout "rings"; write slots, ring, range or modulo`},
		{"backend: {request_timeout: 2}\n",
			`f.yml:1:28: backend.request_timeout: "2" is not a duration; write a number and a unit: 500ms, 2s, 5m`},
		{"limits: {max_bulk: lots}\n",
			`f.yml:1:20: limits.max_bulk: "lots" is not a size; ` +
				`write a number of bytes or one with a unit: 64kb, 512mb, 1gb`},
		{"limits: {max_bulk: 5gb}\nslots: {seeds: [a:1]}\n",
			"f.yml:1:20: limits.max_bulk: out of range; write a size from 1kb to below 4gb"},
		{"listen: nowhere\n", `f.yml:1:9: listen: "nowhere" is not an address; write HOST:PORT`},
		{"listen: [127.0.0.1:1, 127.0.0.1:99999]\n", `f.yml:1:23: listen[1]: "127.0.0.1:99999" has no valid port`},
		{"listen: 127.0.0.1:7101\nadmin: 127.0.0.1:7101\n",
			`f.yml:2:8: admin: "127.0.0.1:7101" is where keyway listens for clients; write another port`},
		{"listen: unix://x\n", `"unix://x" is not an absolute path; write unix:///run/keyway.sock`},
		{"reads: replicas\n",
			`f.yml:1:8: reads: unknown reads "replicas"; write master, prefer-replica, replica, nearest`},
		{"replicas: {max_lag: 1ms}\n", "replicas.max_lag: out of range; write a duration from 100ms to 1h"},
		{"hash_tag: \"{\"\nslots: {seeds: [a:1]}\n", `f.yml:1:11: hash_tag: "{"; write two characters`},
		{"ready: some\n", `f.yml:1:8: ready: unknown ready "some"; write any or all`},
		{"shutdown: {delay: 2h}\nslots: {seeds: [a:1]}\n", "f.yml:1:19: shutdown.delay: out of range"},
	})
}

// TestErrorsOfNodes: errors about nodes, and about slots and ranges that do not fit them, do
// the same.
func TestErrorsOfNodes(t *testing.T) {
	checkErrors(t, []errorCase{
		{"layout: ring\n", "f.yml:1:9: layout: layout ring without nodes; list the servers"},
		{"layout: slots\n",
			"slots: layout slots needs a cluster's seeds or a static table; write slots: {seeds: [127.0.0.1:7001]} or"},
		{"nodes: [{addr: \"a:1\"}]\n", "f.yml:1:9: nodes[0]: a node without a name"},
		{"nodes: [{name: a}]\n", "nodes[0]: a node without an address; add addr: HOST:PORT"},
		{"nodes: [{name: a, sentinel: {addrs: [\"a:1\"]}}]\n",
			"nodes[0].sentinel: sentinels without the name of a master; add master: NAME"},
		{"nodes: [{name: a, sentinel: {master: m}}]\n",
			"f.yml:1:29: nodes[0].sentinel: no address of a sentinel; add addrs"},
		{"nodes: [{name: a, sentinel: {master: m, addrs: [x]}}]\n",
			`nodes[0].sentinel.addrs[0]: "x" is not an address`},
		{"nodes: [{name: a, addr: \"a:1\", sentinel: {master: m, addrs: [\"a:2\"]}}]\n",
			"nodes[0].sentinel: a node with both sentinels and an address; leave addr and replicas out"},
		{"nodes:\n- {name: a, sentinel: {master: m, addrs: [\"a:1\"]}}\n" +
			"- {name: b, sentinel: {master: m, addrs: [\"a:2\", \"a:1\"]}}\n",
			`nodes[1].sentinel.addrs[1]: "m at a:1" is also the address of nodes[0]`},
		{"nodes: [{name: a, addr: \"a:1\", replicas: [\"a:2\", \"a:1\"]}]\n",
			`nodes[0].replicas[1]: "a:1" is also the address of nodes[0]`},
		{"nodes: [{name: a, addr: \"a:1\"}, {name: a, addr: \"a:2\"}]\n",
			`f.yml:1:40: nodes[1].name: "a" is also the name of nodes[0]`},
		{"nodes: [{name: a, addr: \"a:1\"}, {name: b, addr: \"a:1\"}]\n",
			`nodes[1].addr: "a:1" is also the address of nodes[0]`},
		{"nodes: [{name: a, addr: \"a:1\", weight: 0}]\n", "nodes[0].weight: weight 0; write a whole number from 1"},
		{nodes + "slots: {static: {a: 0-100, b: 100-16383}}\n",
			"f.yml:2:31: slots.static.b: slot 100 already belongs to a; give each slot to one node"},
		{nodes + "slots: {static: {a: 0-100, b: 102-16383}}\n",
			"f.yml:2:17: slots.static: no node has the slots 101-101; add 101-101 to one of the nodes"},
		{nodes + "slots: {static: {a: 0-100, z: 101-16383}}\n",
			`slots.static.z: no node is called "z"; write one of a, b`},
		{nodes + "slots: {static: {a: 5-3}}\n", `slots.static.a: "5-3" is not a range of slots`},
		{nodes + "slots: {static: {a: 0-16384}}\n", `"0-16384" is not a range of slots; write slots from 0 to 16383`},
		{nodes + "slots: {seeds: [a:1], static: {a: 0-16383}}\n", "both seeds and static; keep seeds"},
		{nodes + "layout: range\n", "range: layout range without rules"},
		{nodes + "layout: range\nrange: {rules: [{prefix: u, from: x, to: 2, node: a}]}\n",
			`f.yml:3:35: range.rules[0].from: "x" is not a number; with a prefix, write whole numbers`},
		{nodes + "layout: range\nrange: {rules: [{prefix: u, from: 3, to: 2, node: a}]}\n",
			"range.rules[0].to: 2 is less than 3"},
		{nodes + "layout: range\nrange: {rules: [{from: m, to: a, node: a}]}\n",
			`range.rules[0].to: "a" does not come after "m"`},
		{nodes + "layout: range\nrange: {rules: [{from: m, to: z, node: q}]}\n",
			`range.rules[0].node: no node is called "q"; write one of a, b`},
		{nodes + "layout: range\nrange: {default: q}\n", `range.default: no node is called "q"`},
		{"listen: 127.0.0.1:7101\nnodes: [{name: a, addr: \"127.0.0.1:7101\"}]\n",
			`f.yml:2:25: nodes[0].addr: "127.0.0.1:7101" is where keyway itself listens; ` +
				`write the address of the Redis server`},
		{"listen: 0.0.0.0:7101\nnodes: [{name: a, addr: \"localhost:7101\"}]\n",
			`"localhost:7101" is where keyway itself listens`},
		{"admin: 127.0.0.1:7101\nnodes: [{name: a, addr: \"a:1\", replicas: [\"127.0.0.1:7101\"]}]\n",
			`nodes[0].replicas[0]: "127.0.0.1:7101" is where keyway itself listens`},
		{"slots: {seeds: [\"127.0.0.1:6380\"]}\n", `slots.seeds[0]: "127.0.0.1:6380" is where keyway itself listens`},
	})
}

// TestErrorsOfSyntax: errors about text that is not YAML, has the wrong shape or refers to a
// variable that is not set do the same.
func TestErrorsOfSyntax(t *testing.T) {
	checkErrors(t, []errorCase{
		{"hash_tag: {}\n",
			`f.yml:1:11: hash_tag: keys and values where a single value is expected; ` +
				`write a single value, in quotes: "{}"`},
		{"threads: [1]\n", "f.yml:1:10: threads: a list where a single value is expected; write a single value"},
		{"nodes: a\n", "f.yml:1:8: nodes: a single value where a list is expected; write a list: [...]"},
		{"backend: [1]\n",
			"f.yml:1:10: backend: a list where keys are expected; write keys and values: username, password"},
		{"clients: {password: \"${NOPE}\"}\n",
			"f.yml:1:21: clients.password: the environment has no variable NOPE; set NOPE in keyway's environment"},
		{"clients: {password: }\n", "f.yml:1:21: clients.password: no value; write a value"},
		{"layout: slots\nlayout: ring\n", `f.yml:2:1: the key "layout" appears twice; keep one of them`},
		{"clients: {password: ${NOPE}}\n", "f.yml:1:21: clients.password: the environment has no variable NOPE"},
		{"clients:\n  max: 5\n  password: ${NOPE:?ask the operators, please}\n",
			"f.yml:3:13: clients.password: NOPE: ask the operators, please; set NOPE"},
		{"clients: {password: \"${NOPE:-${SECRET}}\"}\n",
			`f.yml:1:21: clients.password: "${NOPE:-${SECRET}" is not a reference to a variable; ` +
				`write ${NAME}, ${NAME:-default} or`},
		{"clients: {password: ${}}\n", `"${}" is not a reference to a variable`},
		{"${SECRET}: 1\n", `f.yml:1:1: unknown key "${SECRET}"`},
		{"threads: 1\nnodes: [\n", "f.yml:2:8: what opens here is not closed; close it with ]"},
		{"threads: 1\nnodes:\n  - {name: a, addr: x:1}\n  - {name: b addr: x:2}\nlayout: ring\n",
			"f.yml:4:3: a comma or a closing } is missing; write {key: value, key: value}"},
		{"threads: 1\nbackend: {\n  username: a,\n  password: [b\n  }\nlayout: ring\n",
			"f.yml:5:3: a comma or a closing ] is missing"},
		{"threads: 1\n# more\nslots:\n\tseeds: [a:1]\n", "f.yml:4:1: a tab indents this line; indent with spaces"},
		{"threads: 1\nslots:\n  seeds: [a:1]\n reads: master\n",
			"f.yml:4:2: this line does not belong to the lines above it"},
		{"threads: 1\nlayout: ring: a\n", "f.yml:2:1: a colon where no key can stand"},
		{"threads 1\nlayout: ring\n", "f.yml:1:1: a key without its colon; write KEY: VALUE"},
		{"threads: 1\nadmin: \"127.0.0.1:1\nlayout: ring\n",
			"f.yml:2:8: what opens here is not closed; close it with \""},
		{"layout: ring\nring: {hash: \"md5}\nthreads: 1\n",
			"f.yml:2:14: what opens here is not closed; close it with \""},
		{"clients: {password: *x}\n", "f.yml:1:1: a value that begins with * refers to an anchor"},
		{"threads: 1\nclients: {password: @x}\n",
			"f.yml:2:1: a value cannot begin with this character; put it in quotes"},
		{"threads: 1\n---\nthreads: 2\n", "f.yml:2:1: a second document begins here; keep one document"},
		{"threads: 1\n}\n", "f.yml:2:1:"},
		{"a: [\n", "f.yml:"},
	})
}

// TestDocumentedDefaults checks that the whole file in docs/configuration.md shows
// every key with its default.
func TestDocumentedDefaults(t *testing.T) {
	c := parseDocumented(t, "../docs/configuration.md")
	want := Default()
	want.Admin.Listen, want.Nodes, want.Slots, want.Range = c.Admin.Listen, c.Nodes, c.Slots, c.Range
	want.file, want.positions = c.file, c.positions
	got, defaults := reflect.ValueOf(c).Elem(), reflect.ValueOf(&want).Elem()
	for i := range got.NumField() {
		name := got.Type().Field(i).Name
		// A list that is written as [] is empty.
		if a, b := fmt.Sprintf("%+v", got.Field(i)), fmt.Sprintf("%+v", defaults.Field(i)); a != b {
			t.Errorf("%s: docs/configuration.md has %s, the default is %s", name, a, b)
		}
	}
	for _, key := range keysOf(got.Type()) {
		if !c.IsSet(key) {
			t.Errorf("docs/configuration.md does not show %s", key)
		}
	}
}

// TestREADMEConfiguration checks that the README's configuration is valid and has ten lines.
func TestREADMEConfiguration(t *testing.T) {
	if c := parseDocumented(t, "../README.md"); c.Layout != LayoutRing || len(c.Nodes) != 3 {
		t.Errorf("layout %s with %d nodes", c.Layout, len(c.Nodes))
	}
	if lines := bytes.Count(documented(t, "../README.md"), []byte("\n")) + 1; lines > 10 {
		t.Errorf("the README's configuration has %d lines", lines)
	}
}

// documented returns the first YAML block of a page.
func documented(t *testing.T, page string) []byte {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := bytes.Cut(text, []byte("\n```yaml\n"))
	text, _, closed := bytes.Cut(text, []byte("\n```\n"))
	if !found || !closed {
		t.Fatalf("%s has no YAML block", page)
	}
	return text
}

func parseDocumented(t *testing.T, page string) *Config {
	t.Helper()
	c, err := Parse(page, documented(t, page), env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestListeningOnAllAddressesIsNoNode: a keyway that listens on all addresses is no node of its own.
func TestListeningOnAllAddressesIsNoNode(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range addrs {
		own := net.JoinHostPort(a.(*net.IPNet).IP.String(), "7101")
		for listen, want := range map[string]bool{"0.0.0.0:7101": true, "\"[::]:7101\"": true, "0.0.0.0:7102": false,
			"192.0.2.1:7101": false} {
			_, err := Parse("f.yml", []byte(fmt.Sprintf("layout: ring\nlisten: %s\nnodes: [{name: a, addr: %q}]\n",
				listen, own)), env)
			if (err != nil) != want {
				t.Errorf("listen %s, node %s: %v", listen, own, err)
			}
		}
	}
}

// A reference to a variable needs no quotes in a flow mapping, and may have a default.
func TestVariables(t *testing.T) {
	for _, tc := range []struct{ yaml, want string }{
		{"{password: ${SECRET}}", "s3cret"},
		{"{password: ${SECRET}, max: 5}", "s3cret"},
		{"{password: \"a${SECRET}b${SECRET}\"}", "as3cretbs3cret"},
		{"{password: '${SECRET}'}", "s3cret"},
		{"{password: ${NOPE:-default}}", "default"},
		{"{password: ${NOPE:-a, b: [c] #d}}", "a, b: [c] #d"},
		{"{password: ${EMPTY:-x}}", "x"},
		{"{password: ${EMPTY}}", ""},
		{"{password: ${SECRET:-x}}", "s3cret"},
		{"{password: ${SECRET:?needed}}", "s3cret"},
		{"{password: ${QUOTES}}", "a\": {b"},
	} {
		c, err := Parse("f.yml", []byte("slots: {seeds: [a:1]}\nclients: "+tc.yaml+"\n"),
			func(name string) (string, bool) {
				v, ok := map[string]string{"SECRET": "s3cret", "EMPTY": "", "QUOTES": "a\": {b"}[name]
				return v, ok
			})
		if err != nil || fmt.Sprint(c.Clients.Password) != "["+tc.want+"]" {
			t.Errorf("%s: %v, %+v", tc.yaml, err, c)
		}
	}
}

// FuzzParse: no file makes the decoder fail in any other way than with an
// error that names the file.
func FuzzParse(f *testing.F) {
	good, err := os.ReadFile("testdata/all.good.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	for _, s := range []string{"nodes: [{name: a}]", "slots: {static: {a: [1,2-3]}}", "a: &x [*x]",
		"listen: !!int 3", "? [a]\n: b", "limits: {max_bulk: 99999999999999999999gb}", "range: {rules: [{from: 1}]}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("f.yml", text, env)
		if err != nil && !strings.HasPrefix(err.Error(), "f.yml:") {
			t.Errorf("an error that does not name the file: %v", err)
		}
		if err == nil && c == nil {
			t.Error("neither configuration nor error")
		}
	})
}

// TestLogins checks where the passwords of servers come from, and what is said about wrong sections.
func TestLogins(t *testing.T) {
	const head = "layout: ring\nlisten: 127.0.0.1:1\nbackend: {username: u, password: p}\nnodes: [{name: a, addr: a:1"
	for text, want := range map[string]string{
		"}]":                                              "u p backend",
		", username: v}]":                                 "v  nodes[0]",
		`, password: ""}]`:                                "  nodes[0]",
		", password_command: echo}]":                      " echo nodes[0]",
		", password_command: [a, b c]}]":                  " a,b c nodes[0]",
		", password_command: []}]":                        "no program; write a list: [PROGRAM, ARGUMENT, ...]",
		`, password_command: ["", b]}]`:                   "no program",
		", password_refresh: 1m}]":                        "without a command whose password expires; add",
		", password_command: a, password: b}]":            "password_command: both password_command and password; keep",
		", password_command: a, password_file: b}]":       "both password_command and password_file; keep one of them",
		", password_command: a, password_refresh: 10ms}]": "out of range; write a duration from 1s to 24h",
	} {
		c, err := Parse("f", []byte(head+text+"\n"), func(string) (string, bool) { return "", false })
		got := fmt.Sprint(err)
		if err == nil {
			printed := func(words []string, refresh time.Duration) (Printed, error) {
				if refresh != 10*time.Minute {
					t.Errorf("%s: refreshed after %s", text, refresh)
				}
				return fixed(strings.Join(words, ",")), nil
			}
			if err := RunCommands(c, printed); err != nil {
				t.Error(err)
			}
			l, section := LoginOfNode(c, 0)
			got = l.Username + " " + l.Password + " " + section
		}
		if !strings.Contains(got, want) || err == nil && got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// fixed is a password that does not change.
type fixed string

func (f fixed) Text() string { return string(f) }
func (f fixed) Refused()     {}
