package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
)

// flushTime is how long the process waits for the log's reader before it ends.
const flushTime = time.Second

// output is the log's destination, level and format. The last two may change.
type output struct {
	flags config.Log // what the flags say; empty: the configuration decides
	lines *admin.LogQueue
	level slog.LevelVar
	json  atomic.Bool
}

// newLog returns a logger to w and its output. The logger never blocks.
func newLog(w io.Writer, flags, of config.Log) (*slog.Logger, *output, error) {
	o := &output{flags: flags, lines: admin.NewLogQueue(w)}
	if err := o.set(of); err != nil {
		return nil, nil, err
	}
	options := &slog.HandlerOptions{Level: &o.level}
	log := slog.New(handler{&o.json, slog.NewTextHandler(o.lines, options), slog.NewJSONHandler(o.lines, options)})
	o.lines.Resumed = func(dropped uint64) {
		log.Warn("log lines were dropped, because the reader of the log was too slow", "lines", dropped)
	}
	return log, o, nil
}

// set changes level and format to those of the configuration, unless flags decide.
func (o *output) set(of config.Log) error {
	now := config.Log{Level: cmp.Or(o.flags.Level, of.Level), Format: cmp.Or(o.flags.Format, of.Format)}
	if field, value, remedy := now.Invalid(); field != "" {
		return fmt.Errorf("--log-%s %s: %s", field, value, remedy)
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(now.Level)) // Invalid has checked it
	o.level.Set(level)
	o.json.Store(now.Format == "json")
	return nil
}

// handler writes records in one of two formats.
type handler struct {
	inJSON     *atomic.Bool
	text, json slog.Handler
}

func (h handler) current() slog.Handler {
	if h.inJSON.Load() {
		return h.json
	}
	return h.text
}

func (h handler) Enabled(ctx context.Context, l slog.Level) bool { return h.text.Enabled(ctx, l) }

func (h handler) Handle(ctx context.Context, r slog.Record) error { return h.current().Handle(ctx, r) }

func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.inJSON, h.text.WithAttrs(attrs), h.json.WithAttrs(attrs)}
}

func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.inJSON, h.text.WithGroup(name), h.json.WithGroup(name)}
}
