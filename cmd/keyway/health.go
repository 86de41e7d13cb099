package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/admin"
)

// probe is what keyway health asks for.
type probe struct {
	ready bool
	nodes string // admin.NodesAny, admin.NodesAll, or empty: as the configuration says
	pool  string // empty: all
}

// page returns the page of the admin address that answers.
func (p probe) page() string {
	switch {
	case !p.ready:
		return pageOf("/healthz", p.pool, nil)
	case p.nodes == "":
		return pageOf("/readyz", p.pool, nil)
	}
	return pageOf("/readyz", p.pool, url.Values{admin.NodesParam: {p.nodes}})
}

func healthCommand() *cobra.Command {
	var file, addr string
	var timeout time.Duration
	var p probe
	var a access
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a running keyway whether it is healthy, for supervisors and containers",
		Long: "health asks a running keyway at its admin address whether all its threads run, prints the answer\n" +
			"and ends with status 0 if it is yes, otherwise with 1. With --ready it asks whether keyway should\n" +
			"get clients. With --admin it reads no file, so an error in the file does not matter.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			switch {
			case p.nodes != "" && !p.ready:
				return errors.New("--nodes belongs to --ready: add --ready, or leave --nodes out")
			case p.nodes != "" && p.nodes != admin.NodesAny && p.nodes != admin.NodesAll:
				return fmt.Errorf("--nodes %s: write any or all", p.nodes)
			case timeout <= 0:
				return fmt.Errorf("--timeout %s: write a duration above 0, such as 5s", timeout)
			}
			if addr == "" {
				pools, err := loadPools(file)
				if err != nil {
					return err
				}
				addrs, err := adminAddresses(nil, file, pools[0])
				if err != nil {
					return err
				}
				addr, a.of = addrs[0], pools[0]
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			return a.health(ctx, cmd.OutOrStdout(), addr, p)
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&addr, "admin", "", "the admin `address` of the running keyway, if not the file's")
	a.tlsFlags(cmd)
	cmd.Flags().BoolVar(&p.ready, "ready", false, "ask whether keyway should get clients, as /readyz does")
	cmd.Flags().StringVar(&p.nodes, "nodes", "",
		"with --ready: `any` master must be reachable, or all, whatever the file says")
	cmd.Flags().StringVar(&p.pool, "pool", "", "ask about the pool with this `name` alone")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long keyway gets to answer")
	return cmd
}

// health prints what the keyway with that admin address answers to the probe. Its error is an
// exitStatus if the answer is no.
func (a *access) health(ctx context.Context, w io.Writer, addr string, p probe) error {
	status, text, err := a.call(ctx, http.MethodGet, addr, p.page(), nil)
	if err != nil {
		return err
	}
	switch status {
	case http.StatusOK, http.StatusServiceUnavailable:
		fmt.Fprintln(w, text)
	case http.StatusBadRequest:
		return errors.New(text)
	default:
		return fmt.Errorf("%s is no admin address of a keyway: it answers %d %s", addr, status, http.StatusText(status))
	}
	if status != http.StatusOK {
		return exitStatus(1)
	}
	return nil
}
