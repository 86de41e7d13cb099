package engine

import (
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
)

// SetUser makes the session one of a user. What it has sent before stays counted for the user before.
func SetUser(s *Session, u *acl.User) {
	leaveTally(s)
	if s.User, s.tally = u, tallyOf(s.Worker, u); s.index >= 0 {
		s.tally.Clients++
	}
}

// leaveTally counts the session as no client of its user any more.
func leaveTally(s *Session) {
	if s.tally != nil && s.index >= 0 {
		s.tally.Clients--
	}
}

// tallyOf returns the counts of a user's clients, which may be those of [metrics.OtherUsers].
func tallyOf(w *Worker, u *acl.User) *metrics.UserStats {
	if t := w.tallies[u.Name]; t != nil {
		return t
	}
	if has := w.Options.HasPlace; has != nil && !has(u.Name, u.Limits != nil) {
		return tallyAt(w, metrics.OtherUsers)
	}
	return tallyAt(w, u.Name)
}

func tallyAt(w *Worker, name string) *metrics.UserStats {
	t := w.tallies[name]
	if t == nil {
		if w.tallies == nil {
			w.tallies = map[string]*metrics.UserStats{}
		}
		t = new(metrics.UserStats)
		w.tallies[name] = t
	}
	return t
}

// forgetTallies adds the counts of users who exist no more to those of [metrics.OtherUsers], so that no command is
// lost from the sum of all users.
func forgetTallies(w *Worker) {
	for name, t := range w.tallies {
		if name == metrics.OtherUsers || w.Options.Users.Named(name) != nil {
			continue
		}
		others := tallyAt(w, metrics.OtherUsers)
		others.Add(t)
		delete(w.tallies, name)
		for _, s := range w.Sessions {
			if s.tally == t {
				s.tally = others
				others.Clients++
			}
			for r := s.line.head; r != nil; r = r.next {
				if r.tally == t {
					r.tally = others
				}
			}
		}
	}
}

// recordCaller remembers who has sent a command to all masters last. Such commands are rare, and cost every node work:
// operators ask who sends them.
func recordCaller(s *Session, cmd *command.Command) {
	w := s.Worker
	if w.callers == nil {
		w.callers = map[int]metrics.Caller{}
	}
	w.callers[cmd.ID] = metrics.Caller{
		Command: cmd.ID, At: w.Wall, ID: s.ID(), Addr: s.peer, Name: s.About.Name,
	}
}

// CountUsers adds what is counted of each user, sorted by name.
func CountUsers(w *Worker, to *metrics.Snapshot) {
	for name, t := range w.tallies {
		to.Users = append(to.Users, t.Row(name))
	}
	slices.SortFunc(to.Users, func(a, b metrics.User) int { return strings.Compare(a.Name, b.Name) })
	if w.Limiter != nil {
		w.Limiter.Count(to)
	}
}
