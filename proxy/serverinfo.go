package proxy

import (
	"fmt"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// serverInfo describes the nodes, as HELLO does: their software, its version and the
// modules that they have loaded.
type serverInfo struct {
	name, version string
	known         bool // the values come from a node, not from keyway's defaults
	modules       []moduleInfo

	nextQuestion int64 // time of the next HELLO
}

// moduleInfo is a module as HELLO lists it.
type moduleInfo struct {
	pairs  int    // number of names with values
	fields []byte // the encoded pairs; both versions of the protocol encode them alike
}

// serverRefresh is the time between two HELLOs. keyway notices a rolling upgrade within it.
const serverRefresh = int64(time.Minute)

// before reports whether the nodes' version is surely older than version, such as "7.4.0".
func (i *serverInfo) before(version string) bool {
	if !i.known {
		return false
	}
	var a, b [2]int
	fmt.Sscanf(i.version, "%d.%d", &a[0], &a[1])
	fmt.Sscanf(version, "%d.%d", &b[0], &b[1])
	return slices.Compare(a[:], b[:]) < 0
}

// lacks reports whether the nodes are too old for a command that keyway knows. If keyway
// forwards a command, the node itself answers that it does not know it.
func (w *Worker) lacks(cmd *command.Command) bool { return w.server.before(cmd.Since) }

// offsetOfReads reports whether the replication offset to which WAIT compares is that of the
// connection's last command, not of its last write.
func (i *serverInfo) offsetOfReads() bool {
	return i.name == "redis" && i.before("7.2")
}

// askServer asks a master for its software, version and modules, when it is time to.
func (w *Worker) askServer() {
	if w.now < w.server.nextQuestion {
		return
	}
	for _, n := range w.masters {
		c := n.conns[0]
		if c.State() != pool.Ready {
			continue
		}
		w.server.nextQuestion = w.now + serverRefresh
		w.ask(c, w.deadline(), func(reply []byte, ok bool) {
			switch info := readHello(reply); {
			case ok && info.version != "":
				info.nextQuestion, info.known = w.server.nextQuestion, true
				w.server = info
			case ok:
				w.askOldServer(c) // it has no HELLO, so it is older than Redis 6.0
			default:
				w.server.nextQuestion = w.now + sweepTick
			}
		}, "HELLO")
		return
	}
}

// askOldServer asks a node without HELLO for its version.
func (w *Worker) askOldServer(c *pool.Conn) {
	w.ask(c, w.deadline(), func(reply []byte, ok bool) {
		text, _ := resp.Bulk(reply)
		if v := infoField(text, "redis_version"); ok && v != "" {
			w.server.version, w.server.known = v, true
		}
	}, "INFO", "server")
}

// readHello parses the reply to HELLO of a node that speaks RESP2. For any other reply, the
// version is empty.
func readHello(reply []byte) serverInfo {
	var info serverInfo
	n, rest, _ := resp.Elements(reply)
	for range n / 2 {
		var name, value []byte
		name, rest, _ = resp.Split(rest)
		value, rest, _ = resp.Split(rest)
		text, _ := resp.Bulk(value)
		switch key, _ := resp.Bulk(name); string(key) {
		case "server":
			info.name = string(text)
		case "version":
			info.version = string(text)
		case "modules":
			info.modules = readModules(value)
		}
	}
	return info
}

func readModules(list []byte) (modules []moduleInfo) {
	n, rest, _ := resp.Elements(list)
	for range n {
		var module []byte
		module, rest, _ = resp.Split(rest)
		if fields, pairs, ok := resp.Elements(module); ok {
			modules = append(modules, moduleInfo{pairs: fields / 2, fields: append([]byte(nil), pairs...)})
		}
	}
	return modules
}

// appendModules appends the list of modules in the client's protocol.
func (w *Worker) appendModules(b []byte, s *Session) []byte {
	b = resp.AppendArray(b, len(w.server.modules))
	for _, m := range w.server.modules {
		b = append(s.protocol().AppendMap(b, m.pairs), m.fields...)
	}
	return b
}
