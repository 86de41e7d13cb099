package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
)

// A user of keyway may act if its rules allow the command that does the same, or something like it. All of these
// commands are in @admin.
var (
	changesSettings = named("config|set")
	changesProcess  = named("shutdown")
	changesLog      = named("keyway|log")
	movesKeys       = named("cluster|setslot")
	killsClients    = named("client|kill")
	pausesClients   = named("client|pause")
	unpausesClients = named("client|unpause")
)

func named(name string) *command.Command {
	container, sub, isSub := strings.Cut(name, "|")
	of := command.Lookup([]byte(container))
	if isSub {
		return of.Sub([]byte(sub))
	}
	return of
}

// errNoRight is the error of a deed that a user's rules do not allow.
var errNoRight = errors.New("the rules of the user do not allow it")

// userKey is the context key of the name of the user who has sent a request.
type userKey struct{}

// takesUsers reports whether there are users who can act.
func (o Options) takesUsers() bool {
	if o.people == nil {
		return false
	}
	all := o.people()
	return len(all) > 0 && !slices.ContainsFunc(all, func(of *acl.Users) bool { return !of.HasOperators() })
}

// forUser serves a request that names a user, if the password is right and the user may run the command. Where a page
// is about several pools, the user must be one in each of them.
func (o Options) forUser(w http.ResponseWriter, r *http.Request, h http.HandlerFunc, right *command.Command) {
	name, password, _ := r.BasicAuth()
	if !o.brake.wait(r) {
		return // the client has left
	}
	mayAct := true
	for _, of := range o.people() {
		u := of.Authenticate([]byte(name), []byte(password))
		if u == nil || !u.CanAct() {
			o.brake.count(r)
			o.record(r, "", ErrStranger)
			needsProof(w, r.URL.Path+": no user with a password has this name and this password")
			return
		}
		mayAct = mayAct && u.MayAct(right)
	}
	r = r.WithContext(context.WithValue(r.Context(), userKey{}, name))
	if !mayAct {
		o.record(r, "", errNoRight)
		http.Error(w, r.URL.Path+": the rules of this user do not allow "+right.Upper()+
			"; +@admin allows all that acts", http.StatusForbidden)
		return
	}
	h(w, r)
}

// needsProof answers 401. It does not offer the scheme Basic: a browser would ask for a password itself, and keep and
// send it from then on.
func needsProof(w http.ResponseWriter, text string) {
	w.Header().Set("WWW-Authenticate", `Bearer realm="keyway"`)
	http.Error(w, text, http.StatusUnauthorized)
}

// brake slows down those who guess passwords, as AUTH does.
type brake struct {
	mu      sync.Mutex
	guesses acl.Guesses
}

// wait waits as long as an attempt from the request's address has to. It returns false if the client leaves.
func (b *brake) wait(r *http.Request) bool {
	b.mu.Lock()
	of, delay := b.guesses.From(acl.NetworkOf(r.RemoteAddr)), int64(0)
	if of != nil {
		if delay = of.Delay(time.Now().UnixNano(), of.Waiting); delay > 0 {
			of.Waiting++
		}
	}
	b.mu.Unlock()
	if delay == 0 {
		return true
	}
	defer func() {
		b.mu.Lock()
		defer b.mu.Unlock()
		of.Waiting--
	}()
	select {
	case <-time.After(time.Duration(delay)):
		return true
	case <-r.Context().Done():
		return false
	}
}

// count remembers a wrong password.
func (b *brake) count(r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.guesses.Count(acl.NetworkOf(r.RemoteAddr), time.Now().UnixNano())
}
