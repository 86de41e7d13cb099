package sim

import (
	"strings"
	"time"
)

// A script may keep its node busy. It has acted at once, but its reply comes in the end.
// Until then the node reads nothing from the connection that the script came from, and
// after a while says BUSY to all others, as Redis does (script.c, scriptInterrupt).
//
//	link 1  EVAL ................................. reply
//	link 2       GET (deaf)   GET -BUSY  SET -BUSY       SET +OK

// busyThreshold is how long a script runs before the node says BUSY to others.
const busyThreshold = int64(100 * time.Millisecond)

// busy is a script that runs for long.
type busy struct {
	link         *link
	since, until int64
	reply        []byte
}

// mayKeepBusy has a script that has just acted keep the node busy now and then. It
// returns nothing if the reply is to come later.
func (n *node) mayKeepBusy(l *link, command string, reply []byte) []byte {
	w := n.world
	if command != "EVAL" && command != "EVALSHA" || !w.faults || !w.chance(w.chaos.busy*10) {
		return reply
	}
	n.busy = &busy{link: l, since: w.now, until: w.now + w.rng.Int64N(int64(1500*time.Millisecond)), reply: reply}
	w.logf("%s is busy with a script of link %d until %d ms", n, l.id, n.busy.until/1e6)
	return nil
}

// isDeaf reports whether the node reads nothing from a link since it runs a script. It
// ends the script once that is due.
func (n *node) isDeaf(l *link) bool {
	b := n.busy
	if b == nil {
		return false
	}
	if n.world.now >= b.until {
		b.link.toProxy = append(b.link.toProxy, b.reply...)
		n.busy = nil
		return false
	}
	return l == b.link || n.world.now < b.since+busyThreshold
}

// refuse answers a command at a node that is busy; nil: it is carried out all the same.
// Transactions begin, so that what follows is not executed without them, and are broken
// (server.c, processCommand).
func (l *link) refuse(command string) []byte {
	const text = "BUSY Redis is busy running a script."
	switch command {
	case "HELLO", "MULTI", "WATCH", "UNWATCH":
		return nil
	case "EXEC":
		l.block = block{}
		return errorReply("EXECABORT Transaction discarded because of: " + text)
	}
	l.block.broken = l.block.broken || l.block.multi
	return errorReply(text)
}

// isBusy reports whether an error says that a node is busy.
func isBusy(text string) bool {
	return strings.HasPrefix(strings.TrimPrefix(text, "EXECABORT Transaction discarded because of: "), "BUSY ")
}
