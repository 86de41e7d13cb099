package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/passwords"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/wiring"
	"github.com/spf13/cobra"
)

func serveCommand() *cobra.Command {
	var file string
	var flags config.Log
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve clients according to a configuration file",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			pools, err := loadPools(file)
			if err != nil {
				return err
			}
			log, out, err := newLog(cmd.ErrOrStderr(), flags, pools[0].Log)
			if err != nil {
				return err
			}
			defer out.lines.Close(flushTime)
			return serve(cmd.Context(), file, pools, log, out)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&flags.Format, "log-format", "", "how to log: text or json, whatever the file says")
	cmd.Flags().StringVar(&flags.Level, "log-level", "",
		"what to log: debug, info, warn or error, whatever the file says")
	return cmd
}

func configFlag(cmd *cobra.Command, file *string) {
	cmd.Flags().StringVarP(file, "config", "c", "keyway.yml", "the configuration `file`")
	_ = cmd.MarkFlagFilename("config", "yml", "yaml") // for shell completion only
}

// noArguments refuses arguments: the command takes its file by a flag.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%s takes no argument %q; name the configuration file with --config",
			cmd.CommandPath(), args[0])
	}
	return nil
}

// loadPools reads the file named by --config.
func loadPools(file string) (config.Pools, error) {
	pools, err := config.LoadPools(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w; name the file with --config", err)
	case errors.Is(err, syscall.EISDIR):
		err = fmt.Errorf("%w; name the file in it, such as --config %s", err, filepath.Join(file, "keyway.yml"))
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w; let the user that runs keyway read it", err)
	}
	return pools, err
}

// load reads the file named by --config, and returns the pool named by --pool, or its only one.
func load(file, pool string) (*config.Config, error) {
	pools, err := loadPools(file)
	if err != nil {
		return nil, err
	}
	return pools.Choose(pool)
}

// poolFlag adds the flag --pool.
func poolFlag(cmd *cobra.Command, pool *string) {
	cmd.Flags().StringVar(pool, "pool", "", "the `name` of the pool, if the file has several")
}

// twoFiles requires two arguments: the files of the old and of the new configuration.
func twoFiles(cmd *cobra.Command, files []string) error {
	if len(files) != 2 {
		return fmt.Errorf("%s needs two files; write %[1]s OLD.yml NEW.yml", cmd.CommandPath())
	}
	return nil
}

// loadBoth reads the old and the new configuration of a pool.
func loadBoth(files []string, pool string) (older, newer *config.Config, err error) {
	if older, err = load(files[0], pool); err != nil {
		return nil, nil, err
	}
	newer, err = load(files[1], pool)
	return older, newer, err
}

// logIn runs the commands that print the passwords of configurations, for a tool that asks their
// nodes. It runs them again when the passwords expire, until ctx ends.
func logIn(ctx context.Context, all ...*config.Config) error {
	k := passwords.NewKeeper(nil)
	for _, c := range all {
		if err := wiring.RunCommands(ctx, c, k); err != nil {
			return err
		}
	}
	go k.Run(ctx, func() {})
	return nil
}

// serve runs keyway until ctx ends. It stops in this order: /readyz fails, no new clients,
// commands under way finish, loops end, topology ends. The admin address ends last, so
// that operators can watch.
func serve(ctx context.Context, file string, pools config.Pools, log *slog.Logger, out *output) error {
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
	r := &running{
		file: file, log: log, out: out, host: host, ctx: ctx, stop: stop, end: end, beside: beside, before: before,
		systemd: systemdOf(log), passed: passedSockets(), admin: new(adminListener), isMain: make(chan struct{}),
		passwords: passwords.NewKeeper(log),
	}
	if err := r.runCommands(ctx, pools); err != nil {
		return err
	}
	r.upgrading.Store(before != nil)
	inheritedAdmin := before.adminListener(pools[0].Admin) // first: the other sockets are for the pools
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
	r.watch(l, hangups, upgrades)
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
		close(r.isMain)
	}
	r.watchers.Go(func() { r.tellSystemd(r.ctx, r.beside) })
	r.watchers.Go(func() { r.reloadOn(r.beside, hangups) })
	r.watchers.Go(func() { r.upgradeOn(r.beside, upgrades) })
	r.watchers.Go(func() { r.passwords.Run(r.beside, r.usePasswords) })
}
