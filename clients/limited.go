package clients

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
)

// AppendUsers appends the reply to KEYWAY USERS: a map for each user, those whose clients wait first, and
// then those with most commands.
func AppendUsers(b []byte, v resp.Version, users []metrics.User) []byte {
	users = slices.Clone(users)
	slices.SortFunc(users, func(a, b metrics.User) int {
		return cmp.Or(cmp.Compare(b.Waiting, a.Waiting), cmp.Compare(b.Commands, a.Commands),
			cmp.Compare(a.Name, b.Name))
	})
	b = resp.AppendArray(b, len(users))
	for i := range users {
		b = appendUser(b, v, &users[i])
	}
	return b
}

func appendUser(b []byte, v resp.Version, u *metrics.User) []byte {
	figures := []struct {
		name  string
		value int64
	}{
		{"clients", int64(u.Clients)}, {"commands", int64(u.Commands)}, {"errors", int64(u.Errors)},
		{"p50-usec", int64(1e6 * u.Latency.Quantile(0.5))}, {"p99-usec", int64(1e6 * u.Latency.Quantile(0.99))},
		{"in-flight", int64(u.InFlight)}, {"waiting-clients", int64(u.Waiting)},
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
