package proxy

import (
	"bytes"
	"fmt"
	"runtime"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// infoRequest prepares INFO: keyway's own section alone needs no node. It
// tells whether the request is done.
func (w *Worker) infoRequest(s *Session, r *request, a command.Args) (done bool) {
	own := a.Len() == 1
	others := own
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
	if r.own = own; own || w.o.Cluster != nil {
		r.kind = infoText
	}
	if others {
		return false
	}
	r.call.node = &node{w: w}
	s.inflight++
	w.settle(&r.call, w.appendInfo(s.appendText(nil, nil), true))
	return true
}

// asCluster is INFO of a cluster's node. Valkey calls the mode server_mode.
var asCluster = strings.NewReplacer("redis_mode:standalone\r\n", "redis_mode:cluster\r\n",
	"server_mode:standalone\r\n", "server_mode:cluster\r\n", "cluster_enabled:0\r\n", "cluster_enabled:1\r\n")

// appendInfo makes the INFO reply in b keyway's, with its own section if own.
func (w *Worker) appendInfo(b []byte, own bool) []byte {
	text, ok := resp.Bulk(b)
	if !ok {
		return b
	}
	if w.o.Cluster != nil {
		text = []byte(asCluster.Replace(string(text)))
	}
	var t bytes.Buffer
	if !own {
		return infoReply(b[0], text)
	}
	t.Write(text)
	if t.Len() > 0 {
		if !bytes.HasSuffix(text, []byte("\r\n")) {
			t.WriteString("\r\n")
		}
		t.WriteString("\r\n")
	}
	up, masters := w.Up()
	calls := uint64(0)
	for _, n := range w.stats.Calls {
		calls += n
	}
	fmt.Fprintf(&t, "# Keyway\r\nkeyway_version:%s\r\ngo_version:%s\r\nlayout:%s\r\nthreads:%d\r\nthread:%d\r\n", w.o.Version, runtime.Version(), w.table.Name, w.o.Workers, w.o.Index)
	fmt.Fprintf(&t, "clients:%d\r\nmasters:%d\r\nmasters_up:%d\r\ncommands:%d\r\nbytes_in:%d\r\nbytes_out:%d\r\n", len(w.sessions), masters, up, calls, w.stats.BytesIn, w.stats.BytesOut)
	for i, n := range w.nodes {
		if w.table.Nodes[i].Master {
			inflight := 0
			for _, c := range n.conns {
				inflight += c.InFlight()
			}
			fmt.Fprintf(&t, "node%d:name=%s,addr=%s,state=%s,in_flight=%d\r\n", i, n.name, n.addr, n.conns[0].State(), inflight)
		}
	}
	return infoReply(b[0], t.Bytes())
}

// infoReply is the text as a reply of the kind that the nodes gave.
func infoReply(kind byte, text []byte) []byte {
	if kind == '=' {
		return resp.AppendVerbatim(nil, text)
	}
	return resp.AppendBulk(nil, text)
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
