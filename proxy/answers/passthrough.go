package answers

import (
	"bytes"
	"math"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// With auth: passthrough, the nodes know the users and their rules. keyway asks a node for each
// AUTH, over a connection that carries nothing else. After that, the client's commands go over
// connections of its user, so the nodes decide about them. Of a command that keyway answers by itself,
// it first asks a node whether the user may run it, by ACL DRYRUN over a connection of its own.
//
//	AUTH app secret -----> AUTH app secret ------> any node
//	SET a 1 -------------> SET a 1 --------------> the key's node, as app
//	CLIENT LIST ---------> ACL DRYRUN app ... ---> any node, as keyway; then keyway answers
//
// While a node is asked, the command stays in the client's input. It is dispatched anew when the
// answer has come.

const (
	// passwordTries is how many connections one AUTH may lose. A node closes the connection if it
	// deletes the user that has last authenticated there.
	passwordTries = 3
	// permittedFor is how long a permission of a command without arguments is remembered.
	permittedFor = int64(time.Second)
	// unusedProbe is how long the connection for AUTH stays open without use.
	unusedProbe = int64(time.Minute)
)

const (
	errOtherUser = "ERR keyway: this client has subscriptions, a transaction, watched keys or tracking; send RESET " +
		"before AUTH as another user, or authenticate on a new connection"
	errTooManyUsers  = "ERR keyway: clients have logged in to the nodes with too many users; try again later"
	errUsersAtNodes  = "ERR keyway: the nodes keep the users (auth: passthrough); change them there, on each node"
	errNoNodeForAuth = "ERR keyway: no node could be asked whether the password is right: "
	errNoDryRun      = "ERR keyway: the node did not say whether the user may run this command " +
		"(ACL DRYRUN, since Redis 7.0): "
)

// nodeUsers asks the nodes about their users.
type nodeUsers struct {
	engine.Inactive
	w      *engine.Worker
	probes map[*engine.Node]*pool.Conn // for AUTH
}

// newNodeUsers returns the feature if users are kept at the nodes.
func newNodeUsers(w *engine.Worker) *nodeUsers {
	u := &nodeUsers{w: w, probes: map[*engine.Node]*pool.Conn{}}
	if w.Options.OfNodes {
		w.NodeUsers = u
	}
	return u
}

// subject is what a node is asked about.
type subject uint8

const (
	ofPassword subject = iota // of an AUTH
	ofDefault                 // whether the default user needs none
	ofCommand                 // whether the user may run it
)

// standing is what a node has said about a client.
type standing struct {
	subject   subject
	command   uint64 // the number of the client's command that the answer is about
	isKnown   bool   // the answer is not used yet
	text      string // the error for the client; empty: it is allowed
	notByName bool   // the client has not authenticated, and the default user needs a password
}

var standings = engine.NewPerClient[standing]()

// take returns the answer about the command that is being dispatched, and forgets it.
func (u *nodeUsers) take(s *engine.Session, about subject) (text string, isKnown bool) {
	st := standings.Get(s)
	if st == nil || !st.isKnown || st.subject != about || st.command != s.Commands {
		return "", false
	}
	st.isKnown = false
	return st.text, true
}

// await blocks the client until the answer about the command that is being dispatched is settled.
func (u *nodeUsers) await(s *engine.Session, about subject) {
	st := standings.Get(s)
	if st == nil {
		st = new(standing)
		standings.Set(s, st)
	}
	st.subject, st.command, st.isKnown = about, s.Commands, false
	s.Set(engine.Blocked)
}

// settle ends await: text is the error for the client, or empty.
func settle(s *engine.Session, text string) {
	if s.HasLeft() {
		return
	}
	st := standings.Get(s)
	st.text, st.isKnown = text, true
	s.Clear(engine.Blocked)
	s.Wake()
}

// reachable returns a master that can be asked now, the same for a client as long as it can, or nil.
func (u *nodeUsers) reachable(s *engine.Session) *engine.Node {
	masters := u.w.Masters
	for i := range masters {
		n := masters[(int(s.ID())+i)%len(masters)]
		if n.Shared.Conns[0].ConnectError() == "" {
			return n
		}
	}
	return nil
}

// Admit implements engine.nodeUsers.
func (u *nodeUsers) Admit(s *engine.Session) (refusal string) {
	if st := standings.Get(s); st != nil && st.notByName {
		return errtext.NoAuth
	}
	text, isKnown := u.take(s, ofDefault)
	switch {
	case !isKnown:
		u.ask(s, ofDefault, "AUTH", acl.DefaultName, "")
		return ""
	case text == "" && u.w.Options.IsProtected && isRemote(s.Peer()):
		return errtext.Protected
	case text == "":
		return logIn(u.w, s, acl.DefaultName, "")
	case pool.RefusesPassword([]byte(text)):
		standings.Get(s).notByName = true
		return errtext.NoAuth
	}
	return text
}

// isRemote reports whether a client's address is one of another machine.
func isRemote(peer string) bool {
	from := acl.NetworkOf(peer)
	return from.IsValid() && !from.Addr().IsLoopback()
}

// logIn makes the client a user of the nodes.
func logIn(w *engine.Worker, s *engine.Session, username, password string) (refusal string) {
	if !engine.LogIn(w, s, username, password) {
		return errTooManyUsers
	}
	return ""
}

// ask asks a node about a password.
func (u *nodeUsers) ask(s *engine.Session, about subject, auth ...string) {
	u.await(s, about)
	u.try(s, passwordTries, errtext.NoMasters, auth)
}

// try asks a node about a password, over at most so many connections. reason is why that has failed
// so far.
func (u *nodeUsers) try(s *engine.Session, tries int, reason string, auth []string) {
	n := u.reachable(s)
	if n == nil || tries == 0 {
		settle(s, errNoNodeForAuth+reason)
		return
	}
	conn := u.probe(n)
	if why := conn.ConnectError(); why != "" {
		settle(s, errNoNodeForAuth+errtext.NotExecuted(n.Label(), why))
		return
	}
	u.w.Ask(conn, u.w.Deadline(), func(reply []byte, ok bool) {
		switch text, isErr := resp.ErrorText(reply); {
		case s.HasLeft():
		case !ok:
			u.try(s, tries-1, errtext.NotExecuted(n.Label(), conn.Reason()), auth)
		case isErr:
			settle(s, string(text))
		case string(reply) != "+OK\r\n":
			settle(s, errNoNodeForAuth+"the node answers "+resp.Printable(reply[:min(len(reply), 40)]))
		default:
			settle(s, "")
		}
	}, auth...)
}

// probe returns the connection to a node for AUTH, which no command of a client uses.
func (u *nodeUsers) probe(n *engine.Node) *pool.Conn {
	c := u.probes[n]
	if c == nil {
		c = n.NewConn()
		u.probes[n] = c
	}
	return c
}

// Tick implements engine.Feature.
func (u *nodeUsers) Tick() {
	for _, n := range u.w.Nodes {
		if c := u.probes[n]; c != nil {
			c.Tick(u.w.Now)
		}
	}
}

// Due implements engine.Feature.
func (u *nodeUsers) Due() int64 {
	for _, c := range u.probes {
		if c.Busy() {
			return u.w.Now + engine.Tick
		}
	}
	return math.MaxInt64
}

// Sweep implements engine.Feature: it closes connections that nobody has used for some time.
func (u *nodeUsers) Sweep() {
	for _, n := range u.w.Nodes {
		c := u.probes[n]
		if c != nil && c.InFlight() == 0 && u.w.Now-c.LastReceived() >= unusedProbe {
			u.CloseNode(n, "")
		}
	}
}

// CloseNode implements engine.Feature.
func (u *nodeUsers) CloseNode(n *engine.Node, _ string) {
	if c := u.probes[n]; c != nil {
		delete(u.probes, n)
		u.w.LinksToClose = append(u.w.LinksToClose, &c.Link)
	}
}

// Leave implements engine.Feature: after RESET, the client has not authenticated.
func (u *nodeUsers) Leave(s *engine.Session) {
	if standings.Get(s) != nil {
		standings.Set(s, nil)
	}
}

// mustWaitForAuth reports whether a client's attempt to authenticate has to wait, for its turn or for
// the answer of a node. If not, the caller must call authenticate now. auth is the AUTH for a node.
func mustWaitForAuth(w *engine.Worker, s *engine.Session, auth ...string) bool {
	if w.NodeUsers == nil {
		return delaysAuth(w, s)
	}
	st := standings.Get(s)
	if st != nil && st.isKnown && st.subject == ofPassword && st.command == s.Commands {
		return false
	}
	if s.Inflight > 0 {
		s.Set(engine.Draining) // its earlier commands finish first, over the connections of its former user
		return true
	}
	if !delaysAuth(w, s) {
		engine.FeatureOf[*nodeUsers](w).ask(s, ofPassword, auth...)
	}
	return true
}

// authenticateAtNodes makes the client a user of the nodes, if the node has accepted its password. It
// returns the error for the client, or "".
func authenticateAtNodes(w *engine.Worker, s *engine.Session, username, password string) string {
	text, isKnown := engine.FeatureOf[*nodeUsers](w).take(s, ofPassword)
	switch {
	case !isKnown: // a second AUTH of one HELLO
		return errtext.Syntax
	case pool.RefusesPassword([]byte(text)):
		w.Stats.AuthFailures++
		failed(w, s)
		engine.LogUserRefusal(w, s, "wrong password", username)
		return text
	case text != "":
		return text
	}
	if !s.Login.Is(username, password) && (s.Has(engine.Subscribed|engine.Tracks) || s.Block != nil) {
		return errOtherUser
	}
	return logIn(w, s, username, password)
}

// Permits implements engine.nodeUsers.
func (u *nodeUsers) Permits(s *engine.Session, cmd *command.Command, a command.Args) bool {
	w := u.w
	text, isKnown := u.take(s, ofCommand)
	switch {
	case s.Login.IsPermitted(cmd.ID, w.Now) && isBare(cmd, a):
		return true
	case isKnown && text == "":
		if isBare(cmd, a) {
			s.Login.Permit(cmd.ID, w.Now+permittedFor)
		}
		return true
	case isKnown:
		w.Stats.Denied++
		if s.Reject(cmd, text); text == errtext.WrongPass {
			s.CloseAfter() // as Redis closes the clients of a user that it deletes
		}
		return false
	}
	n := u.reachable(s)
	if n == nil {
		s.Reject(cmd, errtext.NoMasters)
		return false
	}
	u.await(s, ofCommand)
	u.dryRun(n, s, shortened(cmd, a), func(reply []byte, ok bool) {
		if !ok {
			settle(s, errtext.NotExecuted(n.Label(), n.Shared.Conns[0].Reason()))
			return
		}
		if isUnknown(reply) {
			// The command is keyway's own. It shows what other clients do, as MONITOR does.
			u.dryRun(n, s, []string{"MONITOR"}, func(reply []byte, _ bool) { settle(s, refusalOf(cmd, reply)) })
			return
		}
		settle(s, refusalOf(cmd, reply))
	})
	return false
}

// dryRun asks a node whether the client's user may run a command.
func (u *nodeUsers) dryRun(n *engine.Node, s *engine.Session, args []string, done func(reply []byte, ok bool)) {
	args = append([]string{"ACL", "DRYRUN", s.Login.Account().Username}, args...)
	u.w.Ask(n.Shared.Conns[0], u.w.Deadline(), func(reply []byte, ok bool) {
		if !s.HasLeft() {
			done(reply, ok)
		}
	}, args...)
}

// shortened returns the arguments of a command for ACL DRYRUN. Rules depend on keys and channels, and on
// first arguments, which are not as long as a value may be.
func shortened(cmd *command.Command, a command.Args) []string {
	args := arguments(a, 0)
	if len(cmd.Specs) == 0 && !cmd.Has(command.PubSub) {
		for i, arg := range args {
			args[i] = arg[:min(len(arg), 1<<10)]
		}
	}
	return args
}

// isBare reports whether the command has no arguments on which a rule could depend.
func isBare(cmd *command.Command, a command.Args) bool {
	return cmd.ID != command.LearnedID && a.Len() == 1+strings.Count(cmd.Name, "|")
}

// isUnknown reports whether the node does not know the command that ACL DRYRUN names.
func isUnknown(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-ERR Command '")) }

// refusalOf returns the error for the client after a node's reply to ACL DRYRUN, or "". The texts are
// those of the node's version.
func refusalOf(cmd *command.Command, reply []byte) string {
	if string(reply) == "+OK\r\n" {
		return ""
	}
	if text, isErr := resp.ErrorText(reply); isErr || len(reply) == 0 {
		if bytes.HasPrefix(text, []byte("ERR User '")) {
			return errtext.WrongPass // it was deleted
		}
		if bytes.HasPrefix(text, []byte("BUSY ")) || bytes.HasPrefix(text, []byte("LOADING ")) {
			return string(text)
		}
		return errNoDryRun + string(text)
	}
	bulk, _ := resp.Bulk(reply)
	text := string(bulk)
	old, isOld := strings.CutPrefix(text, "This user")
	switch {
	case strings.HasSuffix(text, "' command") && isOld:
		return "NOPERM this user" + old
	case strings.HasSuffix(text, "' command"):
		return "NOPERM " + text
	case strings.HasSuffix(text, "' channel") && isOld:
		return errtext.NoChannelPermission
	case strings.HasSuffix(text, "' channel"):
		return "NOPERM No permissions to access a channel"
	case strings.HasSuffix(text, "' key") && isOld:
		return errtext.NoKeyPermission
	case strings.HasSuffix(text, "' key"):
		return "NOPERM No permissions to access a key"
	}
	return errtext.NoCommandPermission(cmd)
}

// MayListen implements engine.nodeUsers.
func (u *nodeUsers) MayListen(s *engine.Session, listen string, topics []string, done func(may bool)) {
	n := u.reachable(s)
	if n == nil {
		return
	}
	u.dryRun(n, s, append([]string{listen}, topics...), func(reply []byte, ok bool) {
		done(!ok || reply[0] != '$' && !bytes.HasPrefix(reply, []byte("-ERR User '")))
	})
}

// ofNodes wraps a handler about users: a node answers, over a connection of the client's user, if
// the nodes keep them.
func ofNodes(answer engine.Local) engine.Local {
	return func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
		if w.NodeUsers != nil {
			return engine.SendToAnyMaster(w, s, cmd, a)
		}
		return answer(w, s, cmd, a)
	}
}

// notOfNodes wraps a handler about users that one node cannot answer for all.
func notOfNodes(answer engine.Local) engine.Local {
	return func(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
		if w.NodeUsers != nil {
			return s.AnswerError(cmd, errUsersAtNodes)
		}
		return answer(w, s, cmd, a)
	}
}
