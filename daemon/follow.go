package daemon

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"github.com/keyway-proxy/keyway/accesslog"
	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/traces"
	"github.com/keyway-proxy/keyway/wiring"
)

// follower writes what threads record of single commands: traces and the access log.
type follower struct {
	log     *slog.Logger
	version string
	lines   *accesslog.Log
	counts  traces.Counts
	by      traces.Options                  // of exporter; a reload alone uses it
	to      atomic.Pointer[traces.Exporter] // nil: there are no traces
}

// newFollower returns a follower that writes nothing until use.
func newFollower(log *slog.Logger, version string, stdout io.Writer) *follower {
	return &follower{log: log, version: version, lines: accesslog.New(log, stdout)}
}

// refuseAccessLog returns an error if the access log of a configuration cannot be written.
func refuseAccessLog(cfg *config.Config) error {
	path := config.AccessLogFile(cfg)
	if path == "" || path == config.Stdout {
		return nil
	}
	file, err := accesslog.Open(path)
	if err != nil {
		return cfg.Errorf("access_log.file", "let keyway's user write the file", "%v", err)
	}
	return file.Close()
}

// use makes a configuration say what is written where.
func (f *follower) use(cfg *config.Config) {
	l := accesslog.Settings{
		Path: config.AccessLogFile(cfg), HasKeys: cfg.AccessLog.Keys == config.KeysFull,
		HasHash: cfg.AccessLog.Keys == config.KeysHash,
	}
	if l.Path == config.Stdout {
		l.Path, l.ToStdout = "", true
	}
	f.lines.Use(l)
	t := &cfg.Traces
	o := traces.Options{
		URL: config.TracesURL(cfg), Service: t.Service, Version: f.version, Instance: wiring.Instance(cfg),
		HasKeys: t.Keys == config.KeysFull, HasHash: t.Keys == config.KeysHash, Log: f.log, Counts: &f.counts,
	}
	if o == f.by {
		return
	}
	var next *traces.Exporter
	if o.URL != "" {
		var err error
		if next, err = traces.New(o); err != nil {
			f.log.Error("there are no traces", "error", err, "remedy", "correct traces.endpoint, or the environment")
		}
	}
	f.by = o
	if before := f.to.Swap(next); before != nil {
		go closeExporter(before)
	}
}

// closeExporter sends what waits, if the collector takes it soon.
func closeExporter(e *traces.Exporter) {
	ctx, cancel := context.WithTimeout(context.Background(), flushTime)
	defer cancel()
	e.Close(ctx)
}

// taker returns the function that takes what threads have recorded in a pool. It never blocks.
func (f *follower) taker(pool string) func(*journey.Batch) {
	return func(b *journey.Batch) {
		f.lines.Take(pool, b)
		if e := f.to.Load(); e != nil {
			e.Take(pool, b)
		}
	}
}

// close writes and sends what waits, within flushTime each.
func (f *follower) close() {
	f.lines.Close(flushTime)
	if e := f.to.Swap(nil); e != nil {
		closeExporter(e)
	}
}

// figures returns what was counted, for metrics.
func (f *follower) figures() admin.Followed {
	t, l := &f.counts, &f.lines.Counts
	return admin.Followed{
		Traces: admin.Outcomes{Done: t.Sent.Load(), Failed: t.Failed.Load(), Dropped: t.Dropped.Load()},
		Lines:  admin.Outcomes{Done: l.Written.Load(), Failed: l.Failed.Load(), Dropped: l.Dropped.Load()},
	}
}
