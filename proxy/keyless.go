package proxy

import (
	"fmt"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

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
	if len(w.masters) < 2 || cmd.Has(command.Module) || cmd.Has(readOnly) || !w.scripts.MayWrite(cmd, a) {
		return
	}
	w.stats.Keyless++
	name := resp.Printable([]byte(lua.Name(cmd, a)))
	if len(name) > 64 {
		name = name[:64]
	}
	if !w.scripts.Warn(name) {
		return
	}
	w.tellSiblings(func(o *Worker) { o.scripts.Warn(name) })
	w.ready.Notes = append(w.ready.Notes, fmt.Sprintf("%s %s has no KEYS and may write; "+
		"keys that it makes are found by name only if they belong to the node of scripts.keyless",
		upper(cmd.Name), name))
}
