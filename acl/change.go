package acl

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// errName is the error of ACL SETUSER for a name that a line of an ACL file cannot have.
const errName = ruleError("Usernames can't contain spaces or null characters")

// Set returns users in which the rules are applied to the user of this name, as ACL SETUSER
// does. It makes the user if there is none. Errors are Redis's own texts (acl.c,
// ACLStringSetUser).
func (us *Users) Set(name string, words []string) (*Users, error) {
	if name == "" || hasSpaces(name) {
		return nil, errName
	}
	rules, open := mergeRules(words)
	if open != "" {
		return nil, ruleError(fmt.Sprintf("Unmatched parenthesis in acl selector starting at '%s'.", open))
	}
	u := newUser(name)
	u.Settings = us.settings[name]
	if before := us.byName[name]; before != nil {
		u = before.clone()
	}
	for _, rule := range rules {
		if err := u.applyRule(rule); err != nil {
			return nil, ruleError(fmt.Sprintf("Error in ACL SETUSER modifier '%s': %v", rule, err))
		}
	}
	u.complete()
	byName := maps.Clone(us.byName)
	byName[name] = u
	return newUsers(byName, us.settings), nil
}

// Without returns the users but those of these names, and how many of them there were. None of
// the names may be the default user's.
func (us *Users) Without(names []string) (*Users, int) {
	byName := maps.Clone(us.byName)
	for _, name := range names {
		delete(byName, name)
	}
	return newUsers(byName, us.settings), len(us.byName) - len(byName)
}

func (u *User) clone() *User {
	c := *u
	c.passwords, c.selectors = slices.Clone(u.passwords), nil
	for _, s := range u.selectors {
		c.selectors = append(c.selectors, s.clone())
	}
	return &c
}

func (s *selector) clone() *selector {
	c := *s
	c.allowed, c.commands = slices.Clone(s.allowed), slices.Clone(s.commands)
	c.keys, c.channels = slices.Clone(s.keys), slices.Clone(s.channels)
	c.firstArgs = maps.Clone(s.firstArgs)
	for id, args := range c.firstArgs {
		c.firstArgs[id] = slices.Clone(args)
	}
	return &c
}

// Text returns the users as an ACL file has them, a line for each but those named in except.
func (us *Users) Text(except ...string) string {
	var text strings.Builder
	for _, name := range us.names {
		if !slices.Contains(except, name) {
			text.WriteString(us.byName[name].Line() + "\n")
		}
	}
	return text.String()
}

// FileErrors returns all errors of an ACL file in the words of ACL LOAD (acl.c,
// ACLLoadFromFile), or "" if it has none.
func FileErrors(file, text string) string {
	var errors strings.Builder
	seen := map[string]bool{}
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.Trim(line, " \t\r\n")
		if line == "" {
			continue
		}
		keyword, user, _ := strings.Cut(line, " ")
		name, rules, _ := strings.Cut(user, " ")
		switch {
		case keyword != "user" || user == "":
			fmt.Fprintf(&errors, "%s:%d should start with user keyword followed by the username. ", file, number)
		case name == "" || hasSpaces(name):
			fmt.Fprintf(&errors, "%s:%d: username '%s' contains invalid characters. ", file, number, name)
		case seen[name]:
			fmt.Fprintf(&errors, "WARNING: Duplicate user '%s' found on line %d. ", name, number)
		default:
			seen[name] = true
			lineErrors(&errors, fmt.Sprintf("%s:%d: ", file, number), rules)
		}
	}
	if errors.Len() == 0 {
		return ""
	}
	return errors.String() +
		"WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
}

// lineErrors adds the errors of one user's rules. Of errors that are not about an unknown
// command or category, Redis shows only the first.
func lineErrors(to *strings.Builder, at, text string) {
	rules, err := splitRules(text)
	if err != nil {
		to.WriteString(at + err.Error() + ".")
		return
	}
	u, known := newUser(""), false
	for _, rule := range rules {
		switch err := u.apply(rule); {
		case err == nil:
		case strings.HasPrefix(err.Error(), inOperation):
			to.WriteString(at + err.Error() + ". ")
		case !known:
			known = true
			to.WriteString(at + err.Error() + ". ")
		}
	}
}
