package shared

import (
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
)

// Set is the shared connections to one node. Clients with requests in flight on a connection must have
// the replies before they use the one that has replaced it. Each change makes new slices, so it does not
// disturb a loop over the old ones.
type Set struct {
	// Conns are first those for RESP2 and database 0, then as many for each other mode that clients
	// use.
	Conns     []*pool.Conn
	Retired   []*pool.Conn       // replies are still due on them
	refusedAt int64              // when the node last refused a connection that replaced another
	ended     metrics.Connection // of connections that were none of these
}

// refusedFor is how long after a refusal no connection to the node is replaced.
const refusedFor = int64(time.Second)

// Find returns the index of the first of the connections for the mode, or -1. There are perMode for each
// mode. With many modes there are many connections, so Find looks at the index hint first.
func (s *Set) Find(m pool.Mode, perMode, hint int) int {
	fits := func(i int) bool { return s.Conns[i].Mode == m }
	if hint < len(s.Conns) && hint%perMode == 0 && fits(hint) {
		return hint
	}
	for i := 0; i < len(s.Conns); i += perMode {
		if fits(i) {
			return i
		}
	}
	return -1
}

// IsUp reports whether one of the connections is ready. Retired ones count too.
func (s *Set) IsUp() bool {
	ready := func(c *pool.Conn) bool { return c.State() == pool.Ready }
	return slices.ContainsFunc(s.Conns, ready) || slices.ContainsFunc(s.Retired, ready)
}

// WasUp reports whether one of the connections was ready and has ended.
func (s *Set) WasUp() bool {
	return slices.ContainsFunc(s.Conns, func(c *pool.Conn) bool { return c.Stats.Losses > 0 })
}

// InFlight returns how many requests are unanswered, but for those on retired connections.
func (s *Set) InFlight() (requests int) {
	for _, c := range s.Conns {
		requests += c.InFlight()
	}
	return requests
}

// Memory returns the memory of unanswered requests in bytes.
func (s *Set) Memory() (bytes int) {
	for _, c := range s.Conns {
		bytes += c.Memory()
	}
	for _, c := range s.Retired {
		bytes += c.Memory()
	}
	return bytes
}

// HasSelected reports whether a ready connection of the mode shows that the node has its database. A
// connection with another NoTouch does as well.
func (s *Set) HasSelected(m pool.Mode) bool {
	return slices.ContainsFunc(s.Conns, func(c *pool.Conn) bool {
		like := c.Mode
		like.NoTouch = m.NoTouch
		return like == m && c.State() == pool.Ready
	})
}

// MayReplace reports whether a connection may be replaced now, as far as the node is concerned.
func (s *Set) MayReplace(now int64) bool { return s.refusedAt == 0 || now-s.refusedAt >= refusedFor }

// Replace puts a connection in the place of the i-th, which retires.
func (s *Set) Replace(i int, fresh *pool.Conn) {
	old := s.Conns[i]
	fresh.Stats.Dials = old.Stats.Dials
	s.Conns = slices.Clone(s.Conns)
	s.Conns[i] = fresh
	s.retire(old, fresh)
}

// retire lets a connection answer the requests in flight. heir goes on with its counters.
func (s *Set) retire(c, heir *pool.Conn) {
	moveStats(&heir.Stats, &c.Stats)
	s.Retired = append(slices.Clone(s.Retired), c)
}

// Reinstate puts retired connections back in the places where the node has refused their replacements,
// which it returns. A node without a spare connection still answers over those it has.
func (s *Set) Reinstate(now int64) (refused []*pool.Conn) {
	for i, fresh := range s.Conns {
		if why := fresh.ConnectError(); why == "" || strings.HasPrefix(why, "BUSY ") {
			continue
		}
		place := slices.IndexFunc(s.Retired, func(c *pool.Conn) bool {
			return c.State() == pool.Ready && c.Mode == fresh.Mode
		})
		if place < 0 {
			continue
		}
		old := s.remove(place)
		moveStats(&old.Stats, &fresh.Stats)
		s.Conns = slices.Clone(s.Conns)
		s.Conns[i] = old
		s.refusedAt = now
		refused = append(refused, fresh)
	}
	return refused
}

