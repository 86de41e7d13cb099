package config

import (
	"strings"
	"testing"
)

// TestAuthPassthrough: what makes no sense while the nodes keep the users is an error that says so.
func TestAuthPassthrough(t *testing.T) {
	const login = "the nodes keep the users"
	tls := "listen: [{addr: 127.0.0.1:1, tls: {cert: a, key: b, client_ca: c, user_from: cn}}]"
	quorum := "locks: {quorum: [{match: \"l:*\", nodes: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3]}]}"
	for text, want := range map[string]string{
		"auth: passthrough":                              "",
		"auth: keyway\nclients: {password: x}":           "",
		"auth: nodes":                                    `auth: unknown auth "nodes"; write keyway or passthrough`,
		"auth: passthrough\nclients: {password: x}":      "clients.password: with auth: passthrough the nodes know",
		"auth: passthrough\nusers: [{name: a, acl: on}]": "users: with auth: passthrough " + login,
		"auth: passthrough\n" + quorum:                   "locks.quorum: with auth",
		"auth: passthrough\n" + tls:                      "user_from: with auth",
	} {
		_, err := Parse("x.yml", []byte("nodes: [{name: a, addr: 127.0.0.1:6379}]\nlayout: ring\n"+text+"\n"),
			func(string) (string, bool) { return "", false })
		switch {
		case err == nil && want != "":
			t.Errorf("%s: no error, want %s", text, want)
		case err != nil && (want == "" || !strings.Contains(err.Error(), want)):
			t.Errorf("%s:\n got %s\nwant %s", text, err, want)
		}
	}
}
