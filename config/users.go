package config

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// defaultUser is the user of clients that have not authenticated.
const defaultUser = "default"

// readUsers reads users_file into Users. Package wiring checks the rules of the users.
func readUsers(c *Config) error {
	for i := range c.Users {
		c.Users[i].place = i
	}
	if c.UsersFile != "" {
		if err := separateSettings(c); err != nil {
			return err
		}
		text, err := os.ReadFile(c.beside(c.UsersFile))
		if err != nil {
			return c.Errorf("users_file", "make the file readable for keyway, or correct its path", "%v", err)
		}
		if err := readUsersFile(c, string(text)); err != nil {
			return err
		}
	}
	return checkUsers(c)
}

// separateSettings makes the users of the configuration the settings of those of users_file.
func separateSettings(c *Config) error {
	for i, u := range c.Users {
		if u.ACL != "" {
			return UserKeyError(c, i, "acl", "write the rules into the file, or remove users_file",
				"the rules of all users are in users_file")
		}
		if slices.ContainsFunc(c.Users[:i], func(o User) bool { return o.Name == u.Name }) {
			return UserKeyError(c, i, "name", "keep one of them", "user %q appears twice", u.Name)
		}
	}
	c.settings, c.Users = c.Users, nil
	return nil
}

func checkUsers(c *Config) error {
	for i, u := range c.Users {
		switch {
		case u.Name == "":
			return UserKeyError(c, i, "name", "add a name, such as name: app", "a user without a name")
		case u.line == 0 && slices.ContainsFunc(c.Users[:i], func(o User) bool { return o.Name == u.Name }):
			return UserKeyError(c, i, "name", "keep one of them", "user %q appears twice", u.Name)
		case u.Name == defaultUser && !u.OnlySettings && len(c.Clients.Password) > 0:
			return c.Errorf("clients.password", "write the password into the rules of that user: >PASSWORD",
				"both a password for the default user and a user called default")
		}
		if err := checkSettings(c, i); err != nil {
			return err
		}
	}
	return checkPrefixes(c)
}

// checkAuth checks that there are no users but those of the nodes, if these keep them.
func (c *Config) checkAuth() error {
	const remedy = "remove it, or write auth: keyway"
	switch {
	case c.Auth == AuthKeyway:
		return nil
	case c.Auth != AuthPassthrough:
		return c.Errorf("auth", "write keyway or passthrough", "unknown auth %q", c.Auth)
	case len(c.Users) > 0 || len(c.settings) > 0:
		return c.Errorf("users", remedy, "with auth: passthrough the nodes keep the users and their rules")
	case c.UsersFile != "":
		return c.Errorf("users_file", remedy, "with auth: passthrough the nodes keep the users and their rules")
	case len(c.Clients.Password) > 0:
		return c.Errorf("clients.password", remedy, "with auth: passthrough the nodes know the passwords")
	case len(c.Locks.Quorum) > 0:
		return c.Errorf("locks.quorum", remedy, "with auth: passthrough a client may do what its user may do at the "+
			"nodes of the layout, and these locks are on other nodes")
	}
	for i, l := range c.Listen {
		if l.TLS != nil && l.TLS.UserFrom != "" {
			return c.Errorf(ListenPath(c, i)+".tls.user_from", remedy, "with auth: passthrough a client is a user of "+
				"the nodes, and keyway cannot log in there without the password")
		}
	}
	return nil
}

// defaultRate has the values of the keys that a rate leaves out.
var defaultRate = Rate{Burst: time.Second, MaxWait: time.Second}

const (
	// maxOfUser bounds max_clients and max_in_flight, and commands in a second.
	maxOfUser = 1 << 30
	// minBytes and maxBytes bound bytes in a second.
	minBytes, maxBytes = 1 << 10, 1 << 40
	maxBurst, maxWait  = time.Minute, time.Hour
	// maxDatabase is the highest database that keyway can select.
	maxDatabase = math.MaxUint16
)

