package pool

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/keyway-proxy/keyway/resp"
)

// The steps of the greeting. AUTH is sent if there is a password; the steps after it
// depend on the connection's options. The last step is PING with a nonce of this
// connection, so that its reply cannot be mistaken for another.
const (
	stepAuth = iota
	stepHello
	stepRole
	stepSelect
	stepNoTouch
	stepPrelude
	stepPing
)

// greet sends the next step of the greeting that this connection needs.
func (c *Conn) greet(now int64) {
	c.greeting, c.greeted = c.greeting[:0], 0
	for {
		switch {
		case c.step == stepAuth && c.set.Password != "" && c.set.Username != "":
			c.greeting = resp.AppendCommand(c.greeting, "AUTH", c.set.Username, c.set.Password)
		case c.step == stepAuth && c.set.Password != "":
			c.greeting = resp.AppendCommand(c.greeting, "AUTH", c.set.Password)
		case c.step == stepHello && c.RESP3:
			c.greeting = resp.AppendCommand(c.greeting, "HELLO", "3")
		case c.step == stepRole && c.Master:
			c.greeting = resp.AppendCommand(c.greeting, "ROLE")
		case c.step == stepSelect && c.DB > 0:
			c.greeting = resp.AppendCommand(c.greeting, "SELECT", strconv.Itoa(c.DB))
		case c.step == stepNoTouch && c.NoTouch:
			c.greeting = resp.AppendCommand(c.greeting, "CLIENT", "NO-TOUCH", "ON")
		case c.step == stepPrelude && c.Prelude != nil:
			if c.greeting = append(c.greeting, c.Prelude()...); len(c.greeting) == 0 {
				return // until Resume, or the connect timeout
			}
		case c.step == stepPing:
			c.greeting = resp.AppendCommand(c.greeting, "PING", c.pingNonce())
		}
		if len(c.greeting) > 0 {
			break
		}
		c.step++
	}
	c.mark()
}

// Resume continues a greeting that waits for its Prelude.
func (c *Conn) Resume(now int64) {
	if c.state == Greeting && c.step == stepPrelude && len(c.greeting) == 0 {
		c.greet(now)
	}
}

func (c *Conn) pingNonce() string { return "keyway-" + strconv.FormatUint(c.nonce, 10) }

func (c *Conn) greetingReply(reply []byte, now int64) {
	text, isErr := resp.ErrorText(reply)
	noEcho := isErr && c.step == stepPing && c.greeted > 0 && c.servesWith(text)
	if isErr && !noEcho {
		c.refuse(now, text)
		return
	}
	if c.greeted < len(c.greeting) || len(c.greeting) == 0 {
		c.violate(now, "the node spoke before it was asked")
		return
	}
	if c.step < stepPing {
		switch c.step {
		case stepHello:
			c.ClientID = clientID(reply)
		case stepRole:
			if role := role(reply); role != "master" {
				c.fail(now, "the node is no master: its role is "+role)
				return
			}
		}
		c.step++
		c.greet(now)
		return
	}
	if b, ok := resp.Bulk(reply); !noEcho && (!ok || string(b) != c.pingNonce()) {
		c.violate(now, fmt.Sprintf("the node answered PING %s with %.40q", c.pingNonce(), reply))
		return
	}
	c.greeting = nil
	c.enter(Ready, now)
	c.lastReceived, c.silent = now, false
	c.refused, c.served = false, false
	c.unchecked, c.checkedAt = 0, now
	c.reason = ""
	c.mark()
	if c.Listener != nil {
		c.Listener.Up(c)
	}
	if c.Pushes != nil {
		c.Pushes.Ready(c)
	}
}

// servesWith reports whether the connection is usable although the node answers PING
// with this error. A node that cannot save (MISCONF) serves reads. A node that is busy
// with a script serves SCRIPT KILL and similar commands, and answers BUSY to all
// others. It accepts no subscriptions.
func (c *Conn) servesWith(text []byte) bool {
	return bytes.HasPrefix(text, []byte("MISCONF ")) || isBusy(text) && c.Listener == nil && c.Pushes == nil
}

func isBusy(text []byte) bool { return bytes.HasPrefix(text, []byte("BUSY ")) }

// refuse ends an attempt to connect that the node answered with an error. LOADING and
// MASTERDOWN count too: such a node serves no key. BUSY lasts until the script ends.
// Until then, connect attempts use the shortest back-off, and clients get the node's
// own error.
func (c *Conn) refuse(now int64, text []byte) {
	if !isBusy(text) {
		c.fail(now, "the node refuses: "+string(text))
		return
	}
	c.fail(now, string(text))
	c.attempts = 1
	c.retryAt = now + c.backoff()
}

// role returns the first element of a reply to ROLE.
func role(reply []byte) string {
	if n, rest, ok := resp.Elements(reply); ok && n > 0 {
		first, _, _ := resp.Split(rest)
		text, _ := resp.Bulk(first)
		return string(text)
	}
	return "unknown"
}

// clientID returns the connection's id from a reply to HELLO 3.
func clientID(reply []byte) (id int64) {
	n, rest, _ := resp.Elements(reply)
	for range n / 2 {
		var name, value []byte
		name, rest, _ = resp.Split(rest)
		value, rest, _ = resp.Split(rest)
		if text, _ := resp.Bulk(name); string(text) == "id" {
			id, _ = resp.Int(value)
		}
	}
	return id
}
