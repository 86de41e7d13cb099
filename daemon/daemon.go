package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"syscall"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/passwords"
	"github.com/keyway-proxy/keyway/server"
)

// Options are what the process is started with.
type Options struct {
	File    string                       // of the configuration
	Load    func() (config.Pools, error) // reads the file
	Version string                       // of the program
	Log     config.Log                   // how to log, whatever the file says; empty: as it says
	LogTo   io.Writer
	// Listening, if not nil, is called when the first pool serves, with the addresses of its listeners.
	Listening func(addrs []net.Addr)
}

// Serve runs keyway until ctx ends. It stops in this order: /readyz fails, no new clients,
// commands under way finish, loops end, topology ends. The admin address ends last, so
// that operators can watch.
func Serve(ctx context.Context, o Options) error {
	pools, err := o.Load()
	if err != nil {
		return err
	}
	out, err := newLog(o.LogTo, o.Log, pools[0].Log)
	if err != nil {
		return err
	}
	defer out.lines.Close(flushTime)
	recorded := newAuditor(out)
	defer recorded.lines.Close(flushTime)
	if err := refuseAuditFile(pools[0]); err != nil {
		return err
	}
	if err := refuseAccessLog(pools[0]); err != nil {
		return err
	}
	recorded.use(pools[0])
	events := new(overview.Recorder)
	log := slog.New(events.Handler(out.handler))
	followed := newFollower(log, o.Version, os.Stdout)
	defer followed.close()
	followed.use(pools[0])
	r := &running{
		file: o.File, load: o.Load, version: o.Version, log: log, out: out, events: events,
		records: records{audit: recorded, follow: followed},
		systemd: systemdOf(log), passed: passedSockets(), isMain: make(chan struct{}),
		doors:     doors{admin: new(adminListener)},
		passwords: passwords.NewKeeper(log),
	}
	recorded.seen = r.showDeed
	return r.serve(ctx, pools, o.Listening)
}

// serve serves the pools until ctx ends. listening is as in Options.
func (r *running) serve(ctx context.Context, pools config.Pools, listening func([]net.Addr)) error {
	signal.Ignore(syscall.SIGPIPE) // until the process ends
	hangups, upgrades := make(chan os.Signal, 1), make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // also while keyway starts: a lost terminal must not end it
	signal.Notify(upgrades, syscall.SIGUSR2)
	defer signal.Stop(hangups)
	defer signal.Stop(upgrades)
	before, err := meetPredecessor(pools[0])
	if err != nil {
		return fmt.Errorf("taking over from another process: %w", err)
	}
	// What looks at the nodes and the admin address run until the servers have ended.
	beside, stopBeside := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeside()
	host, err := server.NewHost(pools[0])
	if err != nil {
		return err
	}
	ctx, end := context.WithCancelCause(ctx)
	stop := func() { end(nil) }
	defer stop()
	r.host, r.ctx, r.stop, r.end, r.beside, r.before = host, ctx, stop, end, beside, before
	if err := r.runCommands(ctx, pools); err != nil {
		return err
	}
	r.upgrading.Store(before != nil)
	inheritedAdmin := before.adminListener(pools[0].Admin.Listen) // first: the other sockets are for the pools
	var all []*served
	for _, cfg := range pools {
		p, err := r.newServed(ctx, cfg)
		if err != nil {
			return err
		}
		all = append(all, p)
	}
	before.closeUnused()
	r.pools.Store(&all)
	r.setMemoryLimit()
	l, err := listenAdmin(pools[0], inheritedAdmin)
	if err != nil {
		return err
	}
	for _, p := range all {
		p.start()
	}
	r.warnUnused()
	r.logAdmin()
	r.watch(l, hangups, upgrades)
	if listening != nil {
		listening(r.first().srv.Addrs())
	}
	err = r.serving.Wait()
	stopBeside()
	r.watchers.Wait()
	r.log.Info("stopped")
	return err
}

// watch begins to serve operators, and to do what does not come from clients, until r.beside ends.
func (r *running) watch(admin *adminListener, hangups, upgrades <-chan os.Signal) {
	if before := r.before; before != nil {
		r.watchers.Go(func() { r.takeOver(r.beside, before, admin) })
	} else {
		r.serveAdmin(r.beside, admin)
		r.serveConsole(r.beside, r.consoleAddr())
		close(r.isMain)
	}
	r.watchers.Go(func() { r.tellSystemd(r.ctx, r.beside) })
	r.watchers.Go(func() { r.reloadOn(r.beside, hangups) })
	r.watchers.Go(func() { r.upgradeOn(r.beside, upgrades) })
	r.watchers.Go(func() { r.passwords.Run(r.beside, r.usePasswords) })
}
