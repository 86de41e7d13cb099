package proxy

import (
	"bytes"
	"fmt"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/router"
)

// maxWarned is how many scripts warn remembers.
const maxWarned = 1024

// keylessPlace returns where a script, function or module command without keys runs. It
// is the place of one fixed key, so each such command finds what the previous one has
// left, whichever client, thread or keyway sends it.
func (w *Worker) keylessPlace() (group int32, id router.NodeID) {
	group, id = w.table.Place(w.keyless)
	if id != router.None || w.table.Slotted() {
		return group, id
	}
	for i, n := range w.table.Nodes { // no range rule contains the key
		if n.Master && (id == router.None || n.Name < w.table.Nodes[id].Name) {
			id = router.NodeID(i)
		}
	}
	return int32(id), id // without slots, a group is a node
}

// warnKeyless logs, once for each script, that a script without KEYS may write. Keyway
// looks for a key on the node that its name selects, which may be another one.
func (w *Worker) warnKeyless(cmd *command.Command, a command.Args) {
	if len(w.masters) < 2 || cmd.Has(command.Module) || cmd.Has(readOnly) {
		return
	}
	known, ok := w.scripts.of(cmd, a)
	if ok && known.harmless {
		return
	}
	w.stats.Keyless++
	name := string(bytes.ToLower(a.Arg(1)))
	if cmd.Is(command.TakesScript) {
		name = command.SHA1(a.Arg(1))
	}
	if name = clean([]byte(name)); len(name) > 64 {
		name = name[:64]
	}
	if !w.warn(name) {
		return
	}
	w.tellSiblings(func(o *Worker) { o.warn(name) })
	w.ready.Notes = append(w.ready.Notes, fmt.Sprintf("%s %s has no KEYS and may write; "+
		"keys that it makes are found by name only if they belong to the node of scripts.keyless",
		upper(cmd.Name), name))
}

// warn remembers a warning about the script. It returns false if it has remembered one
// already, or if it remembers maxWarned scripts.
func (w *Worker) warn(name string) bool {
	if w.warned[name] || len(w.warned) >= maxWarned {
		return false
	}
	w.warned[name] = true
	return true
}

// isHarmless reports whether a script certainly writes nothing: it has the flag no-writes,
// or calls no command.
func isHarmless(body []byte) bool {
	if bytes.HasPrefix(body, []byte("#!")) {
		shebang, _, _ := bytes.Cut(body, []byte("\n"))
		if bytes.Contains(shebang, []byte("no-writes")) {
			return true
		}
	}
	return !bytes.Contains(body, []byte("call")) // redis.call, redis.pcall, server.call
}
