package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/daemon"
)

func upgradeCommand() *cobra.Command {
	var file, addr string
	var a access
	cmd := &cobra.Command{
		Use:   "upgrade",
		Short: "Make a running keyway start its new binary and hand its clients over",
		Long: "upgrade makes a running keyway start the binary that is now at its path, with the same\n" +
			"arguments. When that can serve, it gets the listening sockets and the connections of the clients.\n" +
			"If it fails to start, the running keyway goes on. SIGUSR2 does the same.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := a.adminAddr(file, addr, "SIGUSR2")
			if err != nil {
				return fmt.Errorf("not upgraded: %w", err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*daemon.SuccessorTime)
			defer cancel()
			return a.order(ctx, cmd.OutOrStdout(), addr, "/upgrade", "upgraded")
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&addr, "admin", "", "the admin `address` of the running keyway, if not the file's")
	a.flags(cmd)
	return cmd
}
