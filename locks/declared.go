package locks

import (
	"bytes"
	"fmt"

	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/quorum"
)

// libDeclared is the library of scripts that the configuration declares.
const libDeclared = "declared"

// Scripts are the scripts that work on locks: those of libraries, and those that the
// configuration declares. The zero value has only the former.
type Scripts struct {
	bySHA  map[string]*How
	byText map[string]*How // by the SHA-1 of lua.NormalScript
}

// Declared returns the description of a script that does what s says with the lock KEYS[1]. Its
// kind is one of Acquire, Renew, Release and Read.
func Declared(s quorum.Script) *How {
	op := [...]Op{quorum.Acquire: Acquire, quorum.Renew: Renew, quorum.Release: Release, quorum.Read: Ask}[s.Kind]
	return &How{
		Library: libDeclared, Kind: KindString, Op: op, Token: s.Token, Lease: s.Lease, Seconds: s.Seconds,
		Again: s.Again, Returns: s.Returns, Reply: returned,
	}
}

// Declare adds a script by its SHA-1, in lower case, or by its text if that is not empty. It
// returns an error, and adds nothing, if keyway knows the script, and that it does something else.
func (s *Scripts) Declare(sha string, text []byte, how *How) error {
	normal := ""
	var known *quorum.Script
	if len(text) > 0 {
		sha, normal = lua.SHA1(text), lua.SHA1(lua.NormalScript(text))
		known = quorum.OfText(text)
	}
	if how := libraries[sha]; how != nil {
		known = how.OnMajority()
	}
	if known != nil {
		if err := contradiction(known, how.OnMajority()); err != nil {
			return err
		}
	}
	if s.bySHA == nil {
		s.bySHA, s.byText = map[string]*How{}, map[string]*How{}
	}
	s.bySHA[sha] = how
	if normal != "" {
		s.byText[normal] = how
	}
	return nil
}

// contradiction returns an error if a declared script does something else than it is known to do.
func contradiction(known, declared *quorum.Script) error {
	same := *declared
	same.Library, same.AllKeys = known.Library, known.AllKeys
	if same == *known {
		return nil
	}
	of := ""
	if known.Library != "" {
		of = " of " + known.Library
	}
	does := map[quorum.Kind]string{
		quorum.Acquire: "acquires", quorum.Renew: "renews", quorum.Release: "releases", quorum.Read: "asks about",
	}[known.Kind]
	what := fmt.Sprintf("it %s a lock; the token is ARGV[%d]", does, known.Token)
	if known.Lease > 0 {
		unit := "milliseconds"
		if known.Seconds {
			unit = "seconds"
		}
		what += fmt.Sprintf(", the lease ARGV[%d] in %s", known.Lease, unit)
	}
	return fmt.Errorf("keyway knows this script%s: %s, and it returns %s", of, what, known.Returns)
}

// OfSHA returns what the script with a SHA-1, in upper or lower case, does, or nil if that is
// unknown without its text.
func (s Scripts) OfSHA(sha []byte) *How {
	sha = bytes.ToLower(sha)
	if how := libraries[string(sha)]; how != nil {
		return how
	}
	return s.bySHA[string(sha)]
}

// OfText returns what a script does, or nil if it is of no library and not declared.
func (s Scripts) OfText(text []byte) *How {
	how := s.OfSHA([]byte(lua.SHA1(text)))
	if how == nil && len(s.byText) > 0 {
		how = s.byText[lua.SHA1(lua.NormalScript(text))]
	}
	return how
}
