package names

import (
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Scratch is memory that Command reuses. The zero value is ready for use.
type Scratch struct {
	whole resp.Parser
	marks []mark
	keys  []int
	extra []string // arguments behind those of the user
}

// mark is an argument that is a name or a pattern of names.
type mark struct {
	at        int
	isPattern bool
}

// Trim frees the memory of a very large command.
func (m *Scratch) Trim() {
	m.whole.Trim()
	if cap(m.marks) > maxMarks {
		m.marks, m.keys = nil, nil
	}
}

// maxMarks is how many arguments a Scratch keeps memory for.
const maxMarks = 1024

const (
	// errKeyspace answers a subscription to keyspace notifications. Those of all keys come on
	// the same channels, and some have the name of a key as their message.
	errKeyspace = "ERR keyway: a user with a prefix gets no keyspace notifications, which name the keys of all " +
		"users; subscribe as a user without a prefix"
	// Invalidations is the channel on which a RESP2 client gets invalidations (tracking.c). It
	// is the client's own, so it has no prefix.
	invalidations = "__redis__:invalidate"
	keyspace      = "__key"
)

// Command returns a command with whole names. cmd and a are as the user has sent it. The result
// is a itself if it has no names; otherwise it is valid until mem is used again. refusal is the
// error for the client if the command is refused.
func (p *Prefix) Command(mem *Scratch, cmd *command.Command, a command.Args) (whole command.Args, refusal string) {
	mem.marks, mem.extra = mem.marks[:0], mem.extra[:0]
	if cmd.Single > 0 && table[cmd.ID].place == asKeys {
		mem.mark(cmd.Single)
	} else if refusal = p.find(mem, cmd, a); refusal != "" {
		return nil, refusal
	}
	if len(mem.marks)+len(mem.extra) == 0 {
		return a, ""
	}
	w := &mem.whole
	w.Compose(a.Len() + len(mem.extra))
	next := 0
	for i := range a.Len() {
		head := ""
		if next < len(mem.marks) && mem.marks[next].at == i {
			if head = p.text; mem.marks[next].isPattern {
				head = p.glob
			}
			next++
		}
		w.AddArg(head, a.Arg(i))
	}
	for _, arg := range mem.extra {
		w.AddArg(arg, nil)
	}
	return w, ""
}

// find marks the names in a command, in their order. It returns the error for the client if the
// command is refused.
func (p *Prefix) find(mem *Scratch, cmd *command.Command, a command.Args) (refusal string) {
	switch e := &table[cmd.ID]; e.place {
	case nowhere:
	case asKeys:
		mem.markKeys(cmd, a)
	case forScripts, aboutScripts:
		if !p.scripts {
			return p.refuse(cmd, ofScripts)
		}
		for _, at := range mem.keysOf(cmd, a) {
			mem.mark(at)
		}
	case inStreams:
		mem.markStreams(a)
	case inSort:
		mem.markSort(cmd, a)
	case inGeoRadius:
		mem.markGeoRadius(cmd, a)
	case inFirst:
		mem.mark(1)
	case inSlot, inSub:
		mem.markFrom(2, a)
	case inChannels, inPatterns:
		return mem.markChannels(a, e.place == inPatterns)
	case inSubPattern:
		if a.Len() > 2 {
			mem.marks = append(mem.marks, mark{2, true})
		} else {
			mem.extra = append(mem.extra, p.all)
		}
	case inPattern:
		mem.marks = append(mem.marks, mark{1, true})
	case inMatch:
		p.markMatch(mem, a)
	case inTracking:
		p.markTracking(mem, a)
	default:
		why := e.refusal
		if why == "" {
			why = ofUnknown
		}
		return p.refuse(cmd, why)
	}
	return ""
}

// refuse returns the error for a command that the user may not send.
func (p *Prefix) refuse(cmd *command.Command, why string) string {
	return "ERR keyway: '" + cmd.Upper() + "' is refused, since this user's keys have a prefix: " + why
}

func (m *Scratch) mark(at int) { m.marks = append(m.marks, mark{at: at}) }

// markFrom marks the arguments from first on.
func (m *Scratch) markFrom(first int, a command.Args) {
	for i := first; i < a.Len(); i++ {
		m.mark(i)
	}
}

// keysOf returns the positions of the keys that the command declares.
func (m *Scratch) keysOf(cmd *command.Command, a command.Args) []int {
	m.keys = cmd.Keys(a, m.keys[:0])
	return m.keys
}

// markKeys marks what the command's key specifications find. If a number of keys is malformed,
// it marks everything behind the number: a node then produces the error, and one that reads
// the number otherwise finds no key of others.
func (m *Scratch) markKeys(cmd *command.Command, a command.Args) {
	for i := range cmd.Specs {
		s := &cmd.Specs[i]
		m.keys = s.Keys(a, m.keys[:0])
		for _, at := range m.keys {
			m.mark(at)
		}
		if s.Find == command.ByNumber && len(m.keys) == 0 {
			m.markFrom(s.Pos+s.KeyNumIdx+1, a)
		}
	}
}

// The options of some commands have names. They are read as Redis reads them. An option that
// Redis does not have is marked, and so is everything behind it: a node then produces the
// error, and one that does have the option finds no key of others.

// markStreams marks the keys of XREAD and XREADGROUP (t_stream.c, xreadCommand). A group may be
// called "streams".
func (m *Scratch) markStreams(a command.Args) {
	for i := 1; i < a.Len(); i++ {
		switch arg, more := a.Arg(i), a.Len()-i-1; {
		case more > 0 && (command.EqualFold(arg, "block") || command.EqualFold(arg, "count") ||
			command.EqualFold(arg, "claim")):
			i++
		case more > 1 && command.EqualFold(arg, "group"):
			i += 2
		case command.EqualFold(arg, "noack"):
		case more > 0 && command.EqualFold(arg, "streams"):
			for k := range more / 2 {
				m.mark(i + 1 + k)
			}
			return
		default:
			m.markFrom(i, a)
			return
		}
	}
}

// markSort marks the keys and patterns of SORT (sort.c, sortCommandGeneric).
func (m *Scratch) markSort(cmd *command.Command, a command.Args) {
	m.mark(1)
	for i := 2; i < a.Len(); i++ {
		switch arg, more := a.Arg(i), a.Len()-i-1; {
		case command.EqualFold(arg, "asc"), command.EqualFold(arg, "desc"), command.EqualFold(arg, "alpha"):
		case more > 1 && command.EqualFold(arg, "limit"):
			i += 2
		case more > 0 && command.EqualFold(arg, "store") && cmd.Has(command.Write):
			i++
			m.mark(i)
		case more > 0 && command.EqualFold(arg, "by"):
			if i++; strings.Contains(string(a.Arg(i)), "*") { // otherwise it means: do not sort
				m.mark(i)
			}
		case more > 0 && command.EqualFold(arg, "get"):
			if i++; string(a.Arg(i)) != "#" {
				m.mark(i)
			}
		default:
			m.markFrom(i, a)
			return
		}
	}
}

// markGeoRadius marks the keys of GEORADIUS and GEORADIUSBYMEMBER (geo.c, georadiusGeneric). The
// last STORE counts, so it marks all.
func (m *Scratch) markGeoRadius(cmd *command.Command, a command.Args) {
	m.mark(1)
	for i := max(cmd.Arity, -cmd.Arity); i < a.Len(); i++ {
		switch arg, more := a.Arg(i), a.Len()-i-1; {
		case command.EqualFold(arg, "withdist"), command.EqualFold(arg, "withhash"),
			command.EqualFold(arg, "withcoord"), command.EqualFold(arg, "any"),
			command.EqualFold(arg, "asc"), command.EqualFold(arg, "desc"):
		case more > 0 && command.EqualFold(arg, "count"):
			i++
		case more > 0 && (command.EqualFold(arg, "store") || command.EqualFold(arg, "storedist")):
			i++
			m.mark(i)
		default:
			m.markFrom(i, a)
			return
		}
	}
}

// markChannels marks channels or patterns.
func (m *Scratch) markChannels(a command.Args, arePatterns bool) (refusal string) {
	for i := 1; i < a.Len(); i++ {
		switch name := string(a.Arg(i)); {
		case name == invalidations && !arePatterns:
		case strings.HasPrefix(name, keyspace):
			return errKeyspace
		default:
			m.marks = append(m.marks, mark{i, arePatterns})
		}
	}
	return ""
}

// markMatch marks the patterns of SCAN, or adds the pattern of all names of the user.
func (p *Prefix) markMatch(m *Scratch, a command.Args) {
	for i := 2; i < a.Len(); i += 2 {
		switch arg, more := a.Arg(i), i+1 < a.Len(); {
		case more && command.EqualFold(arg, "match"):
			m.marks = append(m.marks, mark{i + 1, true})
		case !more || !command.EqualFold(arg, "count") && !command.EqualFold(arg, "type"):
			m.markFrom(i, a)
			return
		}
	}
	if len(m.marks) == 0 {
		m.extra = append(m.extra, "MATCH", p.all)
	}
}

// markTracking marks the prefixes of CLIENT TRACKING. BCAST without PREFIX concerns all keys, so
// it gets the user's prefix.
func (p *Prefix) markTracking(m *Scratch, a command.Args) {
	broadcasts := false
	for i := 3; i < a.Len(); i++ {
		switch arg, more := a.Arg(i), i+1 < a.Len(); {
		case command.EqualFold(arg, "bcast"):
			broadcasts = true
		case more && command.EqualFold(arg, "redirect"):
			i++
		case more && command.EqualFold(arg, "prefix"):
			i++
			m.mark(i)
		}
	}
	if broadcasts && len(m.marks) == 0 {
		m.extra = append(m.extra, "PREFIX", p.text)
	}
}
