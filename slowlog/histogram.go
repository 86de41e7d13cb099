package slowlog

import (
	"math"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
)

// Wanted returns a function that reports whether a LATENCY HISTOGRAM [command ...] asks for
// the command with an ID. A container includes its subcommands.
func Wanted(a command.Args) func(id int) bool {
	var ids []int
	for i := 2; i < a.Len(); i++ {
		container, sub, isSub := strings.Cut(string(a.Arg(i)), "|")
		c := command.Lookup([]byte(container))
		if c != nil && isSub {
			c = c.Sub([]byte(sub))
		}
		if c != nil && !slices.Contains(ids, c.ID) {
			ids = append(ids, c.ID)
			for k := range c.Subs {
				ids = append(ids, c.Subs[k].ID)
			}
		}
	}
	all := a.Len() == 2
	return func(id int) bool { return id != command.LearnedID && (all || slices.Contains(ids, id)) }
}

// AppendHistograms appends the reply to LATENCY HISTOGRAM: for each command, the number of
// calls and a cumulative histogram of their durations in microseconds. threads has the
// histograms of each thread by the command's ID.
func AppendHistograms(b []byte, v resp.Version, threads []map[int]metrics.Histogram) []byte {
	all := map[int]metrics.Histogram{}
	for _, histograms := range threads {
		for id, h := range histograms {
			total := all[id]
			total.Add(&h)
			all[id] = total
		}
	}
	b = v.AppendMap(b, len(all))
	for id, c := range command.ByID {
		h, ok := all[id]
		if !ok {
			continue
		}
		b = resp.AppendBulkString(b, c.Name)
		b = v.AppendMap(b, 2)
		b = resp.AppendInt(resp.AppendBulkString(b, "calls"), int64(h.Count))
		b = resp.AppendBulkString(b, "histogram_usec")
		b = appendCumulative(b, v, &h)
	}
	return b
}

// appendCumulative appends a cumulative histogram: for each non-empty bucket, its upper bound in
// microseconds, rounded up, and the number of commands below it.
func appendCumulative(b []byte, v resp.Version, h *metrics.Histogram) []byte {
	n := 0
	for _, count := range h.Buckets {
		if count > 0 {
			n++
		}
	}
	b = v.AppendMap(b, n)
	total := uint64(0)
	for i, count := range h.Buckets {
		if total += count; count > 0 {
			b = resp.AppendInt(resp.AppendInt(b, int64(math.Ceil(metrics.Bound(i)*1e6))), int64(total))
		}
	}
	return b
}
