package drain

import "github.com/keyway-proxy/keyway/proxy/engine"

// Part closes the clients when keyway stops.
var Part = engine.Part{
	New: func(w *engine.Worker) []engine.Feature { return []engine.Feature{&drain{w: w}} },
}
