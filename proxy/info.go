package proxy

import (
	"bytes"
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// INFO describes the nodes' data and keyway's clients. Each master sends its text. The
// last part of the merger contains the figures of all workers.

// info answers INFO. It asks no node if the client wants only keyway's own section.
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
	r.end, r.own = infoText, own
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

// infoSections reports whether the client asks for keyway's own section, and whether it
// asks for others.
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

// figures are one worker's counters for INFO.
type figures struct {
	index int
	metrics.Snapshot
}

// figures returns the worker's counters since CONFIG RESETSTAT.
func (w *Worker) figures() figures {
	f := figures{w.o.Index, w.Snapshot()}
	f.Counters = f.Counters.Since(&w.before.Counters)
	return f
}

func oneIf(is bool) int {
	if is {
		return 1
	}
	return 0
}

// ownSection is the heading of keyway's own section. The fields in front of it belong to
// other sections and describe keyway's clients and process.
const ownSection = "# Keyway\r\n"

// Process is what INFO reports about the process rather than its workers.
type Process struct {
	RunID      string // 40 random hexadecimal digits
	PID, Port  int    // Port is the first port that clients connect to, 0 if there is none
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

// appendFigures appends the figures of all workers.
func (w *Worker) appendFigures(b []byte, answers []any) []byte {
	var threads []metrics.Snapshot
	for _, o := range answers {
		threads = append(threads, o.(figures).Snapshot)
	}
	all := metrics.Sum(threads)
	line := func(name string, value uint64) { b = fmt.Appendf(b, "%s:%d\r\n", name, value) }
	all.Info(line)
	line("maxclients", uint64(w.o.MaxClients))
	b = w.o.Process.appendFields(b, w.wall)
	b = fmt.Appendf(b, ownSection+"keyway_version:%s\r\ngo_version:%s\r\nlayout:%s\r\nthreads:%d\r\n",
		w.o.Version, runtime.Version(), w.table.Name, len(answers))
	masters := slices.DeleteFunc(all.Nodes, func(n metrics.Node) bool { return !n.Master })
	up := 0
	for _, n := range masters {
		up += oneIf(n.Up)
	}
	line("masters", uint64(len(masters)))
	line("masters_up", uint64(up))
	all.Own(line)
	for i, n := range masters {
		state := cmp.Or(n.State, pool.Ready.String())
		b = fmt.Appendf(b, "node%d:name=%s,addr=%s,state=%s,in_flight=%d\r\n", i, n.Name, n.Addr, state, n.InFlight)
	}
	for _, o := range answers {
		f := o.(figures)
		b = fmt.Appendf(b, "thread%d:", f.index)
		comma := ""
		f.Own(func(name string, value uint64) {
			b = fmt.Appendf(b, "%s%s=%d", comma, name, value)
			comma = ","
		})
		b = append(b, "\r\n"...)
	}
	return b
}

// asCluster turns the INFO text of a standalone node into that of a cluster node. Valkey
// calls the mode server_mode.
var asCluster = strings.NewReplacer("redis_mode:standalone\r\n", "redis_mode:cluster\r\n",
	"server_mode:standalone\r\n", "server_mode:cluster\r\n", "cluster_enabled:0\r\n", "cluster_enabled:1\r\n")

// infoText is the ending of INFO. It merges the masters' texts and the workers' figures.
func infoText(w *Worker, dst []byte, r *request) []byte {
	last := len(r.merge.parts) - 1
	fields, own, _ := bytes.Cut(r.merge.parts[last], []byte(ownSection))
	merged := r.sess.protocol().AppendText(nil, nil)
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

// withFields replaces the nodes' fields in text with keyway's own.
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

// infoField returns the value of a field in an INFO text, "" if the text lacks it.
func infoField(text []byte, field string) string {
	for line := range strings.SplitSeq(string(text), "\r\n") {
		if v, ok := strings.CutPrefix(line, field+":"); ok {
			return v
		}
	}
	return ""
}
