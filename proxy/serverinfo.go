package proxy

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/info"
)

// INFO describes the nodes' data and keyway's clients. Each master sends its text. The
// last reply in the merger contains the report of all workers.

// serverInfo answers INFO. It asks no node if the client wants only keyway's own section.
func serverInfo(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	own, others := info.Sections(a)
	var masters []*node
	if others {
		masters = w.masters
	}
	for _, n := range masters {
		if n.conn(s).Full() {
			return s.stall()
		}
	}
	r := s.newRequest(cmd)
	r.end = func(w *Worker, dst []byte, r *request) []byte {
		last := len(r.merge.replies) - 1
		form := info.Reply{Own: own, Emulating: w.o.Cluster != nil, Version: r.sess.protocol()}
		return form.Append(dst, r.merge.replies[:last], r.merge.replies[last])
	}
	r.unfinished = len(masters) + 1
	r.merge = w.mergers.get(r.unfinished)
	last := r.merge.call(r, len(masters))
	last.node, last.group = &node{w: w}, -1
	s.inflight++
	for i, n := range masters {
		c := r.merge.call(r, i)
		c.group = -1
		c.send(n, a.Frame())
	}
	w.siblings.ask(func(o *Worker) any {
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
		last.settleFor(report.Text())
	})
	return true
}
