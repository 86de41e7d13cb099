package proxy

import (
	"github.com/keyway-proxy/keyway/pool"
)

// exclusive brings up the connection that was taken last for one client.
func (r *rig) exclusive(node int) *pool.Conn {
	r.t.Helper()
	r.w.EndTurn()
	waits := r.w.nodes[node].waits
	if len(waits) == 0 {
		r.t.Fatal("no connection was taken")
	}
	conn := waits[len(waits)-1].conn
	if conn.State() != pool.Ready { // it may be one that was idle
		greet(r, conn)
	}
	return conn
}

// answerAlone answers what was last sent over a connection of its own.
func (r *rig) answerAlone(node int, reply string) {
	conn := r.exclusive(node)
	take(conn)
	conn.Received([]byte(reply), r.now)
}
