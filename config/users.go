package config

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// defaultUser is the user of clients that have not authenticated.
const defaultUser = "default"

// readUsers reads users_file into Users. Package wiring checks the rules of the users.
func readUsers(c *Config) error {
	if c.UsersFile != "" {
		if len(c.Users) > 0 {
			return c.Errorf("users_file", "keep one of them", "both users and users_file")
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

func checkUsers(c *Config) error {
	for i, u := range c.Users {
		switch {
		case u.Name == "":
			return UserError(c, i, errors.New("a user without a name"))
		case u.Name == defaultUser && len(c.Clients.Password) > 0:
			return c.Errorf("clients.password", "write the password into the rules of that user: >PASSWORD",
				"both a password for the default user and a user called default")
		}
	}
	return checkPrefixes(c)
}

// checkPrefixes checks that no user's prefix makes the names of another user the user's own, and
// that all of them can be in front of names.
func checkPrefixes(c *Config) error {
	for i, u := range c.Users {
		at := fmt.Sprintf("users[%d]", i)
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

// readUsersFile reads the text of an ACL file: a user in each line that is not empty.
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
		c.Users = append(c.Users, User{Name: name, ACL: rules, line: number})
	}
	return nil
}

// UserError returns the error for the i-th user, with its place in the file that has it.
func UserError(c *Config, i int, err error) *Error {
	if u := c.Users[i]; u.line > 0 {
		return usersFileError(c, u.line, err)
	}
	return c.Errorf(fmt.Sprintf("users[%d]", i), "write rules such as \"on >PASSWORD ~app:* +@read +@write\"",
		"user %q: %v", c.Users[i].Name, err)
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
