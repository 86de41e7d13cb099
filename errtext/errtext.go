package errtext

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Errors whose text is the same each time.
const (
	// NoAuth answers a command before the client has authenticated (server.c, processCommand).
	NoAuth = "NOAUTH Authentication required."
	// WrongPass answers AUTH with a wrong user or password (acl.c, authCommand).
	WrongPass = "WRONGPASS invalid username-password pair or user is disabled."
	// Protected answers a client of another machine in protected mode (networking.c,
	// clientAcceptHandler; what the operator can do is keyway's).
	Protected = "DENIED keyway is running in protected mode because protected mode is enabled and no password is " +
		"set for the default user. In this mode connections are only accepted from the loopback interface. If you " +
		"want to connect from external computers to keyway you may adopt one of the following solutions: " +
		"1) Set a password for the default user: write clients.password, users or users_file into keyway's " +
		"configuration file. " +
		"2) Alternatively you can just disable the protected mode by writing 'protected_mode: false' into that " +
		"file, however MAKE SURE keyway is not publicly accessible from internet if you do so. " +
		"Both take effect with 'keyway reload' or SIGHUP. NOTE: You only need to do one of the above things in " +
		"order for the server to start accepting connections from the outside."
	// NoPassword answers AUTH where the default user has no password (acl.c).
	NoPassword = "ERR AUTH <password> called without any password configured for the default user. " +
		"Are you sure your configuration is correct?"
	// HelloNoAuth answers HELLO before the client has authenticated (networking.c, helloCommand).
	HelloNoAuth = "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO " +
		"AUTH <user> <pass> option can be used to authenticate the client and select the RESP protocol version " +
		"at the same time"
	// NoProto answers HELLO with a protocol version that does not exist (networking.c).
	NoProto = "NOPROTO unsupported protocol version"
	// HelloProto answers HELLO with a protocol version that is no number (networking.c).
	HelloProto = "ERR Protocol version is not an integer or out of range"
	// ClientName answers a name for a client that CLIENT LIST could not show (networking.c).
	ClientName = "ERR Client names cannot contain spaces, newlines or special characters."
	// NoKeyPermission answers a command with a key that the user may not use (acl.c,
	// getAclErrorMessage of Redis 7.0).
	NoKeyPermission = "NOPERM this user has no permissions to access one of the keys used as arguments"
	// NoChannelPermission answers a command with a channel that the user may not use (acl.c).
	NoChannelPermission = "NOPERM this user has no permissions to access one of the channels used as arguments"
	// SortByDenied answers SORT with a BY pattern of a user who may not read all keys (sort.c).
	SortByDenied = "ERR BY option of SORT denied due to insufficient ACL permissions."
	// SortGetDenied answers SORT with a GET pattern of a user who may not read all keys (sort.c).
	SortGetDenied = "ERR GET option of SORT denied due to insufficient ACL permissions."
	// CrossSlot answers a command whose keys are in several slots (cluster.c).
	CrossSlot = "CROSSSLOT Keys in request don't hash to the same slot"
	// SlotUnbound answers a command for a slot that no node serves (cluster.c).
	SlotUnbound = "CLUSTERDOWN Hash slot not served"
	// NoSentinel is why a node behind sentinels cannot be reached while its address is unknown.
	NoSentinel = "no sentinel has reported its address yet"
	// NotInteger answers an argument that must be an integer (object.c).
	NotInteger = "ERR value is not an integer or out of range"
	// NotInt32 answers an integer that needs more than 32 bits (object.c, getIntFromObjectOrReply).
	NotInt32 = "ERR value is out of range, value must between -2147483648 and 2147483647"
	// DBIndex answers SELECT of a database that does not exist (db.c, selectCommand).
	DBIndex = "ERR DB index is out of range"
	// Cursor answers SCAN with a cursor that is no number (db.c, scanCommand).
	Cursor = "ERR invalid cursor"
	// Syntax answers options that do not exist or do not fit each other (object.c).
	Syntax = "ERR syntax error"
	// SortBy answers SORT with a BY pattern in a cluster (sort.c).
	SortBy = "ERR BY option of SORT denied in cluster mode."
	// SortGet answers SORT with a GET pattern in a cluster (sort.c).
	SortGet = "ERR GET option of SORT denied in cluster mode."
	// MaxClients answers a connection beyond the limit of clients (networking.c).
	MaxClients = "ERR max number of clients reached"
	// TimeoutBad answers a blocking command whose timeout is no number (timeout.c).
	TimeoutBad = "ERR timeout is not an integer or out of range"
	// TimeoutNeg answers a blocking command whose timeout is negative (timeout.c).
	TimeoutNeg = "ERR timeout is negative"
	// NoScript answers EVALSHA of a script that is not loaded (script.c).
	NoScript = "NOSCRIPT No matching script. Please use EVAL."
	// PerKeyArgs answers a per-key script whose arguments do not fit its rule.
	PerKeyArgs = "ERR keyway: the script is a per-key one, but its KEYS and ARGV do not fit the rule for it; " +
		"mend scripts.per_key, or the call"
	// PerKeyUnits answers a per-key script that would be split into too many calls.
	PerKeyUnits = "ERR keyway: a per-key script takes no more than 16384 keys that live apart; " +
		"send fewer at a time"
	// Memory answers a large command while memory is short.
	Memory = "ERR keyway: memory is short (limits.memory), so large commands are refused for now; " +
		"send it again later"
	// NoCluster answers CLUSTER outside a cluster (cluster.c). Clients recognize a standalone
	// Redis by this text.
	NoCluster = "ERR This instance has cluster support disabled"
	// Emulated answers a command that would change an emulated cluster. It needs Named.
	Emulated = "ERR keyway: '%s' is refused: keyway emulates this cluster, whose nodes are keyways; " +
		"ask or change the Redis servers directly"
	// NotReached begins the errors of NotExecuted.
	NotReached = "CLUSTERDOWN keyway: node "
	// NoMasters answers a command while no node is known yet.
	NoMasters = "CLUSTERDOWN keyway: no node is known yet; the command was not executed"
)

