package overview

import "time"

// point is a second of the history.
type point struct {
	commands, errors, p50, p99, busy float32
	clients                          int32
	memory                           int64
}

// history is a ring of points.
type history struct {
	points []point
	next   int // the place of the next point
	last   time.Time
}

// add appends what was measured between two samples. If samples are missing between them, all their points
// are the same.
func (h *history) add(now, before time.Time, p point) {
	h.last = now
	times := int((now.Sub(before) + Interval/2) / Interval)
	for range min(max(times, 1), maxHistory) {
		if len(h.points) < maxHistory {
			h.points = append(h.points, p)
			continue
		}
		h.points[h.next] = p
		h.next = (h.next + 1) % maxHistory
	}
}

// columns returns a copy, the oldest point first.
func (h *history) columns() History {
	n := len(h.points)
	c := History{
		Time: h.last, Step: Interval.Seconds(), Commands: make([]float32, n), Errors: make([]float32, n),
		P50: make([]float32, n), P99: make([]float32, n), Busy: make([]float32, n),
		Clients: make([]int32, n), Memory: make([]int64, n),
	}
	for i := range n {
		p := &h.points[(h.next+i)%n]
		c.Commands[i], c.Errors[i], c.P50[i], c.P99[i] = p.commands, p.errors, p.p50, p.p99
		c.Clients[i], c.Memory[i], c.Busy[i] = p.clients, p.memory, p.busy
	}
	return c
}
