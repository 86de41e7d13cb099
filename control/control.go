// Package control makes the clients by which keyway asks servers outside the hot path. It
// alone owns their options: such a client never sends a command twice, because some must not
// be repeated; it sends only what its caller asks for; and a context's deadline holds.
package control

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/tlsconn"
)

// Account is how a server is asked: as which user, and whether over TLS.
type Account struct {
	Username, Password string
	Printed            Printed     // nil: Password stays the password
	TLS                *tls.Config // nil: keyway does not encrypt
	// Network, if not nil, connects to servers instead of the network of the machine.
	Network func(ctx context.Context, addr string) (net.Conn, error)

	// The sections of the configuration that have the user and the password, and TLS; for errors.
	Section, TLSSection string
	PasswordKey         string // the key in Section that the password comes from; empty: password
}

// Printed is a password that is replaced from time to time.
type Printed interface {
	Text() string // the password as it is now
	Refused()     // a server has refused it; Refused must not block
}

// Secret returns the password as it is now.
func (a Account) Secret() string {
	if a.Printed != nil {
		return a.Printed.Text()
	}
	return a.Password
}

// Remedy returns what to do about the user or the password. In text, they are those of backend.
func (a Account) Remedy(text string) string {
	section := cmp.Or(a.Section, "backend")
	return strings.NewReplacer(
		"backend.username", section+".username", "backend.password", section+"."+cmp.Or(a.PasswordKey, "password"),
	).Replace(text)
}

// Options describe a client.
type Options struct {
	Addr string
	Account
	DB          int
	Dial, Reply time.Duration // the longest time for a connection (0: 5 s), and for one reply
	Connections int           // at most; 0: 2
	Buffer      int           // bytes, in each direction of a connection; 0: the library's default
}

// NewClient returns a client of one server. It connects when it is first used.
func NewClient(o Options) *redis.Client {
	c := redis.NewClient(o.redis())
	if o.Printed != nil {
		c.AddHook(refusals{o.Printed})
	}
	return c
}

// NewSentinelClient returns a client of one sentinel. It connects when it is first used.
func NewSentinelClient(o Options) *redis.SentinelClient {
	c := redis.NewSentinelClient(o.redis())
	if o.Printed != nil {
		c.AddHook(refusals{o.Printed})
	}
	return c
}

func (o Options) redis() *redis.Options {
	o.Connections = cmp.Or(o.Connections, 2)
	o.Dial = cmp.Or(o.Dial, 5*time.Second)
	return &redis.Options{
		Dialer: o.dial, Addr: o.Addr, DB: o.DB,
		CredentialsProvider: func() (string, string) { return o.Username, o.Secret() },
		Protocol:            2, DisableIdentity: true, MaxRetries: -1, DialerRetries: 1, PoolSize: o.Connections,
		DialTimeout: o.Dial, ReadTimeout: o.Reply, WriteTimeout: o.Reply, ContextTimeoutEnabled: true,
		ReadBufferSize: o.Buffer, WriteBufferSize: o.Buffer,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
	}
}

// dial connects, and does the TLS handshake. (The library's own way ignores the context in it.)
func (o Options) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Dial)
	defer cancel()
	if o.Network != nil {
		return o.Network(ctx, addr)
	}
	conn, err := new(net.Dialer).DialContext(ctx, network, addr)
	if err != nil || o.TLS == nil {
		return conn, err
	}
	cfg := o.TLS
	if cfg.ServerName == "" {
		cfg = cfg.Clone()
		cfg.ServerName, _, _ = net.SplitHostPort(addr) // it has a port: it could be connected to
	}
	secure := tls.Client(conn, cfg)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	return refusable{secure}, nil
}

// refusable is a connection over TLS. With TLS 1.3, a server refuses the client's certificate after
// the handshake. Then it has said why, and the first write fails.
type refusable struct{ *tls.Conn }

// Write returns the server's reason if there is one.
func (c refusable) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	if err == nil {
		return n, nil
	}
	_ = c.SetReadDeadline(time.Now().Add(time.Second)) // if it fails, so does Read
	var none [1]byte
	if _, reason := c.Read(none[:]); tlsconn.IsAlert(reason) {
		return n, reason
	}
	return n, err
}

// refusals is a hook that gets a new password when the server refuses the present one.
type refusals struct{ of Printed }

// DialHook implements redis.Hook.
func (r refusals) DialHook(next redis.DialHook) redis.DialHook { return next }

// ProcessHook implements redis.Hook.
func (r refusals) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error { return r.look(next(ctx, cmd)) }
}

// ProcessPipelineHook implements redis.Hook.
func (r refusals) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error { return r.look(next(ctx, cmds)) }
}

func (r refusals) look(err error) error {
	if IsReply(err) && pool.RefusesPassword([]byte(err.Error())) {
		r.of.Refused()
	}
	return err
}

// IsReply reports whether err is an error reply of a server, not a failure of the connection.
func IsReply(err error) bool {
	var reply redis.Error
	return errors.As(err, &reply)
}
