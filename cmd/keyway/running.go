package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/keyway-proxy/keyway/acl"
	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/machine"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/systemd"
	"github.com/keyway-proxy/keyway/topology"
	"github.com/keyway-proxy/keyway/wiring"
)

// running is a keyway that serves clients, and can reload its configuration.
type running struct {
	file string
	log  *slog.Logger
	out  *output
	srv  *server.Server
	next *trials

	systemd *systemd.Notifier // nil: systemd does not ask for messages

	reloading sync.Mutex
	cfg       atomic.Pointer[config.Config]
	observers atomic.Pointer[observers]
	admin     *adminListener                    // changed by reload alone
	later     chan *pool.Link                   // a node's register is of a later epoch
	watchers  sync.WaitGroup                    // the observers' goroutines
	read      atomic.Pointer[[sha256.Size]byte] // the contents of the watched files at the last reload
}

// observers look at the nodes while keyway serves.
type observers struct {
	survey *topology.Survey
	keys   *guard.Guard
	stop   context.CancelFunc
}

// observe replaces the observers by those of the configuration.
func (r *running) observe(ctx context.Context, cfg *config.Config, keys *guard.Guard) {
	ctx, stop := context.WithCancel(ctx)
	o := &observers{survey: wiring.NewSurvey(cfg, r.log, r.srv.Table), keys: keys, stop: stop}
	r.watchers.Go(func() { o.survey.Run(ctx) })
	r.watchers.Go(func() { o.keys.Run(ctx, r.srv.Table) })
	if before := r.observers.Swap(o); before != nil {
		before.stop()
	}
}

func (r *running) adminHandler(ctx context.Context) http.Handler {
	return admin.Handler(r.srv, admin.Options{
		Version: versionText(), DroppedLines: r.out.lines.Dropped, Surveyed: r.surveyed, Guarded: r.guarded,
		Disagreeing: func() int { return r.observers.Load().keys.Disagreeing() },
		Locks:       r.srv.Locks,
		LockFigures: r.srv.LockFigures,
		Certificates: func() (files []admin.Certificate) {
			for _, f := range config.Certificates(r.cfg.Load()) {
				files = append(files, admin.Certificate{File: f.File, NotAfter: f.NotAfter})
			}
			return files
		},
		InForce: func() (int64, bool) {
			cfg := r.cfg.Load()
			return cfg.Epoch(), cfg.Replaced() != nil
		},
		ReadyAll:  func() bool { return r.cfg.Load().Ready == config.ReadyAll },
		Placement: r.placement,
		Next:      r.next,
		Reload: func(_ context.Context, allowMisplaced bool) (string, error) {
			return r.reload(ctx, "keyway reload", allowMisplaced)
		},
	})
}

