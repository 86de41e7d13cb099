package switching

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/guard"
)

// Member is a keyway that serves a node.
type Member struct {
	Instance  string
	Host      string // from which it connects
	Placement string // hash of where it looks for keys
	// Serves is the epoch by which it serves, as far as its connections for commands say. It is
	// guard.Unsaid if there are none, or if they are of a version that cannot take part.
	Serves int64
	// Epoch and State are how far it is in the change to an epoch. Without a State, it has not said
	// anything about that.
	Epoch int64
	State string
	// Wish is the hash of the placement of its file, if another one is in force.
	Wish string
}

// Members returns the keyways that the node's clients show, by instance and host. A keyway that has
// several connections that say how far it is, is several processes of one name, and so is several
// members: each has to say it. One that has lost all its connections is no member.
func (n *Node) Members(ctx context.Context) (all []Member, err error) {
	err = n.attempt(ctx, func(c *connection) error {
		clients, err := c.Do(ctx, "CLIENT", "LIST", "TYPE", "normal").Text()
		if err != nil {
			return c.failed("asking for CLIENT LIST", err)
		}
		all = members(clients)
		return nil
	})
	return all, err
}

// members returns the keyways in a reply to CLIENT LIST.
func members(clients string) (all []Member) {
	type name struct{ instance, host string }
	serving := map[name]Member{} // by their connections for commands
	for line := range strings.Lines(clients) {
		c, ok := guard.ParseConnection(line)
		m := Member{Instance: c.Instance, Host: c.Host, Placement: c.Placement, Serves: c.Epoch}
		of := name{c.Instance, c.Host}
		switch before, seen := serving[of]; {
		case !ok:
		case c.State != "":
			m.Serves, m.Epoch, m.State, m.Wish = guard.Unsaid, c.Epoch, c.State, c.Wish
			all = append(all, m)
		case !seen || before.Serves < m.Serves: // an older connection may be about to end
			serving[of] = m
		}
	}
	for i := range all {
		of := name{all[i].Instance, all[i].Host}
		if m, ok := serving[of]; ok {
			all[i].Serves, all[i].Placement = m.Serves, m.Placement
		}
	}
	for of, m := range serving {
		if !slices.ContainsFunc(all, func(o Member) bool { return of == name{o.Instance, o.Host} }) {
			all = append(all, m)
		}
	}
	slices.SortFunc(all, func(a, b Member) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Host, b.Host), cmp.Compare(a.State, b.State))
	})
	return all
}
