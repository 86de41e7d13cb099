package daemon

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/wiring"
)

// usersFile is the users_file of a running keyway, for ACL LOAD and ACL SAVE.
type usersFile struct{ *served }

// userError is an error for the client in Redis's own words.
type userError string

func (e userError) Error() string { return string(e) }

// errNotSaved answers ACL SAVE if the file could not be written (acl.c, aclCommand).
const errNotSaved = userError("There was an error trying to save the ACLs. " +
	"Please check the server logs for more information")

// reasonOf returns why a file could not be read, as strerror(3) has it.
func reasonOf(err error) string {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return err.Error()
	}
	text := number.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// Load implements server.UsersFile.
func (p usersFile) Load(use func(*acl.Users)) error {
	p.of.reloading.Lock()
	defer p.of.reloading.Unlock()
	cfg := p.cfg.Load()
	if cfg.UsersFile == "" {
		return server.ErrNoUsersFile
	}
	text, err := config.UsersText(cfg)
	if err != nil {
		p.log.Error("cannot read the file of users", "file", cfg.UsersFile, "error", err)
		return userError(fmt.Sprintf("Error loading ACLs, opening file '%s': %s", cfg.UsersFile, reasonOf(err)))
	}
	if problem := acl.FileErrors(cfg.UsersFile, text); problem != "" {
		return userError(problem)
	}
	next, err := config.WithUsersText(cfg, text)
	if err != nil {
		return err
	}
	users, err := wiring.Users(next)
	if err != nil {
		return err
	}
	use(users)
	p.cfg.Store(next)
	return nil
}

// Save implements server.UsersFile.
func (p usersFile) Save() error {
	p.of.reloading.Lock()
	defer p.of.reloading.Unlock()
	cfg := p.cfg.Load()
	if cfg.UsersFile == "" {
		return server.ErrNoUsersFile
	}
	users := p.srv.Users()
	text := users.Text()
	if len(cfg.Clients.Password) > 0 {
		// The configuration defines the default user, and the file must not.
		if of, err := wiring.Users(cfg); err == nil && of.Default.Line() == users.Default.Line() {
			text = users.Text(acl.DefaultName)
		}
	}
	next, err := config.WithUsersText(cfg, text)
	if err == nil {
		err = config.WriteUsers(cfg, text)
	}
	if err != nil {
		p.log.Error("cannot save the users", "file", cfg.UsersFile, "error", err)
		return errNotSaved
	}
	p.cfg.Store(next) // so that the changed file is nothing new
	p.log.Info("users saved", "file", cfg.UsersFile)
	return nil
}
