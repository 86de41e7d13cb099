package daemon

import (
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyway-proxy/keyway/accesslog"
	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/overview"
)

// auditor records what operators did, in the log or in a file of its own.
type auditor struct {
	log    slog.Handler
	file   slog.Handler    // to lines
	lines  *admin.LogQueue // to a
	path   atomic.Pointer[string]
	failed atomic.Bool      // the last line could not be written
	seen   func(audit.Deed) // called for each deed with a line; nil: nobody looks

	mu      sync.Mutex // of refusals
	refused time.Time  // when one was last written
	dropped int        // refusals since then
}

// newAuditor returns an auditor that writes to the log until use names a file.
func newAuditor(log *output) *auditor {
	a := &auditor{log: log.handler}
	a.path.Store(new(string))
	a.lines = admin.NewLogQueue(a)
	a.file = slog.NewJSONHandler(a.lines, nil)
	return a
}

// refuseAuditFile returns an error if the file of a configuration cannot be written.
func refuseAuditFile(cfg *config.Config) error {
	path := config.AuditFile(cfg)
	if path == "" {
		return nil
	}
	file, err := accesslog.Open(path)
	if err != nil {
		return cfg.Errorf("audit.file", "let keyway's user write the file", "%v", err)
	}
	return file.Close()
}

// use makes a configuration say where to.
func (a *auditor) use(cfg *config.Config) {
	path := config.AuditFile(cfg)
	a.path.Store(&path)
}

// Write implements io.Writer for the queue: it appends a line to the file.
func (a *auditor) Write(line []byte) (n int, err error) {
	file, err := accesslog.Open(*a.path.Load())
	if err == nil {
		n, err = file.Write(line)
		if problem := file.Close(); err == nil {
			err = problem
		}
	}
	if before := a.failed.Swap(err != nil); err != nil && !before {
		slog.New(a.log).Error("cannot write what operators do", "error", err)
	}
	return n, err
}

// record records a deed. It never blocks.
func (a *auditor) record(d audit.Deed) {
	if d.Err == admin.ErrStranger && !a.mayRefuse(&d) {
		return
	}
	to := a.log
	if *a.path.Load() != "" {
		to = a.file
	}
	_ = audit.Record(to, time.Now(), d) // queues do not fail
	if a.seen != nil {
		a.seen(d)
	}
}

// mayRefuse reports whether a refusal gets a line. One a second does, so that strangers cannot flood the log.
func (a *auditor) mayRefuse(d *audit.Deed) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if now.Sub(a.refused) < time.Second {
		a.dropped++
		return false
	}
	d.Unwritten, a.refused, a.dropped = a.dropped, now, 0
	return true
}

// withPool returns a function that records deeds in a pool.
func (a *auditor) withPool(name string) func(audit.Deed) {
	return func(d audit.Deed) {
		d.Pool = name
		a.record(d)
	}
}

// showDeed makes a deed an event of its pool. What strangers are refused, and what programs do again and
// again, would drive other events out. Other lines of the log are the events of what signals and files do.
func (r *running) showDeed(d audit.Deed) {
	if d.Err == admin.ErrStranger || d.IsFrequent || d.Addr == "" && d.User == "" {
		return
	}
	e := overview.Event{Time: time.Now(), Kind: overview.OperatorEvent, Text: d.Action, Bad: d.Err != nil}
	for _, f := range [][2]string{{"result", d.Result}, {"user", d.User}, {"addr", d.Addr}, {"via", d.Via}} {
		if f[1] != "" {
			e.Fields = append(e.Fields, f[0]+"="+f[1])
		}
	}
	if d.Err != nil {
		e.Fields = append(e.Fields, "error="+d.Err.Error())
	}
	to := r.events
	if r.pools.Load() != nil {
		if p := r.find(d.Pool); p != nil {
			to = p.events
		}
	}
	to.Add(e)
}

// oneLine returns a report of several lines in one.
func oneLine(report string) string {
	lines := strings.Split(strings.TrimSpace(report), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	return strings.Join(lines, "; ")
}

// signalled records what a signal, or a changed file, has made keyway do.
func (r *running) signalled(action, via, report string, err error) {
	r.audit.record(audit.Deed{Action: action, Via: via, Result: oneLine(report), Err: err})
}

// deedOfAdmin records what a request to the admin address did.
func (r *running) deedOfAdmin(d audit.Deed) {
	d.Result = oneLine(d.Result)
	r.audit.record(d)
}
