package proxy

import (
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// software is what the nodes run.
type software struct {
	w *Worker
	info.Software
	nextHello int64 // when a node is asked again
}

// serverRefresh is the time between two HELLOs. keyway notices a rolling upgrade within it.
const serverRefresh = int64(time.Minute)

// lacks reports whether the nodes are too old for a command that keyway knows. If keyway
// forwards a command, the node itself answers that it does not know it.
func (sw *software) lacks(cmd *command.Command) bool { return sw.w.server.IsBefore(cmd.Since) }

// ask asks a master for its software, version and modules, when it is time to.
func (sw *software) ask() {
	w := sw.w
	if w.now < w.server.nextHello {
		return
	}
	for _, n := range w.masters {
		c := n.conns[0]
		if c.State() != pool.Ready {
			continue
		}
		w.server.nextHello = w.now + serverRefresh
		w.ask(c, w.deadline(), func(reply []byte, ok bool) {
			switch server, isHello := info.ReadHello(reply); {
			case ok && isHello:
				w.server.Software = server
			case ok:
				sw.askOld(c) // it has no HELLO, so it is older than Redis 6.0
			default:
				w.server.nextHello = w.now + sweepTick
			}
		}, "HELLO")
		return
	}
}

// askOld asks a node without HELLO for its version.
func (sw *software) askOld(c *pool.Conn) {
	w := sw.w
	w.ask(c, w.deadline(), func(reply []byte, ok bool) {
		text, _ := resp.Bulk(reply)
		if v := info.Field(text, "redis_version"); ok && v != "" {
			w.server.Version, w.server.Known = v, true
		}
	}, "INFO", "server")
}
