package test

import (
	"crypto/tls"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// TestUserFromCertificate: a client whose verified certificate names a user that exists and is on
// is that user without AUTH, also when it resumes its session. Any other client is the default
// user; if its certificate names none, that is logged and counted.
func TestUserFromCertificate(t *testing.T) {
	t.Parallel()
	const yaml = "users: [{name: app, acl: \"on >pw ~app:* +@all\"}, {name: \"off\", acl: \"off +@all\"}, " +
		"{name: localhost, acl: \"on +@all\"}, {name: default, acl: \"on >secret +@all\"}]\n"
	const noAuth = "-NOAUTH Authentication required."
	for _, streams := range []bool{false, true} {
		for _, from := range []string{"cn", "san", ""} {
			more := ", client_ca: %s, client_auth: optional"
			if from != "" {
				more += ", user_from: " + from
			}
			s := serveTLS(t, streams, more, yaml)
			for _, c := range []struct{ certificate, cn, san string }{
				{"app", "app", "localhost"}, {"nobody", noAuth, "localhost"}, {"off", noAuth, "localhost"},
				{"", noAuth, noAuth},
			} {
				if c.certificate != "" {
					s.ca.Issue(c.certificate, time.Hour)
				}
				want := map[string]string{"cn": c.cn, "san": c.san, "": noAuth}[from]
				cfg := s.ca.Config(c.certificate)
				cfg.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				for range 2 {
					client := redistest.DialTLS(t, s.tls, cfg)
					if got := client.Do("ACL", "WHOAMI").String(); got != want {
						t.Errorf("user_from %q, certificate %q: got %s, want %s", from, c.certificate, got, want)
					}
					client.Close()
				}
			}
			unknown := uint64(0)
			for _, shot := range s.Snapshot() {
				unknown += shot.UnknownCertificates
			}
			warning := strings.Contains(s.log.String(), `msg="the certificate of a client names no user that exists`)
			if want := map[string]uint64{"cn": 4}[from]; unknown != want || warning != (want > 0) {
				t.Errorf("user_from %q: %d unknown certificates, want %d; the log:\n%s", from, unknown, want, s.log)
			}
		}
	}
}

// TestUserOfACertificate: such a client is a user as others: its rules hold, AUTH makes it
// another, RESET the default user, ACL LOG has the certificates that name no user, and ACL
// DELUSER closes it.
func TestUserOfACertificate(t *testing.T) {
	t.Parallel()
	s := serveTLS(t, false, ", client_ca: %s, user_from: cn", "users: [{name: app, acl: \"on >pw ~app:* +@all\"}, "+
		"{name: more, acl: \"on >pw ~* +@all\"}, {name: default, acl: \"on >secret ~* +@all\"}]\n")
	s.ca.Issue("app", time.Hour)
	s.ca.Issue("nobody", time.Hour)
	app, nobody := redistest.DialTLS(t, s.tls, s.ca.Config("app")), redistest.DialTLS(t, s.tls, s.ca.Config("nobody"))
	app.Expect("OK", "SET", "app:1", "v")
	app.Expect("-NOPERM this user has no permissions to access one of the keys used as arguments", "GET", "b")
	app.Expect("OK", "AUTH", "more", "pw")
	app.Expect("(nil)", "GET", "b")
	app.Expect("RESET", "RESET")
	app.Expect("-NOAUTH Authentication required.", "GET", "app:1")
	nobody.Expect("OK", "AUTH", "secret")
	log := nobody.Do("ACL", "LOG").String()
	if !strings.Contains(log, "reason tls-cert context toplevel object nobody username nobody") {
		t.Errorf("ACL LOG: %s", log)
	}
	again := redistest.DialTLS(t, s.tls, s.ca.Config("app"))
	again.Expect("app", "ACL", "WHOAMI")
	nobody.Expect("1", "ACL", "DELUSER", "app")
	if got, err := again.TryDo("PING"); err == nil {
		t.Errorf("the client of a deleted user gets %v", got)
	}
	redistest.DialTLS(t, s.tls, s.ca.Config("app")).Expect("-NOAUTH Authentication required.", "PING")
}
