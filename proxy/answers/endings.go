package answers

import (
	"bytes"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// refuseForeignPatterns returns Redis Cluster's error if SORT's patterns may name keys on
// other nodes, and "" otherwise. A pattern with a hash tag of the sorted key's group names
// only keys that live with it.
func refuseForeignPatterns(w *engine.Worker, a command.Args) string {
	if len(w.Masters) < 2 || a.Len() < 2 {
		return ""
	}
	group, _ := w.Table.Place(a.Arg(1))
	var text string
	command.SortPatterns(a, func(by bool, pattern []byte) {
		switch {
		case text != "" || pins(w, pattern, group):
		case by && bytes.IndexByte(pattern, '*') >= 0:
			text = errtext.SortBy
		case !by && string(pattern) != "#":
			text = errtext.SortGet
		}
	})
	return text
}

// pins reports whether every key that a pattern names belongs to the group. The pattern
// needs a hash tag before its first '*'.
func pins(w *engine.Worker, pattern []byte, group int32) bool {
	fixed, _, _ := bytes.Cut(pattern, []byte("*"))
	g, _ := w.Table.Place(fixed)
	return g == group && w.Table.Explain(fixed).Tag != ""
}

// recordKnown records which scripts of a SCRIPT EXISTS keyway knows.
func recordKnown(w *engine.Worker, m *engine.Merger, a command.Args) {
	m.PerArgument = w.Scripts.Cache.AppendKnown(m.PerArgument, a)
}

// scriptsExist is the ending of SCRIPT EXISTS.
func scriptsExist(_ *engine.Worker, dst []byte, r *engine.Request) []byte {
	return lua.AppendExists(dst, r.Command.Merge(nil, r.Merge.Replies, 0), r.Merge.PerArgument)
}
