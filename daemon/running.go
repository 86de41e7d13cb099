package daemon

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/audit"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/passwords"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/systemd"
	"github.com/keyway-proxy/keyway/wiring"
)

// records are what keyway writes besides its log.
type records struct {
	audit  *auditor
	follow *follower
}

// running is a keyway that serves clients, and can reload its configuration.
type running struct {
	file    string
	load    func() (config.Pools, error) // reads it
	version string
	log     *slog.Logger
	out     *output
	events  *overview.Recorder // of the process
	records
	host   *server.Host
	ctx    context.Context // ends when keyway is to stop
	stop   context.CancelFunc
	beside context.Context // ends when it has stopped

	passwords *passwords.Keeper // of all pools

	end    context.CancelCauseFunc // ends ctx for a reason
	before *predecessor            // that this process replaces; nil: none

	upgrading atomic.Bool // this process, or the one that it replaces, makes way; admin must not change otherwise
	successor int         // the id of the process that replaces this one

	systemd *systemd.Notifier // nil: systemd does not ask for messages
	isMain  chan struct{}     // closed when systemd knows this process as the service's main one
	passed  []server.Passed   // the sockets that systemd has opened

	reloading sync.Mutex
	pools     atomic.Pointer[[]*served]         // in the order of the file
	serving   errgroup.Group                    // the pools' servers
	doors                                       // changed by reload alone
	watchers  sync.WaitGroup                    // goroutines that look at nodes and serve operators
	read      atomic.Pointer[[sha256.Size]byte] // the contents of the watched files at the last reload
}

// first returns a pool. All of them have the same values of what belongs to the process.
func (r *running) first() *served { return (*r.pools.Load())[0] }

// find returns the pool with that name, or nil.
func (r *running) find(name string) *served {
	for _, p := range *r.pools.Load() {
		if p.name == name {
			return p
		}
	}
	return nil
}

// configs returns the configurations that are in force.
func (r *running) configs() (all config.Pools) {
	for _, p := range *r.pools.Load() {
		all = append(all, p.cfg.Load())
	}
	return all
}

func (r *running) adminHandler(ctx context.Context) http.Handler {
	pools := func() (all []admin.Pool) {
		for _, p := range *r.pools.Load() {
			all = append(all, p.forAdmin())
		}
		return all
	}
	return admin.PoolsHandler(pools, admin.Options{
		Version: r.version,
		Counted: admin.Counted{
			DroppedLines: func() uint64 { return r.out.lines.Dropped() + r.audit.lines.Dropped() },
			Followed:     r.follow.figures,
		},
		Reload: func(_ context.Context, allowMisplaced bool) (string, error) {
			return r.reload(ctx, "keyway reload", allowMisplaced)
		},
		Upgrade: func() (string, error) { return r.upgrade("keyway upgrade") },
		LogLevel: &admin.LogLevel{Get: r.out.levelText, Set: func(level string) (string, error) {
			return r.setLogLevel(level)
		}},
		Audit: r.deedOfAdmin,
		Who: admin.Who{
			Tokens: func() []string { return r.first().cfg.Load().Admin.Tokens() },
			OperatorName: func(cert *x509.Certificate) string {
				if by := r.first().cfg.Load().Admin.TLS; by != nil {
					return strings.Join(by.Users(cert), ", ")
				}
				return ""
			},
		},
	})
}

// setMemoryLimit tells the Go runtime how much memory the process may use.
func (r *running) setMemoryLimit() {
	if limit := r.first().srv.MemoryLimit(); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
}

// systemdOf returns the way to systemd. If there is none, keyway serves all the same.
func systemdOf(log *slog.Logger) *systemd.Notifier {
	n, err := systemd.FromEnvironment()
	if err != nil {
		log.Warn("cannot tell systemd that keyway runs, so it may end keyway", "error", err)
	}
	return n
}

// turns returns an error unless all threads of all pools answer before ctx ends.
func (r *running) turns(ctx context.Context) error {
	for _, p := range *r.pools.Load() {
		if _, err := p.srv.Snapshot(ctx); err != nil {
			return err
		}
	}
	return nil
}

