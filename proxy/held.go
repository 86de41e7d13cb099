package proxy

// holds is how many bytes the worker holds for the client: replies that it has not
// read, and commands that it has sent and that cannot go on yet.
func (s *Session) holds() int {
	n := s.out.Size() + s.parked + cap(s.in)
	if s.txn != nil {
		n += cap(s.txn.block)
	}
	return n
}

// Held is what a worker holds in memory for its clients, in bytes.
type Held struct {
	Clients int // what closing clients would free
	Largest int // of it, for the client that it holds most for
	Queued  int // requests that nodes have not answered
}

// Grown is how many bytes the worker has taken in for clients since Held was last
// called. The shell calls Held when it has become much: that looks at every client.
func (w *Worker) Grown() int { return w.grown }

// Held counts what the worker holds for its clients.
func (w *Worker) Held() (h Held) {
	w.grown = 0
	for _, s := range w.sessions {
		if !s.has(dead) {
			n := s.holds()
			h.Clients += n
			h.Largest = max(h.Largest, n)
		}
	}
	for _, n := range w.nodes {
		h.Queued += n.waitingBytes
		for _, c := range n.conns {
			h.Queued += c.Memory()
		}
		for _, c := range n.retired.conns {
			h.Queued += c.Memory()
		}
		for i := range n.waits {
			h.Queued += n.waits[i].conn.Memory()
		}
	}
	return h
}

// CloseLargest closes the client that the worker holds most for.
func (w *Worker) CloseLargest() {
	var largest *Session
	for _, s := range w.sessions {
		if !s.has(dead) && (largest == nil || s.holds() > largest.holds()) {
			largest = s
		}
	}
	if largest == nil {
		return
	}
	w.stats.ClosedMemory++
	w.ready.Notes = append(w.ready.Notes, "closed the client that took most memory, since limits.memory is reached: "+largest.peer)
	w.kill(largest)
}

// RefuseLarge makes the worker refuse large commands, or accept them again.
func (w *Worker) RefuseLarge(on bool) { w.short = on }

// tooLarge reports whether the command is refused since memory is short.
func (w *Worker) tooLarge(frame []byte) bool {
	if !w.short || len(frame) < bigFrame {
		return false
	}
	w.stats.RefusedLarge++
	return true
}
