package txn

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Part is transactions.
var Part = engine.Part{
	New:          func(w *engine.Worker) []engine.Feature { return []engine.Feature{transactions{w: w}} },
	QueueInMulti: queue,
	Handlers: map[command.Action]engine.Handler{
		command.DoMulti:   {Answer: multi},
		command.DoExec:    {Answer: exec},
		command.DoDiscard: {Answer: discard},
		command.DoWatch:   {Answer: watch, ByNodes: true},
		command.DoUnwatch: {Answer: unwatch},
	},
}
