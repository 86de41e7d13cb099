package engine

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/logins"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/quota"
	"github.com/keyway-proxy/keyway/resp"
)

// identity is who a client is.
type identity struct {
	User  *acl.User
	Share *quota.Share       // of the user's account; nil: the user has no limits
	Login *logins.Login      // the client's account at the nodes; nil: keyway's own
	tally *metrics.UserStats // where the client's commands count
}

// UseUser makes the session one of another user. The user's limit of clients is looked at when
// the client sends a command.
func UseUser(s *Session, u *acl.User) {
	SetUser(s, u)
	if l := s.Worker.Limiter; l != nil && (u.Limits != nil || s.Share != nil) {
		l.Arrive(s)
	}
}

// BeDefault makes the session one of the default user, who may need no authentication.
func BeDefault(s *Session) {
	logOut(s)
	UseUser(s, s.Worker.Options.Users.Default)
	if s.Clear(Authed); s.User.Admits() {
		s.Set(Authed)
	}
}

// Identify makes a client that has just connected the first user with one of these names, which
// its certificate proves. If none of the users exists and is on, it returns false, and the client
// stays the default user.
func Identify(w *Worker, s *Session, names []string) bool {
	for _, name := range names {
		if u := w.Options.Users.Named(name); u != nil && u.Enabled() {
			UseUser(s, u)
			s.DB = u.Database
			w.Reads.Decide(s)
			s.Set(Authed)
			return true
		}
	}
	w.Stats.UnknownCertificates++
	object := ""
	if len(names) > 0 {
		object = names[0]
	}
	w.Denials.Denied(s, acl.DeniedCertificate, object, object)
	return false
}

// SetUsers replaces the worker's users, within a turn. by is the client whose command has
// changed them, perhaps a client of another worker. It does nothing if the nodes keep the users.
func SetUsers(w *Worker, users *acl.Users, by *Session) {
	if w.Options.OfNodes {
		return
	}
	w.Options.Users = users
	useUsers(w, by)
}

// useUsers gives the sessions the users of the options. A client whose user is gone is closed;
// if it is by, it first gets the reply to its command (acl.c, ACLFreeUserAndKillClients). A
// client that waits for a password is let in if none is needed any more: sweep would close it.
// A client whose names mean others now is closed.
func useUsers(w *Worker, by *Session) {
	users := w.Options.Users
	for _, s := range w.Sessions {
		u := users.Named(s.User.Name)
		switch {
		case w.Options.OfNodes: // whom the nodes know
		case u != nil && !u.Prefix.Same(s.User.Prefix):
			LogUserRefusal(w, s, "its user has another prefix now", s.User.Name)
			s.Kill()
		case u != nil:
			SetUser(s, u)
			if w.Limiter != nil && (u.Limits != nil || s.Share != nil) {
				w.Limiter.UserChanged(s)
			}
			if users.Default.Admits() {
				s.Set(Authed)
			}
		case s == by:
			BeDefault(s)
			s.CloseAfter()
		default:
			LogUserRefusal(w, s, "its user was removed", s.User.Name)
			s.Kill()
		}
	}
	if !w.Options.OfNodes {
		forgetTallies(w)
	}
	for _, f := range w.Features {
		f.UsersChanged()
	}
}

// Enter makes a client that has not authenticated the nodes' default user, if the nodes keep the users
// and that one needs no password. Otherwise it returns the error for the client, or the client is
// Blocked while a node is asked, and the command will be dispatched anew.
func Enter(w *Worker, s *Session) (refusal string) {
	if w.NodeUsers == nil {
		return errtext.NoAuth
	}
	return w.NodeUsers.Admit(s)
}

// enterAnd dispatches a command of a client that has not authenticated, if Enter lets the client in.
func enterAnd(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	switch text := Enter(w, s); {
	case text != "":
		return s.Reject(cmd, text)
	case s.Has(Blocked):
		return false
	}
	return w.dispatch(s, a)
}

// permits reports whether the session's user may run the command. If not, it has answered it, or the
// client is Blocked while a node is asked.
func permits(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if s.Login != nil {
		return isForwarded(w, cmd) || cmd.Has(command.NoAuth) || w.NodeUsers.Permits(s, cmd, a)
	}
	v := s.User.Check(cmd, a, &w.Checks)
	if v.Why != acl.Permitted {
		CountDenial(w, s, cmd, a, v)
		s.Reject(cmd, NoPermission(cmd, v.Why))
		return false
	}
	return cmd.Action != command.DoSort || permitsSort(w, s, cmd, a)
}

// mayBegin reports whether dispatch would let a command begin, as far as that can be said without asking a node
// or counting a refusal. It refuses SORT, whose patterns name more keys, to a user with rules.
func mayBegin(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	switch {
	case !cmd.ArityOK(a.Len()), w.Options.Deny != nil && w.Options.Deny[cmd.ID]:
		return false
	case s.Login != nil:
		return isForwarded(w, cmd)
	}
	return s.User.Unlimited ||
		cmd.Action != command.DoSort && s.User.Check(cmd, a, &w.Checks).Why == acl.Permitted
}

