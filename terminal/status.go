package terminal

import (
	"bytes"
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

// statusUsers is how many users the page of a running keyway has at most.
const statusUsers = 10

// Status returns the page of a running keyway from an answer of /overview, which s was made from. It has the users with
// the most commands, if there are several.
func Status(s *overview.State, answer []byte, width int, style Style) (string, error) {
	lines := Header(s, width, style)
	nodes, _, err := Nodes.Rows(bytes.NewReader(answer))
	if err != nil {
		return "", err
	}
	lines = append(append(lines, ""), Nodes.Lines(nodes, width, style)...)
	if len(s.Users) > 1 {
		users, _, err := Users.Rows(bytes.NewReader(answer))
		if err != nil {
			return "", err
		}
		Users.Sort(users)
		shown := min(len(users), statusUsers)
		lines = append(append(lines, ""), Users.Lines(users[:shown], width, style)...)
		if left := len(users) - shown; left > 0 {
			lines = append(lines, fmt.Sprintf("and %d more; keyway top --by users shows them", left))
		}
	}
	return strings.Join(lines, "\n") + "\n", nil
}
