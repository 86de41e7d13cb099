package answers

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// INFO describes the nodes' data and keyway's clients. Each master sends its text. The
// last reply in the merger contains the report of all workers.

// serverInfo answers INFO. It asks no node if the client wants only keyway's own section.
func serverInfo(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	own, others := info.Sections(a)
	var masters []*engine.Node
	if others {
		masters = w.Masters
	}
	for _, n := range masters {
		if n.Conn(s).Full() {
			return s.Stall()
		}
	}
	r := s.NewRequest(cmd)
	r.End = func(w *engine.Worker, dst []byte, r *engine.Request) []byte {
		last := len(r.Merge.Replies) - 1
		form := info.Reply{Own: own, Emulating: w.Options.Cluster != nil, Version: r.Session.Protocol()}
		return form.Append(dst, r.Merge.Replies[:last], r.Merge.Replies[last])
	}
	r.Unfinished = len(masters) + 1
	r.Merge = w.Mergers.Get(r.Unfinished)
	last := r.Merge.Call(r, len(masters))
	last.Node, last.Group = engine.NoNode(w), -1
	s.Inflight++
	for i, n := range masters {
		c := r.Merge.Call(r, i)
		c.Group = -1
		c.SendTo(n, a.Frame())
	}
	w.Siblings.Ask(func(o *engine.Worker) any {
		t := info.Thread{Index: o.Options.Index, Snapshot: o.Snapshot()}
		t.Counters = o.Stats.SinceReset()
		return t
	}, func(answers []any) {
		report := info.Report{
			MaxClients: w.Options.MaxClients, Process: w.Options.Process, Now: w.Wall, Version: w.Options.Version,
			Layout: w.Table.Name,
		}
		for _, t := range answers {
			report.Threads = append(report.Threads, t.(info.Thread))
		}
		last.SettleFor(report.Text())
	})
	return true
}
