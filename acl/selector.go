package acl

import (
	"bytes"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/command"
)

// selector is a set of permissions. A user may run a command if one of the user's selectors
// allows all of it.
type selector struct {
	allCommands bool // every command is allowed, also those that keyway does not know
	allKeys     bool
	allChannels bool

	allowed   []uint64            // a bit for each command of the table, by its ID
	unlisted  bool                // what +@all or -@all last said: it holds for commands of modules
	firstArgs map[uint16][]string // by ID: first arguments with which a forbidden command is allowed
	commands  []string            // rules about commands behind the last +@all or -@all: see record
	keys      []keyPattern
	channels  []pattern
}

func newSelector() *selector { return &selector{allowed: make([]uint64, (command.Count+63)/64)} }

// setAll is +@all or -@all.
func (s *selector) setAll(allow bool) {
	s.allCommands, s.unlisted, s.firstArgs, s.commands = allow, allow, nil, nil
	for i := range s.allowed {
		s.allowed[i] = 0
		if allow {
			s.allowed[i] = ^uint64(0)
		}
	}
}

// setCommand allows or forbids a command with its subcommands (acl.c, ACLChangeSelectorPerm).
func (s *selector) setCommand(c *command.Command, allow bool) {
	delete(s.firstArgs, uint16(c.ID))
	if bit := uint64(1) << (c.ID % 64); allow {
		s.allowed[c.ID/64] |= bit
	} else {
		s.allowed[c.ID/64] &^= bit
		s.allCommands = false
	}
	for i := range c.Subs {
		s.setCommand(&c.Subs[i], allow)
	}
}

func (s *selector) addFirstArg(c *command.Command, arg string) {
	id := uint16(c.ID)
	if s.firstArgs == nil {
		s.firstArgs = map[uint16][]string{}
	}
	known := func(s string) bool { return strings.EqualFold(s, arg) }
	if !slices.ContainsFunc(s.firstArgs[id], known) {
		s.firstArgs[id] = append(s.firstArgs[id], arg)
	}
}

// record adds a rule about commands to those that ACL LIST shows. It takes the place of former
// rules about the same command, its subcommands or the same category, as since Redis 7.2.
func (s *selector) record(allow bool, name string) {
	s.commands = slices.DeleteFunc(s.commands, func(rule string) bool {
		return rule[1:] == name || strings.HasPrefix(rule[1:], name+"|")
	})
	sign := "-"
	if allow {
		sign = "+"
	}
	s.commands = append(s.commands, sign+name)
}

// Denial is why a user may not run a command. The greater one is shown if several selectors
// deny it (acl.c, ACLCheckAllUserCommandPerm).
type Denial uint8

const (
	Permitted Denial = iota
	DeniedCommand
	DeniedKey
	DeniedAuth // a failed authentication: only in the log
	DeniedChannel
	DeniedCertificate // a certificate that names no user: only in the log
)

// Verdict is the result of a check. At is the position of the argument that is denied.
type Verdict struct {
	Why Denial
	At  int
}

// Scratch is memory that checks reuse. The zero value is ready for use.
type Scratch struct {
	at    []int
	uses  []command.Use
	found bool // at and uses are those of the current command
}

// Check returns whether the user may run the command.
func (u *User) Check(cmd *command.Command, a command.Args, mem *Scratch) Verdict {
	if u.Unlimited {
		return Verdict{}
	}
	mem.found = false
	if cmd.ID < len(u.Deny) && u.Deny[cmd.ID] {
		return Verdict{Why: DeniedCommand}
	}
	if len(u.selectors) == 1 {
		return u.selectors[0].check(cmd, a, mem)
	}
	worst := Verdict{Why: DeniedCommand}
	for _, s := range u.selectors {
		v := s.check(cmd, a, mem)
		if v.Why == Permitted {
			return v
		}
		if v.Why > worst.Why || v.Why == worst.Why && v.At > worst.At {
			worst = v
		}
	}
	return worst
}

func (s *selector) check(cmd *command.Command, a command.Args, mem *Scratch) Verdict {
	if !s.allCommands && !s.permits(cmd, a) && !cmd.Has(command.NoAuth) {
		return Verdict{Why: DeniedCommand}
	}
	if !s.allKeys && len(cmd.Specs) > 0 {
		if at := s.deniedKey(cmd, a, mem); at > 0 {
			return Verdict{DeniedKey, at}
		}
	}
	if !s.allChannels && cmd.Has(command.PubSub) {
		first, last, isPattern := cmd.Channels(a)
		for i := first; i > 0 && i <= last && i < a.Len(); i++ {
			if !s.permitsChannel(a.Arg(i), isPattern) {
				return Verdict{DeniedChannel, i}
			}
		}
	}
	return Verdict{}
}

