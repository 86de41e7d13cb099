package proxy

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// This file has the error texts that several commands of keyway share. The texts of a
// single feature stand beside its code. Where Redis has a text for the case, keyway uses
// Redis's to the letter, and the comment names the place in Redis's source.
//
// If a command fails because of its node, the error says which of two classes it is in:
//
//   - Not executed: the node surely did not execute the command. The text begins with
//     CLUSTERDOWN, after which client libraries may retry, or with the node's own BUSY.
//   - Unknown: the node may have executed the command. The text begins with ERR and
//     says so.

const (
	// server.c, processCommand
	errNoAuth = "NOAUTH Authentication required."
	// acl.c, authCommand
	errWrongPass = "WRONGPASS invalid username-password pair or user is disabled."
	// acl.c
	errNoPassword = "ERR AUTH <password> called without any password configured for the default user. " +
		"Are you sure your configuration is correct?"
	// networking.c, helloCommand
	errHelloNoAuth = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO " +
		"AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version " +
		"at the same time"
	// networking.c
	errNoProto = "NOPROTO unsupported protocol version"
	// networking.c
	errHelloProto = "ERR Protocol version is not an integer or out of range"
	// networking.c
	errClientName = "ERR Client names cannot contain spaces, newlines or special characters."
	// cluster.c
	errCrossSlot = "CROSSSLOT Keys in request don't hash to the same slot"
	// cluster.c
	errSlotUnbound = "CLUSTERDOWN Hash slot not served"
	// object.c
	errNotInteger = "ERR value is not an integer or out of range"
	// object.c, getIntFromObjectOrReply
	errNotInt32 = "ERR value is out of range, value must between -2147483648 and 2147483647"
	// db.c, selectCommand
	errDBIndex = "ERR DB index is out of range"
	// db.c, scanCommand
	errCursor = "ERR invalid cursor"
	// object.c
	errSyntax = "ERR syntax error"
	// sort.c
	errSortBy = "ERR BY option of SORT denied in cluster mode."
	// sort.c
	errSortGet = "ERR GET option of SORT denied in cluster mode."
	// networking.c
	errMaxClients = "ERR max number of clients reached"
	// timeout.c
	errTimeoutBad = "ERR timeout is not an integer or out of range"
	// timeout.c
	errTimeoutNeg = "ERR timeout is negative"

	// script.c
	errNoScript = "NOSCRIPT No matching script. Please use EVAL."

	errPerKeyArgs = "ERR keyway: the script is a per-key one, but its KEYS and ARGV do not fit the rule for it; " +
		"mend scripts.per_key, or the call"
	errPerKeyUnits = "ERR keyway: a per-key script takes no more than 16384 keys that live apart; " +
		"send fewer at a time"

	errMemory = "ERR keyway: memory is short (limits.memory), so large commands are refused for now; " +
		"send it again later"

	// cluster.c. Clients recognize a standalone Redis by this text.
	errNoCluster = "ERR This instance has cluster support disabled"
	errEmulated  = "ERR keyway: '%s' is refused: keyway emulates this cluster, whose nodes are keyways; " +
		"ask or change the Redis servers directly"
	errNoMasters = "CLUSTERDOWN keyway: no node is known yet; the command was not executed"
)

// errUnknownCommand returns Redis's text for a command that does not exist
// (server.c, commandCheckExistence).
func errUnknownCommand(a command.Args) string {
	var b strings.Builder
	for i := 1; i < a.Len() && b.Len() < 128; i++ {
		fmt.Fprintf(&b, "'%s' ", cString(a.Arg(i), 128-b.Len()))
	}
	return fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s", cString(a.Arg(0), 128), b.String())
}

// errUnknownSub returns Redis's text for a subcommand that does not exist.
func errUnknownSub(container string, sub []byte) string {
	return fmt.Sprintf("ERR unknown subcommand '%s'. Try %s HELP.", cString(sub, 128), strings.ToUpper(container))
}

// errUnknownNode returns Redis's text for the ID of no node in the cluster (cluster.c).
func errUnknownNode(id []byte) string { return fmt.Sprintf("ERR Unknown node %s", cString(id, 128)) }

// errLacked returns Redis's text for an unknown command, for one that is newer than the
// nodes.
func errLacked(c *command.Command, a command.Args) string {
	if container, _, isSub := strings.Cut(c.Name, "|"); isSub {
		return errUnknownSub(container, a.Arg(1))
	}
	return errUnknownCommand(a)
}

// errSubSyntax returns Redis's text for a subcommand whose handler counts the arguments
// itself (networking.c, addReplySubcommandSyntaxError).
func errSubSyntax(container string, sub []byte) string {
	return fmt.Sprintf("ERR unknown subcommand or wrong number of arguments for '%s'. Try %s HELP.",
		cString(sub, 128), container)
}

