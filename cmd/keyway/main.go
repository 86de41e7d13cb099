// Command keyway is a sharding proxy for Redis: clients speak to it as if it
// were one Redis.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/server"
)

// version is set by the release build (-ldflags "-X main.version=v1.2.3").
var version = ""

func main() {
	err := root().ExecuteContext(untilSignal())
	var status exitStatus
	if errors.As(err, &status) {
		os.Exit(int(status))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "keyway:", err)
		os.Exit(1)
	}
}

// exitStatus is the error of a command that has printed what is wrong, and ends with that
// exit status.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// untilSignal returns a context that ends with the first SIGINT or SIGTERM. The cause of SIGINT is
// server.ErrAtOnce. A second signal ends the process at once.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if <-signals == os.Interrupt { // somebody waits at a terminal
			cancel(server.ErrAtOnce)
		} else {
			cancel(nil)
		}
		<-signals
		os.Exit(1)
	}()
	return ctx
}

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "keyway",
		Short: "A Redis Cluster-aware sharding proxy",
		Long: "keyway is a proxy that clients use as if it were one Redis. It sends every command to the\n" +
			"Redis node that holds the key: by hash slot, consistent-hash ring, ranges or modulo.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       versionText(),
		Args:          cobra.ArbitraryArgs,
		RunE:          unknownCommand,
	}
	cmd.SetVersionTemplate("keyway {{.Version}}\n")
	cmd.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		if len(os.Args) > 1 && !c.HasParent() && !strings.HasPrefix(os.Args[1], "-") {
			return unknownCommand(c, os.Args[1:2]) // the flags belong to the command that was meant
		}
		return err
	})
	cmd.AddCommand(serveCommand(), checkCommand(), routeCommand(), planCommand(), demoCommand(), versionCommand())
	cmd.AddCommand(verifyCommand(), migrateCommand(), switchCommand())
	cmd.AddCommand(reverseCommand(), cancelCommand(), forgetCommand())
	cmd.AddCommand(statusCommand(), pauseCommand(), resumeCommand(), rateCommand())
	cmd.AddCommand(reloadCommand(), upgradeCommand(), healthCommand())
	cmd.AddCommand(importCommand(), locksCommand(), logLevelCommand(), killCommand())
	cmd.AddCommand(topCommand(), hotKeysCommand(), bigKeysCommand(), clientsCommand(), eventsCommand())
	return cmd
}

// unknownCommand prints the help if no command is named. Otherwise the named command does
// not exist, and it returns an error.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return cmd.Help()
	}
	cmd.SuggestionsMinimumDistance = 2
	if like := cmd.SuggestionsFor(args[0]); len(like) > 0 {
		return fmt.Errorf("unknown command %q; did you mean %s?", args[0], strings.Join(like, " or "))
	}
	return fmt.Errorf("unknown command %q; keyway --help lists the commands", args[0])
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintln(cmd.OutOrStdout(), "keyway", versionText())
		},
	}
}

func versionText() string {
	if version != "" {
		return version
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	text := info.Main.Version
	if text == "" || text == "(devel)" {
		text = "devel"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) >= 12 {
			text += " (" + s.Value[:12] + ")"
		}
	}
	return text
}
