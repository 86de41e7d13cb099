package limiting

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// Part bounds what the clients of each user use together, and shows it.
var Part = engine.Part{
	New:      func(w *engine.Worker) []engine.Feature { return []engine.Feature{newLimiter(w)} },
	Handlers: map[command.Action]engine.Handler{command.DoKeywayUsers: {Answer: listUsers}},
}
