package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// readPasswords reads the password files, and checks the passwords.
func (c *Config) readPasswords() error {
	if err := nodePassword(c, "backend", c.Backend.PasswordFile, &c.Backend.Password); err != nil {
		return err
	}
	for i := range c.Locks.Quorum {
		r, section := &c.Locks.Quorum[i], fmt.Sprintf("locks.quorum[%d]", i)
		if err := nodePassword(c, section, r.PasswordFile, &r.Password); err != nil {
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

// SecretFiles returns the paths of the files with passwords, users, certificates and keys.
func (c *Config) SecretFiles() (paths []string) {
	names := append(c.Listen.files(), c.Backend.PasswordFile, c.Clients.PasswordFile, c.UsersFile)
	for _, r := range c.Locks.Quorum {
		names = append(names, r.PasswordFile)
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
