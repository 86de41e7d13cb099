package proxy

import (
	"strings"

	"github.com/keyway-proxy/keyway/pool"
)

// link is a pool.Link, or what has one.
type link interface {
	State() pool.State
	Connected(now int64)
	NextWrite() []byte
	Wrote(n int)
	Received(b []byte, now int64)
}

func greet(r *rig, conn link) {
	conn.Connected(r.now)
	ping := take(conn)
	conn.Received([]byte(ping[strings.Index(ping, "PING\r\n")+6:]), r.now)
}

func take(conn link) string {
	out := ""
	for b := conn.NextWrite(); len(b) > 0; b = conn.NextWrite() {
		out += string(b)
		conn.Wrote(len(b))
	}
	return out
}
