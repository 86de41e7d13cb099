package logins

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/shared"
)

func TestOneLoginForEachAccount(t *testing.T) {
	var s Set
	alice := s.Get("alice", "secret")
	switch {
	case s.Get("alice", "secret") != alice:
		t.Error("one account has two logins")
	case s.Get("alice", "new") == alice, s.Get("bob", "secret") == alice:
		t.Error("two accounts have one login")
	case !alice.Is("alice", "secret"), alice.Is("alice", "new"), alice.Is("bob", "secret"), (*Login)(nil).Is("", ""):
		t.Error("a login is not that of its account")
	case alice.User().Name != "alice", alice.Account().Password != "secret":
		t.Error("a login has another user or password")
	case (*Login)(nil).Account() != nil:
		t.Error("a client without a login has an account")
	}
	other := pool.Account{Username: "alice", Password: "secret"}
	if !s.Has(nil) || !s.Has(alice.Account()) || s.Has(&other) {
		t.Error("only keyway's own account and those of the set are known")
	}
}

func TestUnusedLoginsAreForgotten(t *testing.T) {
	var s Set
	now := int64(time.Hour)
	l := s.Get("alice", "secret")
	l.Join()
	l.Join()
	l.Leave(now)
	if gone := s.Forget(now+int64(time.Hour), time.Minute, 1); len(gone) > 0 {
		t.Fatal("an account with a client was forgotten")
	}
	l.Leave(now)
	(*Login)(nil).Leave(now)
	if gone := s.Forget(now+int64(time.Minute)-1, time.Minute, 1); len(gone) > 0 {
		t.Fatal("an account was forgotten too early")
	}
	gone := s.Forget(now+int64(time.Minute), time.Minute, 1)
	if len(gone) != 1 || !gone[l.Account()] || s.Has(l.Account()) || !s.IsEmpty() {
		t.Error("an account without clients was not forgotten")
	}
	if s.Get("alice", "secret") == l {
		t.Error("connections of a forgotten account could be used again")
	}
}

func TestLoginsAreBounded(t *testing.T) {
	var s Set
	for i := range 1000 {
		l := s.Get(fmt.Sprint(i), "x")
		if l == nil {
			t.Fatalf("there is no room for login %d", i)
		}
		if i > 0 {
			l.Join()
		}
	}
	if s.Get("one more", "x") != nil || s.Get("5", "x") == nil {
		t.Fatal("there is room for more than 1,000, or a known one is gone")
	}
	if s.Forget(0, 0, 1); s.Get("one more", "x") == nil {
		t.Error("an unused login takes the place of another")
	}
}

func TestPermissionsEnd(t *testing.T) {
	l := new(Set).Get("alice", "secret")
	if l.IsPermitted(7, 0) {
		t.Error("a command is permitted of which nobody has asked")
	}
	if l.Permit(7, 10); !l.IsPermitted(7, 9) || l.IsPermitted(7, 10) || l.IsPermitted(8, 9) {
		t.Error("a permission is for one command, until its end")
	}
}

func TestFindRemembersPlaces(t *testing.T) {
	made := pool.NewSet(pool.Config{}, rand.New(rand.NewPCG(1, 2)))
	l := new(Set).Get("alice", "secret")
	mode := pool.Mode{User: l.Account()}
	var conns shared.Set
	for i := range 6 {
		c := made.Conn("10.0.0.1:6379", nil)
		if i >= 4 {
			c.Mode = mode
		}
		conns.Conns = append(conns.Conns, c)
	}
	for range 2 {
		if at := l.Find(3, &conns, mode, 2); at != 4 || l.places[3] != 4 {
			t.Fatalf("found at %d, remembered at %d", at, l.places[3])
		}
	}
	conns.Conns = conns.Conns[2:]
	if at := l.Find(3, &conns, mode, 2); at != 2 {
		t.Errorf("found at %d", at)
	}
	if at := (*Login)(nil).Find(3, &conns, pool.Mode{}, 2); at != 0 {
		t.Errorf("keyway's own were found at %d", at)
	}
	if conns.Conns = conns.Conns[:2]; l.Find(3, &conns, mode, 2) != -1 {
		t.Error("a connection of keyway's own was given to a client's user")
	}
	l.Join()
	set := Set{of: map[key]*Login{{"alice", "secret"}: l}}
	l.places = map[uint]int{1: 0, 2: 0, 3: 0}
	if set.Forget(0, time.Minute, 1); len(l.places) > 0 {
		t.Error("places at nodes that have left are kept")
	}
}
