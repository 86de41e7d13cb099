package move

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/errtext"
)

// Error is a failure at a node, with what an operator can do about it.
type Error struct {
	Node, Addr string
	Doing      string // what failed
	Err        error
	Remedy     string
	Temporary  bool // it may go away by itself: the connection failed, or the node is not ready
}

// Error implements error.
func (e *Error) Error() string {
	text := fmt.Sprintf("node %s (%s): %s: %v", e.Node, e.Addr, e.Doing, e.Err)
	if e.Remedy != "" {
		text += "; " + e.Remedy
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// remedies say what to do about the replies of a node that contain a text.
var remedies = []struct{ text, remedy string }{
	{"OOM", "raise its maxmemory, or give the layout another node; then run the command again"},
	{"NOPERM", "give backend.username this right with ACL SETUSER; then run the command again"},
	{"NOAUTH", "set backend.password in the configuration file"},
	{"WRONGPASS", "correct backend.username and backend.password in the configuration file"},
	{"AUTH ", "correct backend.username and backend.password in the configuration file"},
	{"invalid password", "correct backend.password in the configuration file"},
	{"READONLY", "it has become a replica: name its master, and run the command again"},
	{"MOVED ", "slots of its cluster move: wait until that has ended, and run the command again"},
	{"ASK ", "slots of its cluster move: wait until that has ended, and run the command again"},
	{"TRYAGAIN", "slots of its cluster move: wait until that has ended, and run the command again"},
	{"CLUSTERDOWN", "see redis-cli --cluster check; when the cluster is well, run the command again"},
	{"LOADING", "wait until it has loaded its data, and run the command again"},
	{"MISCONF", "it cannot save its data: see its log, and run the command again"},
	{"NOREPLICAS", "it has too few replicas: see its min-replicas-to-write, and run the command again"},
	{"unknown command", "it needs Redis 7.0 or Valkey, with this command not renamed"},
}

// notReady reports whether a node's refusal goes away by itself, usually soon.
func notReady(reply string) bool {
	return slices.ContainsFunc([]string{"LOADING ", "BUSY ", "CLUSTERDOWN ", "TRYAGAIN "}, func(prefix string) bool {
		return strings.HasPrefix(reply, prefix)
	})
}

// failed returns the error of something that was done at the node.
func (n *Node) failed(doing string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	e := &Error{Node: n.Name, Addr: n.Addr, Doing: doing, Err: err}
	e.Temporary = !control.IsReply(err) || notReady(err.Error())
	if !control.IsReply(err) {
		e.Remedy = "start the node or repair the network, and run the command again"
		return e
	}
	for _, r := range remedies {
		if strings.HasPrefix(err.Error(), r.text) || strings.HasPrefix(err.Error(), "ERR "+r.text) {
			e.Remedy = n.o.Remedy(r.remedy)
			break
		}
	}
	return e
}

// notRestored returns the error of a value that the destination did not accept.
func (l *Link) notRestored(key string, err error) error {
	n, doing := l.to.node, fmt.Sprintf("restoring key %s from node %s", errtext.Key(key), l.from.node.Name)
	e := &Error{Node: n.Name, Addr: n.Addr, Doing: doing, Err: err}
	switch text := err.Error(); {
	case strings.Contains(text, "payload version or checksum"):
		e.Remedy = fmt.Sprintf("its version %s does not understand values of version %s: "+
			"upgrade node %s to at least that",
			n.Version, l.from.node.Version, n.Name)
	case strings.Contains(text, "Bad data format"):
		e.Remedy = "load the modules there that node " + l.from.node.Name + " has"
	default:
		return n.failed(doing, err)
	}
	return e
}

// lostKeys returns the error of a node that was restarted without keys that had been moved
// to it.
func lostKeys(n *Node, count int, such string) error {
	return &Error{
		Node: n.Name, Addr: n.Addr, Doing: "looking at the keys that came last",
		Err: fmt.Errorf("the node was restarted, and %d of the last keys that had been moved to it are gone, "+
			"such as %s", count, errtext.Key(such)),
		Remedy: "unless a client has deleted them, it has loaded older data: restore its newest AOF or RDB file " +
			"and turn appendonly on, then run the command again",
	}
}