// permitsSort is permits for the patterns of a SORT, which name keys that are not its arguments.
func permitsSort(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if s.User.MayReadAnyKey(cmd, a, &w.Checks) {
		return true
	}
	text := ""
	command.SortPatterns(a, func(by bool, pattern []byte) {
		switch {
		case text != "":
		case by && bytes.IndexByte(pattern, '*') >= 0:
			text = errtext.SortByDenied
		case !by:
			text = errtext.SortGetDenied
		}
	})
	if text != "" {
		s.Reject(cmd, text)
	}
	return text == ""
}

// isForwarded reports whether nodes decide about all that the command does, since it only consists of
// what they get over the client's connections.
func isForwarded(w *Worker, cmd *command.Command) bool {
	h := &w.Parts.Handlers[cmd.Action]
	switch cmd.Handling {
	case command.ByKey, command.Split, command.Block, command.AllMasters, command.AnyMaster, command.Whole:
		return h.Answer == nil && h.Before == nil && h.Changes == nil
	}
	return h.ByNodes
}

// NoPermission returns the error for a command that a user may not run.
func NoPermission(cmd *command.Command, why acl.Denial) string {
	switch why {
	case acl.DeniedKey:
		return errtext.NoKeyPermission
	case acl.DeniedChannel:
		return errtext.NoChannelPermission
	}
	return errtext.NoCommandPermission(cmd)
}

// CountDenial counts a command that the session's user may not run, and logs it for ACL LOG.
func CountDenial(w *Worker, s *Session, cmd *command.Command, a command.Args, v acl.Verdict) {
	w.Stats.Denied++
	object := cmd.Name
	if v.At > 0 {
		object = string(a.Arg(v.At))
	}
	w.Denials.Denied(s, v.Why, object, s.User.Name)
}

// LogIn makes a client the user of the nodes that a node has accepted with this password. None of its
// calls may be in flight. It returns false if there are too many accounts.
func LogIn(w *Worker, s *Session, username, password string) bool {
	l := w.logins.Get(username, password)
	if l == nil {
		w.closeLogins(0)
		l = w.logins.Get(username, password)
	}
	if l == nil {
		return false
	}
	if s.Login != l {
		logOut(s)
		l.Join()
		s.Login = l
		SetUser(s, l.User())
		RenewConns(w, s)
	}
	s.Set(OfNodes | Authed)
	return true
}

// logOut ends LogIn.
func logOut(s *Session) {
	s.Login.Leave(s.Worker.Now)
	s.Login = nil
	s.Clear(OfNodes)
}

// closeUnusedLogins closes the connections of accounts that have had no client for some time, and those
// whose user a node refuses: the next command tries again, and nothing else should.
func (rt *routing) closeUnusedLogins() {
	if rt.logins.IsEmpty() {
		return
	}
	for _, n := range rt.Nodes {
		for _, c := range n.Shared.Conns {
			if strings.HasPrefix(c.ConnectError(), pool.RefusesUser) {
				n.Disconnect(c)
			}
		}
	}
	rt.closeLogins(logins.UnusedFor)
}

// closeLogins forgets the accounts that have had no client for so long, and closes their connections
// once all is answered.
func (rt *routing) closeLogins(unused time.Duration) {
	gone := rt.logins.Forget(rt.w.Now, unused, len(rt.Nodes))
	if len(gone) == 0 {
		return
	}
	for _, n := range rt.Nodes {
		closeConnsOf(n, gone)
	}
	for _, n := range rt.leaving {
		closeConnsOf(n.Node, gone)
	}
}

// closeConnsOf closes the connections to a node that are not lent.
func closeConnsOf(n *Node, accounts map[*pool.Account]bool) {
	n.Shared.RetireUsers(accounts)
	n.idle = slices.DeleteFunc(n.idle, func(c *pool.Conn) bool {
		if accounts[c.User] {
			n.Worker.LinksToClose = append(n.Worker.LinksToClose, &c.Link)
		}
		return accounts[c.User]
	})
}

// UsersTask is a client's command that concerns the users of all workers, or the file that
// has them. The shell does one task after another, and in none of the workers' turns.
type UsersTask struct {
	Kind UsersTaskKind
	// Change returns the users that replace the present ones, or nil if they stay, and the
	// reply. It is called on another thread, so it must not use the worker.
	Change func(now *acl.Users) (next *acl.Users, reply []byte) // of ChangeUsers only
	By     *Session                                             // for SetUsers

	Text, Client, User string // the command, the client's address and the user, for the log
	// Done passes the reply to the client, within a turn. Before, all workers must have the
	// users.
	Done func(reply []byte)
}

// UsersTaskKind is what a UsersTask does.
type UsersTaskKind uint8

const (
	ChangeUsers UsersTaskKind = iota
	LoadUsers                 // replaces the users by those of the file
	SaveUsers                 // writes the users to the file
)

// DoUsersTask makes the shell do the task, and answers the client with the reply. The client's
// later commands wait, because their rights may depend on it.
func DoUsersTask(w *Worker, s *Session, cmd *command.Command, a command.Args, task UsersTask) bool {
	r := s.NewRequest(cmd)
	r.Call.Node, r.Call.Group = &Node{Worker: w}, -1
	s.Inflight++
	s.Set(Draining | Blocked)
	task.By, task.Done = s, r.Call.SettleFor
	task.Text, task.Client, task.User = cmd.Upper(), s.peer, s.User.Name
	if a.Len() > 2 {
		task.Text += " " + resp.Printable(a.Arg(2)[:min(len(a.Arg(2)), maxLoggedUser)])
	}
	w.Ready.Users = append(w.Ready.Users, task)
	return true
}