// UnknownCommand returns Redis's text for a command that does not exist
// (server.c, commandCheckExistence). isBrief says that the text does not mention arguments
// if there are none.
func UnknownCommand(a command.Args, isBrief bool) string {
	if isBrief && a.Len() == 1 {
		return fmt.Sprintf("ERR unknown command '%s'", cString(a.Arg(0), 128))
	}
	var b strings.Builder
	for i := 1; i < a.Len() && b.Len() < 128; i++ {
		fmt.Fprintf(&b, "'%s' ", cString(a.Arg(i), 128-b.Len()))
	}
	return fmt.Sprintf("ERR unknown command '%s', with args beginning with: %s", cString(a.Arg(0), 128), b.String())
}

// UnknownSub returns Redis's text for a subcommand that does not exist.
func UnknownSub(container string, sub []byte) string {
	return fmt.Sprintf("ERR unknown subcommand '%s'. Try %s HELP.", cString(sub, 128), strings.ToUpper(container))
}

// UnknownNode returns Redis's text for the ID of no node in the cluster (cluster.c).
func UnknownNode(id []byte) string { return fmt.Sprintf("ERR Unknown node %s", cString(id, 128)) }

// SubSyntax returns Redis's text for a subcommand whose handler counts the arguments
// itself (networking.c, addReplySubcommandSyntaxError).
func SubSyntax(container string, sub []byte) string {
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

// Arity returns Redis's text for a wrong number of arguments (server.c). The module of vector
// sets names its commands in upper case.
func Arity(c *command.Command) string {
	name := c.Name
	if c.Group == "vector_set" {
		name = c.Upper()
	}
	return "ERR wrong number of arguments for '" + name + "' command"
}

// Named inserts a command's name into one of keyway's texts, which has one %s.
func Named(text string, c *command.Command) string { return fmt.Sprintf(text, c.Upper()) }

// NotYet returns the error for a command that keyway does not support yet.
func NotYet(name string) string {
	return "ERR keyway: '" + name + "' is not supported yet"
}

// NoCommandPermission returns the error for a command that the user may not run (acl.c,
// getAclErrorMessage of Redis 7.0).
func NoCommandPermission(c *command.Command) string {
	return "NOPERM this user has no permissions to run the '" + c.Name + "' command"
}

// Denied returns the error for a command that commands.deny names. Clients of Redis know it from
// users whose ACL lacks the command (acl.c, getAclErrorMessage of Redis 7.2).
func Denied(user string, c *command.Command) string {
	return "NOPERM User " + user + " has no permissions to run the '" + c.Name + "' command"
}

// OverRate returns the error for a command that has waited for too long, because the clients of its
// user send more than they may.
func OverRate(user string, ofBytes bool, waited time.Duration) string {
	what := "commands"
	if ofBytes {
		what = "bytes"
	}
	return "ERR keyway: not executed: the clients of user '" + user + "' use more " + what + " a second than they " +
		"may, and the command has waited for " + waited.String() + "; send fewer, or ask the operator to raise the " +
		"user's rate"
}

// Refused returns the error for a command that keyway does not carry.
func Refused(c *command.Command) string {
	name := c.Upper()
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

// CrossNode returns CROSSSLOT for layouts without slots. It names two keys that do not
// live together, and their nodes.
func CrossNode(key1, node1, key2, node2 string) string {
	return fmt.Sprintf("%s: keyway has '%.64s' on node %s and '%.64s' on node %s; "+
		"give keys that belong together a common hash tag, such as {user1}:a and {user1}:b",
		CrossSlot, resp.Printable([]byte(key1)), node1, resp.Printable([]byte(key2)), node2)
}

// OneSlot returns CROSSSLOT for two keys in one slot, where keyway emulates a cluster
// but the layout does not place keys by slot.
func OneSlot(slot uint16, layout, key1, node1, key2, node2 string) string {
	return fmt.Sprintf("CROSSSLOT keyway: '%.64s' on node %s and '%.64s' on node %s share slot %d, "+
		"but layout %s does not place keys by slot; "+
		"give keys that belong together a common hash tag, such as {user1}:a and {user1}:b",
		resp.Printable([]byte(key1)), node1, resp.Printable([]byte(key2)), node2, slot, layout)
}

// NoRule returns the error for a key that no range rule holds.
func NoRule(key []byte) string {
	return fmt.Sprintf("ERR keyway: no range rule holds the key '%.64s' and there is no range.default; "+
		"add one of them", resp.Printable(key))
}

// NodeIsCluster returns the error for a node of a cluster where standalone nodes are needed.
func NodeIsCluster(name, addr string) string {
	return fmt.Sprintf("ERR keyway: node %s (%s) is part of a Redis Cluster, "+
		"but this layout needs standalone nodes; set cluster-enabled no on it, or use layout slots with seeds",
		name, addr)
}

// TooManyHops returns the error for a command that was redirected too often, last by this node.
func TooManyHops(last string) string {
	return fmt.Sprintf("CLUSTERDOWN keyway: the cluster's nodes redirect in a circle, node %s last; "+
		"the command was not executed", last)
}

// NoReplica returns the error for a read that no replica of this node can serve.
func NoReplica(node string) string {
	return fmt.Sprintf("CLUSTERDOWN keyway: node %s has no replica that can be read (reads: replica); "+
		"the command was not executed", node)
}

// NotExecuted returns the error for a command that the node surely did not execute. If
// the node is busy with a script, it is the node's own BUSY error.
func NotExecuted(node, reason string) string {
	if strings.HasPrefix(reason, "BUSY ") {
		return reason
	}
	return fmt.Sprintf(NotReached+"%s cannot be reached (%s); the command was not executed", node, reason)
}

// NoReplyYet returns the error for a command that the node may have executed: its reply has
// not come in time.
func NoReplyYet(node, reason string) string {
	return fmt.Sprintf("ERR keyway: node %s gave %s; the command may have been executed", node, reason)
}

// ConnectionEnded returns the error for a command that the node may have executed before
// the connection ended.
func ConnectionEnded(node, reason string) string {
	return fmt.Sprintf("ERR keyway: the connection to node %s ended after the command was sent (%s); "+
		"it may have been executed", node, reason)
}

// InPart returns the error for a split command that may have been executed on some
// nodes although a call failed. bad is the error reply to one of its calls.
func InPart(c *command.Command, bad []byte) string {
	text := bytes.TrimSpace(bad[1:])
	return fmt.Sprintf("ERR keyway: %s may have been executed on some nodes only; of one: %s",
		c.Upper(), resp.Printable(text))
}

// Subscribed returns Redis's text for a command that a subscriber in RESP2 may not send
// (server.c, processCommand).
func Subscribed(c *command.Command) string {
	return "ERR Can't execute '" + c.Name +
		"': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
}

// Unmarked returns the error for WAIT where a node refuses the command that keyway
// needs to learn which replicas have the client's writes.
func Unmarked(node, why string) string {
	return "ERR keyway: which replicas have this client's writes cannot be known, since node " + node +
		" refuses FUNCTION RESTORE, with which keyway asks: " + why
}