// passedSockets returns the sockets that systemd has opened for this process.
func passedSockets() (passed []server.Passed) {
	for _, s := range systemd.PassedSockets() {
		passed = append(passed, server.Passed{Name: s.Name, File: s.File})
	}
	return passed
}

// warnUnused warns of sockets that systemd has opened and no pool takes.
func (r *running) warnUnused() {
	for _, s := range r.passed {
		isUsed := slices.ContainsFunc(r.configs(), func(c *config.Config) bool {
			return c.Listen.Find(config.Activated+s.Name) != nil
		})
		if !isUsed {
			r.log.Warn("systemd listens for keyway where keyway does not accept clients, so they wait for ever",
				"socket", s.Name, "remedy", "write listen: systemd:"+s.Name+", or disable the .socket unit")
		}
	}
}

// tellSystemd tells systemd when all threads serve, and when ctx ends, that keyway stops. Until
// beside ends, it also tells that the threads are alive. systemd hears the service's main process only.
func (r *running) tellSystemd(ctx, beside context.Context) {
	select {
	case <-r.isMain:
	case <-beside.Done():
	}
	if r.turns(ctx) == nil {
		r.systemd.Ready(r.status(nil))
	}
	r.watchers.Go(func() {
		r.systemd.Watch(beside, r.turns, func(err error) {
			r.log.Error("a thread does not answer; systemd will restart keyway if that goes on", "error", err)
		})
	})
	select {
	case <-ctx.Done():
		if context.Cause(ctx) == server.ErrHandedOver {
			return // the service goes on
		}
		s := r.first().cfg.Load().Shutdown
		r.systemd.Stopping("stopping: closing the clients", s.Delay+s.Drain+s.Timeout+stopSlack)
	case <-beside.Done():
	}
}

// stopSlack is the time that stopping may take beyond the sum of shutdown's durations.
const stopSlack = 5 * time.Second

// status returns the line that `systemctl status` shows. err is that of the last reload.
func (r *running) status(err error) string {
	var pools []string
	for _, p := range *r.pools.Load() {
		text := fmt.Sprintf("%s on %s", p.cfg.Load().Layout, p.addresses())
		if p.name != "" {
			text = "pool " + p.name + ": " + text
		}
		pools = append(pools, text)
	}
	line := "serving " + strings.Join(pools, "; ")
	if err != nil {
		line += fmt.Sprintf("; not reloaded, nothing was changed: %v", err)
	}
	return line
}

// reload is reloadFile for one caller at a time. It tells systemd about it.
func (r *running) reload(ctx context.Context, cause string, allowMisplaced bool) (report string, err error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	if r.upgrading.Load() {
		r.log.Error("not reloaded; nothing was changed", "file", r.file, "cause", cause, "error", errUpgrading)
		return "", errUpgrading
	}
	r.systemd.Reloading(systemd.Monotonic())
	report, err = r.reloadFile(ctx, cause, allowMisplaced)
	r.systemd.Ready(r.status(err))
	return report, err
}

// reloadFile reads the file again and applies all changes or none. It returns and logs the
// changes. cause is what triggered the reload. ctx is the context of the process, because
// the observers and followers that a reload starts outlive the request.
func (r *running) reloadFile(ctx context.Context, cause string, allowMisplaced bool) (report string, err error) {
	files := watchedBy(r.file, r.configs())
	before := contentsOf(files)
	r.read.Store(&before)
	next, err := r.load()
	read := before
	if err == nil && !slices.Equal(watchedBy(r.file, next), files) {
		read = contentsOf(watchedBy(r.file, next)) // before the file is read, so that a later change is noticed
		next, err = r.load()
	}
	defer r.forgetPasswords()
	if err == nil {
		err = r.runCommands(ctx, next)
	}
	var n *nextPools
	if err == nil {
		n, err = r.prepare(ctx, next, allowMisplaced)
	}
	if err != nil {
		r.log.Error("not reloaded; nothing was changed", "file", r.file, "cause", cause, "error", err)
		return "", err
	}
	lines := n.apply(ctx)
	if len(lines) == 0 {
		r.log.Info("reloaded; the file says what it said before", "file", r.file, "cause", cause)
		return fmt.Sprintf("%s says what it said before\n", r.file), nil
	}
	r.read.Store(&read)
	r.log.Info("reloaded", "file", r.file, "cause", cause, "changes", n.count)
	return fmt.Sprintf("reloaded %s\n%s", r.file, strings.Join(lines, "")), nil
}