// checkSettings checks the limits of a user, its database and its reads.
func checkSettings(c *Config, i int) error {
	switch u := &c.Users[i]; {
	case u.MaxClients < 0 || u.MaxClients > maxOfUser:
		return UserKeyError(c, i, "max_clients", "write a whole number up to 1073741824, or 0 for no limit",
			"out of range")
	case u.MaxInFlight < 0 || u.MaxInFlight > maxOfUser:
		return UserKeyError(c, i, "max_in_flight", "write a whole number up to 1073741824, or 0 for no limit",
			"out of range")
	case u.Database < 0 || u.Database > maxDatabase:
		return UserKeyError(c, i, "database", "write the number of a database that the nodes have, such as 3",
			"out of range")
	case u.Reads != "" && !slices.Contains(Reads, u.Reads):
		return UserKeyError(c, i, "reads", "write "+strings.Join(Reads, ", "), "unknown reads %q", u.Reads)
	case u.Rate == Rate{}:
	case u.Rate.Commands == 0 && u.Rate.Bytes == 0:
		return UserKeyError(c, i, "rate", "add commands, such as 10000/s, or bytes, such as 50mb/s, or leave rate out",
			"neither commands nor bytes")
	case u.Rate.Burst < time.Millisecond || u.Rate.Burst > maxBurst:
		return UserKeyError(c, i, "rate.burst", "write a duration from 1ms to 1m, such as 1s", "out of range")
	case u.Rate.MaxWait < time.Millisecond || u.Rate.MaxWait > maxWait:
		return UserKeyError(c, i, "rate.max_wait", "write a duration from 1ms to 1h, such as 1s", "out of range")
	}
	return nil
}

// decode decodes a number of commands in a second.
func (r *CommandRate) decode(d *decoder, n *yaml.Node, path string) error {
	s, err := d.scalar(n, path)
	if err != nil {
		return err
	}
	number, isRate := strings.CutSuffix(s, "/s")
	v, err := strconv.ParseInt(number, 10, 64)
	if !isRate || err != nil || v < 1 || v > maxOfUser {
		return d.errorf(n, path, "write a whole number of commands a second, from 1/s to 1073741824/s, such as 10000/s",
			"%q is not a rate", s)
	}
	*r = CommandRate(v)
	return nil
}

// String returns the rate as it can be written in a file.
func (r CommandRate) String() string { return rateText(fmt.Sprint(int64(r)), r == 0) }

// decode decodes a size in a second.
func (r *ByteRate) decode(d *decoder, n *yaml.Node, path string) error {
	s, err := d.scalar(n, path)
	if err != nil {
		return err
	}
	size, isRate := strings.CutSuffix(s, "/s")
	v, ok := parseSize(size)
	if !isRate || !ok || v < minBytes || v > maxBytes {
		return d.errorf(n, path, "write a size a second, from 1kb/s to 1024gb/s, such as 50mb/s", "%q is not a rate", s)
	}
	*r = ByteRate(v)
	return nil
}

// String returns the rate as it can be written in a file.
func (r ByteRate) String() string { return rateText(Size(r).String(), r == 0) }

func rateText(number string, isNone bool) string {
	if isNone {
		return ""
	}
	return number + "/s"
}

// checkPrefixes checks that no user's prefix makes the names of another user the user's own, and
// that all of them can be in front of names.
func checkPrefixes(c *Config) error {
	for i, u := range c.Users {
		at := fmt.Sprintf("users[%d]", u.place)
		switch why := badPrefix(u.Prefix); {
		case u.Scripts && u.Prefix == "":
			return c.Errorf(at+".scripts", "remove it: users without a prefix may run scripts if their rules allow it",
				"user %q has no prefix", u.Name)
		case why != "":
			return c.Errorf(at+".prefix", "write a prefix such as app: or {app}:", "%q %s", u.Prefix, why)
		}
		for _, o := range c.Users[:i] {
			short, long := u, o
			if len(short.Prefix) > len(long.Prefix) {
				short, long = long, short
			}
			if short.Prefix != "" && short.Prefix != long.Prefix && strings.HasPrefix(long.Prefix, short.Prefix) {
				return c.Errorf(at+".prefix", "end both with a sign that is in neither, such as a colon",
					"%q of user %q begins with %q of user %q, who would see these keys",
					long.Prefix, long.Name, short.Prefix, short.Name)
			}
		}
	}
	return nil
}