func (s *Set) remove(place int) *pool.Conn {
	c := s.Retired[place]
	s.Retired = slices.Concat(s.Retired[:place], s.Retired[place+1:])
	return c
}

// Tick looks after the retired connections. It returns those on which no reply is due any more, and calls
// onSlow for the others on which a reply has taken slow or longer to transfer.
func (s *Set) Tick(now int64, slow time.Duration, onSlow func(*pool.Conn)) (ended []*pool.Conn) {
	for _, c := range s.Retired {
		if c.InFlight() > 0 && c.ConnectError() == "" {
			if c.Tick(now); c.IsReplySlow(now, slow) {
				onSlow(c)
			}
			continue
		}
		if place := slices.Index(s.Retired, c); place >= 0 {
			s.remove(place)
		}
		moveStats(&s.Conns[0].Stats, &c.Stats)
		ended = append(ended, c)
	}
	return ended
}

// Resize changes the number of connections for each mode. Surplus ones retire. fresh returns a new
// connection of the mode of another; it is opened if that one is.
func (s *Set) Resize(was, is int, now int64, fresh func(pool.Mode) *pool.Conn) {
	all := s.Conns
	s.Conns = nil
	for i := 0; i < len(all); i += was {
		first := all[i]
		for k := range max(was, is) {
			switch {
			case k >= is:
				s.retire(all[i+k], first)
			case k < was:
				s.Conns = append(s.Conns, all[i+k])
			default:
				c := fresh(first.Mode)
				if first.State() != pool.Idle {
					c.Open(now)
				}
				s.Conns = append(s.Conns, c)
			}
		}
	}
}

// Remove takes the connections of a mode out of the set, for example since the node does not support it.
func (s *Set) Remove(m pool.Mode) (removed []*pool.Conn) {
	var kept []*pool.Conn
	for _, c := range s.Conns {
		if c.Mode == m {
			removed = append(removed, c)
		} else {
			kept = append(kept, c)
		}
	}
	s.Conns = kept
	return removed
}

// RetireUsers retires the connections of users.
func (s *Set) RetireUsers(users map[*pool.Account]bool) {
	var kept []*pool.Conn
	for _, c := range s.Conns {
		if users[c.User] {
			s.retire(c, s.Conns[0])
		} else {
			kept = append(kept, c)
		}
	}
	s.Conns = kept
}

// Close closes all connections. The requests on them fail.
func (s *Set) Close(now int64, reason string) {
	for _, c := range s.Conns {
		c.Close(now, reason)
	}
	for _, c := range s.Retired {
		c.Close(now, reason)
	}
}

// Count adds what is counted about the connections.
func (s *Set) Count(to *metrics.Node) {
	if state := s.Conns[0].State(); state != pool.Ready {
		to.State = state.String()
	}
	for _, c := range s.Conns {
		if r := c.Reason(); r != "" && c.User == nil {
			to.Reason = r
		}
		to.AddConnection(&c.Stats)
	}
	to.AddConnection(&s.ended)
	for _, c := range slices.Concat(s.Conns, s.Retired) {
		countWaiting(c, to)
	}
}

// CountOther adds what is counted about another connection to the node.
func CountOther(c *pool.Conn, to *metrics.Node) {
	to.AddConnection(&c.Stats)
	countWaiting(c, to)
}

// KeepCounts makes Count include another connection to the node, which is not used any more.
func (s *Set) KeepCounts(c *pool.Conn) { s.ended.AddConnection(&c.Stats) }

func countWaiting(c *pool.Conn, to *metrics.Node) {
	to.InFlight += c.InFlight()
	to.InFlightBytes += c.InFlightBytes()
	to.Queued += c.Waiting()
}

// moveStats moves one connection's counters to another, except dials: these distinguish
// the connection's sockets.
func moveStats(to, from *metrics.Connection) {
	dials := from.Dials
	from.Dials = 0
	to.AddConnection(from)
	*from = metrics.Connection{Dials: dials}
}
