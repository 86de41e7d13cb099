package proxy

import (
	"bytes"
	"iter"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// pause holds clients' commands up.
type pause struct {
	until int64
	all   bool // not only those that may write

	functions *functionFlags // as a node told since the pause began; nil: no FCALL has come
}

// functionFlags are what functions declare.
type functionFlags struct {
	noWrites map[string]bool // by name in lower case, since Redis ignores the case; nil: not known yet
}

// clientPause answers CLIENT PAUSE timeout [WRITE|ALL].
func clientPause(w *Worker, s *Session, cmd *command.Command, a command.Args) bool {
	p := pause{all: true}
	if a.Len() == 4 {
		switch {
		case command.EqualFold(a.Arg(3), "write"):
			p.all = false
		case !command.EqualFold(a.Arg(3), "all"):
			return w.answerError(s, cmd, "ERR CLIENT PAUSE mode must be WRITE or ALL")
		}
	} else if a.Len() > 4 {
		return w.answerError(s, cmd, errSyntax)
	}
	ms, ok := resp.ParseInt(a.Arg(2))
	switch {
	case !ok || ms > 1<<42:
		return w.answerError(s, cmd, errTimeoutBad)
	case ms < 0:
		return w.answerError(s, cmd, errTimeoutNeg)
	}
	return w.haveAll(s, cmd, func(o *Worker) {
		o.pause = pause{until: max(o.pause.until, o.now+ms*1e6), all: p.all || o.pause.all && o.pause.until > o.now}
	})
}

func clientUnpause(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.haveAll(s, cmd, func(o *Worker) { o.pause = pause{} })
}

// paused tells whether the client must wait with the command.
func (w *Worker) paused(s *Session, cmd *command.Command, a command.Args) bool {
	if w.now >= w.pause.until {
		w.pause = pause{}
		return false
	}
	switch {
	case w.pause.all:
		return true
	case cmd.Is(command.CallsFunction):
		return w.functionReplicates(string(a.Arg(1)))
	case cmd.Is(command.Executes) && s.has(inMulti):
		return s.txn.writes || slices.ContainsFunc(s.txn.functions, w.functionReplicates)
	}
	return w.replicates(cmd, a)
}

// functionReplicates reports whether a function may change what replicas have: unless
// it declares no-writes (script.c, fcallGetCommandFlags). A node is asked at the
// first FCALL in a pause; until it has answered, the function counts as one that may.
func (w *Worker) functionReplicates(name string) bool {
	if w.pause.functions == nil {
		w.askFunctions()
	}
	f := w.pause.functions
	return f == nil || !f.noWrites[strings.ToLower(name)]
}

// askFunctions asks a master what its functions declare. All masters have the same.
// None changes while writes pause: FUNCTION LOAD is one.
func (w *Worker) askFunctions() {
	i := slices.IndexFunc(w.masters, func(n *node) bool { return n.conns[0].State() == pool.Ready })
	if i < 0 {
		return // the client asks again at the next tick
	}
	f := &functionFlags{}
	w.pause.functions = f
	w.ask(w.masters[i].conns[0], w.deadline(), func(reply []byte, ok bool) {
		if ok {
			f.noWrites = readFunctions(reply)
		} else if w.pause.functions == f {
			w.pause.functions = nil
		}
	}, "FUNCTION", "LIST")
}

// readFunctions reads the reply to FUNCTION LIST for the functions that declare
// no-writes.
func readFunctions(reply []byte) map[string]bool {
	noWrites := map[string]bool{}
	for library := range elements(reply) {
		for function := range elements(valueOf(library, "functions")) {
			for flag := range elements(valueOf(function, "flags")) {
				if text, _ := resp.Bulk(flag); string(text) == "no-writes" {
					name, _ := resp.Bulk(valueOf(function, "name"))
					noWrites[strings.ToLower(string(name))] = true
				}
			}
		}
	}
	return noWrites
}

// elements yields the elements of an array.
func elements(array []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		n, rest, _ := resp.Elements(array)
		for range n {
			var one []byte
			var ok bool
			if one, rest, ok = resp.Split(rest); !ok || !yield(one) {
				return
			}
		}
	}
}

// valueOf returns what follows a name in an array of names and values, nil if the name is
// not there.
func valueOf(pairs []byte, name string) []byte {
	found := false
	i := 0
	for e := range elements(pairs) {
		if found {
			return e
		}
		text, _ := resp.Bulk(e)
		found = i%2 == 0 && string(text) == name
		i++
	}
	return nil
}

// replicates reports whether a command may change what replicas have. A script
// that declares its flags does so unless they say no-writes (script.c,
// scriptFlagsToCmdFlags).
func (w *Worker) replicates(cmd *command.Command, a command.Args) bool {
	if cmd.Has(command.Write) || !cmd.Is(command.MayReplicate) {
		return cmd.Has(command.Write)
	}
	switch {
	case cmd.Is(command.TakesScript):
		return !declaresNoWrites(a.Arg(1))
	case cmd.Is(command.TakesSHA):
		return !declaresNoWrites(w.scripts.body(a.Arg(1)))
	}
	return true
}

// declaresNoWrites reads the flags in a script's first line, such as
// #!lua flags=no-writes,allow-stale.
func declaresNoWrites(body []byte) bool {
	line, _, _ := bytes.Cut(body, []byte("\n"))
	if !bytes.HasPrefix(line, []byte("#!")) {
		return false
	}
	for _, word := range bytes.Fields(line) {
		if flags, ok := bytes.CutPrefix(word, []byte("flags=")); ok {
			for flag := range bytes.SplitSeq(flags, []byte(",")) {
				if string(flag) == "no-writes" {
					return true
				}
			}
		}
	}
	return false
}
