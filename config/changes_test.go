package config

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func parsed(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse("f.yml", []byte(text), env)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const ringOfTwo = "layout: ring\nnodes: [{name: a, addr: h:1}, {name: b, addr: h:2}]\n"

// TestChanges checks what is reported for two files: which keys, from what to what, and
// whether a reload applies them.
func TestChanges(t *testing.T) {
	for _, tc := range []struct{ before, after, want string }{
		{ringOfTwo, "threads: 1\n" + ringOfTwo + "ring: {hash: murmur}\nlisten: [127.0.0.1:6380]", ""},
		{ringOfTwo, ringOfTwo + "threads: 2\nclients: {max: 5}", "0 threads: 1 -> 2; 1 clients.max: 10000 -> 5"},
		{ringOfTwo, ringOfTwo + "listen: [127.0.0.1:6380, unix:///s]",
			"1 listen: 127.0.0.1:6380 -> 127.0.0.1:6380, unix:///s"},
		{ringOfTwo, "layout: ring\nnodes: [{name: b, addr: h:2}, {name: a, addr: h:3, weight: 2}]\n",
			"2 nodes: a, b -> b, a; 1 nodes[a].addr: h:1 -> h:3; 2 nodes[a].weight: 1 -> 2"},
		{ringOfTwo, strings.Replace(ringOfTwo, "name: b", "name: c", 1), "2 nodes: a, b -> a, c"},
		{ringOfTwo, ringOfTwo + "limits: {memory: 64mb}\nslowlog: {slower_than: 1s}",
			"1 slowlog.slower_than: 10ms -> 1s; 1 limits.memory: 0 -> 64mb"},
		{ringOfTwo, ringOfTwo + "clients: {password: [one, two]}\nbackend: {password: three}",
			"1 backend.password: changed (not shown); 1 clients.password: changed (not shown)"},
		{"layout: slots\n" + ringOfTwo[13:] + "slots: {static: {a: 0-99, b: 100-16383}}",
			"layout: slots\n" + ringOfTwo[13:] + "slots: {static: {a: \"0-98,99\", b: 100-16383}}",
			"2 slots.static.a: 0-99 -> 0-98,99"},
		{ringOfTwo + "range: {default: a}",
			ringOfTwo + "range: {rules: [{from: \"\", to: m, node: a}], default: a}",
			"2 range.rules[0].to: (none) -> m; 2 range.rules[0].node: (none) -> a"},
		{ringOfTwo + "listen: [{addr: \"127.0.0.1:1\", proxy_protocol: {from: 10.0.0.1}}]\nclients: {allow: 10.0.0.1}",
			ringOfTwo + "listen: [{addr: \"127.0.0.1:1\", proxy_protocol: {from: [10.0.0.1, 10.1.0.0/16]}}]\n" +
				"clients: {allow: 10.0.0.1/32}",
			"1 listen[127.0.0.1:1].proxy_protocol.from: 10.0.0.1 -> 10.0.0.1, 10.1.0.0/16"},
		{ringOfTwo, ringOfTwo + "scripts: {keyless: \"a\\nb\"}", `1 scripts.keyless: (none) -> "a\nb"`},
	} {
		var got []string
		for _, c := range parsed(t, tc.before).Changes(parsed(t, tc.after)) {
			got = append(got, fmt.Sprint(c.Effect, " ", c))
		}
		if text := strings.Join(got, "; "); text != tc.want {
			t.Errorf("changes\n  %s\nwant\n  %s", text, tc.want)
		}
	}
}

// TestChangesSeeEveryKey checks that no key can change unseen: each field of Config is
// changed alone, and has to be reported under its own path.
func TestChangesSeeEveryKey(t *testing.T) {
	for path, field := range fieldsOf(reflect.ValueOf(Default()), "") {
		if strings.Contains(path, "[]") || strings.Contains(path, "NAME") || !field.IsValid() {
			continue // in lists; see TestChanges
		}
		text := ringOfTwo
		if strings.HasPrefix(path, "backend.tls.") {
			text += "backend: {tls: true}\n"
		}
		if strings.HasPrefix(path, "admin.tls.") {
			text += "admin: {listen: h:3, tls: {cert: c, key: k, client_ca: ca}}\n"
		}
		before, after := parsed(t, text), parsed(t, text)
		v := fieldAt(reflect.ValueOf(after).Elem(), path)
		switch v.Interface().(type) {
		case []string:
			v.Set(reflect.ValueOf([]string{"other"}))
		case Networks:
			v.Set(reflect.ValueOf(Networks{netip.MustParsePrefix("10.0.0.0/8")}))
		case bool:
			v.SetBool(!v.Bool())
		case string:
			v.SetString("other")
		default:
			v.SetInt(v.Int() + 1)
		}
		path = strings.TrimSuffix(path, ".listen") // the short form of admin
		if changes := before.Changes(after); len(changes) != 1 || changes[0].Path != path {
			t.Errorf("a change of %s is reported as %v", path, changes)
		}
	}
}

// TestSecretsAreNotShown: a key that contains a password is marked as a secret.
func TestSecretsAreNotShown(t *testing.T) {
	for _, k := range keys {
		isSecret := strings.HasSuffix(k.path, "password") || strings.HasSuffix(k.path, "password_command")
		if want := isSecret || k.path == "users[].acl" || k.path == "admin.token_file"; k.secret != want {
			t.Errorf("%s: secret is %v", k.path, k.secret)
		}
	}
	older, newer := Default(), Default()
	older.Users, newer.Users = []User{{Name: "a", ACL: "on >old"}}, []User{{Name: "a", ACL: "on >new"}}
	if got := older.Changes(&newer); len(got) != 1 || got[0].Path != "users[a].acl" || got[0].From+got[0].To != "" {
		t.Errorf("changed rules of a user are %+v", got)
	}
	older, newer = Default(), Default()
	older.Backend.Password, newer.Backend.Password = "old", "new"
	changes := older.Changes(&newer)
	if len(changes) != 1 || changes[0].From != "" || changes[0].To != "" {
		t.Errorf("a changed password is %+v", changes)
	}
}

// TestPasswordFiles checks the forms of password files, and what is said about wrong ones.
func TestPasswordFiles(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"one": "secret\n", "two": "new\r\n\nold", "empty": "\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "f.yml")
	for _, tc := range []struct{ text, backend, clients, problem string }{
		{"backend: {password_file: one}\nclients: {password_file: " + dir + "/two}", "secret", "[new old]", ""},
		{"clients: {password: \"\"}", "", "[]", ""},
		{"clients: {password: [a, b]}", "", "[a b]", ""},
		{"clients: {password: [a, \"\"]}", "", "", ":4:21: clients.password: one of the passwords is empty; " +
			"remove it, or leave the key out if no password is needed"},
		{"backend: {password_file: two}", "", "", `:4:26: backend.password_file: the file "two" has 2 lines, ` +
			"and a node has one password; keep one line"},
		{"clients: {password_file: empty}", "", "", `:4:26: clients.password_file: the file "empty" is empty; ` +
			"write the password into it, or leave the key out"},
		{"clients: {password_file: one, password: a}", "", "", ":4:26: clients.password_file: " +
			"both password and password_file; keep one of them"},
		{"clients: {password_file: none}", "", "", ":4:26: clients.password_file: open " + dir +
			"/none: no such file or directory; make the file readable for keyway, or correct its path"},
	} {
		c, err := Parse(file, []byte("\n"+ringOfTwo+tc.text), env)
		if err != nil {
			if got := strings.TrimPrefix(err.Error(), file); tc.problem != got {
				t.Errorf("%s:\n  %s\nwant\n  %s", tc.text, got, tc.problem)
			}
			continue
		}
		if clients := fmt.Sprint(c.Clients.Password); c.Backend.Password != tc.backend || clients != tc.clients {
			t.Errorf("%s: %q and %s", tc.text, c.Backend.Password, clients)
		}
	}
}

// TestSettingsShowNoSecret: what operators see of the running configuration has each key that the file has, and
// no password.
func TestSettingsShowNoSecret(t *testing.T) {
	const secret = "hunter2hunter2"
	c, err := Parse("x.yml", []byte("listen: h:1\nlayout: ring\nbackend: {username: us3r, password: "+secret+"}\n"+
		"nodes: [{name: a, addr: h:2, weight: 7, password: "+secret+"}]\nclients: {password: "+secret+"}\n"+
		"users: [{name: u, acl: 'on >"+secret+" ~* +@all'}]\n"), itself)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, s := range Settings(c) {
		if found[s.Key] = s.Value; strings.Contains(s.Value, secret) {
			t.Errorf("%s shows a password: %s", s.Key, s.Value)
		}
	}
	for key, want := range map[string]string{
		"nodes[a].weight": "7", "backend.username": "us3r", "backend.password": notShown, "clients.password": notShown,
		"nodes[a].password": notShown, "users[u].acl": notShown, "switch.hold": "1s",
	} {
		if found[key] != want {
			t.Errorf("%s is %q, want %q", key, found[key], want)
		}
	}
}
