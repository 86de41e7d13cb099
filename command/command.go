package command

import "github.com/keyway-proxy/keyway/resp"

// Command is what is known of one command or subcommand.
type Command struct {
	Name     string // lower case; a subcommand is "container|name"
	ID       int    // dense, for arrays indexed by command; learned ones share the last
	Arity    int    // as in COMMAND: negative means at least
	Flags    Flags
	Group    string // the family, as in COMMAND DOCS
	Since    string // the first version, of Redis or Valkey, that has it
	Specs    []KeySpec
	Response ResponsePolicy
	Subs     []Command

	// What follows comes from rows.
	Handling Handling
	Action   Action
	Traits   Traits
	InMulti  InMulti

	// Of a command that is Split, Stride arguments belong to each key, and Tail
	// arguments follow all of them and belong to every part.
	Stride, Tail int

	// Refusal is why keyway does not carry the command, if it has a reason of its
	// own.
	Refusal string

	// Single is the position of the only key where that never varies, as in nearly all
	// commands, else 0. A command whose arity is right has an argument there.
	Single int

	timeout Timeout
	finder  keyFinder
}

// Flags are COMMAND's flags, those that matter here.
type Flags uint32

const (
	Write Flags = 1 << iota
	ReadOnly
	Admin
	Blocking
	PubSub
	NoAuth
	Module
)

var flagNames = map[string]Flags{
	"write": Write, "readonly": ReadOnly, "admin": Admin, "blocking": Blocking,
	"pubsub": PubSub, "no_auth": NoAuth, "module": Module,
}

// Has tells whether any of f is set.
func (c *Command) Has(f Flags) bool { return c.Flags&f != 0 }

// ArityOK tells whether a command of n arguments, its name (and its
// container's) included, has the right number of them.
func (c *Command) ArityOK(n int) bool {
	if c.Arity < 0 {
		return n >= -c.Arity
	}
	return n == c.Arity
}

// Count is the number of command IDs, Learned's included.
var Count int

// LearnedID is the ID that all learned commands share.
var LearnedID int

// ByID is every command and subcommand by its ID.
var ByID []*Command

const maxName = 32

// The name table: open addressing on a hash of the folded name.
const indexSize = 2048

var index [indexSize]*Command

func init() {
	n := 0
	var number func(cs []Command, container *Command)
	number = func(cs []Command, container *Command) {
		for i := range cs {
			c := &cs[i]
			c.ID = n
			n++
			c.apply(container)
			ByID = append(ByID, c)
			number(c.Subs, c)
		}
	}
	number(table, nil)
	LearnedID, Count = n, n+1
	for i := range table {
		c := &table[i]
		var folded [maxName]byte
		h := fold(&folded, []byte(c.Name))
		for index[h%indexSize] != nil {
			h++
		}
		index[h%indexSize] = c
	}
}

// fold writes name in lower case to dst and hashes it. name must fit.
func fold(dst *[maxName]byte, name []byte) uint32 {
	h := uint32(2166136261)
	for i, c := range name {
		if c-'A' < 26 {
			c |= 0x20
		}
		dst[i] = c
		h = (h ^ uint32(c)) * 16777619
	}
	return h ^ h>>15
}

// Lookup finds a command, or a container of subcommands, by name in any case.
// It returns nil for one that the table lacks.
func Lookup(name []byte) *Command {
	if len(name) > maxName {
		return nil
	}
	var folded [maxName]byte
	h := fold(&folded, name)
	for {
		c := index[h%indexSize]
		if c == nil || c.Name == string(folded[:len(name)]) {
			return c
		}
		h++
	}
}

// Sub finds a container's subcommand by name in any case, nil if it has none
// of that name.
func (c *Command) Sub(name []byte) *Command {
	if len(name) > maxName {
		return nil
	}
	var folded [maxName]byte
	fold(&folded, name)
	for i := range c.Subs {
		s := &c.Subs[i]
		if s.Name[len(c.Name)+1:] == string(folded[:len(name)]) {
			return s
		}
	}
	return nil
}

// Args are the arguments of a framed command.
type Args = *resp.Parser
