package main

import (
	"context"
	"fmt"
	"net/url"
	"strconv"

	"github.com/spf13/cobra"
)

// acting is a command that makes a running keyway do something.
type acting struct {
	file, pool, addr string
	access           access
}

func (a *acting) flags(cmd *cobra.Command) {
	configFlag(cmd, &a.file)
	poolFlag(cmd, &a.pool)
	cmd.Flags().StringVar(&a.addr, "admin", "", "the admin `address` of the running keyway, if not the file's")
	a.access.flags(cmd)
}

// order sends a request to the running keyway, and prints its report. done names what it does then, and instead does
// the same without an admin address.
func (a *acting) order(cmd *cobra.Command, page string, params url.Values, done, instead string) error {
	addr, err := a.access.adminAddr(a.file, a.addr, instead)
	if err != nil {
		return fmt.Errorf("not %s: %w", done, err)
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), askTimeout)
	defer cancel()
	return a.access.order(ctx, cmd.OutOrStdout(), addr, pageOf(page, a.pool, params), done)
}

func logLevelCommand() *cobra.Command {
	var a acting
	cmd := &cobra.Command{
		Use:   "log-level {debug | info | warn | error | file}",
		Short: "Set the level of a running keyway's log",
		Long: "log-level sets the level of a running keyway's log until it restarts or reads its file again with\n" +
			"another level. file takes that of the configuration. It needs the token of admin.token_file, or --user\n" +
			"with the right to run KEYWAY LOG.",
		Args: oneArgument("debug, info, warn, error or file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.order(cmd, "/log-level", url.Values{"level": args}, "set", "the command KEYWAY LOG "+args[0])
		},
	}
	a.flags(cmd)
	return cmd
}

func killCommand() *cobra.Command {
	var a acting
	cmd := &cobra.Command{
		Use:   "kill ID",
		Short: "Close a client of a running keyway",
		Long: "kill closes the connection of a client, as CLIENT KILL ID does. keyway clients prints the IDs. It\n" +
			"needs the token of admin.token_file, or --user with the right to run CLIENT KILL.",
		Args: oneArgument("the ID of a client, as keyway clients prints it"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := strconv.ParseUint(args[0], 10, 64); err != nil {
				return fmt.Errorf("kill %s: write the ID of a client, as keyway clients prints it", args[0])
			}
			return a.order(cmd, "/clients/kill", url.Values{"id": args}, "closed",
				"the command CLIENT KILL ID "+args[0])
		},
	}
	a.flags(cmd)
	return cmd
}

// oneArgument requires one argument. what says what to write.
func oneArgument(what string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) != 1 {
			return fmt.Errorf("%s needs one argument; write %s", cmd.CommandPath(), what)
		}
		return nil
	}
}