// cString returns b as Redis's own texts show it: at most n bytes, up to the first zero
// byte, with spaces for line ends (networking.c, addReplyErrorFormat).
func cString(b []byte, n int) []byte {
	b = b[:min(n, len(b))]
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	if bytes.ContainsAny(b, "\r\n") {
		b = bytes.ReplaceAll(bytes.ReplaceAll(b, []byte("\r"), []byte(" ")), []byte("\n"), []byte(" "))
	}
	return b
}

func errArity(c *command.Command) string {
	return "ERR wrong number of arguments for '" + c.Name + "' command"
}

// named inserts a command's name into one of keyway's texts, which has one %s.
func named(text string, c *command.Command) string { return fmt.Sprintf(text, upper(c.Name)) }

func errNotYet(name string) string {
	return "ERR keyway: '" + name + "' is not supported yet"
}

func errRefused(c *command.Command) string {
	name := upper(c.Name)
	if c.Refusal != "" {
		return "ERR keyway: '" + name + "' is refused: " + c.Refusal
	}
	if c.NeverShared() {
		return "ERR keyway: '" + name + "' is refused: it changes the connection it arrives on, " +
			"which clients share; send it to a node directly"
	}
	return "ERR keyway: '" + name + "' is refused: it acts on a node, not on its data; " +
		"to let it pass to every master, name it under commands.allow"
}

// errCrossNode returns CROSSSLOT for layouts without slots. It names two keys that do not
// live together, and their nodes.
func errCrossNode(key1, node1, key2, node2 string) string {
	return fmt.Sprintf("%s: keyway has '%.64s' on node %s and '%.64s' on node %s; "+
		"give keys that belong together a common hash tag, such as {user1}:a and {user1}:b",
		errCrossSlot, resp.Printable([]byte(key1)), node1, resp.Printable([]byte(key2)), node2)
}

// errOneSlot returns CROSSSLOT for two keys in one slot, where keyway emulates a cluster
// but the layout does not place keys by slot.
func errOneSlot(slot uint16, layout, key1, node1, key2, node2 string) string {
	return fmt.Sprintf("CROSSSLOT keyway: '%.64s' on node %s and '%.64s' on node %s share slot %d, "+
		"but layout %s does not place keys by slot; "+
		"give keys that belong together a common hash tag, such as {user1}:a and {user1}:b",
		resp.Printable([]byte(key1)), node1, resp.Printable([]byte(key2)), node2, slot, layout)
}

func errNoRule(key []byte) string {
	return fmt.Sprintf("ERR keyway: no range rule holds the key '%.64s' and there is no range.default; "+
		"add one of them", resp.Printable(key))
}

func errNodeIsCluster(n *node) string {
	return fmt.Sprintf("ERR keyway: node %s (%s) is part of a Redis Cluster, "+
		"but this layout needs standalone nodes; set cluster-enabled no on it, or use layout slots with seeds",
		n.name, n.addr)
}

func errTooManyHops(n *node) string {
	return fmt.Sprintf("CLUSTERDOWN keyway: the cluster's nodes redirect in a circle, node %s last; "+
		"the command was not executed", n.name)
}

func errNoReplica(n *node) string {
	return fmt.Sprintf("CLUSTERDOWN keyway: node %s has no replica that can be read (reads: replica); "+
		"the command was not executed", n.label())
}

// errNotExecuted returns the error for a command that the node surely did not execute. If
// the node is busy with a script, it is the node's own BUSY error.
func errNotExecuted(n *node, reason string) string {
	if strings.HasPrefix(reason, "BUSY ") {
		return reason
	}
	return fmt.Sprintf("CLUSTERDOWN keyway: node %s cannot be reached (%s); the command was not executed",
		n.label(), reason)
}

// errOutcomeUnknown returns the error for a command that the node may have executed.
func errOutcomeUnknown(n *node, f pool.Failure) string {
	if f.Timeout {
		return fmt.Sprintf("ERR keyway: node %s gave %s; the command may have been executed", n.label(), f.Reason)
	}
	return fmt.Sprintf("ERR keyway: the connection to node %s ended after the command was sent (%s); "+
		"it may have been executed", n.label(), f.Reason)
}

// errInPart returns the error for a split command that may have been executed on some
// nodes although a call failed. bad is the error reply to one of its calls.
func errInPart(c *command.Command, bad []byte) string {
	text := bytes.TrimSpace(bad[1:])
	return fmt.Sprintf("ERR keyway: %s may have been executed on some nodes only; of one: %s",
		upper(c.Name), resp.Printable(text))
}

// errSubscribed returns Redis's text for a command that a subscriber in RESP2 may not send
// (server.c, processCommand).
func errSubscribed(c *command.Command) string {
	return "ERR Can't execute '" + c.Name +
		"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
}

// errUnmarked returns the error for WAIT where a node refuses the command that keyway
// needs to learn which replicas have the client's writes.
func errUnmarked(n *node, why string) string {
	return "ERR keyway: which replicas have this client's writes cannot be known, since node " + n.label() +
		" refuses FUNCTION RESTORE, with which keyway asks: " + why
}
