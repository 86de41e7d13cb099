package tracking

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Part is client-side caching.
var Part = engine.Part{
	New: func(w *engine.Worker) []engine.Feature { return []engine.Feature{newTrackers(w)} },
	Handlers: map[command.Action]engine.Handler{
		command.DoClientTracking:     {Answer: clientTracking},
		command.DoClientTrackingInfo: {Answer: clientTrackingInfo},
		command.DoClientCaching:      {Answer: clientCaching},
		command.DoClientGetRedir:     {Answer: clientGetRedir},
	},
}