// maxPrefix is the length of the longest prefix.
const maxPrefix = 128

// badPrefix returns why a text cannot be a prefix, or "".
func badPrefix(text string) string {
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c > '~' || strings.IndexByte("*\\'\"`", c) >= 0 {
			return "contains " + strconv.QuoteRune(rune(c)) + "; letters, digits and most signs of ASCII are allowed"
		}
	}
	_, tag, hasTag := strings.Cut(text, "{")
	switch end := strings.IndexByte(tag, '}'); {
	case len(text) > maxPrefix:
		return fmt.Sprintf("is longer than %d bytes", maxPrefix)
	case hasTag && end < 0:
		return "opens a hash tag and does not close it"
	case hasTag && end == 0:
		return "contains {}, an empty hash tag, which makes hash tags in keys ineffective"
	}
	return ""
}

// errUserLine is Redis's text for a line that defines no user (acl.c, ACLLoadFromFile).
var errUserLine = errors.New("should start with user keyword followed by the username")

// readUsersFile reads the text of an ACL file: a user in each line that is not empty. The users get
// what the configuration says about them.
func readUsersFile(c *Config, text string) error {
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.Trim(line, " \t\r\n")
		if line == "" {
			continue
		}
		keyword, user, ok := strings.Cut(line, " ")
		if keyword != "user" || !ok {
			return usersFileError(c, number, errUserLine)
		}
		name, rules, _ := strings.Cut(user, " ")
		u := User{Name: name}
		if i := slices.IndexFunc(c.settings, func(s User) bool { return s.Name == name }); i >= 0 {
			u = c.settings[i]
		}
		u.ACL, u.line = rules, number
		c.Users = append(c.Users, u)
	}
	for _, u := range c.settings {
		if !slices.ContainsFunc(c.Users, func(o User) bool { return o.Name == u.Name }) {
			u.OnlySettings = true
			c.Users = append(c.Users, u)
		}
	}
	return nil
}

// UserError returns the error for the i-th user, with its place in the file that has it.
func UserError(c *Config, i int, err error) *Error {
	if u := c.Users[i]; u.line > 0 {
		return usersFileError(c, u.line, err)
	}
	return c.Errorf(fmt.Sprintf("users[%d]", c.Users[i].place),
		"write rules such as \"on >PASSWORD ~app:* +@read +@write\"", "user %q: %v", c.Users[i].Name, err)
}

// UserKeyError returns an error at a key of the i-th user.
func UserKeyError(c *Config, i int, key, remedy, problem string, args ...any) *Error {
	return c.Errorf(fmt.Sprintf("users[%d].%s", c.Users[i].place, key), remedy, problem, args...)
}

func usersFileError(c *Config, line int, err error) *Error {
	return c.Errorf("users_file", "correct that line, such as: user app on >PASSWORD ~app:* +@read +@write",
		"%s:%d: %v", c.UsersFile, line, err)
}

// UsersText returns the text of the file at users_file.
func UsersText(c *Config) (string, error) {
	text, err := os.ReadFile(c.beside(c.UsersFile))
	return string(text), err
}

// WithUsersText returns the configuration with another text at users_file.
func WithUsersText(c *Config, text string) (*Config, error) {
	next := *c
	next.Users = nil
	if err := readUsersFile(&next, text); err != nil {
		return nil, err
	}
	if next.replaced != nil {
		file := *next.replaced
		file.Users = next.Users
		next.replaced = &file
	}
	return &next, checkUsers(&next)
}

// WriteUsers replaces the file at users_file, which keeps its mode, at once: others see the
// former or the new contents, also after a crash.
func WriteUsers(c *Config, text string) (err error) {
	path, err := filepath.EvalSymlinks(c.beside(c.UsersFile))
	if err != nil {
		return err
	}
	before, err := os.Stat(path)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, wrote := f.WriteString(text)
	if err := errors.Join(wrote, f.Chmod(before.Mode().Perm()), f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDirectory(filepath.Dir(path))
}

func syncDirectory(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
