package terminal

import (
	"fmt"
	"strings"

	"github.com/keyway-proxy/keyway/overview"
)

// Header returns what to see first of a running keyway: what it is, how it is, and what is wrong.
func Header(s *overview.State, width int, style Style) (lines []string) {
	if width == Unbounded {
		width = Width
	}
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	pool := ""
	if s.Pool != "" {
		pool = "pool " + safe(s.Pool) + ", "
	}
	about := fmt.Sprintf("keyway %s, %s: up for %s, %slayout %s, %d of %d nodes ready", s.Version, safe(s.Instance),
		age(s.Uptime), pool, s.Layout, s.NodesReady(), len(s.Nodes))
	lines = append(lines, wrapped(about, width, "  ")...)
	limit := ""
	if s.Now.MemoryLimit > 0 {
		limit = " of " + size(float64(s.Now.MemoryLimit))
	}
	add("%s commands/s, %s errors/s; p50 %s, p99 %s, p99.9 %s", count(s.Now.Commands), count(s.Now.Errors),
		latency(s.Now.P50), latency(s.Now.P99), latency(s.Now.P999))
	add("%d clients, %d requests in flight; %s/s in, %s/s out; memory %s%s", s.Now.Clients, s.Now.InFlight,
		size(s.Now.BytesIn), size(s.Now.BytesOut), size(float64(s.Now.Memory)), limit)
	for _, p := range overview.Groups(s.Problems) {
		said := wrapped(p.Severity+": "+safe(p.Text), width, "  ")
		said[0] = style.bad(said[0])
		lines = append(lines, said...)
		if p.Help != "" {
			for _, line := range wrapped(safe(p.Help), width-2, "") {
				lines = append(lines, "  "+line)
			}
		}
	}
	return lines
}

// Status returns the page of a running keyway.
func Status(s *overview.State, nodes []Row, width int, style Style) string {
	lines := append(Header(s, width, style), "")
	lines = append(lines, Nodes.Lines(nodes, width, style)...)
	return strings.Join(lines, "\n") + "\n"
}
