package switching

import (
	"context"
	"slices"

	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/transfer"
)

// Forget removes the node's records of changes before an epoch, and returns how many there were. The epoch
// must be in force: a cancelled change before it could be decided anew otherwise.
func (n *Node) Forget(ctx context.Context, epoch int64) (removed int, err error) {
	err = n.attempt(ctx, func(c *connection) error {
		texts, err := c.records(ctx)
		if err != nil {
			return err
		}
		var names []string
		var deletions [][]any
		for name := range texts {
			if of := register.Of(name); of > 0 && of < epoch {
				names, deletions = append(names, name), append(deletions, []any{"FUNCTION", "DELETE", name})
			}
		}
		sent, err := c.send(ctx, "removing old records", deletions...)
		for i, cmd := range sent {
			if cmd.Err() != nil && err == nil {
				err = c.failed("removing the record "+names[i], cmd.Err())
			}
		}
		if err == nil {
			removed += len(names)
		}
		return err
	})
	return removed, err
}

// Keys returns how many keys the node has; 0 if there are only guards, which end by themselves.
func (n *Node) Keys(ctx context.Context) (keys int64, err error) {
	err = n.attempt(ctx, func(c *connection) error {
		text, err := c.Info(ctx, "keyspace").Result()
		if err != nil {
			return c.failed("asking for INFO keyspace", err)
		}
		keys = 0
		for _, db := range info.Databases(text) {
			isUsed, err := c.isUsed(ctx, db.Number)
			if err != nil {
				return err
			}
			if isUsed {
				keys += db.Keys
			}
		}
		return nil
	})
	return keys, err
}

// isUsed reports whether a database has keys other than guards.
func (c *connection) isUsed(ctx context.Context, db int) (bool, error) {
	if err := c.Select(ctx, db).Err(); err != nil {
		return false, c.failed("choosing a database", err)
	}
	for cursor := uint64(0); ; {
		keys, next, err := c.Scan(ctx, cursor, "", 1000).Result()
		switch {
		case err != nil:
			return false, c.failed("looking at the keys", err)
		case slices.ContainsFunc(keys, func(key string) bool { return !transfer.IsGuard(key) }):
			return true, nil
		case next == 0:
			return false, nil
		}
		cursor = next
	}
}
