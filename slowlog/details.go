package slowlog

import (
	"math"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Listable says which options KEYWAY SLOWLOG takes.
var Listable = command.Listable{Count: 10, Most: math.MaxInt32}

// AppendDetails appends the reply to KEYWAY SLOWLOG: entries as in AppendEntries, with names for the fields,
// and with the node.
func AppendDetails(b []byte, v resp.Version, all []Entry, count int) []byte {
	sortLatest(all)
	all = all[:min(len(all), count)]
	b = resp.AppendArray(b, len(all))
	for i := range all {
		e := &all[i]
		b = v.AppendMap(b, 9)
		for _, f := range []struct {
			name  string
			value int64
		}{
			{"id", int64(e.id)}, {"time", e.at}, {"duration-us", e.micros}, {"queue-us", e.queued},
			{"node-us", e.micros - e.queued},
		} {
			b = resp.AppendInt(resp.AppendBulkString(b, f.name), f.value)
		}
		for _, f := range []struct{ name, value string }{
			{"node", e.node}, {"client", e.peer}, {"client-name", e.name},
		} {
			b = resp.AppendBulkString(resp.AppendBulkString(b, f.name), f.value)
		}
		b = resp.AppendArray(resp.AppendBulkString(b, "args"), len(e.args))
		for _, arg := range e.args {
			b = resp.AppendBulk(b, arg)
		}
	}
	return b
}
