package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/slots/topology"
)

func serveCommand() *cobra.Command {
	var file, format, level string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve clients as a configuration file says",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := newLog(cmd.ErrOrStderr(), format, level)
			if err != nil {
				return err
			}
			cfg, err := config.Load(file)
			if err != nil {
				return err
			}
			return serve(cmd.Context(), cfg, log)
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

func newLog(w io.Writer, format, level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %s: write debug, info, warn or error", level)
	}
	o := &slog.HandlerOptions{Level: l}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, o)), nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, o)), nil
	}
	return nil, fmt.Errorf("--log-format %s: write text or json", format)
}

// serve runs the configuration until ctx ends. The order of stopping: not
// ready, no new clients, what is under way ends, loops, topology; the admin
// address last, so that operators can watch.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	o := server.Options{Log: log, Version: versionText()}
	o.Topology, o.Sentinels = topology.Configured(cfg, log)
	srv, err := server.New(cfg, o)
	if err != nil {
		return err
	}
	adminCtx, stopAdmin := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAdmin()
	var g errgroup.Group
	if cfg.Admin != "" {
		ln, err := net.Listen("tcp", cfg.Admin)
		if err != nil {
			return cfg.Errorf("admin", server.BindRemedy(err), "cannot listen on %s: %v", cfg.Admin, err)
		}
		g.Go(func() error { return serveAdmin(adminCtx, ln, admin.Handler(srv, versionText())) })
	}
	for _, a := range srv.Addrs() {
		log.Info("listening", "addr", a.String(), "layout", cfg.Layout, "threads", cfg.Threads, "version", versionText())
	}
	g.Go(func() error {
		defer stopAdmin()
		return srv.Run(ctx)
	})
	err = g.Wait()
	log.Info("stopped")
	return err
}

func serveAdmin(ctx context.Context, ln net.Listener, h http.Handler) error {
	srv := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute}
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
