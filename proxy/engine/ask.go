package engine

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// Probe receives the reply to a command that the worker itself has sent. done gets the
// complete reply, or false if there is none.
type Probe struct {
	buf  []byte
	Done func(reply []byte, ok bool)
}

func (p *Probe) Reply(_ *pool.Conn, _ []byte, piece pool.Piece) {
	if p.buf = append(p.buf, piece.Bytes...); piece.Last {
		p.Done(p.buf, true)
	}
}

func (p *Probe) Failed(*pool.Conn, []byte, pool.Failure) { p.Done(nil, false) }

// Ask sends a command of the worker itself over a connection. It calls done once.
func (w *Worker) Ask(c *pool.Conn, deadline int64, done func(reply []byte, ok bool), args ...string) {
	c.Send(&Probe{Done: done}, resp.AppendCommand(nil, args...), w.Now, deadline)
}

// say sends a command and ignores the reply.
func (w *Worker) say(c *pool.Conn, frame []byte) {
	c.Send(&Probe{Done: func([]byte, bool) {}}, frame, w.Now, w.Deadline())
}

// asMaster calls send, and makes the node answer the commands that send sends without the
// keys that it has as a replica. Otherwise its replies would hide which node owns them.
func (n *Node) asMaster(c *pool.Conn, send func()) {
	scoped := c.Prelude != nil && n.Master != nil && slices.Contains(n.Shared.Conns, c)
	if scoped {
		n.Worker.say(c, readWriteFrame)
	}
	send()
	if scoped {
		n.Worker.say(c, readOnlyFrame)
	}
}

// software is what the nodes run.
type software struct {
	w *Worker
	info.Software
	NextHello int64 // when a node is asked again
}

// serverRefresh is the time between two HELLOs. keyway notices a rolling upgrade within it.
const serverRefresh = int64(time.Minute)

// Lacks reports whether the nodes are too old for a command that keyway knows. If keyway
// forwards a command, the node itself answers that it does not know it.
func (sw *software) Lacks(cmd *command.Command) bool { return sw.w.Server.IsBefore(cmd.Since) }

// Lacked returns the nodes' error text for a command that is newer than they are.
func (sw *software) Lacked(cmd *command.Command, a command.Args) string {
	container, _, isSub := strings.Cut(cmd.Name, "|")
	if isSub && !sw.Lacks(command.Lookup([]byte(container))) {
		return errtext.UnknownSub(container, a.Arg(1))
	}
	return sw.unknown(a)
}

// unknown returns the nodes' error text for a command that does not exist. Since Redis 8.6 it
// does not mention arguments if there are none.
func (sw *software) unknown(a command.Args) string {
	return errtext.UnknownCommand(a, sw.Known && sw.Name == "redis" && !sw.IsBefore("8.6.0"))
}

// ask asks a master for its software, version and modules, when it is time to.
func (sw *software) ask() {
	w := sw.w
	if w.Now < w.Server.NextHello {
		return
	}
	for _, n := range w.Masters {
		c := n.Shared.Conns[0]
		if c.State() != pool.Ready {
			continue
		}
		w.Server.NextHello = w.Now + serverRefresh
		w.Ask(c, w.Deadline(), func(reply []byte, ok bool) {
			switch server, isHello := info.ReadHello(reply); {
			case ok && isHello:
				w.Server.Software = server
			case ok:
				sw.askOld(c) // it has no HELLO, so it is older than Redis 6.0
			default:
				w.Server.NextHello = w.Now + sweepTick
			}
		}, "HELLO")
		return
	}
}

// askOld asks a node without HELLO for its version.
func (sw *software) askOld(c *pool.Conn) {
	w := sw.w
	w.Ask(c, w.Deadline(), func(reply []byte, ok bool) {
		text, _ := resp.Bulk(reply)
		if v := info.Field(text, "redis_version"); ok && v != "" {
			w.Server.Version, w.Server.Known = v, true
		}
	}, "INFO", "server")
}

