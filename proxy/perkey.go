package proxy

import (
	"bytes"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// maxUnits bounds the calls that one per-key script becomes: as many as a command over
// all slots may have.
const maxUnits = 1 << 14

// splitScript handles a command whose keys belong to different nodes or slots. This is an
// error (crossing), unless the command is a script that treats each key alone. Such a
// script becomes one call for each unit of keys. Units of the same node are not combined,
// so that in a migrating slot no key has to wait for another.
func splitScript(w *Worker, s *Session, cmd *command.Command, a command.Args, crossing string) bool {
	switch {
	case cmd.Is(command.TakesScript):
		w.scripts.note(cmd, a)
	case !cmd.Is(command.TakesSHA):
		return s.answerError(cmd, crossing)
	}
	how, known := w.scripts.cache.PerKey(cmd, a)
	switch {
	case !known && cmd.Is(command.TakesSHA):
		return askForScript(w, s, cmd, a)
	case how == nil:
		return s.answerError(cmd, crossing)
	}
	units, ok := how.Units(a, w.split.units[:0])
	if w.split.units = units; !ok {
		return s.answerError(cmd, errtext.PerKeyArgs)
	}
	if len(units) > maxUnits {
		return s.answerError(cmd, errtext.PerKeyUnits)
	}
	if crossing := placeUnits(w, a, units, how.Placed()); crossing != "" {
		return s.answerError(cmd, crossing)
	}
	for i := range w.split.groups {
		if n := w.split.groups[i].node; n != nil && n.conn(s).Full() {
			return s.stall()
		}
	}
	sendUnits(w, s, cmd, a, units, how)
	return true
}

// placeUnits makes each unit a group of its own, for the node of its first size keys. It
// returns the error to answer with if these keys belong to different groups or to no node.
func placeUnits(w *Worker, a command.Args, units []lua.Unit, size int) (failed string) {
	sp := &w.split
	sp.groups = sp.groups[:0]
	for i := range units {
		first := units[i].Key
		group, id := w.table.Place(a.Arg(first))
		for k := first + 1; k < first+size; k++ {
			if g, owner := w.table.Place(a.Arg(k)); g != group {
				return w.crossing(a, first, id, k, owner)
			}
		}
		p := shard{group: group}
		switch {
		case id != router.None:
			p.node = w.nodes[id]
		case !w.table.Slotted():
			return errtext.NoRule(a.Arg(first))
		case len(w.nodes) == 0:
			w.ready.Refresh = true
			return errtext.NoMasters
		}
		sp.groups = append(sp.groups, p)
	}
	return ""
}

// inUnitOrder is the ending of a per-key script.
func inUnitOrder(_ *Worker, dst []byte, r *request) []byte {
	if bad := r.merge.failedPartly(r.cmd); bad != nil {
		return resp.AppendError(dst, errtext.InPart(r.cmd, bad))
	}
	return r.merge.perKey.Merge(dst, r.merge.replies)
}

// sendUnits starts the calls of a per-key script.
func sendUnits(w *Worker,
	s *Session, cmd *command.Command, a command.Args, units []lua.Unit, how *lua.PerKey,
) {
	r := s.newRequest(cmd)
	r.end, r.unfinished, r.merge = inUnitOrder, len(units), w.mergers.get(len(units))
	r.merge.perKey = how
	for i := range units {
		p := &w.split.groups[i]
		c := r.merge.call(r, i)
		c.group = p.group
		name, script := cmd.Upper(), a.Arg(1)
		if p.node != nil {
			if eval, text := w.scripts.cache.Eval(cmd, p.node.ordinal, script); text != nil {
				name, script, c.sentAsEval = eval, text, true
			}
		}
		w.frame = units[i].Append(w.frame[:0], name, script, a)
		if p.node == nil {
			await(w, s, c, w.frame)
			continue
		}
		c.send(p.node, w.frame)
	}
	w.frame = w.buffers.Scratch(w.frame)
}

// askForScript handles an EVALSHA whose keys belong to different nodes or slots, and whose
// script this worker does not know. Without the text, the worker cannot decide whether to
// split the script, so it asks its siblings. If no sibling knows the script either, the
// client gets NOSCRIPT and has to send the text, as with one Redis.
func askForScript(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	if w.o.Workers < 2 || len(a.Arg(1)) != 40 {
		return s.answerError(cmd, errtext.NoScript)
	}
	s.set(blocked)
	sha := string(bytes.ToLower(a.Arg(1)))
	w.scripts.find(sha, func() {
		if s.index < 0 {
			return
		}
		s.clear(blocked)
		if w.scripts.cache.Text([]byte(sha)) == nil {
			w.inputs.dropFirst(s)
			s.answerError(cmd, errtext.NoScript)
			if s.has(tracks) {
				s.ownConns.dispatched(s)
			}
		}
		s.wake()
	})
	return false
}
