package demo

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/terminal"
)

// examples are the keys that the demo writes.
var examples = []struct{ key, value string }{
	{"user:1", "ann"}, {"user:1500", "bob"}, {"cart:7", "book"}, {"{user:1}:cart", "pen"}, {"{user:1}:visits", "3"},
}

// show writes the example keys through the keyway that listens on addr, and prints what there is to
// see. With a load, it goes on until ctx ends.
func (o Options) show(ctx context.Context, addr string, t *router.Table) error {
	to := reachable(addr)
	routes, err := writeExamples(ctx, to, t)
	if ctx.Err() != nil {
		return nil // the user has ended the demo
	}
	if err != nil {
		return err
	}
	var page, where strings.Builder
	fmt.Fprintf(&page, "keyway serves %d in-memory nodes as one Redis on %s, layout %s:\n\n",
		len(t.Nodes), addr, t.Name)
	for _, n := range t.Nodes {
		fmt.Fprintf(&page, "  node %s  %s\n", n.Name, n.Addr)
	}
	fmt.Fprint(&page, "\nIt has written some keys. Keys with the same {hash tag} are always on one node:\n\n")
	_ = terminal.Routes(&where, routes) // where keeps all in memory
	for line := range strings.Lines(where.String()) {
		page.WriteString("  " + line)
	}
	page.WriteString(o.hints(to))
	if _, err := io.WriteString(o.Out, page.String()); err != nil {
		return fmt.Errorf("printing: %w", err)
	}
	if o.Load {
		putLoad(ctx, to)
	}
	return nil
}

// writeExamples writes the example keys, and returns where they are.
func writeExamples(ctx context.Context, addr string, t *router.Table) (routes []router.Explanation, err error) {
	c := redis.NewClient(&redis.Options{Addr: addr, DisableIdentity: true})
	defer c.Close()
	for _, e := range examples {
		if err := c.Set(ctx, e.key, e.value, 0).Err(); err != nil {
			return nil, fmt.Errorf("writing the example key %s: %w", e.key, err)
		}
		routes = append(routes, t.ExplainKey([]byte(e.key)))
	}
	return routes, nil
}

// hints say what a user can try.
func (o Options) hints(addr string) string {
	host, port, _ := net.SplitHostPort(addr)
	cli := "redis-cli -p " + port
	if host != "127.0.0.1" {
		cli = "redis-cli -h " + host + " -p " + port
	}
	var b strings.Builder
	fmt.Fprintf(&b, `
Try, in another terminal:

  %[1]s MGET user:1 user:1500 cart:7
  %[1]s INFO keyway
  keyway top --admin %[2]s

In a browser: http://%[2]s/
`, cli, o.Admin)
	fmt.Fprintf(&b, "Without redis-cli: printf 'PING\\r\\nQUIT\\r\\n' | nc %s %s\n", host, port)
	if o.Load {
		fmt.Fprintf(&b, "%d clients send about %d commands a second, a fifth of them for the key %s.\n",
			len(callers), commandsASecond, hotKey)
	}
	if o.Write != "" {
		fmt.Fprintf(&b, "%s has a configuration like this one for real nodes; see keyway check -c %[1]s.\n", o.Write)
	}
	b.WriteString("Ctrl-C ends keyway and the nodes; their data is lost.\n")
	return b.String()
}

// reachable returns an address at which something that listens on addr can be reached: nobody connects to
// 0.0.0.0.
func reachable(addr string) string {
	at, err := netip.ParseAddrPort(addr)
	switch {
	case err != nil || !at.Addr().IsUnspecified():
		return addr
	case at.Addr().Is4():
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), at.Port()).String()
	}
	return netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()).String()
}
