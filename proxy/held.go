package proxy

// holds returns how many bytes the worker stores for the client: replies that the client
// has not read, and commands that cannot go on yet.
func (s *Session) holds() int {
	n := s.out.Size() + s.parked + cap(s.in)
	if s.txn != nil {
		n += cap(s.txn.block)
	}
	return n
}

// Held is the memory that a worker uses for its clients, in bytes.
type Held struct {
	Clients int // freed if all clients are closed
	Largest int // the largest share of one client in Clients
	Queued  int // requests that nodes have not answered
}

// Grown returns how many bytes the worker has stored for clients since the last call of
// Held. Package server calls Held when this is large, since Held visits every client.
func (w *Worker) Grown() int { return w.grown }

// Held adds up the memory that the worker uses for its clients.
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

// CloseLargest closes the client that takes the most memory.
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
	w.ready.Notes = append(w.ready.Notes,
		"closed the client that took most memory, since limits.memory is reached: "+largest.peer)
	w.kill(largest)
}

// RefuseLarge makes the worker refuse large commands, or accept them again.
func (w *Worker) RefuseLarge(on bool) { w.short = on }

// tooLarge reports whether the command is refused because memory is short, and counts
// the refusal.
func (w *Worker) tooLarge(frame []byte) bool {
	if !w.short || len(frame) < bigFrame {
		return false
	}
	w.stats.RefusedLarge++
	return true
}
