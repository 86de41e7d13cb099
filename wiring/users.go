package wiring

import (
	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/names"
)

// Users returns the users of a configuration. Errors are *config.Error.
func Users(c *config.Config) (*acl.Users, error) {
	var of []acl.Definition
	for _, u := range c.Users {
		d := acl.Definition{Name: u.Name, Rules: u.ACL}
		if u.Prefix != "" {
			d.Prefix = names.New(u.Prefix, u.Scripts)
		}
		of = append(of, d)
	}
	// A password is the default user's. Package config refuses it beside a user of that name.
	if len(c.Clients.Password) > 0 {
		of = append(of, acl.WithPasswords(c.Clients.Password))
	}
	users, bad, err := acl.Make(of)
	if err != nil {
		return nil, config.UserError(c, bad, err)
	}
	return users, nil
}

// Protected returns the addresses of a valid configuration on which protected mode refuses
// clients of other machines.
func Protected(c *config.Config) (addrs []string) {
	users, err := Users(c)
	if err != nil || !c.ProtectedMode || !users.Default.Admits() {
		return nil
	}
	for _, l := range c.Listen {
		if l.IsBeyondLoopback() && !l.ProvesClients() {
			addrs = append(addrs, l.Addr)
		}
	}
	return addrs
}
