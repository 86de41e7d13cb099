package limiting

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/quota"
)

// limiter is what a worker knows of the users that have limits.
type limiter struct {
	engine.Inactive
	w       *engine.Worker
	shares  *quota.Shares
	users   map[string]*user
	waiting []*user // those whose clients wait
	// door is the share of clients that are not counted yet: those that have sent no command but
	// such as AUTH. It is never ready.
	door     *quota.Share
	serving  *engine.Session // it has waited, and is resumed
	refusing *engine.Session // it has waited for too long, and gets errors
}

// user is a user of whom this worker has, or had, clients while the user had limits.
type user struct {
	*quota.Share
	queue    []waiter // in the order in which they began to wait
	first    int      // the first of queue that may still wait
	at       int64    // when the share may have what they wait for; MaxInt64: another worker says
	awaited  quota.Lack
	isPoked  bool // the share may have it now
	isListed bool // it is in limiter.waiting
	loggedAt int64
}

// waiter is a client whose next command waits. If the session is not Limited, it has left.
type waiter struct {
	*engine.Session
	since int64
}

// exactly is how long clients may wait for longer than they must.
const exactly = int64(time.Millisecond)

// logEvery is the time between two lines of a worker in the log that say that a user's clients wait.
const logEvery = int64(10 * time.Second)

func newLimiter(w *engine.Worker) *limiter {
	l := &limiter{w: w, users: map[string]*user{}}
	l.shares = quota.NewShares(w.Options.Index, l.hand)
	l.door = l.shares.Open("", new(quota.Account), new(quota.Limits))
	w.Limiter = l
	return l
}

// of returns what is known about a user with limits.
func (l *limiter) of(u *acl.User) *user {
	known := l.users[u.Name]
	if known == nil {
		account := new(quota.Account)
		if l.w.Options.Account != nil {
			account = l.w.Options.Account(u.Name)
		}
		known = &user{Share: l.shares.Open(u.Name, account, u.Limits), at: math.MaxInt64}
		l.users[u.Name] = known
	}
	if known.Limits() != u.Limits {
		known.SetLimits(l.w.Now, u.Limits)
		known.isPoked = true
	}
	return known
}

// Join implements the engine's limiter.
func (l *limiter) Join(s *engine.Session, u *acl.User) bool {
	var share *quota.Share
	if u.Limits != nil {
		to := l.of(u)
		if share = to.Share; share != s.Share && !to.Enter() {
			return false
		}
	}
	if share != s.Share {
		l.leave(s)
		s.Share = share
	}
	engine.SetUser(s, u)
	return true
}

// Arrive implements the engine's limiter.
func (l *limiter) Arrive(s *engine.Session) {
	l.leave(s)
	if s.User.Limits != nil {
		s.Share = l.door
	}
}

// UserChanged implements the engine's limiter. A client stays, even if there are too many now.
func (l *limiter) UserChanged(s *engine.Session) {
	switch {
	case s.User.Limits == nil:
		l.leave(s)
		if s.Has(engine.Limited) {
			s.Clear(engine.Limited)
			s.Wake()
		}
	case s.Share == nil && s.LastCmd == nil:
		s.Share = l.door
	case s.Share != l.door:
		if to := l.of(s.User); s.Share == nil {
			to.Adopt()
			s.Share = to.Share
		}
	}
}

// UsersChanged implements engine.Feature. It forgets users who have no limits any more.
func (l *limiter) UsersChanged() {
	for name := range l.users {
		if u := l.w.Options.Users.Named(name); u == nil || u.Limits == nil {
			delete(l.users, name)
		} else {
			l.of(u)
		}
	}
}

// Leave implements engine.Feature.
func (l *limiter) Leave(s *engine.Session) {
	l.leave(s)
	s.Clear(engine.Limited)
}

// leave no longer counts a client.
func (l *limiter) leave(s *engine.Session) {
	if s.Share != nil && s.Share != l.door {
		s.Share.Leave()
	}
	s.Share = nil
}

// Admit implements the engine's limiter. Commands such as AUTH, RESET and QUIT never wait: by them
// a client becomes another user, or leaves.
func (l *limiter) Admit(s *engine.Session, a command.Args) engine.Admission {
	cmd := command.Lookup(a.Arg(0))
	isFree := cmd != nil && cmd.Has(command.NoAuth)
	if s.Share == l.door {
		switch {
		case isFree || !s.Has(engine.Authed):
			return engine.Admitted
		case !l.Join(s, s.User):
			s.AnswerError(nil, errtext.MaxClients)
			s.CloseAfter()
			return engine.Answered
		}
	}
	u := l.of(s.User)
	switch {
	case (s == l.serving || !u.hasWaiters()) && u.refill(l.w.Now), isFree:
		return engine.Admitted
	case s == l.refusing:
		u.Refused++
		s.Reject(cmd, errtext.OverRate(u.Name(), u.awaited == quota.OfBytes, u.Limits().MaxWait))
		return engine.Answered
	}
	l.enqueue(s, u)
	return engine.Waits
}

// refill reports whether the user's share has what a command needs. If not, it records what.
func (u *user) refill(now int64) bool {
	lack, at := u.Refill(now)
	for lack != quota.Nothing && lack != u.awaited {
		u.await(lack)
		lack, at = u.Refill(now) // others may have given it back before await
	}
	u.at = at
	if lack == quota.Nothing && u.awaited != quota.Nothing && !u.hasWaiters() {
		u.await(quota.Nothing)
	}
	return lack == quota.Nothing
}