// runCommands runs the commands that print the passwords of pools, unless it has done so for the
// pools that are in force.
func (r *running) runCommands(ctx context.Context, pools config.Pools) error {
	for _, cfg := range pools {
		if err := wiring.RunCommands(ctx, cfg, r.passwords); err != nil {
			return err
		}
	}
	return nil
}

// forgetPasswords ends the commands of pools that are not in force.
func (r *running) forgetPasswords() {
	var used []*passwords.Password
	for _, cfg := range r.configs() {
		used = slices.AppendSeq(used, maps.Values(wiring.Printed(cfg)))
	}
	r.passwords.Retain(used)
}

// usePasswords makes the pools use what their commands have printed. During an upgrade it does nothing,
// and is called again at the end.
func (r *running) usePasswords() {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	if r.upgrading.Load() {
		return
	}
	for _, p := range *r.pools.Load() {
		old := p.cfg.Load()
		next := config.WithPrinted(old)
		changes := old.Changes(next)
		if len(changes) == 0 {
			continue
		}
		if err := wiring.UsePasswords(p.srv, next); err != nil {
			p.log.Error("cannot use a new password", "error", err)
			continue
		}
		p.cfg.Store(next)
		for _, c := range changes {
			r.log.Info("new password", c.LogFields()...)
		}
	}
}

// lookInterval is the time between two looks at the files. They are small, so keyway compares
// their contents. Events of the file system would miss a replaced file, a symbolic link with
// a new target, and a file that another machine has changed.
const lookInterval = time.Second

// reloadOn reloads when a signal arrives, and when the contents of the watched files have
// changed: of the configuration with `watch: true`, and of files with passwords and certificates.
func (r *running) reloadOn(ctx context.Context, signals <-chan os.Signal) {
	look := time.NewTimer(lookInterval)
	defer look.Stop()
	read := contentsOf(watchedBy(r.file, r.configs()))
	r.read.Store(&read)
	seen := read
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			report, err := r.reload(ctx, "SIGHUP", false) // it logs its error
			r.signalled("reload", audit.ViaSignal, report, err)
		case <-look.C:
			now := contentsOf(watchedBy(r.file, r.configs()))
			// The contents have to be the same in two looks: a file that is being written is incomplete. A ticker
			// that was late would look twice at once.
			if now == seen && now != *r.read.Load() {
				report, err := r.reload(ctx, "a changed file", false)
				r.signalled("reload", audit.ViaFile, report, err)
			}
			seen = now
			look.Reset(lookInterval)
		}
	}
}

// watchedBy returns the files whose changes cause a reload if the pools of a file are in force.
func watchedBy(file string, pools config.Pools) (files []string) {
	if pools[0].Watch {
		files = append(files, file)
	}
	for _, cfg := range pools {
		files = append(files, cfg.SecretFiles()...)
		if next := cfg.NextFile(); cfg.Watch && next != "" {
			files = append(files, next)
		}
	}
	return files
}

// contentsOf returns a hash of the files' names and contents.
func contentsOf(files []string) [sha256.Size]byte {
	h := sha256.New()
	for _, name := range files {
		text, err := os.ReadFile(name)
		sum := sha256.Sum256(text)
		fmt.Fprintf(h, "%q %v %x\n", name, err == nil, sum)
	}
	return [sha256.Size]byte(h.Sum(nil))
}
