package command

import (
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// Command describes one command or subcommand.
type Command struct {
	Name     string // lower case; a subcommand is "container|name"
	ID       int    // dense, for arrays indexed by command; learned commands share LearnedID
	Arity    int    // as in COMMAND: a negative number is a minimum
	Flags    Flags
	Group    string // the family, as in COMMAND DOCS
	Since    string // the first version of Redis or Valkey that has the command
	Specs    []KeySpec
	Response ResponsePolicy
	Subs     []Command

	Categories Categories // of its ACL

	// The remaining fields come from rows.
	Handling Handling
	Action   Action
	Traits   Traits
	InMulti  InMulti
	Lock     LockRole

	// Stride and Tail describe the arguments of a Split command. Each key has Stride
	// arguments, the key included. The last Tail arguments belong to all keys and are
	// sent with every call.
	Stride, Tail int

	// Refusal is why keyway does not carry the command; "" if there is no particular
	// reason.
	Refusal string

	// Single is the position of the command's only key if that position is fixed, as for
	// most commands, else 0. If the arity is right, there is an argument at it.
	Single int

	timeout Timeout
	finder  keyFinder
	uses    useFinder

	elsewhere func(args Args) (key, db int)
}

// Flags are those flags of COMMAND that keyway uses.
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

// Has reports whether any of the flags f is set.
func (c *Command) Has(f Flags) bool { return c.Flags&f != 0 }

// ArityOK reports whether n is a valid number of arguments. n includes the command's
// name and its container's.
func (c *Command) ArityOK(n int) bool {
	if c.Arity < 0 {
		return n >= -c.Arity
	}
	return n == c.Arity
}

// Count is the number of command IDs, including LearnedID.
var Count int

// LearnedID is the ID that all learned commands share.
var LearnedID int

// ByID contains each command and subcommand of the table, at the index of its ID.
var ByID []*Command

const maxName = 32

const indexSize = 2048

// index finds commands by name: a hash table with open addressing, hashed by the name
// in lower case.
var index [indexSize]*Command

// NameOf returns the name of the command with an ID, as in the metrics: "config get", and "learned" for
// LearnedID.
func NameOf(id int) string {
	if id == LearnedID {
		return "learned"
	}
	return strings.ReplaceAll(ByID[id].Name, "|", " ")
}

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
	table = append(table, own...)
	number(table, nil)
	LearnedID, Count = n, n+1
	setFamilies()
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

// fold writes name in lower case to dst and returns its hash. name must not be longer
// than maxName.
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

// Lookup returns the command, or container of subcommands, with this name in any case. It
// returns nil if the table does not have it.
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

// Sub returns the container's subcommand with this name in any case, or nil.
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

// Args are the arguments of a framed command, its name included.
type Args = *resp.Parser

// Upper returns the command's name as texts show it, such as CONFIG SET.
func (c *Command) Upper() string { return strings.ToUpper(strings.ReplaceAll(c.Name, "|", " ")) }
