package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/daemon"
	"github.com/keyway-proxy/keyway/wiring"
)

// Options say what the demo does.
type Options struct {
	Layout  string
	Nodes   int
	Listen  string
	Admin   string // the admin address; empty: DefaultAdmin, or another port if that is taken
	Write   string // the file that gets a configuration like the demo's for real nodes; empty: none
	Load    bool   // put a small load on it
	Version string
	Out     io.Writer
	Errors  io.Writer // gets keyway's log, of which only warnings and errors
}

// DefaultAdmin is the demo's admin address, if it is free.
const DefaultAdmin = "127.0.0.1:6381"

// MaxNodes is how many nodes the demo can have: their names are letters.
const MaxNodes = 26

// Run serves until ctx ends.
func Run(ctx context.Context, o Options) error {
	if o.Nodes < 1 || o.Nodes > MaxNodes {
		return fmt.Errorf("--nodes: write a number from 1 to %d", MaxNodes)
	}
	if o.Admin == "" {
		o.Admin = freeAdmin()
	}
	nodes, err := startNodes(o.Nodes)
	if err != nil {
		return err
	}
	defer nodes.close()
	text := o.configuration(nodes.addrs())
	load := func() (config.Pools, error) {
		return config.ParsePools("demo", []byte(text), func(string) (string, bool) { return "", false })
	}
	pools, err := load()
	if err != nil {
		return flagError(err)
	}
	table, err := wiring.Table(pools[0])
	if err != nil {
		return flagError(err)
	}
	if o.Write != "" {
		if err := o.write(); err != nil {
			return err
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var running errgroup.Group
	show := func(addrs []net.Addr) {
		running.Go(func() error {
			err := o.show(ctx, addrs[0].String(), table)
			if err != nil {
				stop()
			}
			return err
		})
	}
	running.Go(func() error {
		defer stop()
		return daemon.Serve(ctx, daemon.Options{
			Load: load, Version: o.Version, Log: config.Log{Level: "warn"}, LogTo: o.Errors, Listening: show,
		})
	})
	return flagError(running.Wait())
}

// freeAdmin returns DefaultAdmin, or if something listens there an address with a free port.
func freeAdmin() string {
	for _, addr := range []string{DefaultAdmin, "127.0.0.1:0"} {
		if ln, err := net.Listen("tcp", addr); err == nil {
			defer ln.Close()
			return ln.Addr().String()
		}
	}
	return DefaultAdmin // listening will fail there, and say why
}

// flagError names the flag that an error of the demo's configuration comes from. The user has
// no file with the line that the error names.
func flagError(err error) error {
	var e *config.Error
	if errors.As(err, &e) && (e.Path == "listen" || e.Path == "layout" || e.Path == "admin") {
		return fmt.Errorf("--%s: %s; %s", e.Path, e.Problem, e.Remedy)
	}
	return err
}

// write writes the configuration for real nodes to a new file.
func (o Options) write() error {
	f, err := os.OpenFile(o.Write, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		return fmt.Errorf("--write: %s exists; name a new file, or remove it", o.Write)
	}
	if err != nil {
		return fmt.Errorf("--write: %w", err)
	}
	_, err = io.WriteString(f, o.forRealNodes())
	return errors.Join(err, f.Close())
}
