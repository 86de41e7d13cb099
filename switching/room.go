package switching

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/register"
)

// write is send for commands that take memory, which a full node refuses. That must not keep its
// layout from being changed: such a node gets more memory for the moment.
func (c *connection) write(ctx context.Context, doing string, commands ...[]any) ([]*redis.Cmd, error) {
	sent, err := c.send(ctx, doing, commands...)
	if err != nil || !isFull(sent) {
		return sent, err
	}
	limit, used, err := c.memory(ctx)
	if err != nil {
		return nil, c.full(doing, err, "raise its maxmemory by %d bytes for the moment, and try again", register.Room)
	}
	raised := max(limit, used) + register.Room
	set := func(to int64) []any { return []any{"CONFIG", "SET", "maxmemory", to} }
	// The node executes what comes in one write without commands of others in between, so nobody
	// uses the memory for something else, or sees the raised limit and takes it for the configured
	// one. And it executes all of it, even if this process dies now.
	all := append(append([][]any{set(raised)}, commands...), set(limit))
	sent, err = c.send(ctx, doing, all...)
	switch {
	case err != nil:
		c.restore(ctx, limit)
		return nil, err
	case sent[0].Err() != nil:
		return nil, c.full(doing, sent[0].Err(),
			"CONFIG SET maxmemory %d, run the command again, and then CONFIG SET maxmemory %d", raised, limit)
	}
	return sent[1 : len(sent)-1], nil
}

// isFull reports whether the node has refused a command for want of memory. EXEC then says
// EXECABORT, after that.
func isFull(sent []*redis.Cmd) bool {
	for _, cmd := range sent {
		if err := cmd.Err(); err != nil && strings.HasPrefix(err.Error(), "OOM ") {
			return true
		}
	}
	return false
}

// full returns the error of a node that is full and cannot be given memory.
func (c *connection) full(doing string, err error, remedy string, args ...any) error {
	return &move.Error{
		Node: c.node.Name, Addr: c.addr, Doing: doing, Remedy: fmt.Sprintf(remedy, args...),
		Err: fmt.Errorf("the node is full, and its memory cannot be raised for the moment: %w", err),
	}
}

// memory returns the node's maxmemory and what it uses.
func (c *connection) memory(ctx context.Context) (limit, used int64, err error) {
	set, err := c.ConfigGet(ctx, "maxmemory").Result()
	if err != nil {
		return 0, 0, err
	}
	text, err := c.Info(ctx, "memory").Result()
	if err != nil {
		return 0, 0, err
	}
	if limit, err = strconv.ParseInt(set["maxmemory"], 10, 64); err != nil {
		return 0, 0, err
	}
	used, err = strconv.ParseInt(info.Field([]byte(text), "used_memory"), 10, 64)
	return limit, used, err
}

// restore sets a node's maxmemory after a connection has ended, on which that was the last
// command. The node may not have got it.
func (c *connection) restore(ctx context.Context, limit int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	_ = c.node.attempt(ctx, func(again *connection) error {
		_, err := again.send(ctx, "setting maxmemory", []any{"CONFIG", "SET", "maxmemory", limit})
		return err
	})
}
