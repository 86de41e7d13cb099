package switching

import (
	"context"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/info"
)

// Incarnations returns what info.Incarnation says of nodes, by their addresses, for the plan of a change in which keys
// leave them. A node that refuses to say it is missing.
func Incarnations(ctx context.Context, nodes []*Node) (map[string]string, error) {
	found := make([]string, len(nodes))
	err := each(nodes, func(i int, n *Node) error {
		return n.attempt(ctx, func(c *connection) error {
			text, err := c.Do(ctx, "INFO", "server", "replication").Text()
			if err != nil && !control.IsReply(err) {
				return c.failed("asking for INFO", err)
			}
			found[i] = info.Incarnation([]byte(text))
			return nil
		})
	})
	all := map[string]string{}
	for i, n := range nodes {
		if found[i] != "" {
			all[n.Addr] = found[i]
		}
	}
	return all, err
}
