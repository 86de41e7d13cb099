package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/wiring"
)

func routeCommand() *cobra.Command {
	var file, pool string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "route KEY...",
		Short: "Print the node of each key, and why it is there",
		Args: func(cmd *cobra.Command, keys []string) error {
			if len(keys) == 0 {
				return errors.New("keyway route needs a key; write keyway route --config FILE KEY [KEY...]")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, keys []string) error {
			cfg, err := load(file, pool)
			if err == nil && wiring.Asks(cfg) {
				err = logIn(cmd.Context(), cfg)
			}
			if err != nil {
				return err
			}
			t, err := wiring.FetchTable(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			return printRoutes(cmd.OutOrStdout(), t, keys, asJSON)
		},
	}
	configFlag(cmd, &file)
	poolFlag(cmd, &pool)
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object on each line")
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