// siblings is how a worker talks to the workers of the other threads.
type siblings struct {
	w         *Worker
	questions map[uint64]*question // by token
	token     uint64               // of the last question
}

// Ask is a message to the siblings: each executes Do on its own thread; see Ready.
type Ask struct {
	Token uint64 // passed to Answered with each answer; 0: no answers are wanted
	Only  int    // the one sibling, by its index plus 1; 0: all of them
	Do    func(sibling *Worker) (answer any)
}

// question is an Ask whose answers have not all come.
type question struct {
	left    int // siblings that have not answered
	answers []any
	done    func(answers []any)
}

// AskAll executes do on every worker, at once on this one, and answers the client with the
// reply that conclude makes from the answers. do runs on other threads, so it must not use
// this worker's data, and its answer must not refer to the other worker's data.
func (sb *siblings) AskAll(
	s *Session, cmd *command.Command, do func(*Worker) any, conclude func(answers []any) []byte,
) bool {
	r := s.NewRequest(cmd)
	r.Call.Node, r.Call.Group = &Node{Worker: sb.w}, -1
	s.Inflight++
	sb.Ask(do, func(answers []any) { r.Call.SettleFor(conclude(answers)) })
	return true
}

// HaveAll executes do on every worker, at once on this one, and answers OK when all have
// executed it. So commands that any client of any worker sends after the OK see the effect.
func (sb *siblings) HaveAll(s *Session, cmd *command.Command, do func(*Worker)) bool {
	return sb.AskAll(s, cmd, func(o *Worker) any {
		do(o)
		return nil
	}, func([]any) []byte { return resp.AppendOK(nil) })
}

// Ask executes do on every worker, at once on this one, and calls done with the
// answers when all have come.
func (sb *siblings) Ask(do func(*Worker) any, done func(answers []any)) {
	w := sb.w
	q := &question{left: w.Options.Workers - 1, answers: []any{do(w)}, done: done}
	if q.left == 0 {
		done(q.answers)
		return
	}
	sb.token++
	sb.questions[sb.token] = q
	w.Ready.Asks = append(w.Ready.Asks, Ask{Token: sb.token, Do: do})
}

// Tell executes do on the other workers.
func (sb *siblings) Tell(do func(*Worker)) {
	w := sb.w
	if w.Options.Workers > 1 {
		w.Ready.Asks = append(w.Ready.Asks, Ask{Do: func(sibling *Worker) any {
			do(sibling)
			return nil
		}})
	}
}

// TellOne executes do on the worker of this index, which must be another one.
func (sb *siblings) TellOne(index int, do func(*Worker)) {
	w := sb.w
	w.Ready.Asks = append(w.Ready.Asks, Ask{Only: index + 1, Do: func(sibling *Worker) any {
		do(sibling)
		return nil
	}})
}

// Answered delivers one sibling's answer to an Ask.
func (w *Worker) Answered(token uint64, answer any) {
	q := w.Siblings.questions[token]
	if q == nil {
		return
	}
	q.answers = append(q.answers, answer)
	if q.left--; q.left == 0 {
		delete(w.Siblings.questions, token)
		q.done(q.answers)
	}
}

// thenAll settles the request's last call once every node has answered: with the first
// error, or with OK after all workers have applied change.
func (sb *siblings) thenAll(r *Request, change func(*Worker)) {
	m := r.Merge
	last := m.Call(r, len(m.Replies)-1)
	last.Node, last.Group = &Node{Worker: sb.w}, -1
	r.Session.Inflight++
	m.then = func() {
		for _, p := range m.Replies[:len(m.Replies)-1] {
			if len(p) > 0 && p[0] == '-' {
				last.SettleFor(bytes.Clone(p))
				return
			}
		}
		sb.Ask(func(o *Worker) any {
			change(o)
			return nil
		}, func([]any) { last.SettleFor(resp.AppendOK(nil)) })
	}
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

// SumCounts adds up the counts in the workers' answers.
func SumCounts(counts []any) (n int) {
	for _, c := range counts {
		n += c.(int)
	}
	return n
}
