package lua

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// declared is what is known about the keys of a script.
type declared struct {
	only bool // it surely uses no other keys than its KEYS
	// published are the positions in ARGV, from 1, of the names of commands that it calls. Unless these
	// are names of commands that publish, it may use other keys.
	published []int
}

// UsesOnlyKeys reports whether the script of an EVAL or EVALSHA surely uses no other keys than its
// KEYS. It is false if the cache lacks the script, and for functions.
func (c *Cache) UsesOnlyKeys(cmd *command.Command, a command.Args) bool {
	of := c.find(cmd, a).declared
	if !of.only || len(of.published) == 0 {
		return of.only
	}
	keys, ok := resp.ParseInt(a.Arg(2))
	for _, n := range of.published {
		at := int64(2+n) + keys
		if !ok || keys < 0 || at >= int64(a.Len()) {
			return false
		}
		if name := a.Arg(int(at)); !command.EqualFold(name, "publish") && !command.EqualFold(name, "spublish") {
			return false
		}
	}
	return true
}

// declaredBy looks at the words of a script: each key of each call must be KEYS[...], or a local
// variable that is only that.
func declaredBy(text []byte) (d declared) {
	if bytes.HasPrefix(text, []byte("#!")) {
		_, text, _ = bytes.Cut(text, []byte("\n"))
	}
	s := source{words: words(NormalScript(text))}
	if !s.keepsKeys() {
		return d
	}
	s.names = s.keyNames()
	for i, w := range s.words {
		if w != "redis" && w != "server" {
			continue
		}
		switch field := s.at(i + 2); {
		case s.at(i-1) == "." || s.at(i+1) != ".":
			return d // the table itself, perhaps under another name
		case field == "call" || field == "pcall":
			if s.at(i+3) != "(" || !s.callUsesOnlyKeys(i+3) {
				return d
			}
		case !slices.Contains(harmlessFields, field):
			return d
		}
	}
	return declared{only: true, published: s.published}
}

// harmlessFields are the fields of the table redis that run no command.
var harmlessFields = []string{
	"error_reply", "status_reply", "sha1hex", "log", "LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING",
	"setresp", "replicate_commands",
}

// unclear are names by which a script could hide what it calls.
var unclear = []string{
	"loadstring", "load", "_G", "getfenv", "setfenv", "rawset", "rawget", "setmetatable", "getmetatable",
}

// keyless are commands without keys that do not look at keys either.
var keyless = []string{"publish", "spublish", "time", "ping", "echo"}

// source is a script as words: names and numbers, whole strings, and single bytes of anything else.
type source struct {
	words []string
	names []string // local variables that are KEYS[...]

	published []int // see declared
}

func words(text []byte) (all []string) {
	for len(text) > 0 {
		n := 0
		for n < len(text) && isWord(text[n]) {
			n++
		}
		if n == 0 {
			n = tokenLen(text)
		}
		if w := string(text[:n]); w != " " {
			all = append(all, w)
		}
		text = text[n:]
	}
	return all
}

// at returns a word, or "" if there is none at i.
func (s *source) at(i int) string {
	if i < 0 || i >= len(s.words) {
		return ""
	}
	return s.words[i]
}

