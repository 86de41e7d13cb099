package lua

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// PerKey describes a script that processes each of its KEYS independently. keyway can
// split it over nodes like MGET, into one call for each unit of KEYS.
type PerKey struct {
	SHA    string // SHA-1 of the script's text, as in EVALSHA
	Normal string // SHA-1 of NormalScript(text); "": the script is recognized by SHA only

	Keys int // number of KEYS in one unit; 0 means 1
	// Prefix: only the first of a unit's KEYS is a key. The others are prefixes of key
	// names with the same hash tag.
	Prefix bool
	Argv   []Argv // which ARGV belong to which unit; empty: every unit gets all ARGV
	Sum    bool   // the replies are numbers and are added; otherwise they are arrays and are joined in order
}

// Placed returns how many KEYS of a unit determine its node.
func (p *PerKey) Placed() int {
	if p.Prefix {
		return 1
	}
	return max(p.Keys, 1)
}

// Argv says which unit one ARGV, or a group of them, belongs to.
type Argv uint8

const (
	Shared  Argv = iota // one ARGV for all units
	Each                // one ARGV for each unit
	Counted             // for each unit a number, followed by that many ARGV
)

var argvNames = []string{Shared: "shared", Each: "each", Counted: "counted"}

// ParseArgv parses PerKey.Argv as it is written in the configuration. The words from the
// first to the last "each" or "counted" repeat for each unit, so "shared" is allowed only
// before and after them.
func ParseArgv(words []string) ([]Argv, error) {
	var argv []Argv
	for _, word := range words {
		i := slices.Index(argvNames, word)
		if i < 0 {
			return nil, fmt.Errorf("%q is none of %s", word, strings.Join(argvNames, ", "))
		}
		argv = append(argv, Argv(i))
	}
	p := PerKey{Argv: argv}
	if before, perUnit, _ := p.argv(); slices.Contains(perUnit, Shared) {
		word := words[before+slices.Index(perUnit, Shared)]
		return nil, fmt.Errorf("%q stands between words that repeat for each key", word)
	}
	return argv, nil
}

// argv splits Argv. perUnit repeats for each unit; before and after are the numbers of shared
// ARGV before and after it.
func (p *PerKey) argv() (before int, perUnit []Argv, after int) {
	isPerUnit := func(a Argv) bool { return a != Shared }
	if before = slices.IndexFunc(p.Argv, isPerUnit); before < 0 {
		return len(p.Argv), nil, 0
	}
	perUnit = p.Argv[before:]
	for !isPerUnit(perUnit[len(perUnit)-1]) {
		perUnit = perUnit[:len(perUnit)-1]
		after++
	}
	return before, perUnit, after
}

// Unit is one unit of a command that executes a per-key script.
type Unit struct {
	Key, Keys int // position and number of its KEYS in the command
	arg, args int // position and number of its own ARGV
	before    int // number of shared ARGV before the ARGV of all units
	tail      int // position of the shared ARGV after them
	after     int // and their number
}

// Units appends the units of an EVAL or EVALSHA to dst. It returns false if KEYS and ARGV
// do not match the description.
func (p *PerKey) Units(a command.Args, dst []Unit) ([]Unit, bool) {
	numKeys, ok := resp.ParseInt(a.Arg(2))
	size, end := max(p.Keys, 1), a.Len()
	if !ok || numKeys < 1 || numKeys > int64(end-3) || int(numKeys)%size != 0 {
		return dst, false
	}
	first := 3 + int(numKeys)
	before, perUnit, after := p.argv()
	if len(p.Argv) == 0 {
		before = end - first
	}
	next, tail := first+before, end-after
	if next > tail {
		return dst, false
	}
	for key := 3; key < first; key += size {
		u := Unit{Key: key, Keys: size, arg: next, before: before, tail: tail, after: after}
		for _, kind := range perUnit {
			n := int64(0)
			if next >= tail {
				return dst, false
			}
			if kind == Counted {
				if n, ok = resp.ParseInt(a.Arg(next)); !ok || n < 0 || n > int64(tail) {
					return dst, false
				}
			}
			next += 1 + int(n)
		}
		u.args = next - u.arg
		dst = append(dst, u)
	}
	return dst, next == tail
}

// Append appends the command that executes the script for this unit only. name is EVAL or
// EVALSHA or the like, and script is the text or SHA-1.
func (u *Unit) Append(dst []byte, name string, script []byte, a command.Args) []byte {
	dst = resp.AppendArray(dst, 3+u.Keys+u.before+u.args+u.after)
	dst = resp.AppendBulk(resp.AppendBulkString(dst, name), script)
	dst = resp.AppendBulkString(dst, strconv.Itoa(u.Keys))
	numKeys, _ := resp.ParseInt(a.Arg(2))
	for _, r := range [][2]int{{u.Key, u.Keys}, {3 + int(numKeys), u.before}, {u.arg, u.args}, {u.tail, u.after}} {
		for i := range r[1] {
			dst = resp.AppendBulk(dst, a.Arg(r[0]+i))
		}
	}
	return dst
}

// Merge merges the replies of the script's units, which are in order, and appends the
// result. If a unit has failed, the result is its error: a client would read an error
// inside the array as a result.
func (p *PerKey) Merge(dst []byte, replies [][]byte) []byte {
	for _, reply := range replies {
		if len(reply) > 0 && reply[0] == '-' {
			return append(dst, reply...)
		}
	}
	if p.Sum {
		return command.MergeSum(dst, replies)
	}
	return command.MergeArrays(dst, replies)
}

