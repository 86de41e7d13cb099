package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/topology"
	"github.com/keyway-proxy/keyway/wiring"
)

func checkCommand() *cobra.Command {
	var file, pool string
	var offline, connect bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file and print each node's share of the keys",
		Long: "check validates a configuration file and prints each node's share of the keys. If only a cluster\n" +
			"or sentinels know the nodes, it asks them. --offline asks nobody; --connect asks every node.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if offline && connect {
				return errors.New("--offline and --connect exclude each other; give one of them")
			}
			pools, err := loadPools(file)
			if err != nil {
				return err
			}
			if pool != "" {
				cfg, err := pools.Choose(pool)
				if err != nil {
					return err
				}
				pools = config.Pools{cfg}
			}
			var failed []error
			for i, cfg := range pools {
				if i > 0 {
					fmt.Fprintln(cmd.OutOrStdout())
				}
				if err := checkPool(cmd.Context(), cmd.OutOrStdout(), file, cfg, offline, connect); err != nil {
					failed = append(failed, err)
				}
			}
			return errors.Join(failed...)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&pool, "pool", "", "check the pool with this `name` alone")
	cmd.Flags().BoolVar(&offline, "offline", false, "ask no node, cluster or sentinel")
	cmd.Flags().BoolVar(&connect, "connect", false,
		"ask every node for its role, cluster mode and version, and whether its keys lie where the layout says; "+
			"ask the lock nodes whether they can hold locks")
	return cmd
}

// checkPool checks the configuration of one pool, or of a file without pools.
func checkPool(ctx context.Context, w io.Writer, file string, cfg *config.Config, offline, connect bool) error {
	if err := config.LoadCertificates(cfg); err != nil {
		return err
	}
	if _, _, err := wiring.Next(cfg); err != nil {
		return err
	}
	tableOf := wiring.FetchTable
	if connect || !offline && wiring.Asks(cfg) {
		if err := logIn(ctx, cfg); err != nil {
			return err
		}
	}
	if offline {
		tableOf = func(_ context.Context, c *config.Config) (*router.Table, error) { return wiring.Table(c) }
	}
	t, err := tableOf(ctx, cfg)
	if err != nil {
		return err
	}
	if connect || !offline && wiring.Asks(cfg) {
		if err := wiring.RefuseDatabases(ctx, cfg, t); err != nil {
			return err
		}
	}
	if name := cfg.Pool(); name != "" {
		file += ", pool " + name
	}
	if err := printShares(w, file, cfg, t); err != nil || !connect {
		return err
	}
	cfg, t, other := printInForce(ctx, w, cfg, t)
	servers := map[string]string{}
	unfit := printNodes(ctx, w, cfg, t, servers)
	locks := printLockNodes(ctx, w, cfg, servers)
	return cmp.Or(unfit, locks, other)
}

// printInForce prints which layout the nodes say is in force, if that is not the file's. It
// returns that layout's configuration and table, and an error for the end of the check.
func printInForce(
	ctx context.Context, w io.Writer, cfg *config.Config, t *router.Table,
) (*config.Config, *router.Table, error) {
	inForce, err := wiring.Settled(ctx, cfg)
	if err != nil {
		return cfg, t, err
	}
	if inForce.Replaced() == nil {
		if inForce.Epoch() > 0 {
			fmt.Fprintf(w, "\nThe nodes say that this layout is in force since epoch %d.\n", inForce.Epoch())
		}
		return inForce, t, nil
	}
	other, err := wiring.FetchTable(ctx, inForce)
	if err != nil {
		return cfg, t, err
	}
	fmt.Fprintf(w, "\n%s:\n%s\n", wiring.NotInForce(inForce), inForce.PlacementText())
	return inForce, other, errors.New("the layout of this file is not in force")
}

// measuredKeys is the number of keys of each kind that are placed to measure shares.
const measuredKeys = 100_000

// isReplica reports whether the node is a replica of another node.
func isReplica(t *router.Table, id router.NodeID) bool {
	return slices.ContainsFunc(t.Nodes, func(n router.Node) bool { return slices.Contains(n.Replicas, id) })
}

