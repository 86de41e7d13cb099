package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/alicebob/miniredis/v2"
	embedded "github.com/alicebob/miniredis/v2/server"
	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/server"
	"github.com/keyway-proxy/keyway/wiring"
)

func demoCommand() *cobra.Command {
	var layout, listen string
	var nodes int
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Start in-memory nodes, and keyway in front of them",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return demo(cmd.Context(), cmd.OutOrStdout(), layout, listen, nodes)
		},
	}
	cmd.Flags().StringVar(&layout, "layout", config.LayoutSlots, "how keys are spread: slots, ring, range or modulo")
	cmd.Flags().IntVar(&nodes, "nodes", 3, "how many nodes")
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:6380", "the address to serve on")
	layouts := cobra.FixedCompletions(config.Layouts, cobra.ShellCompDirectiveNoFileComp)
	_ = cmd.RegisterFlagCompletionFunc("layout", layouts) // fails only for an unknown flag
	return cmd
}

// demo serves n embedded nodes until ctx ends.
func demo(ctx context.Context, out io.Writer, layout, listen string, n int) error {
	if n < 1 || n > 26 {
		return errors.New("--nodes: write a number from 1 to 26")
	}
	var yaml bytes.Buffer
	// A user who asks for an address of the network wants others to try the demo.
	fmt.Fprintf(&yaml, "listen: %q\nprotected_mode: false\nlayout: %q\nnodes:\n", listen, layout)
	var static, rules []string
	for i := range n {
		m := miniredis.NewMiniRedis()
		if err := m.StartAddr("127.0.0.1:0"); err != nil {
			return fmt.Errorf("starting an embedded node: %w", err)
		}
		defer m.Close()
		m.Server().SetPreHook(noDocs)
		name := string(rune('a' + i))
		fmt.Fprintf(&yaml, "  - {name: %s, addr: %q}\n", name, m.Addr())
		static = append(static, fmt.Sprintf("%s: %d-%d", name, i*16384/n, (i+1)*16384/n-1))
		rules = append(rules, fmt.Sprintf("{prefix: \"user:\", from: %d, to: %d, node: %s}",
			i*1000+1, (i+1)*1000, name))
	}
	fmt.Fprintf(&yaml, "slots: {static: {%s}}\nrange: {rules: [%s], default: a}\n",
		strings.Join(static, ", "), strings.Join(rules, ", "))
	cfg, err := config.Parse("demo", yaml.Bytes(), func(string) (string, bool) { return "", false })
	if err != nil {
		return flagError(err)
	}
	srv, err := wiring.NewServer(cfg, server.Options{Version: versionText()})
	if err != nil {
		return flagError(err)
	}
	greet(out, srv.Table(), srv.Addrs()[0].String())
	return srv.Run(ctx)
}

// flagError names the flag that an error of the demo's configuration comes from. The user has
// no file with the line that the error names.
func flagError(err error) error {
	var e *config.Error
	if errors.As(err, &e) && (e.Path == "listen" || e.Path == "layout") {
		return fmt.Errorf("--%s: %s; %s", e.Path, e.Problem, e.Remedy)
	}
	return err
}

// noDocs answers COMMAND DOCS, which redis-cli sends at start. The embedded nodes answer
// every COMMAND with the reply of another subcommand, and redis-cli then exits.
func noDocs(c *embedded.Peer, cmd string, args ...string) bool {
	if !strings.EqualFold(cmd, "command") || len(args) == 0 || !strings.EqualFold(args[0], "docs") {
		return false
	}
	c.WriteLen(0)
	return true
}

func greet(w io.Writer, t *router.Table, addr string) {
	host, port, _ := net.SplitHostPort(reachable(addr))
	fmt.Fprintf(w, "keyway serves %d in-memory nodes as one Redis on %s, layout %s:\n\n", len(t.Nodes), addr, t.Name)
	for _, n := range t.Nodes {
		fmt.Fprintf(w, "  node %s  %s\n", n.Name, n.Addr)
	}
	cli := "redis-cli -p " + port
	if host != "127.0.0.1" {
		cli = "redis-cli -h " + host + " -p " + port
	}
	fmt.Fprintf(w, `
Try, in another terminal:

  %[1]s MSET user:1 ann user:1500 bob cart:7 book
  %[1]s MGET user:1 user:1500 cart:7
  %[1]s INFO keyway

Without redis-cli: printf 'PING\r\nQUIT\r\n' | nc %[2]s %[3]s
Ctrl-C ends keyway and the nodes; their data is lost.
`, cli, host, port)
}
