package sim

import (
	"strings"
	"time"
)

// A script may keep its node busy. It takes effect at once, but its reply comes at the end.
// Until then the node reads nothing from the script's connection. After busyThreshold it
// answers BUSY on all other connections, as Redis does (script.c, scriptInterrupt).
//
//	link 1  EVAL ................................. reply
//	link 2       GET (unread) GET -BUSY  SET -BUSY       SET +OK

// busyThreshold is how long a script runs before the node answers BUSY to other commands.
const busyThreshold = int64(100 * time.Millisecond)

// busy is a long-running script.
type busy struct {
	link         *link
	since, until int64
	reply        []byte
}

// mayKeepBusy decides at random whether a script that has just been executed keeps the node
// busy. If it does, mayKeepBusy returns nil and isDeaf sends the reply later.
func (n *node) mayKeepBusy(l *link, command string, reply []byte) []byte {
	w := n.world
	if command != "EVAL" && command != "EVALSHA" || !w.faults || !w.chance(w.chaos.busy*10) {
		return reply
	}
	n.busy = &busy{link: l, since: w.now, until: w.now + w.rng.Int64N(int64(1500*time.Millisecond)), reply: reply}
	w.logf("%s is busy with a script of link %d until %d ms", n, l.id, time.Duration(n.busy.until).Milliseconds())
	return nil
}

// isDeaf reports whether the node reads nothing from a link because it is executing a
// script. It ends the script when its time is over.
func (n *node) isDeaf(l *link) bool {
	b := n.busy
	if b == nil {
		return false
	}
	if n.world.now >= b.until {
		if n.busy = nil; !b.link.peer.Closed() {
			b.link.toProxy = append(b.link.toProxy, b.reply...)
		}
		return false
	}
	return l == b.link || n.world.now < b.since+busyThreshold
}

// refuse returns the reply of a busy node, or nil if the node executes the command
// nevertheless. A busy node accepts MULTI, but refuses the commands after it, and so aborts
// the transaction (server.c, processCommand).
func (l *link) refuse(command string) []byte {
	const text = "BUSY Redis is busy running a script."
	switch command {
	case "HELLO", "MULTI", "WATCH", "UNWATCH":
		return nil
	case "EXEC":
		l.peer.Discard()
		return errorReply("EXECABORT Transaction discarded because of: " + text)
	}
	l.peer.Spoil()
	return errorReply(text)
}

// isBusy reports whether text is a BUSY error.
func isBusy(text string) bool {
	return strings.HasPrefix(strings.TrimPrefix(text, "EXECABORT Transaction discarded because of: "), "BUSY ")
}
