package blocking

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Part is commands that block, and WAIT.
var Part = engine.Part{
	New: func(w *engine.Worker) []engine.Feature {
		of := &blockedClients{w: w}
		w.Blocked = of
		return []engine.Feature{of}
	},
	MayBlock: sendBlocking,
	Handlers: map[command.Action]engine.Handler{
		command.DoRunning:       {Answer: aboutRunningScript, ByNodes: true},
		command.DoFunctionStats: {Answer: functionStats, ByNodes: true},
		command.DoWait:          {Answer: wait},
		command.DoClientUnblock: {Answer: clientUnblock},
	},
}
