package info

import (
	"bytes"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Sections reports whether an INFO asks for keyway's own section, and whether it asks for
// others.
func Sections(a command.Args) (own, others bool) {
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

// Reply describes a reply to INFO.
type Reply struct {
	Own       bool // the reply includes keyway's own section
	Emulating bool // the reply is that of a cluster's node
	Version   resp.Version
}

// Append appends the reply. nodes are the masters' replies, if any master was asked. report
// is the text of the Report.
func (r Reply) Append(dst []byte, nodes [][]byte, report []byte) []byte {
	merged := r.Version.AppendText(nil, nil)
	if len(nodes) > 0 {
		merged = Merge(nil, nodes)
	}
	text, ok := resp.Bulk(merged)
	if !ok {
		return append(dst, merged...)
	}
	if r.Emulating {
		text = []byte(asCluster.Replace(string(text)))
	}
	fields, own, _ := bytes.Cut(report, []byte(ownSection))
	text = withFields(text, fields)
	if r.Own {
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

// asCluster turns the INFO text of a standalone node into that of a cluster node. Valkey
// calls the mode server_mode.
var asCluster = strings.NewReplacer("redis_mode:standalone\r\n", "redis_mode:cluster\r\n",
	"server_mode:standalone\r\n", "server_mode:cluster\r\n", "cluster_enabled:0\r\n", "cluster_enabled:1\r\n")

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

// Field returns the value of a field in an INFO text, "" if the text lacks it.
func Field(text []byte, name string) string {
	for line := range strings.SplitSeq(string(text), "\r\n") {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return v
		}
	}
	return ""
}
