package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/topology"
	"github.com/keyway-proxy/keyway/wiring"
)

// printLockNodes asks the nodes of locks.quorum and prints their answers. servers are the names
// of the layout's nodes by their run_id. It returns an error if a node cannot hold locks.
func printLockNodes(ctx context.Context, w io.Writer, cfg *config.Config, servers map[string]string) error {
	if len(cfg.Locks.Quorum) == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nLOCK NODE\tRULE\tROLE\tMODE\tVERSION\tMAXMEMORY-POLICY\tVOTES")
	reports := wiring.InspectLocks(ctx, cfg)
	of := len(reports)
	i := 0
	for _, rule := range cfg.Locks.Quorum {
		for range rule.Nodes {
			r := &reports[i]
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Addr, rule.Match, dash(r.Role), dash(r.Mode),
				dash(r.Version), dash(r.Policy), voteText(r))
			i++
		}
	}
	found, unfit := wiring.JudgeLocks(cfg, reports, servers)
	var remarks []string
	for _, r := range found {
		remarks = append(remarks, r.String())
	}
	if err := printRemarks(w, tw, remarks); err != nil {
		return err
	}
	if unfit > 0 {
		return fmt.Errorf("%d of %d lock nodes cannot hold locks", unfit, of)
	}
	return nil
}

// printRemarks ends a table, and prints what there is to say about it.
func printRemarks(w io.Writer, table *tabwriter.Writer, remarks []string) error {
	if err := table.Flush(); err != nil {
		return err
	}
	if len(remarks) > 0 {
		fmt.Fprintln(w)
	}
	for _, remark := range remarks {
		fmt.Fprintln(w, remark)
	}
	return nil
}

// voteText says whether a node votes.
func voteText(r *topology.LockReport) string {
	switch {
	case r.Err != nil:
		return "-"
	case r.Waits > 0:
		return "in " + (r.Waits + time.Second - 1).Truncate(time.Second).String()
	case !r.Asked:
		return "not yet"
	}
	return "yes"
}

func locksCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "locks",
		Short: "Operate the nodes that hold locks (locks.quorum)",
		Args:  noArguments,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(voteCommand())
	return cmd
}

func voteCommand() *cobra.Command {
	var file, pool string
	var force bool
	cmd := &cobra.Command{
		Use:   "vote ADDRESS...",
		Short: "Make new or restarted lock nodes vote at once",
		Long: "vote ends the wait of lock nodes that are new or have restarted; see keyway check --connect.\n" +
			"Such a node may have forgotten locks that it had granted, so it does not vote for max_lease. vote\n" +
			"asks the other nodes of its rules which locks they have, and refuses if the node lacks one, or if\n" +
			"too few can say it. --force does not ask: give it only while no client uses the locks.",
		RunE: func(cmd *cobra.Command, addrs []string) error {
			if len(addrs) == 0 {
				return errors.New("vote needs the addresses of lock nodes, as in the configuration; " +
					"keyway check --connect lists them")
			}
			cfg, err := load(file, pool)
			if err == nil {
				err = logIn(cmd.Context(), cfg)
			}
			if err != nil {
				return err
			}
			return wiring.LetVote(cmd.Context(), cfg, addrs, force, func(addr string, ended bool) {
				if ended {
					fmt.Fprintf(cmd.OutOrStdout(), "lock node %s votes now\n", addr)
				} else {
					fmt.Fprintf(cmd.OutOrStdout(), "lock node %s votes already\n", addr)
				}
			})
		},
	}
	configFlag(cmd, &file)
	poolFlag(cmd, &pool)
	cmd.Flags().BoolVar(&force, "force", false, "do not ask the other nodes which locks they have")
	return cmd
}
