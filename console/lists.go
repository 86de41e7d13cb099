package console

import (
	"context"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slowlog"
)

// Lists are what the threads of a pool know. Its functions ask all threads. They may be called from any goroutine but
// those of the threads.
type Lists struct {
	Clients func(ctx context.Context, q clients.Query) ([]clients.Row, error)
	HotKeys func(ctx context.Context, by hotkeys.By, count int) ([]hotkeys.Row, error)
	BigKeys func(ctx context.Context, count int) ([]bigkeys.Row, error)
	SlowLog func(ctx context.Context) ([]slowlog.Entry, error)
	Users   func(ctx context.Context) ([]metrics.User, error)
	Locks   func(ctx context.Context, q locks.Query) ([]locks.Row, error)
}

// askTime is how long the threads get to answer.
const askTime = 2 * time.Second

// stuck is what a client gets if they do not answer.
const stuck = "; a thread did not answer in time: KEYWAY STATUS needs none"

// list answers a subcommand that lists what the threads know. ok is false if name is none of these.
func (of *Lists) list(name string, q Question) (reply []byte, ok bool) {
	var rules *command.Listable
	switch name {
	case "clients":
		rules = &clients.Listable
	case "hotkeys":
		rules = &hotkeys.Listable
	case "bigkeys":
		rules = &bigkeys.Listable
	case "slowlog":
		rules = &slowlog.Listable
	case "locks":
		rules = &locks.Listable
	case "users":
		rules = new(command.Listable)
	default:
		return nil, false
	}
	l, text := rules.Parse(q.Args[1:])
	if text != "" {
		return resp.AppendError(nil, text), true
	}
	ctx, cancel := context.WithTimeout(context.Background(), askTime)
	defer cancel()
	reply, err := of.rows(ctx, name, l, q.Protocol)
	if err != nil {
		text = "ERR keyway: " + resp.Printable([]byte(err.Error()))
		if ctx.Err() != nil {
			text += stuck
		}
		return resp.AppendError(nil, text), true
	}
	return reply, true
}

// rows asks the threads, and returns the reply.
func (of *Lists) rows(ctx context.Context, name string, l command.Listing, v resp.Version) ([]byte, error) {
	switch name {
	case "clients":
		rows, err := of.Clients(ctx, clients.QueryOf(l))
		return Append(nil, v, rows), err
	case "hotkeys":
		by, _ := hotkeys.ParseBy(l.By)
		rows, err := of.HotKeys(ctx, by, l.Count)
		return hotkeys.AppendRows(nil, v, rows), err
	case "bigkeys":
		rows, err := of.BigKeys(ctx, l.Count)
		return bigkeys.AppendRows(nil, v, rows), err
	case "slowlog":
		entries, err := of.SlowLog(ctx)
		return slowlog.AppendDetails(nil, v, slices.Clone(entries), l.Count), err
	case "locks":
		rows, err := of.Locks(ctx, locks.Query{Match: l.Match, Count: l.Count})
		return locks.AppendRows(nil, v, rows), err
	}
	users, err := of.Users(ctx)
	return clients.AppendUsers(nil, v, users), err
}
