package daemon

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
)

// flushTime is how long the process waits for the log's reader before it ends.
const flushTime = time.Second

// output is the log's destination, level and format. The last two may change.
type output struct {
	handler slog.Handler
	flags   config.Log // what the flags say; empty: the configuration decides
	lines   *admin.LogQueue
	level   slog.LevelVar
	json    atomic.Bool

	mu     sync.Mutex
	chosen string     // the level that operators have set; empty: none
	of     config.Log // what the configuration says
}

// newLog returns the output of loggers to w. It never blocks.
func newLog(w io.Writer, flags, of config.Log) (*output, error) {
	o := &output{flags: flags, lines: admin.NewLogQueue(w)}
	if err := o.set(of); err != nil {
		return nil, err
	}
	options := &slog.HandlerOptions{Level: &o.level}
	o.handler = handler{&o.json, slog.NewTextHandler(o.lines, options), slog.NewJSONHandler(o.lines, options)}
	log := slog.New(o.handler)
	o.lines.Resumed = func(dropped uint64) {
		log.Warn("log lines were dropped, because the reader of the log was too slow", "lines", dropped)
	}
	return o, nil
}

// set changes level and format to those of the configuration, unless flags decide, or operators about the level.
func (o *output) set(of config.Log) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if of.Level != o.of.Level {
		o.chosen = ""
	}
	o.of = of
	return o.apply()
}

// choose sets the level until the configuration has another. admin.LevelOfFile sets that of the configuration.
func (o *output) choose(level string) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	before := o.chosen
	if o.chosen = level; level == admin.LevelOfFile {
		o.chosen = ""
	}
	err := o.apply()
	if err != nil || level == "" {
		o.chosen = before
		err = fmt.Errorf("level=%s: write debug, info, warn, error or %s", level, admin.LevelOfFile)
	}
	return err
}

// apply uses the level and the format that are decided on. o.mu must be locked.
func (o *output) apply() error {
	now := config.Log{
		Level: cmp.Or(o.chosen, o.flags.Level, o.of.Level), Format: cmp.Or(o.flags.Format, o.of.Format),
	}
	if field, value, remedy := now.Invalid(); field != "" {
		return fmt.Errorf("--log-%s %s: %s", field, value, remedy)
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(now.Level)) // Invalid has checked it
	o.level.Set(level)
	o.json.Store(now.Format == "json")
	return nil
}

// levelText returns the level as it is written in the configuration.
func (o *output) levelText() string { return strings.ToLower(o.level.Level().String()) }

// setLogLevel sets the level of the log for an operator.
func (r *running) setLogLevel(level string) (report string, err error) {
	before := r.out.levelText()
	if err := r.out.choose(level); err != nil {
		return "", admin.BadRequest(err)
	}
	r.log.Warn("the level of the log was set", "from", before, "to", r.out.levelText())
	return fmt.Sprintf("log.level: %s -> %s, until the file has another one or keyway restarts\n", before,
		r.out.levelText()), nil
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
