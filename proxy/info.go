package proxy

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// INFO tells of the nodes' data and of keyway's clients. Each master gives its
// text; the last part of the merger is what all workers know themselves.

// info answers INFO. keyway's own section alone needs no node.
func (w *Worker) info(s *Session, cmd *command.Command, a command.Args) bool {
	own, others := infoSections(a)
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
	r.kind, r.own = infoText, own
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
	w.askSiblings(func(o *Worker) any { return o.figures() }, func(answers []any) {
		w.settleFor(last, w.appendFigures(nil, answers))
	})
	return true
}

// infoSections reports whether INFO is asked for keyway's own section, and for
// others.
func infoSections(a command.Args) (own, others bool) {
	own = a.Len() == 1
	others = own
	for i := 1; i < a.Len(); i++ {
		switch arg := a.Arg(i); {
		case command.EqualFold(arg, "keyway"):
			own = true
		case command.EqualFold(arg, "everything"), command.EqualFold(arg, "all"), command.EqualFold(arg, "default"):
			own, others = true, true
		default:
			others = true
		}
	}
	return own, others
}

// figures are what one worker knows for INFO.
type figures struct {
	index                                        int
	clients, blocked, tracking, pubsub, watching int
	accepted, rejected, calls, errors            uint64
	bytesIn, bytesOut                            uint64
	up                                           int
	nodes                                        []nodeFigures // the masters
}

type nodeFigures struct {
	name, addr, state string
	inFlight          int
}

func (w *Worker) figures() figures {
	now, before := w.countedSoFar(), &w.before
	f := figures{index: w.o.Index, clients: len(w.sessions), tracking: len(w.trackers),
		accepted: now.accepted - before.accepted, rejected: now.rejected - before.rejected,
		calls: now.calls - before.calls, errors: now.errors - before.errors,
		bytesIn: now.bytesIn - before.bytesIn, bytesOut: now.bytesOut - before.bytesOut}
	for _, s := range w.sessions {
		f.blocked += oneIf(s.waits())
		f.pubsub += oneIf(s.has(subscribed))
		f.watching += oneIf(s.txn != nil && s.txn.watch != nil)
	}
	f.up, _ = w.Up()
	for i, n := range w.nodes {
		if w.table.Nodes[i].Master {
			nf := nodeFigures{name: n.name, addr: n.addr, state: n.conns[0].State().String()}
			for _, c := range n.conns {
				nf.inFlight += c.InFlight()
			}
			f.nodes = append(f.nodes, nf)
		}
	}
	return f
}

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// add adds another worker's figures. A node is as ready as it is for the worker
// that has most trouble with it.
func (f *figures) add(o figures) {
	f.clients += o.clients
	f.blocked += o.blocked
	f.tracking += o.tracking
	f.pubsub += o.pubsub
	f.watching += o.watching
	f.accepted += o.accepted
	f.rejected += o.rejected
	f.calls += o.calls
	f.errors += o.errors
	f.bytesIn += o.bytesIn
	f.bytesOut += o.bytesOut
	f.up = min(f.up, o.up)
	for i := range f.nodes {
		for _, n := range o.nodes {
			if n.name == f.nodes[i].name && n.addr == f.nodes[i].addr {
				f.nodes[i].inFlight += n.inFlight
				if n.state != pool.Ready.String() {
					f.nodes[i].state = n.state
				}
			}
		}
	}
}

// ownSection begins keyway's own section; what stands before it are fields of
// other sections that are about keyway's clients.
const ownSection = "# Keyway\r\n"

// Process is what INFO tells of the process rather than of its workers.
type Process struct {
	RunID      string // 40 random hexadecimal digits
	PID, Port  int    // the first port that clients connect to; 0 if there is none
	Executable string
	ConfigFile string
	Started    time.Time
}

func (p *Process) appendFields(b []byte, now time.Time) []byte {
	if p == nil {
		return b
	}
	up := int(now.Sub(p.Started).Seconds())
	return fmt.Appendf(b, "run_id:%s\r\nprocess_id:%d\r\ntcp_port:%d\r\nuptime_in_seconds:%d\r\nuptime_in_days:%d\r\n"+
		"executable:%s\r\nconfig_file:%s\r\n", p.RunID, p.PID, p.Port, up, up/86400, p.Executable, p.ConfigFile)
}

