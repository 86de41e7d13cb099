package wiring

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/passwords"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/topology"
)

// Accounts returns the accounts for the nodes of a table.
func Accounts(c *config.Config) topology.Accounts {
	return func(n router.Node) control.Account { return nodeAccount(c, indexOf(c, n)) }
}

// indexOf returns the index in the configuration of a node, or of the master whose replica it
// is; -1 if the configuration does not name it, as it does not name the nodes of a cluster.
func indexOf(c *config.Config, n router.Node) int {
	if c.Clustered() {
		return -1
	}
	return c.Node(cmp.Or(n.Of, n.Name))
}

// nodeAccount returns the account for a node by its index in the configuration, or for the nodes of
// a cluster.
func nodeAccount(c *config.Config, node int) control.Account {
	as := login(config.LoginOfNode(c, node))
	of, section := config.TLSOfNode(c, node)
	as.TLS, as.TLSSection = of.Client(), section
	return as
}

// login returns the account of a login, without TLS.
func login(l *config.Login, section string) control.Account {
	return control.Account{
		Username: l.Username, Password: l.Password, Printed: l.Printed,
		Section: section, PasswordKey: l.PasswordKey(),
	}
}

// sentinelAccount returns the account for the sentinels of a node.
func sentinelAccount(c *config.Config, node int) control.Account {
	as := login(&c.Nodes[node].Sentinel.Login, sentinelKey(node))
	of, section := config.TLSOfSentinels(c, node)
	as.TLS, as.TLSSection = of.Client(), section
	return as
}

// lockAccount returns the account for the nodes of a rule of locks.quorum.
func lockAccount(c *config.Config, rule int) control.Account {
	as := login(config.LoginOfLocks(c, rule))
	of, section := config.TLSOfLocks(c, rule)
	as.TLS, as.TLSSection = of.Client(), section
	return as
}

// RunCommands runs the commands that print the passwords of a configuration, unless the keeper
// knows what they print. Errors are *config.Error.
func RunCommands(ctx context.Context, c *config.Config, k *passwords.Keeper) error {
	return config.RunCommands(c, func(words []string, refresh time.Duration) (config.Printed, error) {
		return k.Get(ctx, passwords.Command{Words: words, Refresh: refresh})
	})
}

// Printed returns the passwords that the commands of a configuration print, by the sections of the
// file that have them.
func Printed(c *config.Config) map[string]*passwords.Password {
	all := map[string]*passwords.Password{}
	for section, p := range config.AllPrinted(c) {
		all[section] = p.(*passwords.Password) // by RunCommands
	}
	return all
}

// nodeLogins returns the logins of threads for the nodes of the table: the one that most of them
// have, and those of nodes that have their own.
func nodeLogins(c *config.Config) (most pool.Account, own map[string]pool.Account) {
	own = map[string]pool.Account{}
	account := func(l *config.Login) pool.Account {
		return pool.Account{Username: l.Username, Password: l.Password, Renewed: l.Printed != nil}
	}
	for _, side := range []*config.Config{config.Older(c), c} { // a node of both has the login of c
		if side == nil || side.Clustered() {
			continue
		}
		for i, n := range side.Nodes {
			if l, _ := config.LoginOfNode(side, i); l != &side.Backend.Login {
				own[n.Name] = account(l)
			}
		}
	}
	return account(&c.Backend.Login), own
}

// nodeSettings returns the settings for the nodes that threads connect to: those of the table, and
// those that hold locks.
func nodeSettings(c *config.Config) server.NodeSettings {
	account := func(n router.Node) control.Account {
		for i, r := range c.Locks.Quorum {
			if slices.Contains(r.Nodes, n.Addr) {
				return lockAccount(c, i)
			}
		}
		if older := config.Older(c); older != nil && indexOf(c, n) < 0 && indexOf(older, n) >= 0 {
			return nodeAccount(older, indexOf(older, n)) // keys are moving away from it
		}
		return nodeAccount(c, indexOf(c, n))
	}
	return server.NodeSettings{
		TLS: func(n router.Node) *tls.Config { return account(n).TLS },
		Remedy: func(n router.Node, reason string) string {
			_, remedy := topology.Explain(errors.New(reason), account(n))
			return remedy
		},
		Refused: func(n router.Node) {
			if p := account(n).Printed; p != nil {
				p.Refused()
			}
		},
	}
}
