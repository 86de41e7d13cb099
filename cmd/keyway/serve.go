package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/wiring"
)

func serveCommand() *cobra.Command {
	var file, format, level string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve clients according to a configuration file",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, lines, err := newLog(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return err
			}
			defer lines.Close(flushTime)
			cfg, err := load(file)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, log, lines)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&format, "log-format", "text", "how to log: text or json")
	cmd.Flags().StringVar(&level, "log-level", "info", "what to log: debug, info, warn or error")
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

// serve runs keyway until ctx ends. It stops in this order: /readyz fails, no new clients,
// commands under way finish, loops end, topology ends. The admin address ends last, so
// that operators can watch.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, lines *admin.LogQueue) error {
	defer ignoreSignals(log)()
	keys, err := wiring.Admit(ctx, cfg, log)
	if err != nil {
		return err
	}
	srv, err := wiring.NewServer(cfg, server.Options{Log: log, Version: versionText()})
	if err != nil {
		return err
	}
	if limit := srv.MemoryLimit(); limit > 0 && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(limit)
	}
	// The survey and the admin address run until the server has ended.
	beside, stopBeside := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBeside()
	survey := wiring.NewSurvey(cfg, log, srv.Table)
	var g errgroup.Group
	g.Go(func() error {
		survey.Run(beside)
		return nil
	})
	g.Go(func() error {
		keys.Run(beside, srv.Table)
		return nil
	})
	if cfg.Admin != "" {
		ln, err := server.Listen(cfg.Admin)
		if err != nil {
			return cfg.Errorf("admin", server.BindRemedy(err), "cannot listen on %s: %v", cfg.Admin, err)
		}
		log.Info("serving metrics, health and readiness", "addr", ln.Addr().String())
		g.Go(func() error {
			return serveAdmin(beside, ln, admin.Handler(srv, admin.Options{
				Version: versionText(), ReadyAll: cfg.Ready == config.ReadyAll,
				DroppedLines: lines.Dropped, Surveyed: surveyed(survey),
				Guarded: guarded(keys), Disagreeing: keys.Disagreeing,
			}))
		})
	}
	for _, a := range srv.Addrs() {
		log.Info("listening", "addr", a.String(),
			"layout", cfg.Layout, "threads", cfg.Threads, "version", versionText())
	}
	g.Go(func() error {
		defer stopBeside()
		return srv.Run(ctx)
	})
	err = g.Wait()
	log.Info("stopped")
	return err
}

// ignoreSignals keeps keyway alive when its terminal or the reader of its log goes away.
// After a call of the function that it returns, SIGHUP ends keyway again.
func ignoreSignals(log *slog.Logger) (end func()) {
	signal.Ignore(syscall.SIGPIPE) // until the process ends
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case <-signals:
				log.Info("SIGHUP is ignored: the configuration is read at start only; restart keyway to change it")
			case <-ended:
				return
			}
		}
	}()
	return func() {
		signal.Stop(signals)
		close(ended)
	}
}

func serveAdmin(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{
		Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
	}
	stopped := make(chan error, 1)
	go func() {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		stopped <- srv.Shutdown(end)
	}()
	if err := srv.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving the admin address: %w", err)
	}
	return <-stopped
}