func (u *user) await(lack quota.Lack) {
	u.awaited = lack
	u.Await(lack)
}

// hasWaiters reports whether clients of the user wait.
func (u *user) hasWaiters() bool {
	for ; u.first < len(u.queue); u.first++ {
		if s := u.queue[u.first].Session; !s.HasLeft() && s.Has(engine.Limited) {
			return true
		}
		u.queue[u.first] = waiter{}
	}
	u.queue, u.first = u.queue[:0], 0
	return false
}

// enqueue makes a client wait.
func (l *limiter) enqueue(s *engine.Session, u *user) {
	if !u.isListed {
		u.isListed = true
		l.waiting = append(l.waiting, u)
		l.log(s, u)
	}
	if u.first > len(u.queue)/2 {
		n := copy(u.queue, u.queue[u.first:])
		clear(u.queue[n:])
		u.queue, u.first = u.queue[:n], 0
	}
	u.queue = append(u.queue, waiter{s, l.w.Now})
	u.Delayed++
	s.Set(engine.Limited)
}

// log logs that clients of the user begin to wait.
func (l *limiter) log(s *engine.Session, u *user) {
	if now := l.w.Now; u.loggedAt == 0 || now-u.loggedAt >= logEvery {
		u.loggedAt = now
		l.w.Ready.Limited = append(l.w.Ready.Limited,
			engine.Limitation{User: u.Name(), Limit: limitNames[u.awaited], Client: s.Peer()})
	}
}

// limitNames are the keys of the configuration.
var limitNames = [...]string{
	quota.Nothing: "", quota.Slots: "max_in_flight", quota.OfCommands: "rate.commands", quota.OfBytes: "rate.bytes",
}

// take removes the first client that waits.
func (l *limiter) take(u *user) *engine.Session {
	next := u.queue[u.first]
	u.queue[u.first] = waiter{}
	u.first++
	u.Waited += time.Duration(l.w.Now - next.since)
	next.Clear(engine.Limited)
	return next.Session
}

// Serve implements the engine's limiter.
func (l *limiter) Serve() (any bool) {
	for i := len(l.waiting) - 1; i >= 0; i-- {
		u := l.waiting[i]
		if u.isPoked || u.HasMore() || l.w.Now >= u.at {
			any = l.serve(u) || any
		}
		if !u.hasWaiters() {
			u.await(quota.Nothing)
			u.isListed = false
			l.waiting = slices.Delete(l.waiting, i, i+1)
		}
	}
	return any
}

// serve resumes clients of a user, as long as the user's share has what they wait for.
func (l *limiter) serve(u *user) (any bool) {
	u.isPoked = false
	for u.hasWaiters() && u.refill(l.w.Now) {
		l.serving = l.take(u)
		engine.Resume(l.serving)
		l.serving, any = nil, true
	}
	return any
}

// Settle implements the engine's limiter.
func (l *limiter) Settle() { l.shares.Settle(l.w.Now) }

// hand gives another worker commands that may begin.
func (l *limiter) hand(of *quota.Share, worker int, commands int64) {
	l.w.Siblings.TellOne(worker, func(o *engine.Worker) { granted(o, of, commands) })
}

// granted gets what hand gives. If it does not need it any more, it gives it back when its turn ends.
func granted(w *engine.Worker, of *quota.Share, commands int64) {
	l := engine.FeatureOf[*limiter](w)
	u := l.users[of.Name()]
	if u == nil {
		of.Account().GiveBack(commands)
		return
	}
	u.Grant(commands)
	u.isPoked = true
}

// Tick refuses the commands of clients that have waited for too long. What else the client has
// sent by then has waited too.
func (l *limiter) Tick() {
	for i := len(l.waiting) - 1; i >= 0; i-- {
		for u := l.waiting[i]; u.hasWaiters() && l.w.Now >= u.refuseAt(); {
			l.refusing = l.take(u)
			engine.Resume(l.refusing)
			l.refusing = nil
		}
	}
}

// refuseAt returns when the first client that waits gets an error.
func (u *user) refuseAt() int64 {
	if u.awaited != quota.OfCommands && u.awaited != quota.OfBytes {
		return math.MaxInt64
	}
	return u.queue[u.first].since + int64(u.Limits().MaxWait)
}

// Due implements engine.Feature.
func (l *limiter) Due() int64 {
	due := int64(math.MaxInt64)
	for _, u := range l.waiting {
		if u.hasWaiters() {
			due = min(due, max(min(u.at, u.refuseAt()), l.w.Now+exactly))
		}
	}
	return due
}

// Count implements the engine's limiter.
func (l *limiter) Count(to *metrics.Snapshot) {
	sorted := to.Users // a thread may have thousands of users with limits
	for name, u := range l.users {
		at, isThere := slices.BinarySearchFunc(sorted, name, func(of metrics.User, name string) int {
			return strings.Compare(of.Name, name)
		})
		if !isThere {
			at = len(to.Users)
			to.Users = append(to.Users, metrics.User{Name: name})
		}
		of := &to.Users[at]
		of.HasLimits, of.InFlight, of.Waiting, of.Delayed = true, u.Running, u.count(), u.Delayed
		of.Waited, of.Refused, of.Excluded = metrics.Seconds(u.Waited), u.Refused, u.Excluded
	}
}

// count returns how many clients of the user wait.
func (u *user) count() (n int) {
	for _, e := range u.queue[u.first:] {
		if e.Session != nil && !e.HasLeft() && e.Has(engine.Limited) {
			n++
		}
	}
	return n
}
