package acl

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/command"
)

// ruleError is what is wrong with a rule, in Redis's words.
type ruleError string

func (e ruleError) Error() string { return string(e) }

// What is wrong with a rule (acl.c, ACLSetUserStringError).
const (
	errUnknown = ruleError("Unknown command or category name in ACL")
	errSyntax  = ruleError("Syntax error")
	errKeys    = ruleError("Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not " +
		"have any effect. Try 'resetkeys' to start with an empty list of patterns")
	errChannels = ruleError("Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does " +
		"not have any effect. Try 'resetchannels' to start with an empty list of channels")
	errNoPassword = ruleError("The password you are trying to remove from the user does not exist")
	errHash       = ruleError("The password hash must be exactly 64 characters and contain only lowercase " +
		"hexadecimal characters")
	errFirstArg = ruleError("Allowing first-arg of a subcommand is not supported")
	errBracket  = ruleError("Unmatched parenthesis in selector definition")
)

// splitRules splits rules at spaces. A selector in parentheses is one rule.
func splitRules(text string) ([]string, error) {
	words := strings.Split(text, " ")
	for i, word := range words {
		words[i] = strings.Trim(word, "\t\r\n")
	}
	rules, open := mergeRules(words)
	if open != "" {
		return nil, errBracket
	}
	return rules, nil
}

// mergeRules joins the words of each selector in parentheses to one rule (acl.c,
// ACLMergeSelectorArguments). open is the word that opens a selector which nothing closes, or "".
func mergeRules(words []string) (rules []string, open string) {
	var selector string
	for _, word := range words {
		switch {
		case open == "" && strings.HasPrefix(word, "(") && !strings.HasSuffix(word, ")"):
			open, selector = word, word
		case open == "":
			rules = append(rules, word)
		default:
			if selector += " " + word; strings.HasSuffix(word, ")") {
				rules = append(rules, selector)
				open = ""
			}
		}
	}
	return rules, open
}

// inOperation begins the error that names the rule.
const inOperation = "Error in applying operation "

// apply applies one rule to a user that is being made (acl.c, ACLSetUser). The error names the
// rule only if it cannot contain a password, as in Redis.
func (u *User) apply(rule string) error {
	err := u.applyRule(rule)
	if err == error(errUnknown) {
		return ruleError(fmt.Sprintf(inOperation+"'%s': %v", rule, err))
	}
	return err
}

func (u *User) applyRule(rule string) error {
	if rule == "" {
		return nil
	}
	switch strings.ToLower(rule) {
	case "on":
		u.enabled = true
		return nil
	case "off":
		u.enabled = false
		return nil
	case "nopass":
		u.noPass, u.passwords = true, nil
		return nil
	case "resetpass":
		u.noPass, u.passwords = false, nil
		return nil
	case "sanitize-payload", "skip-sanitize-payload":
		u.sanitize = strings.ToLower(rule)
		return nil
	case "clearselectors":
		u.selectors = u.selectors[:1]
		return nil
	case "reset":
		name, settings := u.Name, u.Settings // no rules
		*u = *newUser(name)
		u.Settings = settings
		u.sanitize = "sanitize-payload"
		return nil
	}
	switch rule[0] {
	case '>', '#', '<', '!':
		return u.applyPassword(rule)
	case '(':
		if strings.HasSuffix(rule, ")") {
			return u.addSelector(rule[1 : len(rule)-1])
		}
	}
	return u.selectors[0].apply(rule)
}

// applyPassword applies a rule that adds or removes a password: itself or its hash.
func (u *User) applyPassword(rule string) error {
	kind, hashed := rule[0], rule[1:]
	switch kind {
	case '>', '<':
		hashed = hash([]byte(hashed))
	default:
		if !isHash(hashed) {
			return errHash
		}
	}
	at := slices.Index(u.passwords, hashed)
	switch {
	case kind == '>' || kind == '#':
		if at < 0 {
			u.passwords = append(u.passwords, hashed)
		}
		u.noPass = false
	case at < 0:
		return errNoPassword
	default:
		u.passwords = slices.Delete(u.passwords, at, at+1)
	}
	return nil
}