// knownPerKey are scripts of client libraries. Redisson renews all of a client's locks with
// one of these scripts; if a renewal fails, the locks are lost. Redisson 3.45.1 renews a
// read lock with an empty prefix if a thread has locked it twice and unlocked it once.
var knownPerKey = []PerKey{
	{ // locks, write locks, fair, fenced and spin locks, since 3.44
		SHA: "6a3d31570dc6f4b0bd32bcdc8e75667747c6f635", Normal: "e06c2cadc840d716824e9a18aa02b6ed4b3ee973",
		Argv: []Argv{Shared, Each},
	},
	{ // read locks, 3.44 to 3.52
		SHA: "1affef780a01e1406cb1968c62918f618d10d6a3", Normal: "c80df295c6407e9b2c49897f81363a1bd97f04e9",
		Keys: 2, Prefix: true, Argv: []Argv{Shared, Each},
	},
	{ // read locks, 4.0 to 4.3
		SHA: "d6564f42b98d6eece0e940a478ee248f80b8a90a", Normal: "310e89de989fb6b4565523ebe1f0ab7981168016",
		Keys: 2, Prefix: true, Argv: []Argv{Shared, Each},
	},
	{ // read locks, 4.7
		SHA: "38d2b478dfbe264ab67c221b7e4be62245f00ba0", Normal: "72b2e43760945cde8d9cdd44c64f8f2eff100fec",
		Keys: 2, Prefix: true, Argv: []Argv{Shared, Counted},
	},
}

// PerKeyScripts finds the descriptions of per-key scripts. The zero value has none.
type PerKeyScripts struct {
	bySHA, byNormal map[string]*PerKey
}

// NewPerKeyScripts returns the scripts that keyway knows and the declared ones. A declared
// script replaces a known one.
func NewPerKeyScripts(declared []PerKey) PerKeyScripts {
	t := PerKeyScripts{map[string]*PerKey{}, map[string]*PerKey{}}
	for _, p := range slices.Concat(knownPerKey, declared) {
		t.bySHA[p.SHA] = &p
		if p.Normal != "" {
			t.byNormal[p.Normal] = &p
		}
	}
	return t
}

// find returns the description of the script with this SHA-1 (in lower case) and text, or
// nil.
func (t *PerKeyScripts) find(sha string, text []byte) *PerKey {
	if p := t.bySHA[sha]; p != nil || len(t.byNormal) == 0 {
		return p
	}
	return t.byNormal[SHA1(NormalScript(text))]
}

// SHA1 returns the digest in hexadecimal, as in EVALSHA.
func SHA1(b []byte) string {
	sum := sha1.Sum(b)
	return hex.EncodeToString(sum[:])
}

// NormalScript returns the normal form of a Lua script. It has no comments, no unnecessary
// white space and semicolons, and double quotes where they are equivalent to single ones.
// Two scripts with the same normal form have the same effect.
func NormalScript(text []byte) []byte {
	var out []byte
	gap, ended := false, false // before the next token white space, or a semicolon, was removed
	for len(text) > 0 {
		n := tokenLen(text)
		token := text[:n]
		text = text[n:]
		switch c := token[0]; {
		case bytes.IndexByte([]byte(" \t\r\n\v\f;"), c) >= 0, bytes.HasPrefix(token, []byte("--")):
			gap, ended = true, ended || c == ';'
			continue
		case c == '(' && ended:
			out = append(out, ';') // without the semicolon this would be a function call
		case c == '\'' && len(token) > 1 && !bytes.ContainsAny(token, "\"\\"):
			token = slices.Concat([]byte{'"'}, token[1:len(token)-1], []byte{'"'})
		}
		if gap && len(out) > 0 && isWord(out[len(out)-1]) && isWord(token[0]) {
			out = append(out, ' ')
		}
		gap, ended = false, false
		out = append(out, token...)
	}
	return out
}

// tokenLen returns the length of the first token of text. A token is a whole comment, a
// whole string or a single byte.
func tokenLen(text []byte) int {
	switch {
	case bytes.HasPrefix(text, []byte("--")):
		if n := longLen(text[2:]); n > 0 {
			return 2 + n
		}
		if n := bytes.IndexByte(text, '\n'); n >= 0 {
			return n
		}
		return len(text)
	case text[0] == '[':
		return max(1, longLen(text))
	case text[0] == '\'' || text[0] == '"':
		for i := 1; i < len(text); i++ {
			switch text[i] {
			case '\\':
				i++
			case text[0]:
				return i + 1
			}
		}
		return len(text)
	}
	return 1
}

// longLen returns the length of the long bracket, [[...]] or [=[...]=], at the beginning of
// text, or 0 if there is none.
func longLen(text []byte) int {
	level := 1
	for level < len(text) && text[level] == '=' {
		level++
	}
	if text == nil || level >= len(text) || text[0] != '[' || text[level] != '[' {
		return 0
	}
	closing := slices.Concat([]byte{']'}, text[1:level], []byte{']'})
	if n := bytes.Index(text[level+1:], closing); n >= 0 {
		return level + 1 + n + len(closing)
	}
	return len(text)
}

func isWord(c byte) bool {
	return c == '_' || c-'0' < 10 || c|0x20-'a' < 26 || c >= 0x80
}
