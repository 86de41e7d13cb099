package limiting

import (
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// listUsers answers KEYWAY USERS: all users, those whose clients wait first.
func listUsers(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return w.Siblings.AskAll(s, cmd, func(o *engine.Worker) any {
		part := new(metrics.Snapshot)
		engine.CountUsers(o, part)
		return part
	}, func(answers []any) []byte {
		parts := make([]metrics.Snapshot, len(answers))
		for i, part := range answers {
			parts[i] = *part.(*metrics.Snapshot)
		}
		return clients.AppendUsers(nil, s.Protocol(), metrics.Sum(parts).Users)
	})
}