func isHash(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

func (u *User) addSelector(rules string) error {
	s := newSelector()
	for _, rule := range strings.Fields(rules) {
		if err := s.apply(rule); err != nil {
			return err
		}
	}
	u.selectors = append(u.selectors, s)
	return nil
}

// apply applies one rule to a selector that is being made (acl.c, ACLSetSelector).
func (s *selector) apply(rule string) error {
	switch strings.ToLower(rule) {
	case "allkeys", "~*":
		s.allKeys, s.keys = true, nil
		return nil
	case "resetkeys":
		s.allKeys, s.keys = false, nil
		return nil
	case "allchannels", "&*":
		s.allChannels, s.channels = true, nil
		return nil
	case "resetchannels":
		s.allChannels, s.channels = false, nil
		return nil
	case "allcommands", "+@all":
		s.setAll(true)
		return nil
	case "nocommands", "-@all":
		s.setAll(false)
		return nil
	}
	switch {
	case rule[0] == '~' || rule[0] == '%':
		return s.addKeys(rule)
	case rule[0] == '&':
		return s.addChannel(rule[1:])
	case rule[0] == '+' || rule[0] == '-':
		return s.applyCommand(rule[0] == '+', strings.ToLower(rule[1:]), rule[1:])
	}
	return errSyntax
}

// addKeys adds a pattern of keys, such as ~app:* or %R~shared:*.
func (s *selector) addKeys(rule string) error {
	if s.allKeys {
		return errKeys
	}
	use, text := command.Reads|command.Writes, rule[1:]
	if rule[0] == '%' {
		use = 0
		for text != "" && text[0] != '~' {
			right := command.Use(0)
			switch text[0] | 0x20 {
			case 'r':
				right = command.Reads
			case 'w':
				right = command.Writes
			}
			if right == 0 || use&right != 0 {
				return errSyntax
			}
			use |= right
			text = text[1:]
		}
		if use == 0 {
			return errSyntax
		}
		text = strings.TrimPrefix(text, "~")
	}
	if hasSpaces(text) {
		return errSyntax
	}
	for i := range s.keys {
		if string(s.keys[i].text) == text {
			s.keys[i].use |= use
			return nil
		}
	}
	s.keys = append(s.keys, keyPattern{newPattern(text), use})
	return nil
}

func (s *selector) addChannel(text string) error {
	switch {
	case s.allChannels:
		return errChannels
	case hasSpaces(text):
		return errSyntax
	case slices.ContainsFunc(s.channels, func(p pattern) bool { return string(p.text) == text }):
		return nil
	}
	s.channels = append(s.channels, newPattern(text))
	return nil
}

// applyCommand allows or forbids a command, a subcommand, a category, or a first argument.
// name is in lower case; given is how it was written.
func (s *selector) applyCommand(allow bool, name, given string) error {
	if category, ok := strings.CutPrefix(name, "@"); ok {
		c := command.CategoryOf(category)
		if c == 0 {
			return errUnknown
		}
		for _, cmd := range command.ByID {
			if cmd.Categories&c != 0 {
				s.setCommand(cmd, allow)
			}
		}
		s.allCommands = s.allCommands && allow // a module's commands may be in the category
		s.record(allow, name)
		return nil
	}
	at := strings.LastIndexByte(name, '|')
	if !allow || at < 0 {
		return s.applyNamed(allow, name)
	}
	switch container := lookup(name[:at]); {
	case container == nil:
		return errUnknown
	case strings.Contains(container.Name, "|"):
		return errFirstArg
	case name[at+1:] == "" || hasSpaces(name): // spaces would break the line of an ACL file
		return errSyntax
	case len(container.Subs) > 0:
		return s.applyNamed(true, name)
	default:
		s.addFirstArg(container, given[at+1:])
	}
	s.record(true, name)
	return nil
}

// applyNamed allows or forbids a command or subcommand.
func (s *selector) applyNamed(allow bool, name string) error {
	switch cmd := lookup(name); {
	case cmd != nil:
		s.setCommand(cmd, allow)
	case isModules(name): // known only to the nodes; see permitsLearned
		s.allCommands = s.allCommands && allow
	default:
		return errUnknown
	}
	s.record(allow, name)
	return nil
}

// isModules reports whether a name looks like that of a module's command, which only the
// nodes know.
func isModules(name string) bool {
	module, cmd, ok := strings.Cut(name, ".")
	return ok && module != "" && cmd != "" && !strings.ContainsAny(name, "|@") && !hasSpaces(name)
}

// lookup returns the command with the name: a command, a container, or "container|subcommand".
func lookup(name string) *command.Command {
	container, sub, isSub := strings.Cut(name, "|")
	c := command.Lookup([]byte(container))
	if c != nil && isSub {
		return c.Sub([]byte(sub))
	}
	return c
}