func printShares(w io.Writer, file string, cfg *config.Config, t *router.Table) error {
	fmt.Fprintf(w, "%s is valid: layout %s\n\n", file, t.Name)
	printCertificates(w, cfg, time.Now())
	printAccess(w, cfg)
	if len(t.Nodes) == 0 {
		fmt.Fprintln(w, "keyway did not ask the cluster for its nodes.")
		return nil
	}
	if note := defaultHash(cfg); note != "" {
		fmt.Fprintf(w, "note: %s\n\n", note)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	rules, uneven := t.Rules(), false
	sequential, random := t.Measured(measuredKeys)
	if rules != nil {
		fmt.Fprintln(tw, "NODE\tADDRESS\tRULES")
	} else {
		fmt.Fprintln(tw, "NODE\tADDRESS\tSHARE\tOF user:1, user:2...\tOF RANDOM KEYS")
	}
	for i, n := range t.Nodes {
		addr := n.Addr
		if addr == "" {
			addr = "(known to the sentinels)"
		}
		switch {
		case !n.Master && isReplica(t, router.NodeID(i)):
			fmt.Fprintf(tw, "%s\t%s\treplica\t\t\n", n.Name, addr)
		case !n.Master:
			fmt.Fprintf(tw, "%s\t%s\tno slots\t\t\n", n.Name, addr)
		case rules != nil:
			list := rules[router.NodeID(i)]
			text := strings.Join(list, ", ")
			if len(list) == 0 {
				text = "none: no key is placed here"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\n", n.Name, addr, text)
		default:
			share := t.Shares()[i]
			uneven = uneven || !t.Slotted() && !(near(sequential[i], share) && near(random[i], share))
			fmt.Fprintf(tw, "%s\t%s\t%.2f %%\t%.2f %%\t%.2f %%\n",
				n.Name, addr, 100*share, 100*sequential[i], 100*random[i])
		}
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	if warning := unowned(t); warning != "" {
		fmt.Fprintf(w, "\nwarning: %s\n", warning)
	}
	if !uneven {
		return nil
	}
	_, err := fmt.Fprintln(w,
		"\nwarning: the hash spreads keys unevenly; for a new pool choose another, such as murmur")
	return err
}

// printCertificates prints the files with certificates, if there are some, and warns of those
// that have expired or soon will.
func printCertificates(w io.Writer, cfg *config.Config, now time.Time) {
	files := config.Certificates(cfg)
	for _, f := range files {
		names := strings.Join(f.Names, ", ")
		if names != "" {
			names = " for " + names
		}
		fmt.Fprintf(w, "certificate %s%s, valid until %s\n", f.File, names, f.NotAfter.UTC().Format(time.DateOnly))
		if warning := f.Warning(now); warning != "" {
			fmt.Fprintf(w, "warning: %s\n", warning)
		}
	}
	if len(files) > 0 {
		fmt.Fprintln(w)
	}
}

// printAccess warns if more clients than were meant can run commands, or fewer.
func printAccess(w io.Writer, cfg *config.Config) {
	if warning := wiring.OpenUser(cfg); warning != "" {
		fmt.Fprintf(w, "warning: %s\n\n", warning)
	}
	if warning := wiring.Protected(cfg); warning != "" {
		fmt.Fprintf(w, "warning: %s\n\n", warning)
	}
	for _, warning := range config.AdminWarnings(cfg) {
		fmt.Fprintf(w, "warning: %s\n\n", warning)
	}
}

// unowned returns a warning about slots without an owner, empty if there are none.
func unowned(t *router.Table) string {
	if !t.Slotted() {
		return ""
	}
	count, first := 0, int32(0)
	for slot := int32(slots.Count - 1); slot >= 0; slot-- {
		if t.SlotOwner(slot) == router.None {
			count, first = count+1, slot
		}
	}
	if count == 0 {
		return ""
	}
	return fmt.Sprintf("%d of %d slots have no owner, slot %d for one; commands for their keys fail "+
		"until the cluster gives them one: redis-cli --cluster check", count, slots.Count, first)
}

// near reports whether a measured share is within a quarter of the intended one.
func near(measured, share float64) bool { return measured > 0.75*share && measured < 1.25*share }

// defaultHash returns a note if the file names no hash for a ring: keyway's default is
// not twemproxy's, and another hash moves keys.
func defaultHash(cfg *config.Config) string {
	if cfg.Layout != config.LayoutRing || cfg.IsSet("ring.hash") {
		return ""
	}
	return "ring.hash is not set: keyway places keys by the default, " + cfg.Ring.Hash + ". " +
		"It does not find keys that another hash placed, such as twemproxy's fnv1a_64: " +
		"for those write ring: {hash: NAME}"
}

// printNodes asks the nodes and prints their answers. It adds their names to servers, by their
// run_id. It returns an error if a node cannot serve its keys.
func printNodes(
	ctx context.Context, w io.Writer, cfg *config.Config, t *router.Table, servers map[string]string,
) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nNODE\tADDRESS\tROLE\tMODE\tVERSION\tMAXMEMORY-POLICY\tKEYS SAMPLED\tELSEWHERE")
	sampled := map[string]guard.Sample{}
	for _, s := range wiring.SampleKeys(ctx, cfg, t) {
		sampled[s.Name] = s
	}

	var remarks []string
	unfit, hidden, policies, versions := 0, 0, map[string]bool{}, map[string]bool{}
	for _, r := range wiring.Inspect(ctx, cfg, t) {
		s := sampled[r.Name]
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\n", r.Name, r.Addr, dash(r.Role), dash(r.Mode),
			dash(r.Version), dash(r.Policy), s.Sampled, s.Elsewhere)
		if problem, remedy := r.Unfit(t); problem != "" {
			unfit++
			remarks = append(remarks, fmt.Sprintf("problem: node %s %s; %s", r.Name, problem, remedy))
		}
		if s.Elsewhere > 0 {
			kind := "warning"
			if s.Hides() && cfg.Placement.Misplaced == config.MisplacedRefuse {
				kind, hidden = "problem", hidden+1
			}
			remarks = append(remarks, fmt.Sprintf("%s: of %d keys of node %s, this layout places %d elsewhere, "+
				"such as %s; clients do not find them", kind, s.Sampled, s.Name, s.Elsewhere, s.Examples[0]))
		}
		if r.Err == nil {
			policies[r.Policy], versions[r.Version] = true, true
			servers[r.RunID] = r.Name
		}
	}
	if len(policies) > 1 {
		remarks = append(remarks, "note: the nodes differ in maxmemory-policy: "+
			"some may evict keys when memory is full, others may refuse writes")
	}
	if len(versions) > 1 {
		remarks = append(remarks, "note: the nodes differ in version: some may not know a command that others know")
	}
	if err := printRemarks(w, tw, remarks); err != nil {
		return err
	}
	if unfit > 0 {
		return fmt.Errorf("%d of %d nodes cannot serve", unfit, len(t.Nodes))
	}
	if hidden > 0 {
		return errors.New("keyway serve would refuse to start over misplaced keys; see keyway plan and " +
			"keyway migrate, or, for a cache, set placement.misplaced to allow")
	}
	return nil
}

func dash(s string) string { return cmp.Or(s, "-") }

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
			cfg, err := loadForNodes(cmd.Context(), file, pool)
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