// appendFigures appends what all workers know.
func (w *Worker) appendFigures(b []byte, answers []any) []byte {
	all := answers[0].(figures)
	for _, o := range answers[1:] {
		all.add(o.(figures))
	}
	b = fmt.Appendf(b, "connected_clients:%d\r\nmaxclients:%d\r\nblocked_clients:%d\r\ntracking_clients:%d\r\n"+
		"pubsub_clients:%d\r\nwatching_clients:%d\r\ntotal_connections_received:%d\r\nrejected_connections:%d\r\n"+
		"total_commands_processed:%d\r\ntotal_error_replies:%d\r\ntotal_net_input_bytes:%d\r\ntotal_net_output_bytes:%d\r\n",
		all.clients, w.o.MaxClients, all.blocked, all.tracking, all.pubsub, all.watching, all.accepted, all.rejected,
		all.calls, all.errors, all.bytesIn, all.bytesOut)
	b = w.o.Process.appendFields(b, w.wall)
	b = fmt.Appendf(b, ownSection+"keyway_version:%s\r\ngo_version:%s\r\nlayout:%s\r\nthreads:%d\r\nclients:%d\r\n"+
		"masters:%d\r\nmasters_up:%d\r\ncommands:%d\r\nbytes_in:%d\r\nbytes_out:%d\r\n",
		w.o.Version, runtime.Version(), w.table.Name, len(answers), all.clients,
		len(w.masters), all.up, all.calls, all.bytesIn, all.bytesOut)
	for i, n := range all.nodes {
		b = fmt.Appendf(b, "node%d:name=%s,addr=%s,state=%s,in_flight=%d\r\n", i, n.name, n.addr, n.state, n.inFlight)
	}
	for _, o := range answers {
		f := o.(figures)
		b = fmt.Appendf(b, "thread%d:clients=%d,commands=%d,bytes_in=%d,bytes_out=%d\r\n", f.index, f.clients, f.calls, f.bytesIn, f.bytesOut)
	}
	return b
}

// asCluster is INFO of a cluster's node. Valkey calls the mode server_mode.
var asCluster = strings.NewReplacer("redis_mode:standalone\r\n", "redis_mode:cluster\r\n",
	"server_mode:standalone\r\n", "server_mode:cluster\r\n", "cluster_enabled:0\r\n", "cluster_enabled:1\r\n")

// infoReply makes one reply of the masters' texts and what the workers know.
func (w *Worker) infoReply(dst []byte, r *request) []byte {
	last := len(r.merge.parts) - 1
	fields, own, _ := bytes.Cut(r.merge.parts[last], []byte(ownSection))
	merged := r.sess.appendText(nil, nil)
	if last > 0 {
		merged = r.cmd.Merge(nil, r.merge.parts[:last], 0)
	}
	text, ok := resp.Bulk(merged)
	if !ok {
		return append(dst, merged...)
	}
	if w.o.Cluster != nil {
		text = []byte(asCluster.Replace(string(text)))
	}
	text = withFields(text, fields)
	if r.own {
		if len(text) > 0 {
			text = append(text, "\r\n"...)
		}
		text = append(append(text, ownSection...), own...)
	}
	if merged[0] == '=' {
		return resp.AppendVerbatim(dst, text)
	}
	return resp.AppendBulk(dst, text)
}

// withFields puts keyway's own fields in the place of the nodes'.
func withFields(text, fields []byte) []byte {
	own := map[string]string{}
	for line := range strings.SplitSeq(string(fields), "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		own[name] = value
	}
	var b []byte
	for line := range strings.Lines(string(text)) {
		if name, _, ok := strings.Cut(line, ":"); ok && own[name] != "" {
			line = name + ":" + own[name] + "\r\n"
		}
		b = append(b, line...)
	}
	return b
}

// infoField returns a field of an INFO text.
func infoField(text []byte, field string) string {
	for line := range strings.SplitSeq(string(text), "\r\n") {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return v
		}
	}
	return ""
}
