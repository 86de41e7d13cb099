package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/daemon"
	"github.com/keyway-proxy/keyway/passwords"
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
			return daemon.Serve(cmd.Context(), daemon.Options{
				File: file, Load: func() (config.Pools, error) { return loadPools(file) },
				Version: versionText(), Log: flags, LogTo: cmd.ErrOrStderr(),
			})
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

// loadForNodes loads a file for a tool that asks its nodes; see logIn.
func loadForNodes(ctx context.Context, file, pool string) (*config.Config, error) {
	cfg, err := load(file, pool)
	if err == nil {
		err = logIn(ctx, cfg)
	}
	return cfg, err
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
