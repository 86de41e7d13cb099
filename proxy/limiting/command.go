package limiting

import (
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
)

// listUsers answers KEYWAY USERS: the users with limits, those whose clients wait first.
func listUsers(w *engine.Worker, s *engine.Session, cmd *command.Command, _ command.Args) bool {
	return w.Siblings.AskAll(s, cmd, func(o *engine.Worker) any {
		part := new(metrics.Snapshot)
		o.Limiter.Count(part)
		return part
	}, func(answers []any) []byte {
		parts := make([]metrics.Snapshot, len(answers))
		for i, part := range answers {
			parts[i] = *part.(*metrics.Snapshot)
		}
		users := metrics.Sum(parts).Users
		slices.SortFunc(users, func(a, b metrics.User) int {
			if a.Waiting != b.Waiting {
				return b.Waiting - a.Waiting
			}
			return strings.Compare(a.Name, b.Name)
		})
		v := s.Protocol()
		b := resp.AppendArray(nil, len(users))
		for i := range users {
			b = appendUser(b, v, &users[i])
		}
		return b
	})
}

func appendUser(b []byte, v resp.Version, u *metrics.User) []byte {
	figures := []struct {
		name  string
		value int64
	}{
		{"clients", int64(u.Clients)}, {"in-flight", int64(u.InFlight)}, {"waiting-clients", int64(u.Waiting)},
		{"delayed", int64(u.Delayed)}, {"delayed-ms", time.Duration(u.Waited).Milliseconds()},
		{"refused-by-rate", int64(u.Refused)}, {"refused-by-max-clients", int64(u.Excluded)},
	}
	b = v.AppendMap(b, 1+len(figures))
	b = resp.AppendBulkString(resp.AppendBulkString(b, "user"), u.Name)
	for _, f := range figures {
		b = resp.AppendInt(resp.AppendBulkString(b, f.name), f.value)
	}
	return b
}
