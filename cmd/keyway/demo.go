package main

import (
	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/demo"
)

func demoCommand() *cobra.Command {
	var o demo.Options
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start in-memory nodes, and keyway in front of them",
		Long: "demo starts nodes in memory, and keyway in front of them. It writes some keys through keyway, and\n" +
			"prints which node each of them went to. --load puts a small load on it, so that there is something\n" +
			"to look at. --write writes a configuration like that of the demo for real nodes.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Version, o.Out, o.Errors = versionText(), cmd.OutOrStdout(), cmd.ErrOrStderr()
			return demo.Run(cmd.Context(), o)
		},
	}
	cmd.Flags().StringVar(&o.Layout, "layout", config.LayoutSlots, "how keys are spread: slots, ring, range or modulo")
	cmd.Flags().IntVar(&o.Nodes, "nodes", 3, "how many nodes")
	cmd.Flags().StringVar(&o.Listen, "listen", "127.0.0.1:6380", "the `address` to serve on")
	cmd.Flags().StringVar(&o.Admin, "admin", "",
		"the admin `address` (default "+demo.DefaultAdmin+", or another port if that is taken)")
	cmd.Flags().StringVar(&o.Write, "write", "", "write a configuration for real nodes to this new `file`")
	cmd.Flags().BoolVar(&o.Load, "load", false, "put a small load on it: a few clients, and a key that is hot")
	layouts := cobra.FixedCompletions(config.Layouts, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("layout", layouts) // fails only for an unknown flag
	return cmd
}
