package topology

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"

	"github.com/redis/go-redis/v9"
)

// refusals are texts in error replies, and what to do about each. %s is the key of the
// configuration with the user name and password.
var refusals = []struct{ text, remedy string }{
	{"WRONGPASS", "correct %s.username and %[1]s.password"},
	{"invalid password", "correct %s.password"}, // before Redis 6
	{"NOAUTH", "write %s.password"},
	{"without any password configured", "remove %s.password, or set the server's requirepass"},
	{"no password is set", "remove %s.password, or set the server's requirepass"}, // before Redis 6
	{"DENIED", "set the server's requirepass and %s.password, or turn its protected-mode off"},
	{"NOPERM", "allow its user the command: ACL SETUSER NAME +COMMAND"},
	{"max number of clients", "raise the server's maxclients, or close connections"},
	{"the node's register says", "wait until keyway has taken that layout; if it cannot, the log says why"},
	{"LOADING", "wait until the server has loaded its data"},
	{"BUSY", "wait until the script ends, or end it: SCRIPT KILL"},
	{
		"cluster support disabled",
		"name nodes of a cluster; for standalone nodes write layout: ring, range or modulo, or slots: {static: ...}",
	},
	{"unknown command 'sentinel'", "name sentinels, not Redis nodes; sentinels listen on port 26379 by default"},
	{"No such master", "write a name that SENTINEL MASTERS prints"},
}

// Explain describes for an operator why a server could not be asked, and what to do about
// it. account is the key of the configuration that has the user name and password for the
// server, such as backend.
func Explain(err error, account string) (problem, remedy string) {
	text := strings.TrimSuffix(err.Error(), ".")
	for _, r := range refusals {
		if strings.Contains(text, r.text) {
			if strings.Contains(r.remedy, "%") {
				return "refuses keyway: " + text, fmt.Sprintf(r.remedy, account)
			}
			return "refuses keyway: " + text, r.remedy
		}
	}
	var reply redis.Error
	var name *net.DNSError
	var timeout net.Error
	switch {
	case errors.Is(err, ErrNoAddress):
		return "cannot be reached: " + text, "start the sentinels, or correct their addresses and the master's name"
	case errors.Is(err, syscall.ECONNREFUSED), strings.Contains(text, "connection refused"):
		return "cannot be reached: connection refused", "start it, or correct its address"
	case errors.As(err, &name):
		return "cannot be reached: " + name.Error(), "correct its name, or write its IP address"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF):
		return "closes the connection without an answer",
			"name a port without TLS; if it has none, look into the server's log, for maxclients and protected-mode"
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "does not answer in time: " + text,
			"correct its address, let firewalls pass its packets, or see whether it is stopped or overloaded"
	case strings.Contains(text, "redis: can't parse"), strings.Contains(text, "redis: invalid reply"):
		return "does not speak as Redis: " + text, "correct its address"
	case errors.As(err, &reply):
		return "refuses keyway: " + text, "look into the server's log"
	}
	return "cannot be reached: " + text, "correct its address, or look into the server's log"
}