// setMemoryLimit tells the Go runtime how much memory the process may use.
func (r *running) setMemoryLimit() {
	if limit := r.srv.MemoryLimit(); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
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

// logAddresses logs where keyway listens.
func (r *running) logAddresses(cfg *config.Config) {
	for _, a := range r.srv.Addrs() {
		r.log.Info("listening", "addr", a.String(),
			"layout", cfg.Layout, "threads", cfg.Threads.Count(machine.Available()), "version", versionText())
	}
	r.logProtected(cfg)
}

// logProtected warns if clients of other machines are refused because they need no password.
func (r *running) logProtected(cfg *config.Config) {
	if addrs := wiring.Protected(cfg); len(addrs) > 0 {
		r.log.Warn(protectedText(addrs))
	}
}

// tellSystemd tells systemd when all threads serve, and when ctx ends, that keyway stops. Until
// beside ends, it also tells that the threads are alive.
func (r *running) tellSystemd(ctx, beside context.Context) {
	if _, err := r.srv.Snapshot(ctx); err == nil {
		r.systemd.Ready(r.status(nil))
	}
	r.watchers.Go(func() {
		r.systemd.Watch(beside, func(ctx context.Context) error {
			_, err := r.srv.Snapshot(ctx)
			return err
		}, func(err error) {
			r.log.Error("a thread does not answer; systemd will restart keyway if that goes on", "error", err)
		})
	})
	select {
	case <-ctx.Done():
		s := r.cfg.Load().Shutdown
		r.systemd.Stopping("stopping: finishing what is under way", s.Delay+s.Timeout+stopSlack)
	case <-beside.Done():
	}
}

// stopSlack is the time that stopping may take beyond shutdown.delay and shutdown.timeout.
const stopSlack = 5 * time.Second

// status returns the line that `systemctl status` shows. err is that of the last reload.
func (r *running) status(err error) string {
	addrs := r.srv.Addrs()
	texts := make([]string, len(addrs))
	for i, a := range addrs {
		texts[i] = a.String()
	}
	line := fmt.Sprintf("serving %s on %s", r.cfg.Load().Layout, strings.Join(texts, ", "))
	if err != nil {
		line += fmt.Sprintf("; not reloaded, nothing was changed: %v", err)
	}
	return line
}

// reload is reloadFile for one caller at a time. It tells systemd about it.
func (r *running) reload(ctx context.Context, cause string, allowMisplaced bool) (report string, err error) {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	r.systemd.Reloading(systemd.Monotonic())
	report, err = r.reloadFile(ctx, cause, allowMisplaced)
	r.systemd.Ready(r.status(err))
	return report, err
}

// reloadFile reads the file again and applies all changes or none. It returns and logs the
// changes. cause is what triggered the reload. ctx is the context of the process, because
// the observers and followers that a reload starts outlive the request.
func (r *running) reloadFile(ctx context.Context, cause string, allowMisplaced bool) (report string, err error) {
	old, files := r.cfg.Load(), r.watched()
	before := contentsOf(files)
	r.read.Store(&before)
	next, err := load(r.file)
	read := before
	if err == nil && !slices.Equal(r.watchedBy(next), files) {
		read = contentsOf(r.watchedBy(next)) // before the file is read, so that a later change is noticed
		next, err = load(r.file)
	}
	var changes []config.Change
	var trial func()
	if err == nil {
		trial, err = r.trialOf(next)
	}
	var l *adminListener
	if err == nil {
		next, err = wiring.InForce(ctx, next, old, r.log)
	}
	if err == nil {
		l, err = listenAdmin(next, r.admin)
	}
	if err == nil {
		allowed := allowMisplaced || next.Epoch() > old.Epoch()
		if changes, err = wiring.Reload(ctx, r.srv, old, next, allowed, r.log); err != nil {
			l.close()
		}
	}
	if err != nil {
		r.log.Error("not reloaded; nothing was changed", "file", r.file, "cause", cause, "error", err)
		return "", err
	}
	trial()
	wiring.LogInForce(next, r.log)
	inForce := inForceReport(old, next)
	if len(changes) == 0 && inForce == "" {
		r.cfg.Store(next)
		r.log.Info("reloaded; the file says what it said before", "file", r.file, "cause", cause)
		return fmt.Sprintf("%s says what it said before\n", r.file), nil
	}
	r.use(ctx, next, changes)
	r.read.Store(&read)
	r.serveAdmin(ctx, l)
	var text strings.Builder
	fmt.Fprintf(&text, "reloaded %s\n", r.file)
	for _, c := range changes {
		r.log.Info("configuration changed", c.LogFields()...)
		fmt.Fprintf(&text, "  %s\n", c)
	}
	text.WriteString(inForce)
	r.log.Info("reloaded", "file", r.file, "cause", cause, "changes", len(changes))
	return text.String(), nil
}

// logCertificates warns of certificates that have expired or soon will.
func (r *running) logCertificates(cfg *config.Config) {
	for _, f := range config.Certificates(cfg) {
		if warning := f.Warning(time.Now()); warning != "" {
			r.log.Warn(warning, "file", f.File)
		}
	}
}

// trialOf returns the function that begins to try the layout that placement.next names.
func (r *running) trialOf(cfg *config.Config) (func(), error) {
	next, table, err := wiring.Next(cfg)
	return func() { r.next.setFile(next, table) }, err
}

// tryNext begins to try the layout that placement.next names. Without that, keyway serves all
// the same: the file may be gone because the layout is in force now.
func (r *running) tryNext() {
	trial, err := r.trialOf(r.cfg.Load())
	if err != nil {
		r.log.Error("cannot count what the next layout would refuse", "error", err)
		return
	}
	trial()
}

// use makes the process and the observers follow a configuration that the server has taken.
func (r *running) use(ctx context.Context, next *config.Config, changes []config.Change) {
	r.cfg.Store(next)
	r.logCertificates(next)
	r.logOpenUser(next)
	if slices.ContainsFunc(changes, concernsProtection) {
		r.logProtected(next)
	}
	r.setMemoryLimit()
	_ = r.out.set(next.Log) // package config has checked both
	if slices.ContainsFunc(changes, concernsObservers) {
		r.observe(ctx, next, wiring.NewGuard(next, r.log))
	}
	if slices.ContainsFunc(changes, concernsLockNodes) {
		r.surveyLocks(ctx, next)
	}
}

// surveyLocks logs what is wrong with the nodes of locks.quorum, while keyway serves.
func (r *running) surveyLocks(ctx context.Context, cfg *config.Config) {
	r.watchers.Go(func() { wiring.SurveyLocks(ctx, cfg, r.srv.Table(), r.log) })
}

// concernsLockNodes reports whether the changed key says which nodes hold locks, or how keyway
// logs in to them.
func concernsLockNodes(c config.Change) bool {
	return strings.HasPrefix(c.Path, "locks.quorum") || strings.HasPrefix(c.Path, "backend")
}

// concernsProtection reports whether the changed key decides whom protected mode refuses.
func concernsProtection(c config.Change) bool {
	keys := []string{"listen", "users", "clients.password", "protected_mode"}
	return slices.ContainsFunc(keys, func(key string) bool { return strings.HasPrefix(c.Path, key) })
}

// concernsObservers reports whether the observers use the changed key.
func concernsObservers(c config.Change) bool {
	return c.Effect == config.IfNothingMoves ||
		slices.ContainsFunc([]string{"nodes", "slots", "backend", "placement"}, func(section string) bool {
			return strings.HasPrefix(c.Path, section)
		})
}

// lookInterval is the time between two looks at the files. They are small, so keyway compares
// their contents. Events of the file system would miss a replaced file, a symbolic link with
// a new target, and a file that another machine has changed.
const lookInterval = time.Second

// reloadOn reloads when a signal arrives, and when the contents of the watched files have
// changed: of the configuration with `watch: true`, and of files with passwords and certificates.
func (r *running) reloadOn(ctx context.Context, signals <-chan os.Signal) {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	read := contentsOf(r.watched())
	r.read.Store(&read)
	seen := read
	for {
		select {
		case <-ctx.Done():
			return
		case <-signals:
			_, _ = r.reload(ctx, "SIGHUP", false) // it logs its error
		case <-ticker.C:
			now := contentsOf(r.watched())
			// The contents have to be the same in two looks: a file that is being written
			// is incomplete.
			if now == seen && now != *r.read.Load() {
				_, _ = r.reload(ctx, "a changed file", false)
			}
			seen = now
		}
	}
}

// watched returns the files whose changes cause a reload.
func (r *running) watched() []string { return r.watchedBy(r.cfg.Load()) }

// watchedBy returns the files whose changes cause a reload if cfg is in force.
func (r *running) watchedBy(cfg *config.Config) []string {
	files := cfg.SecretFiles()
	if cfg.Watch {
		files = append(files, r.file)
	}
	if next := cfg.NextFile(); cfg.Watch && next != "" {
		files = append(files, next)
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

// usersFile is the users_file of a running keyway, for ACL LOAD and ACL SAVE.
type usersFile struct{ *running }

// userError is an error for the client in Redis's own words.
type userError string

func (e userError) Error() string { return string(e) }

// errNotSaved answers ACL SAVE if the file could not be written (acl.c, aclCommand).
const errNotSaved = userError("There was an error trying to save the ACLs. " +
	"Please check the server logs for more information")

// reasonOf returns why a file could not be read, as strerror(3) has it.
func reasonOf(err error) string {
	var number syscall.Errno
	if !errors.As(err, &number) {
		return err.Error()
	}
	text := number.Error()
	return strings.ToUpper(text[:1]) + text[1:]
}

// Load implements server.UsersFile.
func (r usersFile) Load(use func(*acl.Users)) error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	cfg := r.cfg.Load()
	if cfg.UsersFile == "" {
		return server.ErrNoUsersFile
	}
	text, err := config.UsersText(cfg)
	if err != nil {
		r.log.Error("cannot read the file of users", "file", cfg.UsersFile, "error", err)
		return userError(fmt.Sprintf("Error loading ACLs, opening file '%s': %s", cfg.UsersFile, reasonOf(err)))
	}
	if problem := acl.FileErrors(cfg.UsersFile, text); problem != "" {
		return userError(problem)
	}
	next, err := config.WithUsersText(cfg, text)
	if err != nil {
		return err
	}
	users, err := wiring.Users(next)
	if err != nil {
		return err
	}
	use(users)
	r.cfg.Store(next)
	return nil
}

// Save implements server.UsersFile.
func (r usersFile) Save() error {
	r.reloading.Lock()
	defer r.reloading.Unlock()
	cfg := r.cfg.Load()
	if cfg.UsersFile == "" {
		return server.ErrNoUsersFile
	}
	users := r.srv.Users()
	text := users.Text()
	if len(cfg.Clients.Password) > 0 {
		// The configuration defines the default user, and the file must not.
		if of, err := wiring.Users(cfg); err == nil && of.Default.Line() == users.Default.Line() {
			text = users.Text(acl.DefaultName)
		}
	}
	next, err := config.WithUsersText(cfg, text)
	if err == nil {
		err = config.WriteUsers(cfg, text)
	}
	if err != nil {
		r.log.Error("cannot save the users", "file", cfg.UsersFile, "error", err)
		return errNotSaved
	}
	r.cfg.Store(next) // so that the changed file is nothing new
	r.log.Info("users saved", "file", cfg.UsersFile)
	return nil
}

// openUser returns a warning if there are users, and clients can run all commands without being
// one of them. It is empty otherwise.
func openUser(cfg *config.Config) string {
	users, err := wiring.Users(cfg)
	if err != nil || len(users.Names()) == 1 || !users.IsOpen() {
		return ""
	}
	return "there are users, but clients that do not authenticate can run all commands as the default user; " +
		"write a line \"user default off\", or give that user a password"
}

// logOpenUser warns if there are users and the default user is open.
func (r *running) logOpenUser(cfg *config.Config) {
	if warning := openUser(cfg); warning != "" {
		r.log.Warn(warning)
	}
}
