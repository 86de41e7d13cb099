package main

import (
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/keyway-proxy/keyway/admin"
)

// flushTime is how long the process waits for the log's reader before it ends.
const flushTime = time.Second

// newLog returns a logger of that format and level, and the queue of its lines. The logger
// never blocks.
func newLog(w io.Writer, format, level string) (*slog.Logger, *admin.LogQueue, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, nil, fmt.Errorf("--log-level %s: write debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	var handler func(io.Writer) slog.Handler
	switch format {
	case "text":
		handler = func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, o) }
	case "json":
		handler = func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, o) }
	default:
		return nil, nil, fmt.Errorf("--log-format %s: write text or json", format)
	}
	q := admin.NewLogQueue(w)
	log := slog.New(handler(q))
	q.Resumed = func(dropped uint64) {
		log.Warn("log lines were dropped, because the reader of the log was too slow", "lines", dropped)
	}
	return log, q, nil
}
