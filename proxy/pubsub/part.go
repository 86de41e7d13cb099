package pubsub

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Part is pub/sub.
var Part = engine.Part{
	New: func(w *engine.Worker) []engine.Feature { return []engine.Feature{newHub(w)} },
	Handlers: map[command.Action]engine.Handler{
		command.DoNumSub:       {End: subscribers},
		command.DoPublish:      {Answer: publishTo, ByNodes: true},
		command.DoSubscribe:    {Answer: listenTo(byChannel)},
		command.DoPSubscribe:   {Answer: listenTo(byPattern)},
		command.DoSSubscribe:   {Answer: listenTo(byShard)},
		command.DoUnsubscribe:  {Answer: noLongerTo(byChannel)},
		command.DoPUnsubscribe: {Answer: noLongerTo(byPattern)},
		command.DoSUnsubscribe: {Answer: noLongerTo(byShard)},
	},
}
