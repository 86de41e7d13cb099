package proxy

import (
	"strings"
	"testing"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/emulation"
)

// TestAnyNumberOfArguments: no command ends keyway by having fewer or more arguments than
// it should, not even a module's, whose arity tells nothing.
func TestAnyNumberOfArguments(t *testing.T) {
	const description = "*1\r\n*6\r\n$5\r\nm.get\r\n:-1\r\n*2\r\n+module\r\n+readonly\r\n:1\r\n:1\r\n:1\r\n"
	module := command.Learn([]byte(description))
	for name, o := range map[string]Options{
		"plain": {}, "cluster": {Cluster: emulation.New("10.0.0.9:1", nil)}, "replicas": {Reads: PreferReplica},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, o)
			r.feed(cmd("m.get"))
			for node := range 2 {
				if r.sent(node) == cmd("COMMAND", "INFO", "m.get") {
					r.node(node, description)
				}
			}
			for _, c := range append([]*command.Command{module}, command.ByID...) {
				for n := range 5 {
					args := append(strings.Split(c.Name, "|"), []string{"1", "x", "1", "x"}[:n]...)
					for _, before := range []string{"", cmd("MULTI"), cmd("HELLO", "3")} {
						r.s = r.w.Open(nil, "peer:1", "keyway:1")
						r.feed(before + cmd(args...) + cmd("EXEC"))
						for node := range 2 {
							r.sent(node)
						}
						r.w.Gone(r.s)
						r.endTurn()
					}
				}
			}
		})
	}
}
