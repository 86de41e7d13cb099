package wiring

import (
	"cmp"
	"crypto/tls"
	"errors"
	"slices"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/topology"
)

// accounts returns the accounts for the nodes of a table.
func accounts(c *config.Config) topology.Accounts {
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
	of, section := config.TLSOfNode(c, node)
	return control.Account{
		Username: c.Backend.Username, Password: c.Backend.Password, Section: "backend",
		TLS: of.Client(), TLSSection: section,
	}
}

// sentinelAccount returns the account for the sentinels of a node.
func sentinelAccount(c *config.Config, node int) control.Account {
	of, section := config.TLSOfSentinels(c, node)
	s := c.Nodes[node].Sentinel
	return control.Account{
		Username: s.Username, Password: s.Password, Section: sentinelKey(node), TLS: of.Client(), TLSSection: section,
	}
}

// lockAccount returns the account for the nodes of a rule of locks.quorum.
func lockAccount(c *config.Config, rule int) (as control.Account) {
	of, section := config.TLSOfLocks(c, rule)
	as.TLS, as.TLSSection = of.Client(), section
	as.Username, as.Password, as.Section = c.LockAccount(rule)
	return as
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
		return nodeAccount(c, indexOf(c, n))
	}
	return server.NodeSettings{
		TLS: func(n router.Node) *tls.Config { return account(n).TLS },
		Remedy: func(n router.Node, reason string) string {
			_, remedy := topology.Explain(errors.New(reason), account(n))
			return remedy
		},
	}
}
