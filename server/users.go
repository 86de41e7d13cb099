package server

import (
	"cmp"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/proxy"
	"github.com/keyway-proxy/keyway/quota"
	"github.com/keyway-proxy/keyway/resp"
)

// UsersFile is the file of users that ACL LOAD and ACL SAVE use. Its methods may block. Their
// errors are replies to the client, without ERR.
type UsersFile interface {
	// Load reads the file, and passes its users to use.
	Load(use func(*acl.Users)) error
	// Save writes the present users to the file.
	Save() error
}

// ErrNoUsersFile is the error of a UsersFile if there is no file.
var ErrNoUsersFile = errors.New("keyway: the configuration has no users_file; " +
	"add one, or change its users and reload keyway")

// users are the users of all threads. They are locked while they change, so that all threads
// get the same changes in the same order. A loop must not lock them: who does waits for all
// loops.
type users struct {
	mu         sync.Mutex
	now        *acl.Users
	latest     atomic.Pointer[acl.Users] // now, for those who must not wait
	configured *acl.Users                // what the configuration or the file has last said

	accounts sync.Map // of users with limits, by name: *quota.Account
	places   places

	tasks sequence
}

// places are the users who are counted under their own names. The zero value has none.
type places struct {
	mu    sync.Mutex // never held for long, so that loops may lock it
	names map[string]bool
}

// has reports whether a user has a place, and gives the user one if there is any left.
func (p *places) has(user string, hasLimits bool) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.names[user]:
		return true
	case len(p.names) >= metrics.MaxUsers && !hasLimits:
		return false
	case p.names == nil:
		p.names = map[string]bool{}
	}
	p.names[user] = true
	return true
}

// keep takes the places of users who exist no more. All threads must have these users.
func (p *places) keep(users *acl.Users) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.names, func(name string, _ bool) bool { return users.Named(name) == nil })
}

// sequence does what clients have asked for outside of loops, in the order in which they have.
type sequence struct {
	mu        sync.Mutex
	waiting   []func()
	isRunning bool // a goroutine does them
}

// account returns what the user of this name uses on all threads.
func (u *users) account(name string) *quota.Account {
	account, _ := u.accounts.LoadOrStore(name, new(quota.Account))
	return account.(*quota.Account)
}

// Users returns the present users. It must not be called in a loop.
func (s *Server) Users() *acl.Users {
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	return s.users.now
}

// LatestUsers returns the users that the threads have, or are just about to get. It waits for nobody.
func LatestUsers(s *Server) *acl.Users { return s.users.latest.Load() }

// doUsersTask does in a goroutine what a client of the thread has asked for. A transaction may
// ask for several tasks at once, so tasks are done in the order of the requests.
func (t *thread) doUsersTask(task proxy.UsersTask) {
	t.srv.users.tasks.add(func() {
		reply := t.srv.usersTask(task)
		recordTask(t.srv, task, reply)
		t.loop.Post(func() { task.Done(reply) })
	})
}

// add makes a goroutine do the task after those before it.
func (q *sequence) add(task func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, task)
	if !q.isRunning {
		q.isRunning = true
		go q.run()
	}
}

// run does the tasks until none is left.
func (q *sequence) run() {
	for {
		q.mu.Lock()
		if q.isRunning = len(q.waiting) > 0; !q.isRunning {
			q.mu.Unlock()
			return
		}
		task := q.waiting[0]
		q.waiting = q.waiting[1:]
		q.mu.Unlock()
		task()
	}
}

// askFor returns the function with which a thread's worker asks what it does not know; see proxy.Options.Ask.
func askFor(s *Server, index int) func(proxy.Question, func([]byte)) {
	if s.o.Console == nil {
		return nil
	}
	return func(q proxy.Question, done func(reply []byte)) {
		s.questions.add(func() {
			reply := s.o.Console(q)
			s.threads[index].loop.Post(func() { done(reply) })
		})
	}
}

// recordTask records what a client has done to the users.
func recordTask(s *Server, task proxy.UsersTask, reply []byte) {
	if s.o.Audit == nil {
		return
	}
	d := audit.Deed{Action: task.Text, Via: audit.ViaClient, Addr: task.Client, User: task.User}
	if text, isError := strings.CutPrefix(string(reply), "-"); isError {
		// The rest may quote a rule, which may be a password.
		word, _, _ := strings.Cut(text, " ")
		d.Err = errors.New(word)
	}
	s.o.Audit(d)
}

// usersTask does what a client has asked for, and returns the reply.
func (s *Server) usersTask(task proxy.UsersTask) []byte {
	if task.Kind == proxy.ChangeUsers {
		return s.changeUsers(task)
	}
	err := ErrNoUsersFile
	switch file := s.o.UsersFile; {
	case file == nil:
	case task.Kind == proxy.LoadUsers:
		err = file.Load(func(next *acl.Users) { s.loadUsers(next, task) })
	default:
		err = file.Save()
	}
	if err != nil {
		return resp.AppendError(nil, "ERR "+err.Error())
	}
	return resp.AppendOK(nil)
}

// changeUsers applies a change, and returns the reply once all threads have its users.
func (s *Server) changeUsers(task proxy.UsersTask) []byte {
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	next, reply := task.Change(s.users.now)
	if next != nil {
		s.setUsers(next, task)
	}
	return reply
}

func (s *Server) loadUsers(next *acl.Users, task proxy.UsersTask) {
	s.users.mu.Lock()
	defer s.users.mu.Unlock()
	s.users.configured = next
	s.setUsers(next, task)
}

// setUsers gives all threads other users. s.users.mu must be locked.
func (s *Server) setUsers(next *acl.Users, task proxy.UsersTask) {
	s.users.now = next
	s.users.latest.Store(next)
	s.onThreads(func(t *thread) { proxy.SetUsers(t.worker, next, task.By) })
	s.users.places.keep(next)
	s.log.Info("users changed", "command", task.Text, "client", task.Client, "user", task.User)
}

// chooseUsers returns the users of a new configuration. If they are those of the former one,
// the changes that clients have made since stay in force. s.users.mu must be locked.
func (s *Server) chooseUsers(c Change) *acl.Users {
	if !c.Users {
		return s.users.now
	}
	if s.users.now != s.users.configured {
		s.log.Warn("the users of the configuration replace those that clients have changed by ACL SETUSER or DELUSER")
	}
	s.users.now = cmp.Or(c.Workers.Users, acl.Anyone)
	s.users.configured = s.users.now
	s.users.latest.Store(s.users.now)
	return s.users.now
}
