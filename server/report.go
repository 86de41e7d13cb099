package server

import (
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// lost logs, once for each time, that a node cannot be reached; found logs that
// it can be again.
func (s *Server) lost(c *pool.Conn) {
	if c.State() == pool.Closed || c.Addr == "" {
		return // nothing new, or said by who looks for the address
	}
	s.mu.Lock()
	known := s.down[c.Addr]
	s.down[c.Addr] = true
	s.mu.Unlock()
	if !known {
		s.log.Warn("node unreachable", "addr", c.Addr, "reason", c.Reason())
	}
}

func (s *Server) found(addr string) {
	s.mu.Lock()
	known := s.down[addr]
	delete(s.down, addr)
	s.mu.Unlock()
	if known {
		s.log.Info("node reachable again", "addr", addr)
	}
}

// noteLimit lets a line a second through: what a peer can cause must not flood
// the log.
type noteLimit struct {
	next    time.Time
	dropped int
}

func (s *Server) note(text string) {
	s.mu.Lock()
	now := time.Now()
	if now.Before(s.notes.next) {
		s.notes.dropped++
		s.mu.Unlock()
		return
	}
	dropped := s.notes.dropped
	s.notes = noteLimit{next: now.Add(time.Second)}
	s.mu.Unlock()
	s.log.Warn(text, "others_like_it", dropped)
}
