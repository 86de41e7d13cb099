package config

import (
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestErrorsOfTLS: errors of listeners with TLS say where and what.
func TestErrorsOfTLS(t *testing.T) {
	listen := func(l string) string { return "listen: [127.0.0.1:1, " + l + "]\nslots: {seeds: [a:1]}\n" }
	pair := "cert: c.pem, key: k.pem"
	checkErrors(t, []errorCase{
		{listen("{addr: a:2, tls: {key: k}}"), `f.yml:1:40: listen[1].tls: no certificate; add cert: FILE`},
		{listen("{addr: a:2, tls: }"), `listen[1].tls: no certificate; add cert: FILE`},
		{listen("{addr: a:2, tls: {cert: k}}"), `listen[1].tls: no private key; add key: FILE`},
		{listen("{tls: {" + pair + "}}"), `listen[1]: "" is not an address; write HOST:PORT`},
		{listen("{addr: \"unix:///s\", tls: {" + pair + "}}"), `TLS over a socket file; leave tls out`},
		{listen("{addr: a:2, tls: {" + pair + ", client_auth: maybe}}"),
			`listen[1].tls.client_auth: unknown client_auth "maybe"; write require or optional`},
		{listen("{addr: a:2, tls: {" + pair + ", client_auth: require}}"),
			`no authority for clients' certificates; add client_ca: FILE`},
		{listen("{addr: a:2, tls: {" + pair + ", min_version: 1.1}}"),
			`listen[1].tls.min_version: unknown version "1.1"; write "1.2" or "1.3"`},
		{listen("{addr: \"127.0.0.1:1\", tls: {" + pair + "}}"),
			`listen[1]: "127.0.0.1:1" is already listed; keep one of them, or write another port`},
		{listen("{addr: a:2, tsl: {}}"), `listen[1]: unknown key "tsl"; did you mean "tls"?`},
		{"listen: {addr: nowhere, tls: {" + pair + "}}\nslots: {seeds: [a:1]}\n",
			`listen: "nowhere" is not an address`},
	})
}

// TestCertificatesThatCannotBeUsed: the files are read when they are needed, and not before.
func TestCertificatesThatCannotBeUsed(t *testing.T) {
	text := "listen: {addr: a:2, tls: {cert: c.pem, key: k.pem}}\nslots: {seeds: [a:1]}\n"
	c, err := Parse(filepath.Join(t.TempDir(), "f.yml"), []byte(text), env)
	if err != nil {
		t.Fatal(err)
	}
	err = LoadCertificates(c)
	if err == nil || !strings.Contains(err.Error(), "listen.tls.cert: open ") ||
		!strings.Contains(err.Error(), "no such file or directory; make the file readable for keyway") {
		t.Errorf("%v", err)
	}
	files := c.SecretFiles()
	if len(files) != 2 || filepath.Base(files[1]) != "k.pem" || !filepath.IsAbs(files[0]) {
		t.Errorf("%q", files)
	}
	if len(Certificates(c)) != 0 {
		t.Error("certificates that were not read")
	}
}

// TestCertificateWarnings: two weeks before its end a certificate deserves a warning.
func TestCertificateWarnings(t *testing.T) {
	now := time.Date(2030, 1, 20, 12, 0, 0, 0, time.UTC)
	for days, want := range map[int]string{
		15: "", 13: "the certificate expires on 2030-02-02; ", -1: "the certificate has expired on 2030-01-19, ",
	} {
		got := Certificate{NotAfter: now.AddDate(0, 0, days)}.Warning(now)
		if !strings.HasPrefix(got, want) || (got == "") != (want == "") {
			t.Errorf("%d days: %q", days, got)
		}
	}
}
