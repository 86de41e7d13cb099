package audit

import (
	"context"
	"log/slog"
	"time"
)

// Message is the message of all lines, by which they can be found in a log.
const Message = "operator action"

// The ways on which operators act.
const (
	ViaAdmin   = "admin"   // a request to the admin address
	ViaClient  = "client"  // a command of a client
	ViaConsole = "console" // a command at admin.console
	ViaSignal  = "signal"  // a signal to the process
	ViaFile    = "file"    // a changed file
	ViaKeyway  = "keyways" // the files of all keyways
)

// Deed is what an operator did, or was refused.
type Deed struct {
	Action     string // such as reload, or a command
	Via        string
	Addr       string // of the operator; empty: unknown, or this machine
	User       string // empty: unknown
	Pool       string // empty: the deed concerns the process, or there are no pools
	Result     string // empty: done
	Err        error  // nil: it was not refused and has not failed
	IsFrequent bool   // a program may do the same again and again
	Unwritten  int    // deeds of the same kind shortly before that have no lines
}

// Record writes a line about a deed. It does so whatever the level of the handler is.
func Record(h slog.Handler, now time.Time, d Deed) error {
	r := slog.NewRecord(now, slog.LevelInfo, Message, 0)
	add := func(key, value string) {
		if value != "" {
			r.AddAttrs(slog.String(key, value))
		}
	}
	r.AddAttrs(slog.String("action", d.Action), slog.String("via", d.Via))
	add("addr", d.Addr)
	add("user", d.User)
	add("pool", d.Pool)
	switch {
	case d.Err != nil:
		r.AddAttrs(slog.String("result", "refused"), slog.String("error", d.Err.Error()))
	case d.Result == "":
		r.AddAttrs(slog.String("result", "done"))
	default:
		r.AddAttrs(slog.String("result", d.Result))
	}
	if d.Unwritten > 0 {
		r.AddAttrs(slog.Int("others_like_it", d.Unwritten))
	}
	return h.Handle(context.Background(), r)
}
