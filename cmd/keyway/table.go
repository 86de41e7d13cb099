package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/slots/topology"
)

// tableOf builds the table that serve would route by with that file; it asks the
// cluster, or the sentinels, that the file names.
func tableOf(ctx context.Context, file string) (*router.Table, error) {
	cfg, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	if _, err := command.Allow(cfg.Commands.Allow); err != nil {
		return nil, cfg.Errorf("commands.allow", "name commands such as config or \"config|get\"", "%v", err)
	}
	if _, err := server.PerKeyScripts(cfg); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if cfg.Clustered() {
		m, err := topology.OfCluster(cfg, nil).Fetch(ctx)
		if err != nil {
			return nil, cfg.Errorf("slots.seeds", "start the cluster, or name nodes of it that can be reached", "%v", err)
		}
		return router.NewSlots(m), nil
	}
	shards := make([]slots.Shard, len(cfg.Nodes))
	for i, n := range cfg.Nodes {
		if n.Sentinel == nil {
			continue
		}
		s := topology.OfSentinel(n.Sentinel, nil)
		defer s.Close()
		if shards[i], err = s.Fetch(ctx); err != nil {
			return nil, cfg.Errorf(fmt.Sprintf("nodes[%d].sentinel", i), "start the sentinels, or name those that watch over this master", "%v", err)
		}
	}
	return server.Table(cfg, shards)
}

func checkCommand() *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration file and print each node's share of the keys",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := tableOf(cmd.Context(), file)
			if err != nil {
				return err
			}
			return printShares(cmd.OutOrStdout(), file, t)
		},
	}
	configFlag(cmd, &file)
	return cmd
}

func printShares(w io.Writer, file string, t *router.Table) error {
	fmt.Fprintf(w, "%s is valid: layout %s\n\n", file, t.Name)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	shares, rules := t.Shares(), t.Rules()
	if rules != nil {
		fmt.Fprintln(tw, "NODE\tADDRESS\tRULES")
	} else {
		fmt.Fprintln(tw, "NODE\tADDRESS\tSHARE")
	}
	for i, n := range t.Nodes {
		switch {
		case !n.Master:
			fmt.Fprintf(tw, "%s\t%s\treplica\n", n.Name, n.Addr)
		case rules != nil:
			list := rules[router.NodeID(i)]
			text := strings.Join(list, ", ")
			if len(list) == 0 {
				text = "none: no key comes here"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\n", n.Name, n.Addr, text)
		default:
			fmt.Fprintf(tw, "%s\t%s\t%.2f %%\n", n.Name, n.Addr, 100*shares[i])
		}
	}
	return tw.Flush()
}

func routeCommand() *cobra.Command {
	var file string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "route KEY...",
		Short: "Say where keys live, and why",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, keys []string) error {
			t, err := tableOf(cmd.Context(), file)
			if err != nil {
				return err
			}
			return printRoutes(cmd.OutOrStdout(), t, keys, asJSON)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return cmd
}

func printRoutes(w io.Writer, t *router.Table, keys []string, asJSON bool) error {
	if asJSON {
		enc := json.NewEncoder(w)
		for _, k := range keys {
			if err := enc.Encode(t.ExplainKey([]byte(k))); err != nil {
				return fmt.Errorf("printing a route: %w", err)
			}
		}
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "KEY\tHASH TAG\tBY\tNODE\tADDRESS")
	for _, k := range keys {
		e := t.ExplainKey([]byte(k))
		tag, by, node, addr := e.Tag, "", e.Node, e.Addr
		if tag == "" {
			tag = "-"
		}
		switch {
		case e.Slot != nil:
			by = fmt.Sprintf("slot %d", *e.Slot)
		case e.Hash != nil:
			by = fmt.Sprintf("hash %d", *e.Hash)
		default:
			by = e.Rule
		}
		if node == "" {
			node, addr = "none", "-"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", k, tag, by, node, addr)
	}
	return tw.Flush()
}