// permits reports whether the selector allows the command, whatever its keys are.
func (s *selector) permits(cmd *command.Command, a command.Args) bool {
	if cmd.ID >= len(command.ByID) {
		return s.permitsLearned(cmd)
	}
	if s.allowed[cmd.ID/64]&(1<<(cmd.ID%64)) != 0 {
		return true
	}
	if len(s.firstArgs) == 0 || a.Len() < 2 {
		return false
	}
	for _, arg := range s.firstArgs[uint16(cmd.ID)] {
		if bytes.EqualFold(a.Arg(1), []byte(arg)) {
			return true
		}
	}
	return false
}

// permitsLearned reports whether the selector allows a command that a node has described. No
// bit stands for it, so the rules are applied in their order.
func (s *selector) permitsLearned(cmd *command.Command) bool {
	allowed := s.unlisted
	container, _, _ := strings.Cut(cmd.Name, "|")
	for _, rule := range s.commands {
		category, isCategory := strings.CutPrefix(rule[1:], "@")
		if isCategory && cmd.Categories&command.CategoryOf(category) != 0 || !isCategory &&
			(rule[1:] == cmd.Name || rule[1:] == container) {
			allowed = rule[0] == '+'
		}
	}
	return allowed
}

// deniedKey returns the position of the first key that the selector does not allow, or 0.
func (s *selector) deniedKey(cmd *command.Command, a command.Args, mem *Scratch) int {
	if use, ok := cmd.SingleUse(); ok {
		if cmd.Single < a.Len() && !s.permitsKey(a.Arg(cmd.Single), use) {
			return cmd.Single
		}
		return 0
	}
	if !mem.found {
		mem.at, mem.uses = cmd.KeyUses(a, mem.at[:0], mem.uses[:0])
		mem.found = true
	}
	for i, at := range mem.at {
		if !s.permitsKey(a.Arg(at), mem.uses[i]) {
			return at
		}
	}
	return 0
}

func (s *selector) permitsKey(key []byte, use command.Use) bool {
	for i := range s.keys {
		if p := &s.keys[i]; p.use&use == use && p.matches(key) {
			return true
		}
	}
	return false
}

// permitsChannel reports whether the selector allows a channel. A pattern of channels is
// allowed only if it is one of the selector's, letter for letter.
func (s *selector) permitsChannel(channel []byte, isPattern bool) bool {
	for i := range s.channels {
		p := &s.channels[i]
		if isPattern && bytes.Equal(p.text, channel) || !isPattern && p.matches(channel) {
			return true
		}
	}
	return s.allChannels
}

// MaySubscribe reports whether the user may listen to a channel, or to a pattern of channels.
func (u *User) MaySubscribe(channel string, isPattern bool) bool {
	return slices.ContainsFunc(u.selectors, func(s *selector) bool {
		return s.permitsChannel([]byte(channel), isPattern)
	})
}

// MayReadAnyKey reports whether the user may run the command, and read all keys with it (acl.c,
// ACLUserCheckCmdWithUnrestrictedPerms). SORT needs that for the keys that its patterns name.
func (u *User) MayReadAnyKey(cmd *command.Command, a command.Args, mem *Scratch) bool {
	mem.found = false
	return u.Unlimited || slices.ContainsFunc(u.selectors, func(s *selector) bool {
		return s.readsAnyKey() && s.check(cmd, a, mem).Why == Permitted
	})
}

func (s *selector) readsAnyKey() bool {
	return s.allKeys || slices.ContainsFunc(s.keys, func(p keyPattern) bool {
		return string(p.text) == "*" && p.use&command.Reads != 0
	})
}

// keyPattern is a pattern of keys, and what may be done with them.
type keyPattern struct {
	pattern
	use command.Use
}

// pattern is a glob. Most are a prefix and a star, which is faster to compare.
type pattern struct {
	text   []byte
	prefix []byte // nil: text is not a prefix and a star
}

func newPattern(text string) pattern {
	p := pattern{text: []byte(text)}
	if prefix, ok := strings.CutSuffix(text, "*"); ok && prefix != "" && !strings.ContainsAny(prefix, `*?[\`) {
		p.prefix = []byte(prefix)
	}
	return p
}

func (p *pattern) matches(s []byte) bool {
	if p.prefix != nil {
		return bytes.HasPrefix(s, p.prefix)
	}
	return command.Glob(p.text, s)
}
