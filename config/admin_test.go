package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const ofAdmin = "slots: {seeds: [a:1]}\n"

// TestFormsOfAdmin: the address of operators is a text, or an object with a token and TLS.
func TestFormsOfAdmin(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	const old, young = "0123456789abcdef-._~+/=", "fedcba9876543210fedcba9876543210"
	write("token", old+"\n\n  "+young+"\r\n", 0o600)
	write("open", old, 0o644)
	for _, tc := range []struct {
		admin, listen string
		tokens        []string
		warnings      int
	}{
		{"127.0.0.1:2", "127.0.0.1:2", nil, 0},
		{"{listen: 127.0.0.1:2}", "127.0.0.1:2", nil, 0},
		{"{listen: 127.0.0.1:2, console: 127.0.0.1:3}", "127.0.0.1:2", nil, 0},
		{"{listen: 127.0.0.1:2, console: 10.0.0.1:3}", "127.0.0.1:2", nil, 1},
		{"{listen: 127.0.0.1:2, token_file: token}", "127.0.0.1:2", []string{old, young}, 0},
		{"{listen: 127.0.0.1:2, token_file: open}", "127.0.0.1:2", []string{old}, 1},
		{"{listen: 10.0.0.1:2, token_file: open}", "10.0.0.1:2", []string{old}, 2},
		{"{listen: \"10.0.0.1:2\", token_file: token, tls: {cert: c, key: k}}", "10.0.0.1:2", []string{old, young}, 0},
	} {
		c, err := Parse(filepath.Join(dir, "f.yml"), []byte(ofAdmin+"admin: "+tc.admin), env)
		if err != nil {
			t.Error(err)
			continue
		}
		warnings := AdminWarnings(c)
		if c.Admin.Listen != tc.listen || !slices.Equal(c.Admin.Tokens(), tc.tokens) || len(warnings) != tc.warnings {
			t.Errorf("%s: %s, tokens %q, warnings %q", tc.admin, c.Admin.Listen, c.Admin.Tokens(), warnings)
		}
		isNamed := slices.Contains(c.SecretFiles(), filepath.Join(dir, c.Admin.TokenFile))
		if isNamed != (tc.tokens != nil) {
			t.Errorf("%s: the files that are read again are %q", tc.admin, c.SecretFiles())
		}
	}
}

// TestErrorsOfAdmin: errors of the address of operators say where and what, and show no token.
func TestErrorsOfAdmin(t *testing.T) {
	checkErrors(t, []errorCase{
		{ofAdmin + "admin: nowhere", `f.yml:2:8: admin: "nowhere" is not an address; write HOST:PORT`},
		{ofAdmin + "admin: {listen: nowhere}", `admin: "nowhere" is not an address`},
		{ofAdmin + "admin: [a:1]", "admin: a list where a single value is expected"},
		{ofAdmin + "admin: {token_file: x}", "no such file"},
		{ofAdmin + "admin: {tls: {cert: c, key: k}}", "admin: no address; add listen: HOST:PORT"},
		{ofAdmin + "admin: {listen: a:2, token: x}", `known here: listen, token_file, tls, console`},
		{ofAdmin + "admin: {listen: a:2, tls: {cert: c}}", "admin.tls: no private key; add key: FILE"},
		{ofAdmin + "admin: {listen: a:2, tls: {cert: c, key: k, user_from: cn}}", "add client_ca: FILE"},
		{ofAdmin + "admin: {console: a:1}", "admin: no address; add listen: HOST:PORT"},
		{ofAdmin + "admin: {listen: a:2, console: here}", `admin.console: "here" is not an address`},
		{ofAdmin + "admin: {listen: a:2, console: a:2}", "admin.console: \"a:2\" is an address of keyway already"},
		{ofAdmin + "admin: {listen: \"127.0.0.1:6380\"}", "is where keyway listens for clients; write another port"},
	})
	for text, want := range map[string]string{
		"": "has no token", "\n \n": "has no token",
		"0123456789abcdef\nshort":    "has a token of 5 characters in line 2",
		"0123456789abcdef and more":  "has a character in line 1 that no token has",
		strings.Repeat("x", 513):     "has a token of 513 characters in line 1",
		"0123456789abcdef\x00\n":     "has a character in line 1",
		"päss-wörd-0123456789abcdef": "has a character in line 1",
	} {
		if _, err := ParseTokens([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestTokenChangesUnseen: a changed token is a change of which neither value is shown.
func TestTokenChangesUnseen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f.yml")
	parse := func(token string) *Config {
		if err := os.WriteFile(file+".token", []byte(token), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := Parse(file, []byte(ofAdmin+"admin: {listen: \"h:3\", token_file: f.yml.token}"), env)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	before := parse("0123456789abcdef")
	changes := before.Changes(parse("fedcba9876543210"))
	if len(changes) != 1 || changes[0].String() != "admin.token_file: changed (not shown)" ||
		changes[0].From+changes[0].To != "" {
		t.Errorf("%+v", changes)
	}
	if changes := before.Changes(parse("0123456789abcdef\n")); len(changes) > 0 {
		t.Errorf("the same token is reported as %v", changes)
	}
}
