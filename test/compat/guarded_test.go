package compat

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// guarded are a port that speaks TLS, and one for a user with few rights.
type guarded struct {
	tls, plain string
	ca         string // the file of the authority that has signed the certificate
}

// The rights of the user: its own keys, the categories that applications need, and of the
// dangerous commands only INFO, which clients send when they connect.
const (
	userRights = "~app:* &* +@read +@write +@connection +@transaction +@pubsub +@scripting -@dangerous " +
		"+acl|whoami +info"
	userPassword = "app-password"
)

// serveGuarded starts a keyway, or one Redis, with both ports.
func serveGuarded(t *testing.T) guarded {
	ca := redistest.NewAuthority(t)
	if *target == "redis" {
		user := append([]string{"--user", "app", "on", ">" + userPassword}, strings.Fields(userRights)...)
		node := redistest.Start(t, ca.NodeOptions(user...)...)
		return guarded{tls: node.TLSAddr, plain: node.Addr, ca: ca.File}
	}
	cert, key := ca.Issue("server", 24*time.Hour)
	secure := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(t))
	k := redistest.Serve(t, fmt.Sprintf("listen: [127.0.0.1:0, {addr: %q, tls: {cert: %q, key: %q}}]\n"+
		"users: [{name: app, acl: %q}]\n", secure, cert, key, "on >"+userPassword+" "+userRights)+
		redistest.Layouts(redistest.Three(t))["ring"]).Ready()
	return guarded{tls: secure, plain: k.Addr, ca: ca.File}
}

// runGuarded runs the client of one server of each language over TLS, and as the user.
func runGuarded(t *testing.T, outcomes *results) {
	at := serveGuarded(t)
	for _, column := range []struct {
		name, addr string
		env        []string
	}{
		{"TLS", at.tls, []string{"COMPAT_CA=" + at.ca}},
		{"user", at.plain, []string{"COMPAT_USER=app", "COMPAT_PASSWORD=" + userPassword}},
	} {
		for _, language := range strings.Split(*clients, ",") {
			t.Run(column.name+"/"+language, func(t *testing.T) {
				t.Parallel()
				args := append(slices.Clone(commands[language]), column.name, column.addr)
				run(t, language, args, outcomes, column.env...)
			})
		}
	}
}
