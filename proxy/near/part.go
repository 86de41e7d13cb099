package near

import "github.com/keyway-proxy/keyway/proxy/engine"

// Part is near_cache.
var Part = engine.Part{
	New: func(w *engine.Worker) []engine.Feature { return []engine.Feature{newCache(w)} },
}
