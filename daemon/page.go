package daemon

import (
	"context"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/page"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/slowlog"
)

// newPage returns the page of a pool whose sampler exists.
func (p *served) newPage() *page.Page {
	return page.New(page.Source{
		State: p.sampler.State, Table: p.srv.Table,
		HotKeys: func(ctx context.Context, count int) ([]page.HotKey, error) {
			rows, err := server.HotKeys(ctx, p.srv, hotkeys.ByCommands, count)
			return each(hotkeys.ForJSON(rows), hotKey), err
		},
		BigKeys: func(ctx context.Context, count int) ([]page.BigKey, error) {
			rows, err := server.BigKeys(ctx, p.srv, count)
			return each(bigkeys.ForJSON(rows), bigKey), err
		},
		Slow: func(ctx context.Context, count int) ([]page.SlowCommand, error) {
			rows, err := server.SlowLog(ctx, p.srv, count)
			return each(rows, slowCommand), err
		},
		Clients: func(ctx context.Context, count int) ([]page.Client, error) {
			rows, _, err := server.ClientRows(ctx, p.srv, clients.Query{Sort: "commands", Count: count})
			return each(rows, client), err
		},
		Subscriptions: func(ctx context.Context, count int) ([]page.Subscription, error) {
			of, err := server.Subscriptions(ctx, p.srv, count)
			return each(of.Topics, subscription), err
		},
		Locks: func(ctx context.Context, count int) ([]locks.Row, error) {
			return p.srv.Locks(ctx, locks.Query{Count: count})
		},
	})
}

// each returns rows as the page takes them.
func each[A, B any](rows []A, of func(A) B) []B {
	all := make([]B, len(rows))
	for i := range rows {
		all[i] = of(rows[i])
	}
	return all
}

// named returns a client's address, and its name if it has one.
func named(addr, name string) string {
	if name != "" {
		return addr + " (" + name + ")"
	}
	return addr
}

func hotKey(r hotkeys.Row) page.HotKey {
	return page.HotKey{Key: r.Key, Node: r.Node, Reads: r.Reads, Writes: r.Writes, Bytes: r.Bytes, Share: r.Share,
		Client: named(r.Addr, r.Name)}
}

func bigKey(r bigkeys.Row) page.BigKey {
	return page.BigKey{Key: r.Key, Kind: string(r.Kind), Command: r.Command, Client: named(r.Addr, r.Name),
		Bytes: int64(r.Bytes), Time: r.Time}
}

func slowCommand(r slowlog.Row) page.SlowCommand {
	return page.SlowCommand{Time: r.Time, Took: time.Duration(r.Duration) * time.Microsecond,
		Command: strings.Join(r.Args, " "), Client: named(r.Client, r.Name)}
}

func client(r clients.Row) page.Client {
	return page.Client{ID: r.ID, Addr: r.Addr, Name: r.Name, User: r.User, Library: r.Lib, Age: seconds(r.Age),
		Idle: seconds(r.Idle), Database: r.DB, Flags: r.Flags, LastCommand: r.LastCommand, Commands: r.Commands,
		BytesIn: r.BytesIn, BytesOut: r.BytesOut, Memory: int64(r.Memory), Subscriptions: r.Subscriptions,
		Blocked: r.Blocked}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

func subscription(t clients.Topic) page.Subscription {
	return page.Subscription{Name: t.Name, Kind: t.Kind, Clients: t.Clients}
}
