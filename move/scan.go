package move

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/errtext"
)

// pageSize is how many keys SCAN looks at in one call.
const pageSize = 500

// database returns a client of a database.
func (n *Node) database(db int) *redis.Client {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.databases[db] == nil {
		n.databases[db] = n.open(db)
	}
	return n.databases[db]
}

// Scan calls page with the keys of a database, some at a time. It passes every key that is
// there all the time, and may pass a key twice. All is asked over one connection: a cursor means nothing
// to a server that was started anew, or to another one. Errors are *Error, or those of page.
func (n *Node) Scan(ctx context.Context, db int, page func(keys []string) error) error {
	c := n.database(db).Conn()
	defer c.Close()
	for cursor := uint64(0); ; {
		keys, next, err := c.Scan(ctx, cursor, "", pageSize).Result()
		if err != nil {
			return n.failed(fmt.Sprintf("scanning database %d", db), err)
		}
		if err := page(keys); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// Sizes returns about how many bytes each key takes in the node's memory, 0 for a key that
// is gone. They are 0, too, if the node does not allow MEMORY.
func (n *Node) Sizes(ctx context.Context, db int, keys []string) ([]int64, error) {
	sizes := make([]int64, len(keys))
	cmds, err := n.pipeline(ctx, "measuring keys", db, keys, func(p redis.Pipeliner, key string) {
		p.MemoryUsage(ctx, key)
	})
	for i, c := range cmds {
		sizes[i], _ = c.(*redis.IntCmd).Result()
	}
	return sizes, err
}

// Exist reports which keys are on the node. In a cluster, a node answers for the keys of its
// own slots only.
func (n *Node) Exist(ctx context.Context, db int, keys []string) ([]bool, error) {
	exist := make([]bool, len(keys))
	cmds, err := n.pipeline(ctx, "asking for keys", db, keys, func(p redis.Pipeliner, key string) {
		p.Exists(ctx, key)
	})
	for i, c := range cmds {
		count, errKey := c.(*redis.IntCmd).Result()
		exist[i] = count > 0
		if err == nil && errKey != nil && !strings.HasPrefix(errKey.Error(), "MOVED ") {
			err = n.failed(fmt.Sprintf("asking for key %s", errtext.Key(keys[i])), errKey)
		}
	}
	return exist, err
}

// missing returns the keys that are surely not on the node.
func (n *Node) missing(ctx context.Context, db int, keys []string) (gone []string, err error) {
	cmds, err := n.pipeline(ctx, "asking for keys", db, keys, func(p redis.Pipeliner, key string) {
		p.Exists(ctx, key)
	})
	for i, c := range cmds {
		if count, err := c.(*redis.IntCmd).Result(); err == nil && count == 0 {
			gone = append(gone, keys[i])
		}
	}
	return gone, err
}

// pipeline sends a command for each key. Its error is one of the connection.
func (n *Node) pipeline(
	ctx context.Context, doing string, db int, keys []string, ask func(p redis.Pipeliner, key string),
) ([]redis.Cmder, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	cmds, err := n.database(db).Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, k := range keys {
			ask(p, k)
		}
		return nil
	})
	if err != nil && !control.IsReply(err) && !errors.Is(err, redis.Nil) {
		return nil, n.failed(doing, err)
	}
	return cmds, nil
}
