package wiring

import (
	"fmt"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/names"
	"github.com/keyway-proxy/keyway/quota"
)

// Users returns the users of a configuration, which are unknown if the nodes keep them. Errors are *config.Error.
func Users(c *config.Config) (*acl.Users, error) {
	if c.Auth == config.AuthPassthrough {
		return acl.Unknown, nil
	}
	var of []acl.Definition
	for i, u := range c.Users {
		deny, err := command.Deny(u.Deny, nil)
		if err != nil {
			return nil, config.UserKeyError(c, i, "deny", "name commands such as flushall or \"config|set\"", "%v", err)
		}
		of = append(of, acl.Definition{
			Name: u.Name, Rules: u.ACL, OnlySettings: u.OnlySettings,
			Settings: acl.Settings{
				Prefix: prefixOf(&u), Deny: deny, Limits: limitsOf(&u), Database: uint16(u.Database),
			},
		})
	}
	// A password is the default user's. Package config refuses it beside a user of that name.
	if len(c.Clients.Password) > 0 {
		d := acl.WithPasswords(c.Clients.Password)
		if i := slices.IndexFunc(of, func(o acl.Definition) bool { return o.Name == d.Name }); i >= 0 {
			d.Settings = of[i].Settings
		}
		of = append(of, d)
	}
	users, bad, err := acl.Make(of)
	if err != nil {
		return nil, config.UserError(c, bad, err)
	}
	return users, nil
}

func prefixOf(u *config.User) *names.Prefix {
	if u.Prefix == "" {
		return nil
	}
	return names.New(u.Prefix, u.Scripts)
}

func limitsOf(u *config.User) *quota.Limits {
	if u.MaxClients == 0 && u.MaxInFlight == 0 && u.Rate == (config.Rate{}) {
		return nil
	}
	return &quota.Limits{
		Clients: u.MaxClients, InFlight: u.MaxInFlight,
		Commands: int64(u.Rate.Commands), Bytes: int64(u.Rate.Bytes), Burst: u.Rate.Burst, MaxWait: u.Rate.MaxWait,
	}
}

// OpenUser returns a warning if there are users, and clients can run all commands without being
// one of them. It is empty otherwise.
func OpenUser(c *config.Config) string {
	users, err := Users(c)
	if err != nil || len(users.Names()) == 1 || !users.IsOpen() {
		return ""
	}
	return "there are users, but clients that do not authenticate can run all commands as the default user; " +
		"write a line \"user default off\", or give that user a password"
}

// Protected returns a warning if protected mode refuses clients of other machines on some addresses
// of a valid configuration. It is empty otherwise.
func Protected(c *config.Config) string {
	users, err := Users(c)
	if err != nil || !c.ProtectedMode || !users.Default.Admits() {
		return ""
	}
	var addrs []string
	for _, l := range c.Listen {
		if l.IsBeyondLoopback() && !l.ProvesClients() {
			addrs = append(addrs, l.Addr)
		}
	}
	if len(addrs) == 0 {
		return ""
	}
	return fmt.Sprintf("protected mode: clients of other machines are refused on %s, because clients need no "+
		"password; set clients.password, users or users_file, or write protected_mode: false if only trusted "+
		"machines reach keyway", strings.Join(addrs, ", "))
}
