package proxy

import (
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// INFO describes the nodes' data and keyway's clients. Each master sends its text. The
// last part of the merger contains the report of all workers.

// serverInfo answers INFO. It asks no node if the client wants only keyway's own section.
func (w *Worker) serverInfo(s *Session, cmd *command.Command, a command.Args) bool {
	own, others := info.Sections(a)
	var masters []*node
	if others {
		masters = w.masters
	}
	for _, n := range masters {
		if n.conn(s).Full() {
			return w.stall(s)
		}
	}
	r := w.newRequest(s, cmd)
	r.end = func(w *Worker, dst []byte, r *request) []byte {
		last := len(r.merge.parts) - 1
		form := info.Reply{Own: own, Emulating: w.o.Cluster != nil, Version: r.sess.protocol()}
		return form.Append(dst, r.merge.parts[:last], r.merge.parts[last])
	}
	r.parts = len(masters) + 1
	r.merge = w.getMerger(r.parts)
	last := r.merge.call(r, len(masters))
	last.node, last.group = &node{w: w}, -1
	s.inflight++
	for i, n := range masters {
		c := r.merge.call(r, i)
		c.group = -1
		w.send(s, c, n, a.Frame())
	}
	w.askSiblings(func(o *Worker) any {
		t := info.Thread{Index: o.o.Index, Snapshot: o.Snapshot()}
		t.Counters = o.stats.SinceReset()
		return t
	}, func(answers []any) {
		report := info.Report{
			MaxClients: w.o.MaxClients, Process: w.o.Process, Now: w.wall, Version: w.o.Version, Layout: w.table.Name,
		}
		for _, t := range answers {
			report.Threads = append(report.Threads, t.(info.Thread))
		}
		w.settleFor(last, report.Text())
	})
	return true
}

// software is what the nodes run.
type software struct {
	info.Software
	nextHello int64 // when a node is asked again
}

// serverRefresh is the time between two HELLOs. keyway notices a rolling upgrade within it.
const serverRefresh = int64(time.Minute)

// lacks reports whether the nodes are too old for a command that keyway knows. If keyway
// forwards a command, the node itself answers that it does not know it.
func (w *Worker) lacks(cmd *command.Command) bool { return w.server.IsBefore(cmd.Since) }

// askServer asks a master for its software, version and modules, when it is time to.
func (w *Worker) askServer() {
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
				w.askOldServer(c) // it has no HELLO, so it is older than Redis 6.0
			default:
				w.server.nextHello = w.now + sweepTick
			}
		}, "HELLO")
		return
	}
}

// askOldServer asks a node without HELLO for its version.
func (w *Worker) askOldServer(c *pool.Conn) {
	w.ask(c, w.deadline(), func(reply []byte, ok bool) {
		text, _ := resp.Bulk(reply)
		if v := info.Field(text, "redis_version"); ok && v != "" {
			w.server.Version, w.server.Known = v, true
		}
	}, "INFO", "server")
}
