package wiring

import (
	"net"
	"os"
	"path"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
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

// MemberName returns the name of a connection that says how far a keyway is, and which other layout its
// file has; see guard.StateName.
func MemberName(c *config.Config, epoch int64, state string) string {
	wish := ""
	if file := c.Replaced(); file != nil {
		wish = file.PlacementHash()
	}
	return guard.StateName(Instance(c), epoch, guard.WithWish(state, wish), c.PlacementHash())
}
