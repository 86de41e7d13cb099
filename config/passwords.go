package config

import (
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Login is an account for servers, and where its password comes from.
type Login struct {
	Username string `yaml:"username"`
	// Password is also what the file has, and what the command has printed when the configuration
	// was made; see RunCommands.
	Password        string        `yaml:"password"`
	PasswordFile    string        `yaml:"password_file"`
	PasswordCommand []string      `yaml:"password_command"`
	PasswordRefresh time.Duration `yaml:"password_refresh"` // of the command; 0: when a server refuses the password

	Printed Printed // by the command, as time goes by; nil: there is no command, or it has not run

	isOwn bool // it is not that of backend, and the file has one of its keys
}

// Printed is what a password_command prints.
type Printed interface {
	Text() string // the password as it is now
	Refused()     // a server has refused it
}

// defaultLogin has the values of the keys that a section leaves out.
var defaultLogin = Login{PasswordRefresh: 10 * time.Minute}

// loginKeys are the keys of a Login.
var loginKeys = []string{"username", "password", "password_file", "password_command", "password_refresh"}

// loginKey returns a key of the login of a section that the file has; empty if there is none.
func loginKey(c *Config, section string) string {
	i := slices.IndexFunc(loginKeys, func(key string) bool { return c.IsSet(section + "." + key) })
	if i < 0 {
		return ""
	}
	return loginKeys[i]
}

// logins returns the logins of the configuration by the sections that have them.
func logins(c *Config) iter.Seq2[string, *Login] {
	return func(yield func(string, *Login) bool) {
		if !yield("backend", &c.Backend.Login) {
			return
		}
		for i := range c.Nodes {
			n, path := &c.Nodes[i], fmt.Sprintf("nodes[%d]", i)
			if !yield(path, &n.Login) || n.Sentinel != nil && !yield(path+".sentinel", &n.Sentinel.Login) {
				return
			}
		}
		for i := range c.Locks.Quorum {
			if !yield(fmt.Sprintf("locks.quorum[%d]", i), &c.Locks.Quorum[i].Login) {
				return
			}
		}
	}
}

// LoginOfNode returns the login for the servers of a node, and the section of the file that has
// it. A node below 0 stands for those of a cluster.
func LoginOfNode(c *Config, node int) (l *Login, section string) {
	if node >= 0 && c.Nodes[node].isOwn {
		return &c.Nodes[node].Login, fmt.Sprintf("nodes[%d]", node)
	}
	return &c.Backend.Login, "backend"
}

// LoginOfLocks returns the login for the nodes of a rule of locks.quorum, and the section of the
// file that has it.
func LoginOfLocks(c *Config, rule int) (l *Login, section string) {
	if c.Locks.Quorum[rule].isOwn {
		return &c.Locks.Quorum[rule].Login, fmt.Sprintf("locks.quorum[%d]", rule)
	}
	return &c.Backend.Login, "backend"
}

// PasswordKey returns the key that the password comes from.
func (l *Login) PasswordKey() string {
	switch {
	case len(l.PasswordCommand) > 0:
		return "password_command"
	case l.PasswordFile != "":
		return "password_file"
	}
	return "password"
}

// same reports whether two logins are those of the same user, with the same password.
func (l *Login) same(o *Login) bool {
	return l.Username == o.Username && l.Password == o.Password && slices.Equal(l.PasswordCommand, o.PasswordCommand)
}

// check checks the login of a section, and reads its password file.
func (l *Login) check(c *Config, section string) error {
	key := section + ".password_command"
	switch {
	case !c.IsSet(key):
		if c.IsSet(section + ".password_refresh") {
			return c.Errorf(section+".password_refresh", "add password_command, or remove it",
				"without a command whose password expires")
		}
	case len(l.PasswordCommand) == 0 || l.PasswordCommand[0] == "":
		return c.Errorf(key, "write a list: [PROGRAM, ARGUMENT, ...]", "no program")
	case l.Password != "" || l.PasswordFile != "":
		return c.Errorf(key, "keep one of them", "both password_command and %s",
			(&Login{PasswordFile: l.PasswordFile}).PasswordKey())
	case l.PasswordRefresh != 0 && (l.PasswordRefresh < time.Second || l.PasswordRefresh > 24*time.Hour):
		return c.Errorf(section+".password_refresh", refreshRemedy, "out of range")
	}
	return nodePassword(c, section, l.PasswordFile, &l.Password)
}

const refreshRemedy = "write a duration from 1s to 24h, such as 10m, or 0 for only when a node refuses the password"

// RunCommands calls run for the commands that print passwords, with their words and the time after
// which they run again. It changes the configuration, which nobody must use yet. Errors are *Error.
func RunCommands(c *Config, run func(words []string, refresh time.Duration) (Printed, error)) error {
	for section, l := range logins(c) {
		if len(l.PasswordCommand) == 0 {
			continue
		}
		words := slices.Clone(l.PasswordCommand)
		if strings.ContainsRune(words[0], '/') {
			path, err := filepath.Abs(c.beside(words[0]))
			if err != nil {
				return c.Errorf(section+".password_command", "write an absolute path", "%v", err)
			}
			words[0] = path
		}
		p, err := run(words, l.PasswordRefresh)
		if err != nil {
			remedy := "run the command as keyway's user to see what is wrong"
			if len(words) == 1 && strings.Contains(words[0], " ") {
				remedy = "write the program and its arguments as a list: [PROGRAM, ARGUMENT, ...]"
			}
			return c.Errorf(section+".password_command", remedy, "%v", err)
		}
		l.Printed, l.Password = p, p.Text()
	}
	return nil
}

// AllPrinted returns what the commands of the configuration print, by the sections that have them.
func AllPrinted(c *Config) map[string]Printed {
	all := map[string]Printed{}
	for section, l := range logins(c) {
		if l.Printed != nil {
			all[section] = l.Printed
		}
	}
	return all
}

// WithPrinted returns the configuration with the passwords that its commands have printed last.
func WithPrinted(c *Config) *Config {
	next := *c
	next.Nodes, next.Locks.Quorum = slices.Clone(c.Nodes), slices.Clone(c.Locks.Quorum)
	for i, n := range next.Nodes {
		if n.Sentinel != nil {
			s := *n.Sentinel
			next.Nodes[i].Sentinel = &s
		}
	}
	for _, l := range logins(&next) {
		if l.Printed != nil {
			l.Password = l.Printed.Text()
		}
	}
	if c.replaced != nil {
		next.replaced = WithPrinted(c.replaced)
	}
	if c.older != nil {
		next.older = WithPrinted(c.older)
	}
	return &next
}

// readPasswords reads the password files, and checks the passwords.
func (c *Config) readPasswords() error {
	for section, l := range logins(c) {
		l.isOwn = section != "backend" && loginKey(c, section) != ""
		if err := l.check(c, section); err != nil {
			return err
		}
	}
	if err := checkLockAccounts(c); err != nil {
		return err
	}
	// An empty text means that no password is needed, but not beside others.
	if len(c.Clients.Password) == 1 && c.Clients.Password[0] == "" {
		c.Clients.Password = nil
	}
	if c.Clients.PasswordFile != "" {
		lines, err := c.passwordLines("clients", c.Clients.PasswordFile, len(c.Clients.Password) > 0)
		if err != nil {
			return err
		}
		c.Clients.Password = lines
	}
	if slices.Contains(c.Clients.Password, "") {
		return c.Errorf("clients.password", "remove it, or leave the key out if no password is needed",
			"one of the passwords is empty")
	}
	return nil
}

// nodePassword reads the password for nodes from a section's password file, if it has one.
func nodePassword(c *Config, section, file string, password *string) error {
	if file == "" {
		return nil
	}
	lines, err := c.passwordLines(section, file, *password != "")
	if err != nil {
		return err
	}
	if len(lines) > 1 {
		return c.Errorf(section+".password_file", "keep one line", "the file %q has %d lines, and a node has one "+
			"password", file, len(lines))
	}
	*password = lines[0]
	return nil
}

// passwordLines returns the lines of a section's password file that are not empty. both says
// that the section also has a password.
func (c *Config) passwordLines(section, name string, both bool) ([]string, error) {
	path := section + ".password_file"
	if both {
		return nil, c.Errorf(path, "keep one of them", "both password and password_file")
	}
	text, err := os.ReadFile(c.beside(name))
	if err != nil {
		return nil, c.Errorf(path, "make the file readable for keyway, or correct its path", "%v", err)
	}
	lines := strings.Split(strings.ReplaceAll(string(text), "\r\n", "\n"), "\n")
	lines = slices.DeleteFunc(lines, func(line string) bool { return line == "" })
	if len(lines) == 0 {
		return nil, c.Errorf(path, "write the password into it, or leave the key out", "the file %q is empty", name)
	}
	return lines, nil
}

// SecretFiles returns the paths of the files with passwords, tokens, users, certificates and keys.
func (c *Config) SecretFiles() (paths []string) {
	names := append(c.Listen.files(), c.Clients.PasswordFile, c.UsersFile, c.Admin.TokenFile)
	if c.Admin.TLS != nil {
		names = append(names, c.Admin.TLS.files()...)
	}
	for _, l := range logins(c) {
		names = append(names, l.PasswordFile)
	}
	for _, t := range nodeTLSs(c) {
		names = append(names, t.CA, t.Cert, t.Key)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if name != "" {
			paths = append(paths, c.beside(name))
		}
	}
	return paths
}

// beside returns the path of a file that the configuration names. A path that is not
// absolute begins at the directory of the configuration.
func (c *Config) beside(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(c.file), name)
}
