package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/admin"
)

func reloadCommand() *cobra.Command {
	var file, addr string
	var allowMisplaced bool
	var a access
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Make a running keyway read its configuration file again",
		Long: "reload makes a running keyway read its configuration file again, and prints what has changed.\n" +
			"Clients stay connected. keyway applies all changes or, if it refuses one, none. It refuses to lose\n" +
			"locks of locks.quorum. If another layout would move keys, which clients would not find any more,\n" +
			"keyway goes on serving by the layout that it has, and says so: keyway switch changes it while clients\n" +
			"run. With --allow-misplaced it takes any layout, any nodes and any rules.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			addr, err := a.adminAddr(file, addr, "SIGHUP")
			if err != nil {
				return fmt.Errorf("not reloaded: %w", err)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), reloadTimeout)
			defer cancel()
			page := fmt.Sprintf("/reload?%s=%v", admin.AllowMisplaced, allowMisplaced)
			return a.order(ctx, cmd.OutOrStdout(), addr, page, "reloaded")
		},
	}
	configFlag(cmd, &file)
	cmd.Flags().StringVar(&addr, "admin", "", "the admin `address` of the running keyway, if not the file's")
	a.flags(cmd)
	cmd.Flags().BoolVar(&allowMisplaced, "allow-misplaced", false,
		"also apply what moves keys: clients do not find these any more, which only a cache can afford")
	return cmd
}

// reachable returns an address at which a process on this machine that listens on addr can
// be reached.
func reachable(addr string) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "", err == nil && ip == netip.IPv4Unspecified():
		host = "127.0.0.1"
	case err == nil && ip == netip.IPv6Unspecified():
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}

// reloadTimeout is longer than keyway asks a cluster or sentinels during a reload.
const reloadTimeout = 30 * time.Second

// adminAddr returns the admin address of the running keyway: the one that is named, or the file's.
// signal does the same as the order that goes there. The token is that of the file, if there is one.
func (a *access) adminAddr(file, named, signal string) (string, error) {
	pools, err := loadPools(file)
	if err == nil {
		a.of = pools[0]
	}
	if named != "" {
		return named, nil // whatever the file says
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%w; or name the admin address of the running keyway with --admin", err)
	}
	if err != nil {
		return "", err
	}
	if pools[0].Admin.Listen == "" {
		return "", fmt.Errorf("%s has no admin address; send the process %s, or name the address of the "+
			"running keyway with --admin", file, signal)
	}
	return reachable(pools[0].Admin.Listen), nil
}

// order tells the keyway with that admin address to do something, and prints its report. done
// names what it does then.
func (a *access) order(ctx context.Context, w io.Writer, addr, page, done string) error {
	status, text, err := a.call(ctx, http.MethodPost, addr, page, nil)
	if err != nil {
		return orStart(err, "start it")
	}
	switch status {
	case http.StatusOK:
		fmt.Fprintln(w, text)
		return nil
	case http.StatusConflict, http.StatusBadRequest:
		return errors.New("not " + done + ": " + text)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("not %s: keyway at %s: %s", done, addr, text)
	}
	return fmt.Errorf("not %s: %s is no admin address of a keyway that knows this order: it answers %d %s", done, addr,
		status, http.StatusText(status))
}