// closing returns the position of the bracket that closes the one at i, or the end.
func (s *source) closing(i int) int {
	for depth := 0; i < len(s.words); i++ {
		switch s.words[i] {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return i
}

// keepsKeys reports whether the script surely leaves KEYS as it is, and hides no call.
func (s *source) keepsKeys() bool {
	for i, w := range s.words {
		if slices.Contains(unclear, w) {
			return false
		}
		if w != "KEYS" {
			continue
		}
		switch before := s.at(i - 1); {
		case s.at(i+1) == "[":
			if s.isAssigned(s.closing(i+1) + 1) {
				return false
			}
		case before == "#":
		case before == "(" && slices.Contains([]string{"unpack", "ipairs", "pairs"}, s.at(i-2)):
		default:
			return false
		}
	}
	return true
}

// keyNames returns the names of local variables that are only ever declared as KEYS[...], as in
// "local key = KEYS[1]".
func (s *source) keyNames() (names []string) {
	declared := map[string]int{}
	for i, w := range s.words {
		if w == "local" && s.at(i+2) == "=" && s.at(i+3) == "KEYS" && s.at(i+4) == "[" {
			// What follows the bracket begins another statement, unless it is an operator.
			if next := s.at(s.closing(i+4) + 1); next == "" || isWord(next[0]) && next != "and" && next != "or" {
				declared[s.at(i+1)] = i + 1
			}
		}
	}
	for name, at := range declared {
		isOnly := true
		for i, w := range s.words {
			if w == name && i != at && s.at(i-1) != "." && s.mayAssign(i) {
				isOnly = false
			}
		}
		if isOnly {
			names = append(names, name)
		}
	}
	return names
}

// mayAssign reports whether the name at i may get another value there: by an assignment, as a variable of
// a loop, or as a parameter of a function.
func (s *source) mayAssign(i int) bool {
	if s.isAssigned(i + 1) {
		return true
	}
	before := i - 1
	for s.at(before) == "," && before > 0 && isWord(s.words[before-1][0]) {
		before -= 2
	}
	switch s.at(before) {
	case "local", "for", "function":
		return true
	case "(":
		return s.at(before-1) == "function" || s.at(before-2) == "function"
	}
	return false
}

// isAssigned reports whether an assignment to the variable that ends before i follows. Several may be
// assigned together.
func (s *source) isAssigned(i int) bool {
	for s.at(i) == "," {
		i++
		if s.at(i) == "(" || s.at(i) == "" {
			return true // who knows
		}
		i++
		for again := true; again; {
			switch s.at(i) {
			case ".", ":":
				i += 2
			case "[", "(":
				i = s.closing(i) + 1
			default:
				again = false
			}
		}
	}
	return s.at(i) == "=" && s.at(i+1) != "="
}

// callUsesOnlyKeys looks at one call of a command. open is the position of its first bracket.
func (s *source) callUsesOnlyKeys(open int) bool {
	args := s.args(open)
	if len(args) > 0 && len(args[0]) == 4 && args[0][0] == "ARGV" {
		n, err := strconv.Atoi(args[0][2])
		s.published = append(s.published, n)
		return err == nil && n > 0
	}
	frame := resp.AppendArray(nil, len(args))
	isLiteral := true
	for _, arg := range args {
		text, ok := literal(arg)
		isLiteral = isLiteral && (ok || s.isKey(arg))
		frame = resp.AppendBulkString(frame, text)
	}
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err != nil || st != resp.Ready || p.Len() == 0 {
		return false
	}
	cmd := command.Lookup(p.Arg(0))
	if cmd != nil && len(cmd.Subs) > 0 && p.Len() > 1 {
		cmd = cmd.Sub(p.Arg(1))
	}
	switch {
	case cmd == nil || cmd.Action == command.DoSort || cmd.Is(command.RunsCode):
		return false
	case !cmd.Keyed():
		return slices.Contains(keyless, cmd.Name)
	}
	for _, spec := range cmd.Specs {
		if (spec.Begin != command.AtIndex || spec.Find != command.InRange || spec.Incomplete) && !isLiteral {
			return false // where the keys are depends on an argument that is not known
		}
	}
	keys := cmd.Keys(&p, nil)
	for _, at := range keys {
		if !s.isKey(args[at]) {
			return false
		}
	}
	return len(keys) > 0
}

// args returns the arguments of a call.
func (s *source) args(open int) (args [][]string) {
	end, from := s.closing(open), open+1
	for i := from; i <= end && i < len(s.words); i++ {
		switch s.words[i] {
		case "(", "[", "{":
			i = s.closing(i)
		case ",", ")":
			args, from = append(args, s.words[from:i]), i+1
		}
	}
	return args
}

// literal returns the text of a string or number that stands alone.
func literal(arg []string) (text string, ok bool) {
	switch w := slices.Concat(arg, []string{""})[0]; {
	case len(arg) != 1 || w == "":
		return "?", false
	case w[0] == '"' || w[0] == '\'':
		return w[1:max(1, len(w)-1)], !bytes.ContainsRune([]byte(w), '\\')
	case w[0]-'0' < 10:
		return w, true
	}
	return "?", false
}

// isKey reports whether an argument is KEYS[...], unpack(KEYS), or a name for one.
func (s *source) isKey(arg []string) bool {
	switch {
	case len(arg) == 1:
		return slices.Contains(s.names, arg[0])
	case len(arg) > 3 && arg[0] == "KEYS" && arg[1] == "[":
		of := source{words: arg}
		return of.closing(1) == len(arg)-1
	case len(arg) == 4 && arg[0] == "unpack" && arg[2] == "KEYS":
		return true
	}
	return false
}
