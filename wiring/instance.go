package wiring

import (
	"net"
	"os"
	"path"
	"strings"

	"github.com/keyway-proxy/keyway/config"
)

// Instance returns the name of the keyway that serves a configuration: the configured one,
// or the host's name with the port of the first listener.
func Instance(c *config.Config) string {
	if c.Instance != "" {
		return c.Instance
	}
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	_, at, err := net.SplitHostPort(c.Listen[0].Addr)
	if err != nil {
		at = path.Base(c.Listen[0].Addr) // a socket file
	}
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '-' // Redis would refuse it in the name of a client
		}
		return r
	}, host+":"+at)
}
