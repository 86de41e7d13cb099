package demo

import (
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/config"
)

// configuration returns the configuration of the demo over nodes with these addresses.
func (o Options) configuration(addrs []string) string {
	var yaml strings.Builder
	// A user who asks for an address of the network wants others to try the demo.
	// Ctrl-C ends all of it at once, also while clients wait: nothing of theirs outlives the nodes.
	fmt.Fprintf(&yaml, "listen: %q\nadmin: %q\nprotected_mode: false\nlayout: %q\n"+
		"shutdown: {drain: 0s, timeout: 1s}\nnodes:\n", o.Listen, o.Admin, o.Layout)
	for i, addr := range addrs {
		fmt.Fprintf(&yaml, "  - {name: %s, addr: %q}\n", name(i), addr)
	}
	yaml.WriteString(o.places())
	return yaml.String()
}

// name returns the name of a node.
func name(i int) string { return string(rune('a' + i)) }

// firstPort is the port of the first node in the configuration for real ones, as in the README.
const firstPort = 7101

// forRealNodes returns a configuration like that of the demo for real nodes, with comments.
func (o Options) forRealNodes() string {
	var yaml strings.Builder
	fmt.Fprintf(&yaml, `# keyway's configuration, as of keyway demo. All keys: docs/configuration.md.
# keyway check -c FILE --connect asks the nodes whether they can serve; keyway serve -c FILE starts.

listen: %q   # clients connect here as to one Redis
admin: %q    # metrics, health, and what keyway top shows; not for clients

layout: %q   # moves no key by itself if it changes later: see keyway switch
nodes:
`, o.Listen, o.Admin, o.Layout)
	for i := range o.Nodes {
		comment := ""
		if i == 0 {
			comment = "   # put in the addresses of your Redis servers; their names stay"
		}
		fmt.Fprintf(&yaml, "  - {name: %s, addr: 127.0.0.1:%d}%s\n", name(i), firstPort+i, comment)
	}
	switch o.Layout {
	case config.LayoutSlots:
		yaml.WriteString("\n# Which of the 16,384 hash slots each node has. If they are a Redis Cluster, remove\n" +
			"# nodes and slots, and write slots: {seeds: [HOST:PORT, ...]}: keyway then follows the cluster.\n")
	case config.LayoutRange:
		yaml.WriteString("\n# Which node has which keys. A key that fits no rule goes to the default.\n")
	}
	yaml.WriteString(o.places())
	yaml.WriteString(`
# If the nodes need a password:
# backend: {password: "${REDIS_PASSWORD}"}
# If clients are to need one:
# clients: {password: "${KEYWAY_PASSWORD}"}
`)
	return yaml.String()
}

// places returns the section that says which node has which keys. The other layouts need none.
func (o Options) places() string {
	var lines strings.Builder
	switch n := o.Nodes; o.Layout {
	case config.LayoutSlots:
		fmt.Fprintln(&lines, "slots:\n  static:")
		for i := range n {
			fmt.Fprintf(&lines, "    %s: %d-%d\n", name(i), i*16384/n, (i+1)*16384/n-1)
		}
	case config.LayoutRange:
		fmt.Fprintln(&lines, "range:\n  default: a\n  rules:")
		for i := range n {
			fmt.Fprintf(&lines, "    - {prefix: 'user:', from: %d, to: %d, node: %s}\n", i*1000+1, (i+1)*1000, name(i))
		}
	}
	return lines.String()
}
