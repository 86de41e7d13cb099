package acl

import (
	"strings"

	"github.com/keyway-proxy/keyway/command"
)

// Description is what ACL GETUSER shows.
type Description struct {
	Flags     []string
	Passwords []string // hashes
	Root      Permissions
	Selectors []Permissions
}

// Permissions are the texts of a selector.
type Permissions struct{ Commands, Keys, Channels string }

// Describe returns what ACL GETUSER shows.
func (u *User) Describe() Description {
	d := Description{Flags: u.flags(), Passwords: u.passwords, Root: u.selectors[0].describe()}
	for _, s := range u.selectors[1:] {
		d.Selectors = append(d.Selectors, s.describe())
	}
	return d
}

func (u *User) flags() []string {
	flags := []string{"off"}
	if u.enabled {
		flags[0] = "on"
	}
	if u.noPass {
		flags = append(flags, "nopass")
	}
	if u.sanitize != "" {
		flags = append(flags, u.sanitize)
	}
	return flags
}

// Line returns the user's line in an ACL file, as ACL LIST shows it.
func (u *User) Line() string {
	words := append([]string{"user", u.Name}, u.flags()...)
	for _, p := range u.passwords {
		words = append(words, "#"+p)
	}
	for i, s := range u.selectors {
		if text := s.line(); i == 0 {
			words = append(words, text)
		} else {
			words = append(words, "("+text+")")
		}
	}
	return strings.Join(words, " ")
}

func (s *selector) describe() Permissions {
	p := Permissions{Commands: s.commandRules(), Keys: s.keyRules(), Channels: "&*"}
	if !s.allChannels {
		p.Channels = s.channelRules()
	}
	return p
}

func (s *selector) line() string {
	var words []string
	if keys := s.keyRules(); keys != "" {
		words = append(words, keys)
	}
	if s.allChannels {
		words = append(words, "&*")
	} else {
		words = append(words, "resetchannels")
		if channels := s.channelRules(); channels != "" {
			words = append(words, channels)
		}
	}
	return strings.Join(append(words, s.commandRules()), " ")
}

func (s *selector) commandRules() string {
	first := "-@all"
	if s.unlisted {
		first = "+@all"
	}
	return strings.Join(append([]string{first}, s.commands...), " ")
}

func (s *selector) keyRules() string {
	if s.allKeys {
		return "~*"
	}
	words := make([]string, len(s.keys))
	for i, p := range s.keys {
		sign := "~"
		switch p.use {
		case command.Reads:
			sign = "%R~"
		case command.Writes:
			sign = "%W~"
		}
		words[i] = sign + string(p.text)
	}
	return strings.Join(words, " ")
}

func (s *selector) channelRules() string {
	words := make([]string, len(s.channels))
	for i, p := range s.channels {
		words[i] = "&" + string(p.text)
	}
	return strings.Join(words, " ")
}
