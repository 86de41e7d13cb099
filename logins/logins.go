package logins

import (
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/shared"
)

// Login is an account of the nodes with which clients of one worker have logged in. A nil Login is that
// of clients without such an account.
type Login struct {
	account     pool.Account
	user        *acl.User // it only has a name, since the nodes know the rules
	clients     int
	unusedSince int64        // when the last client left
	places      map[uint]int // by node: where the last client has found its connections
	permitted   map[int]int64
}

// Account returns the account, nil for keyway's own.
func (l *Login) Account() *pool.Account {
	if l == nil {
		return nil
	}
	return &l.account
}

// User returns the user that the clients are. It only has a name.
func (l *Login) User() *acl.User { return l.user }

// Is reports whether the account is that of a user and a password.
func (l *Login) Is(username, password string) bool {
	return l != nil && l.account.Username == username && l.account.Password == password
}

// Permit records the answer of a node that the user may run a command without arguments. It holds for
// some time.
func (l *Login) Permit(command int, until int64) { l.permitted[command] = until }

// IsPermitted reports whether such an answer still holds.
func (l *Login) IsPermitted(command int, now int64) bool { return l.permitted[command] > now }

// Join counts a client more.
func (l *Login) Join() { l.clients++ }

// Leave counts a client less.
func (l *Login) Leave(now int64) {
	if l == nil {
		return
	}
	if l.clients--; l.clients == 0 {
		l.unusedSince = now
	}
}

// Find returns the index of the first of the connections for the mode to a node, or -1, as conns.Find
// does. It looks first where it has found them before.
func (l *Login) Find(node uint, conns *shared.Set, m pool.Mode, perMode int) int {
	if l == nil {
		return conns.Find(m, perMode, 0)
	}
	hint := l.places[node]
	at := conns.Find(m, perMode, hint)
	if at >= 0 && at != hint {
		l.places[node] = at
	}
	return at
}

// Set is the accounts of one worker's clients. Its zero value is empty.
type Set struct{ of map[key]*Login }

// key tells accounts apart.
type key struct{ username, password string }

const (
	// maxLogins bounds the accounts that one worker knows.
	maxLogins = 1000
	// UnusedFor is how long the connections of an account should stay without clients.
	UnusedFor = time.Minute
)

// Get returns the only Login of an account, or nil if there are too many.
func (s *Set) Get(username, password string) *Login {
	k := key{username, password}
	if l := s.of[k]; l != nil {
		return l
	}
	switch {
	case len(s.of) >= maxLogins:
		return nil
	case s.of == nil:
		s.of = map[key]*Login{}
	}
	l := &Login{
		account: pool.Account{Username: username, Password: password}, user: acl.Nobody(username),
		places: map[uint]int{}, permitted: map[int]int64{},
	}
	s.of[k] = l
	return l
}

// IsEmpty reports whether there are no accounts but keyway's own.
func (s *Set) IsEmpty() bool { return len(s.of) == 0 }

// Has reports whether clients may still use connections of the account.
func (s *Set) Has(a *pool.Account) bool {
	if a == nil {
		return true
	}
	l := s.of[key{a.Username, a.Password}]
	return l != nil && &l.account == a
}

// Forget forgets the accounts that have had no client for so long, and returns them: their connections
// are of no use. nodes is the number of nodes in use.
func (s *Set) Forget(now int64, unused time.Duration, nodes int) map[*pool.Account]bool {
	gone := map[*pool.Account]bool{}
	for k, l := range s.of {
		switch {
		case l.clients == 0 && now-l.unusedSince >= int64(unused):
			gone[&l.account] = true
			delete(s.of, k)
		case len(l.places) > 2*nodes:
			clear(l.places) // most of these nodes have left
		}
	}
	return gone
}
