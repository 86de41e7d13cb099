// Package control makes the clients by which keyway asks servers outside the hot path. It
// alone owns their options: such a client never sends a command twice, because some must not
// be repeated; it sends only what its caller asks for; and a context's deadline holds.
package control

import (
	"errors"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Options describe a client.
type Options struct {
	Addr               string
	Username, Password string
	DB                 int
	Dial, Reply        time.Duration // the longest time for a connection, and for one reply
	Connections        int           // at most; 0: 2
	Buffer             int           // bytes, in each direction of a connection; 0: the library's default
}

// NewClient returns a client of one server. It connects when it is first used.
func NewClient(o Options) *redis.Client { return redis.NewClient(o.redis()) }

// NewSentinelClient returns a client of one sentinel. It connects when it is first used.
func NewSentinelClient(o Options) *redis.SentinelClient { return redis.NewSentinelClient(o.redis()) }

func (o Options) redis() *redis.Options {
	if o.Connections == 0 {
		o.Connections = 2
	}
	return &redis.Options{
		Addr: o.Addr, Username: o.Username, Password: o.Password, DB: o.DB,
		Protocol: 2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1, PoolSize: o.Connections,
		DialTimeout: o.Dial, ReadTimeout: o.Reply, WriteTimeout: o.Reply, ContextTimeoutEnabled: true,
		ReadBufferSize: o.Buffer, WriteBufferSize: o.Buffer,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// IsReply reports whether err is an error reply of a server, not a failure of the connection.
func IsReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}
