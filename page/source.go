package page

import (
	"context"
	"time"

	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/router"
)

// Source is where a page gets what it shows of one pool. The functions may be called from any goroutine.
// Those that are nil have no place on the page. The lists begin with the rows that matter most.
type Source struct {
	State func() overview.State // never nil
	Table func() *router.Table  // the layout in force; nil: there is no picture

	HotKeys       func(ctx context.Context, count int) ([]HotKey, error)
	BigKeys       func(ctx context.Context, count int) ([]BigKey, error)
	Slow          func(ctx context.Context, count int) ([]SlowCommand, error)
	Clients       func(ctx context.Context, count int) ([]Client, error)
	Subscriptions func(ctx context.Context, count int) ([]Subscription, error)
	Locks         func(ctx context.Context, count int) ([]locks.Row, error)
}

// HotKey is a key that many commands use.
type HotKey struct {
	Key, Node            string
	Reads, Writes, Bytes float64 // in a second
	Share                float64 // of all commands, in [0, 1]
	Client               string  // that uses it most
}

// BigKey is a key with a large value or reply.
type BigKey struct {
	Key, Kind, Command, Client string
	Bytes                      int64
	Time                       time.Time // when it was last seen
}

// SlowCommand is an entry of the slow log.
type SlowCommand struct {
	Time            time.Time
	Took            time.Duration
	Command, Client string
}

// Client is a client that is connected.
type Client struct {
	ID                          uint64
	Addr, Name, User, Library   string
	Age, Idle                   time.Duration
	Database                    int
	Flags, LastCommand          string
	Commands, BytesIn, BytesOut uint64
	Memory                      int64
	Subscriptions               int
	Blocked                     bool
}

// Subscription is a channel or a pattern that clients listen to.
type Subscription struct {
	Name, Kind string // Kind is channel, pattern or shard channel
	Clients    int
}
