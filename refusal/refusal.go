package refusal

import "bytes"

// Code returns the first word of an error reply.
func Code(reply []byte) []byte {
	code, _, _ := bytes.Cut(bytes.TrimSuffix(reply[1:], []byte("\r\n")), []byte(" "))
	return code
}

// CannotServe reports whether an error means that this node cannot execute the command, now or
// at all, while another node or a later attempt may.
func CannotServe(reply []byte) bool {
	if IsRedirect(reply) {
		return true
	}
	for _, code := range []string{"-CLUSTERDOWN ", "-READONLY ", "-MASTERDOWN ", "-TRYAGAIN ", "-LOADING "} {
		if bytes.HasPrefix(reply, []byte(code)) {
			return true
		}
	}
	return false
}

// IsRedirect reports whether an error is MOVED or ASK.
func IsRedirect(reply []byte) bool {
	return bytes.HasPrefix(reply, []byte("-MOVED ")) || bytes.HasPrefix(reply, []byte("-ASK "))
}

// IsNoPermission reports whether a reply says that the rules of the user do not allow the command.
func IsNoPermission(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-NOPERM ")) }

// EndsConnection reports whether the node closes the connection after this reply.
func EndsConnection(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-ERR Protocol error")) }

// Last is the last refusal of a plain command by a node: an error for now, such as CLUSTERDOWN, but
// no redirect.
type Last struct {
	reply []byte
	at    int64
}

// Record records the reply to a plain command if it is a refusal for now, and reports whether it is.
func (l *Last) Record(now int64, reply []byte) bool {
	if !CannotServe(reply) || IsRedirect(reply) {
		return false
	}
	l.reply, l.at = append(l.reply[:0], reply...), now
	return true
}

// Reply returns the last refusal. It is valid until the next one.
func (l *Last) Reply() []byte { return l.reply }

// OfAll reports whether the last refusal, at time since or later, is an error that Redis gives to all
// commands (cluster.c, getNodeByQuery; server.c, processCommand).
func (l *Last) OfAll(since int64) bool {
	all := bytes.HasPrefix(l.reply, []byte("-LOADING ")) || bytes.HasPrefix(l.reply, []byte("-MASTERDOWN ")) ||
		string(l.reply) == "-CLUSTERDOWN The cluster is down\r\n"
	return all && l.at >= since
}

// Repeats reports whether reply is such an error, and the same as the last refusal, at time since or
// later.
func (l *Last) Repeats(since int64, reply []byte) bool {
	return l.OfAll(since) && bytes.Equal(l.reply, reply)
}
