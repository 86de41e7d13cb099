package answers

import (
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// pauses is CLIENT PAUSE: clients' commands wait until it ends.
type pauses struct {
	engine.Inactive
	w     *engine.Worker
	until int64 // 0: there is none
	all   bool  // pause all commands, not only those that may write

	functions *functionFlags // from a node, fetched during this pause; nil: not requested yet
}

// functionFlags are the flags that functions declare.
type functionFlags struct {
	noWrites map[string]bool // keys are names in lower case, since Redis ignores case; nil: not known yet
}

// clientPause answers CLIENT PAUSE timeout [WRITE|ALL].
func clientPause(w *engine.Worker, s *engine.Session, cmd *command.Command, a command.Args) bool {
	all := true
	if a.Len() == 4 {
		switch {
		case command.EqualFold(a.Arg(3), "write"):
			all = false
		case !command.EqualFold(a.Arg(3), "all"):
			return s.AnswerError(cmd, "ERR CLIENT PAUSE mode must be WRITE or ALL")
		}
	} else if a.Len() > 4 {
		return s.AnswerError(cmd, errtext.Syntax)
	}
	ms, ok := resp.ParseInt(a.Arg(2))
	switch {
	case !ok || ms > 1<<42:
		return s.AnswerError(cmd, errtext.TimeoutBad)
	case ms < 0:
		return s.AnswerError(cmd, errtext.TimeoutNeg)
	}
	return w.Siblings.HaveAll(s, cmd, func(o *engine.Worker) {
		engine.FeatureOf[*pauses](o).begin(ms*int64(time.Millisecond), all)
	})
}

func clientUnpause(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return w.Siblings.HaveAll(s, cmd, func(o *engine.Worker) { engine.FeatureOf[*pauses](o).end() })
}

// Pause makes the commands of a worker's clients wait, only those that may write if writesOnly is true. 0 ends all
// such waiting.
func Pause(w *engine.Worker, forTime time.Duration, writesOnly bool) {
	if p := engine.FeatureOf[*pauses](w); forTime > 0 {
		p.begin(int64(forTime), !writesOnly)
	} else {
		p.end()
	}
}

// begin begins a pause, or adds one to the current one.
func (p *pauses) begin(nanoseconds int64, all bool) {
	until := max(p.until, p.w.Now+nanoseconds)
	*p = pauses{w: p.w, until: until, all: all || p.all && p.until > p.w.Now}
	p.w.Gate = p
}

func (p *pauses) end() {
	*p = pauses{w: p.w}
	p.w.Gate = nil
}

// Left returns how long commands go on to wait.
func (p *pauses) Left() time.Duration { return time.Duration(max(p.until-p.w.Now, 0)) }

// Delays reports whether a CLIENT PAUSE delays the command.
func (p *pauses) Delays(s *engine.Session, cmd *command.Command, a command.Args) bool {
	if p.w.Now >= p.until {
		p.end()
		return false
	}
	switch {
	case p.all:
		return true
	case cmd.Is(command.CallsFunction):
		return p.functionReplicates(string(a.Arg(1)))
	case cmd.Is(command.Executes) && s.Has(engine.InMulti):
		return s.Block.Writes || slices.ContainsFunc(s.Block.Functions, p.functionReplicates)
	}
	return p.w.Scripts.Replicates(cmd, a)
}

// functionReplicates reports whether a function may change the data of replicas, which it
// may unless it declares no-writes (script.c, fcallGetCommandFlags). The first FCALL in a
// pause asks a node for the flags. Until the node answers, every function counts as one
// that may write.
func (p *pauses) functionReplicates(name string) bool {
	if p.functions == nil {
		p.askFunctions()
	}
	f := p.functions
	return f == nil || !f.noWrites[strings.ToLower(name)]
}

// askFunctions asks a master for the flags of its functions. All masters have the same
// functions, and these do not change during a pause: FUNCTION LOAD is a write, so it waits.
func (p *pauses) askFunctions() {
	w := p.w
	i := slices.IndexFunc(w.Masters, func(n *engine.Node) bool { return n.Shared.Conns[0].State() == pool.Ready })
	if i < 0 {
		return // the waiting command is tried again at the next tick
	}
	f := &functionFlags{}
	p.functions = f
	w.Ask(w.Masters[i].Shared.Conns[0], w.Deadline(), func(reply []byte, ok bool) {
		if ok {
			f.noWrites = readFunctions(reply)
		} else if p.functions == f {
			p.functions = nil
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
