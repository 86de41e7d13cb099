package guard

import (
	"net"
	"strconv"
	"strings"
)

// namePrefix begins the names of keyways' connections:
//
//	keyway:INSTANCE:eEPOCH:PLACEMENT        a connection for commands or messages
//	keyway:INSTANCE:eEPOCH-STATE:PLACEMENT  one that only says how far the keyway is; see StateName
//	keyway:INSTANCE:eEPOCH-STATE-WISH:PLACEMENT  the same, and the placement of its file, if that is another one
//	keyway:INSTANCE:PLACEMENT               one of a version that knows no epochs
const namePrefix = "keyway:"

// ConnectionName returns the name of a keyway's connections to nodes. It serves by the layout of
// the epoch. placement is the hash of all that decides where it looks for keys.
func ConnectionName(instance string, epoch int64, placement string) string {
	return StateName(instance, epoch, "", placement)
}

// StateName returns the name of a connection on which a keyway sends no command of a client. It
// says that the keyway has reached a state of the switch to an epoch; see also WithWish.
func StateName(instance string, epoch int64, state, placement string) string {
	if state != "" {
		state = "-" + state
	}
	return namePrefix + instance + ":e" + strconv.FormatInt(epoch, 10) + state + ":" + placement
}

// WithWish returns a state for StateName that also tells the placement of the keyway's file. That is empty
// if it is in force.
func WithWish(state, placement string) string {
	if placement == "" {
		return state
	}
	return state + "-" + placement
}

// Unsaid is the Epoch of a connection of a version that knows no epochs.
const Unsaid = -1

// Connection is a keyway's connection to a node, as the node's CLIENT LIST shows it.
type Connection struct {
	ID        string // of the client, for CLIENT KILL
	Instance  string
	Host      string // from which the keyway connects
	Placement string
	Epoch     int64  // by which the keyway served when it named the connection, at the latest; or Unsaid
	State     string // not empty: the connection only says that; see StateName
	Wish      string // placement of the keyway's file, if that is another one and the connection has a State
	// Subscribed says that the connection only accepts commands about subscriptions, since it has some
	// and speaks RESP2.
	Subscribed bool
}

// ParseConnection reads a line of CLIENT LIST. ok is false if the connection is no keyway's.
func ParseConnection(line string) (c Connection, ok bool) {
	var flags, protocol string
	for field := range strings.FieldsSeq(line) {
		name, value, _ := strings.Cut(field, "=")
		switch name {
		case "id":
			c.ID = value
		case "addr":
			if c.Host, _, _ = net.SplitHostPort(value); c.Host == "" {
				c.Host = value // of a Unix socket
			}
		case "name":
			ok = c.parseName(value)
		case "flags":
			flags = value
		case "resp":
			protocol = value
		}
	}
	c.Subscribed = strings.Contains(flags, "P") && protocol == "2"
	return c, ok
}

// parseName reads the name of a connection. It returns false if that is no keyway's.
func (c *Connection) parseName(name string) (ok bool) {
	name, ok = strings.CutPrefix(name, namePrefix)
	at := strings.LastIndexByte(name, ':')
	if !ok || at <= 0 {
		return false
	}
	c.Instance, c.Placement, c.Epoch = name[:at], name[at+1:], Unsaid
	at = strings.LastIndexByte(c.Instance, ':')
	text, said := strings.CutPrefix(c.Instance[at+1:], "e")
	number, state, _ := strings.Cut(text, "-")
	if epoch, err := strconv.ParseInt(number, 10, 64); said && at > 0 && err == nil && epoch >= 0 {
		c.Instance, c.Epoch = c.Instance[:at], epoch
		c.State, c.Wish, _ = strings.Cut(state, "-")
	}
	return true
}
