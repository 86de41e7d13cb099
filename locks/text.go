package locks

import (
	"bytes"
	"crypto/sha1"
	"hash/maphash"
	"regexp"

	"github.com/keyway-proxy/keyway/lua"
)

// maxLearned bounds what a recognizer remembers of scripts.
const maxLearned = 4096

// seed is secret, so that clients cannot choose texts or keys that collide.
var seed = maphash.MakeSeed()

// recognizer knows the scripts that work on locks. It looks into a text once.
type recognizer struct {
	known  Scripts
	bySHA  map[string]*How  // nil: the script is no lock's
	byText map[uint64]*How  // by the hash of the text
	absent map[string]int64 // SHA-1s without a known text -> when to look again
	recent [64]recentSHA    // of bySHA, by the last bits of the SHA-1
}

// recentSHA is a SHA-1 as a client has sent it, and what its script does.
type recentSHA struct {
	sha [2 * sha1.Size]byte
	how *How
}

func newRecognizer(known Scripts) recognizer {
	return recognizer{
		known: known, bySHA: map[string]*How{}, byText: map[uint64]*How{}, absent: map[string]int64{},
	}
}

// text returns what the script of an EVAL does, or nil if it works on no lock.
func (r *recognizer) text(text []byte) *How {
	h := maphash.Bytes(seed, text)
	if how, known := r.byText[h]; known {
		return how
	}
	if len(r.byText) >= maxLearned {
		clear(r.byText)
	}
	how := r.known.OfText(text)
	if how == nil {
		how = classify(text)
	}
	how = how.changing()
	r.byText[h] = how
	r.remember(lua.SHA1(text), how)
	return how
}

// changing returns how, or nil if it changes no lock.
func (h *How) changing() *How {
	if h != nil && h.Op == Ask {
		return nil
	}
	return h
}

// remember records what the script with a SHA-1 does.
func (r *recognizer) remember(sha string, how *How) {
	if len(r.bySHA) >= maxLearned {
		clear(r.bySHA)
	}
	r.bySHA[sha] = how
	delete(r.absent, sha)
}

// absentFor is how long a SHA-1 without a known text is not looked up again.
const absentFor = int64(1e8)

// sha returns what the script of an EVALSHA does, or nil. textOf returns the text of a script,
// or nil if it is unknown.
func (r *recognizer) sha(sha []byte, clock Events, textOf func(sha []byte) []byte) *How {
	if len(sha) != 2*sha1.Size {
		return nil
	}
	recent := &r.recent[(sha[38]<<4^sha[39])%64]
	if string(recent.sha[:]) == string(sha) {
		return recent.how
	}
	if how, known := r.bySHA[string(sha)]; known {
		copy(recent.sha[:], sha)
		recent.how = how
		return how
	}
	now := clock.Now()
	if now < r.absent[string(sha)] {
		return nil
	}
	how := r.known.OfSHA(sha)
	known := how != nil
	if text := textOf(sha); !known && text != nil {
		how, known = r.text(text), true
	}
	if known {
		how = how.changing()
		r.remember(string(sha), how)
		return how
	}
	if len(r.absent) >= maxLearned {
		clear(r.absent)
	}
	r.absent[string(sha)] = now + absentFor
	return nil
}

// libScript is the library of scripts that are recognized by their text.
const libScript = "script"

var (
	alias = regexp.MustCompile(`local ([a-z_]\w*)=(keys\[1\]|argv\[\d\]|redis\.p?call\("get",keys\[1\]\))`)
	calls = regexp.MustCompile(`redis\.p?call\(([^()]*)\)`)

	// The calls that the three scripts may make.
	reads   = regexp.MustCompile(`^"(get|pttl|ttl|exists)",keys\[1\]$`)
	deletes = regexp.MustCompile(`^"(del|unlink)",keys\[1\]$`)
	expires = regexp.MustCompile(`^"(expire|pexpire|expireat|pexpireat)",keys\[1\],argv\[2\]$`)
	sets    = regexp.MustCompile(`^"set",keys\[1\],argv\[1\],("nx",)?"(ex|px|exat|pxat)",argv\[2\](,"nx")?$`)
	setsNX  = regexp.MustCompile(`^"setnx",keys\[1\],argv\[1\]$`)
	counts  = regexp.MustCompile(`^"incr",keys\[2\]$`) // a fencing token

	// value is the lock's value; the comparisons guard the calls that change it.
	value   = regexp.MustCompile(`redis\.p?call\("get",keys\[1\]\)`)
	equal   = regexp.MustCompile(`value==argv\[1\]|argv\[1\]==value`)
	unequal = regexp.MustCompile(`(value~=argv\[1\]|argv\[1\]~=value)\)?then ?return ?(0|-1|nil|false)\b`)
)

// classify returns what a script does that is in no table, or nil unless it is one of three:
// compare and delete, compare and expire, and set a key that does not exist. White space,
// comments, quotes, upper and lower case and names for KEYS[1], ARGV[n] and the value make no
// difference.
func classify(text []byte) *How {
	if len(text) > 4096 || !bytes.Contains(text, []byte("call")) {
		return nil
	}
	n := bytes.ToLower(lua.NormalScript(text))
	n = bytes.ReplaceAll(n, []byte("tonumber(argv[2])"), []byte("argv[2]"))
	n = bytes.ReplaceAll(n, []byte(`tostring(argv[1])`), []byte("argv[1]"))
	for _, m := range alias.FindAllSubmatch(n, 8) {
		word := regexp.MustCompile(`\b` + string(m[1]) + `\b`)
		n = word.ReplaceAllLiteral(n, m[2])
	}
	var how *How
	found := calls.FindAllSubmatch(n, 32)
	if len(found) != bytes.Count(n, []byte("call(")) {
		return nil // a call in a way that is not understood
	}
	for _, m := range found {
		next := operation(m[1])
		switch {
		case next == nil:
			return nil
		case next.Op == Nothing:
		case how == nil || how.Op == next.Op || how.Op == Renew && next.Op == Acquire:
			how = next
		case how.Op == Acquire && next.Op == Renew: // SETNX and EXPIRE
			how = next.as(Acquire)
		default:
			return nil
		}
	}
	n = value.ReplaceAllLiteral(n, []byte("value"))
	if how == nil || how.Op != Acquire && !equal.Match(n) && !unequal.Match(n) {
		return nil
	}
	return how
}

// as returns how with another operation.
func (h *How) as(op Op) *How {
	other := *h
	other.Op = op
	return &other
}

// operation returns what a call does to the lock KEYS[1], with the operation Nothing for a
// read. It returns nil for any other call.
func operation(args []byte) *How {
	switch m := expires.FindSubmatch(args); {
	case m != nil:
		return leased(str(libScript, Renew, 1, 2), string(m[1]))
	case reads.Match(args), counts.Match(args):
		return new(How)
	case deletes.Match(args):
		return str(libScript, Release, 1, 0)
	case setsNX.Match(args):
		return str(libScript, Acquire, 1, 0)
	}
	m := sets.FindSubmatch(args)
	if m == nil || len(m[1]) == 0 && len(m[3]) == 0 {
		return nil
	}
	return leased(str(libScript, Acquire, 1, 2), string(m[2]))
}

// leased sets the unit of the lease by the name of the command or option that sets it.
func leased(h *How, by string) *How {
	h.Seconds = by[0] == 'e'
	h.At = len(by) > 2 && by[len(by)-2:] == "at"
	return h
}
