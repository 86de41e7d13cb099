package proxy

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// pause is a CLIENT PAUSE: clients' commands wait until it ends.
type pause struct {
	until int64
	all   bool // pause all commands, not only those that may write

	functions *functionFlags // from a node, fetched during this pause; nil: not requested yet
}

// functionFlags are the flags that functions declare.
type functionFlags struct {
	noWrites map[string]bool // keys are names in lower case, since Redis ignores case; nil: not known yet
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
		o.pause = pause{
			until: max(o.pause.until, o.now+ms*int64(time.Millisecond)),
			all:   p.all || o.pause.all && o.pause.until > o.now,
		}
	})
}

func clientUnpause(w *Worker, s *Session, cmd *command.Command, _ command.Args) bool {
	return w.haveAll(s, cmd, func(o *Worker) { o.pause = pause{} })
}

// paused reports whether a CLIENT PAUSE delays the command.
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
		return s.block.writes || slices.ContainsFunc(s.block.functions, w.functionReplicates)
	}
	return w.replicates(cmd, a)
}

// functionReplicates reports whether a function may change the data of replicas, which it
// may unless it declares no-writes (script.c, fcallGetCommandFlags). The first FCALL in a
// pause asks a node for the flags. Until the node answers, every function counts as one
// that may write.
func (w *Worker) functionReplicates(name string) bool {
	if w.pause.functions == nil {
		w.askFunctions()
	}
	f := w.pause.functions
	return f == nil || !f.noWrites[strings.ToLower(name)]
}

// askFunctions asks a master for the flags of its functions. All masters have the same
// functions, and these do not change during a pause: FUNCTION LOAD is a write, so it waits.
func (w *Worker) askFunctions() {
	i := slices.IndexFunc(w.masters, func(n *node) bool { return n.conns[0].State() == pool.Ready })
	if i < 0 {
		return // the waiting command is tried again at the next tick
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

// readFunctions returns the functions that declare no-writes, from the reply to
// FUNCTION LIST.
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

// valueOf returns the value of a name in an array of names and values, or nil if the array
// does not have the name.
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

// replicates reports whether a command may change the data of replicas. A script may,
// unless it declares the flag no-writes (script.c, scriptFlagsToCmdFlags).
func (w *Worker) replicates(cmd *command.Command, a command.Args) bool {
	if cmd.Has(command.Write) || !cmd.Is(command.MayReplicate) {
		return cmd.Has(command.Write)
	}
	return !w.scripts.DeclaresNoWrites(cmd, a)
}
