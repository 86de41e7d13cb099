package wiring

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/quorum"
)

// maxArgv is the highest number of an ARGV that a declaration may name.
const maxArgv = 100

// lockScripts returns the scripts for locks, with those that the configuration declares. Errors
// are *config.Error.
func lockScripts(c *config.Config) (known locks.Scripts, err error) {
	seen := map[string]int{}
	for i, d := range c.Locks.Scripts {
		path := fmt.Sprintf("locks.scripts[%d]", i)
		text, sha := []byte(d.Text), strings.ToLower(d.SHA)
		names := []string{sha}
		switch {
		case (d.SHA == "") == (d.Text == ""):
			return known, c.Errorf(path, "write either sha: or text:", "a script is named by its SHA-1 or by its text")
		case d.Text != "":
			names = []string{lua.SHA1(text), lua.SHA1(lua.NormalScript(text))}
		case !hexSHA.MatchString(sha):
			return known, c.Errorf(path+".sha", "write the 40 hex digits that SCRIPT LOAD answers",
				"%q is not a SHA-1", d.SHA)
		}
		for _, name := range names {
			if j, ok := seen[name]; ok && j != i {
				return known, c.Errorf(path, "remove one of the two", "locks.scripts[%d] is the same script", j)
			}
			seen[name] = i
		}
		s, err := lockScript(c, path, d)
		if err != nil {
			return known, err
		}
		if err := known.Declare(sha, text, locks.Declared(s)); err != nil {
			return known, c.Errorf(path, "remove the declaration, or write what the script does", "%v", err)
		}
	}
	return known, nil
}

// lockScript returns what a declaration says. path is its key in the configuration.
func lockScript(c *config.Config, path string, d config.LockScript) (s quorum.Script, err error) {
	kinds := map[string]quorum.Kind{
		"acquire": quorum.Acquire, "renew": quorum.Renew, "release": quorum.Release, "ask": quorum.Read,
	}
	kind, ok := kinds[d.Does]
	hasLease := kind == quorum.Acquire || kind == quorum.Renew
	const number = "write the number of an ARGV, from 1 to 100"
	switch {
	case d.Does == "":
		return s, c.Errorf(path, "add does: acquire, renew, release or ask", "it does not say what the script does")
	case !ok:
		return s, c.Errorf(path+".does", "write acquire, renew, release or ask", "unknown word %q", d.Does)
	case d.Token < 1 || d.Token > maxArgv:
		return s, c.Errorf(path+".token", number, "out of range")
	case hasLease && !c.IsSet(path+".lease"):
		return s, c.Errorf(path, "add lease: the number of the ARGV with the lease",
			"a script that does %s must set a lease: nothing else would end the lock of a client that has died", d.Does)
	case hasLease && (d.Lease < 1 || d.Lease > maxArgv):
		return s, c.Errorf(path+".lease", number, "out of range")
	case hasLease && d.Lease == d.Token:
		return s, c.Errorf(path+".lease", "write the number of another ARGV", "ARGV[%d] is the token", d.Lease)
	case !hasLease && c.IsSet(path+".lease"):
		return s, c.Errorf(path+".lease", "remove it", "a script that does %s sets no lease", d.Does)
	case d.Unit != "ms" && d.Unit != "s":
		return s, c.Errorf(path+".unit", "write ms or s", "unknown unit %q", d.Unit)
	case d.Again && kind != quorum.Acquire:
		return s, c.Errorf(path+".again", "remove it", "only a script that does acquire can acquire a lock again")
	case d.None != "" && kind == quorum.Acquire:
		return s, c.Errorf(path+".none", "remove it", "when nobody has the lock, a script that does acquire is done")
	}
	s = quorum.Script{Kind: kind, Token: d.Token, Lease: d.Lease, Seconds: d.Unit == "s", Again: d.Again}
	s.Returns, err = lockReturns(c, path, d)
	return s, err
}

// lockReturns returns the replies of a declared script.
func lockReturns(c *config.Config, path string, d config.LockScript) (r quorum.Returns, err error) {
	for _, reply := range []struct {
		key, text string
		to        *quorum.Value
	}{{"done", d.Done, &r.Done}, {"other", d.Other, &r.Other}, {"none", d.None, &r.None}} {
		switch n, err := strconv.ParseInt(reply.text, 10, 64); {
		case err == nil:
			*reply.to = quorum.Value(fmt.Sprintf(":%d", n))
		case reply.text == "OK":
			*reply.to = "+OK"
		case reply.text == "nil":
			*reply.to = quorum.Null
		case reply.text == "lease" && reply.key == "done" && d.Does == "ask":
			*reply.to = quorum.LeaseLeft
		case reply.text == "" && reply.key == "none":
			*reply.to = r.Other
		default:
			return r, c.Errorf(path+"."+reply.key, "write a whole number, OK or nil", "unknown reply %q", reply.text)
		}
	}
	if r.Done == r.Other || d.Does != "acquire" && r.Done == r.None {
		return r, c.Errorf(path, "write what the script returns as done, other and none",
			"it returns %s in each case, so a client cannot know whether it has the lock", r.Done)
	}
	return r, nil
}
