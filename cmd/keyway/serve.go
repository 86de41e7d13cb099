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

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/wiring"
)

func serveCommand() *cobra.Command {
	var file string
	var flags config.Log
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve clients according to a configuration file",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := load(file)
			if err != nil {
				return err
			}
			log, out, err := newLog(cmd.ErrOrStderr(), flags, cfg.Log)
			if err != nil {
				return err
			}
			defer out.lines.Close(flushTime)
			return serve(cmd.Context(), file, cfg, log, out)
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

// load reads the file named by --config.
func load(file string) (*config.Config, error) {
	cfg, err := config.Load(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		err = fmt.Errorf("%w; name the file with --config", err)
	case errors.Is(err, syscall.EISDIR):
		err = fmt.Errorf("%w; name the file in it, such as --config %s", err, filepath.Join(file, "keyway.yml"))
	case errors.Is(err, fs.ErrPermission):
		err = fmt.Errorf("%w; let the user that runs keyway read it", err)
	}
	return cfg, err
}

// twoFiles requires two arguments: the files of the old and of the new configuration.
func twoFiles(cmd *cobra.Command, files []string) error {
	if len(files) != 2 {
		return fmt.Errorf("%s needs two files; write %[1]s OLD.yml NEW.yml", cmd.CommandPath())
	}
	return nil
}

// loadBoth reads the old and the new configuration.
func loadBoth(files []string) (older, newer *config.Config, err error) {
	if older, err = load(files[0]); err != nil {
		return nil, nil, err
	}
	newer, err = load(files[1])
	return older, newer, err
}

// serve runs keyway until ctx ends. It stops in this order: /readyz fails, no new clients,
// commands under way finish, loops end, topology ends. The admin address ends last, so
// that operators can watch.
func serve(ctx context.Context, file string, cfg *config.Config, log *slog.Logger, out *output) error {
	signal.Ignore(syscall.SIGPIPE) // until the process ends
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // also while keyway starts: a lost terminal must not end it
	defer signal.Stop(hangups)
	cfg, err := wiring.InForce(ctx, cfg, nil, log)
	if err != nil {
		return err
	}
	wiring.LogInForce(cfg, log)
	keys, err := wiring.Admit(ctx, cfg, log)
	if err != nil {
		return err
	}
	r := &running{
		file: file, log: log, out: out, systemd: systemdOf(log),
		admin: new(adminListener), later: make(chan *pool.Link, 1),
	}
	r.srv, err = wiring.NewServer(cfg, server.Options{
		Log: log, Version: versionText(), LaterEpoch: r.onLaterEpoch, UsersFile: usersFile{r},
	})
	if err != nil {
		return err
	}
	r.next = &trials{srv: r.srv, log: log}
	// What looks at the nodes and the admin address run until the server has ended.
	beside, stopBeside := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeside()
	r.setMemoryLimit()
	r.cfg.Store(cfg)
	r.logCertificates(cfg)
	r.logOpenUser(cfg)
	r.observe(beside, cfg, keys)
	r.surveyLocks(beside, cfg)
	var g errgroup.Group
	l, err := listenAdmin(cfg, r.admin)
	if err != nil {
		return err
	}
	r.serveAdmin(beside, l)
	r.logAddresses(cfg)
	r.watchers.Go(func() { r.tellSystemd(ctx, beside) })
	g.Go(func() error {
		r.tryNext()
		r.reloadOn(beside, hangups)
		return nil
	})
	g.Go(func() error {
		r.obeyLater(beside)
		return nil
	})
	g.Go(func() error {
		defer stopBeside()
		return r.srv.Run(ctx)
	})
	err = g.Wait()
	r.watchers.Wait()
	log.Info("stopped")
	return err
}
