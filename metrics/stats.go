package metrics

import "slices"

// Stats counts what one thread does.
type Stats struct {
	Counters
	Switch     SwitchCounters
	histograms []*Histogram // by command ID; nil: the command was not used

	// reset has the counts at the last CONFIG RESETSTAT. Counters never decrease, so
	// INFO and LATENCY HISTOGRAM subtract these.
	reset           Counters
	resetHistograms []*Histogram
}

// NewStats returns the statistics of a thread for commands with IDs below commands.
func NewStats(commands int) Stats {
	s := Stats{histograms: make([]*Histogram, commands)}
	s.Calls, s.Errors = make([]uint64, commands), make([]uint64, commands)
	return s
}

// Count counts a command of a user. It has this ID and took ns nanoseconds.
func (s *Stats) Count(id int, ns int64, failed bool, by *UserStats) {
	s.Calls[id]++
	if failed {
		s.Errors[id]++
		by.errors++
	}
	h := s.histograms[id]
	if h == nil {
		h = new(Histogram)
		s.histograms[id] = h
	}
	bucket, ticks := placeOf(ns)
	h.add(bucket, ticks, 1)
	by.latency.add(bucket, ticks, 1)
}

// CountUntimed counts the command with this ID, and not how long it took.
func (s *Stats) CountUntimed(id int, failed bool, by *UserStats) {
	s.Calls[id]++
	by.untimed++
	if failed {
		s.Errors[id]++
		by.errors++
	}
}

// UserStats counts what the clients of a user do on one thread.
type UserStats struct {
	Clients         int
	untimed, errors uint64
	latency         Histogram
}

// Row returns the counts under a name.
func (u *UserStats) Row(name string) User {
	return User{
		Name: name, Clients: u.Clients, Commands: u.latency.Count + u.untimed, Errors: u.errors, Latency: u.latency,
	}
}

// Add adds the counts of another user, but not its clients.
func (u *UserStats) Add(o *UserStats) {
	u.untimed += o.untimed
	u.errors += o.errors
	u.latency.Add(&o.latency)
}

// Answered returns how many commands were answered.
func (c *CommandCounters) Answered() (n uint64) {
	for _, calls := range c.Calls {
		n += calls
	}
	return n
}

// Latencies returns copies of the latencies of each command; nil: it was not used.
func (s *Stats) Latencies() []*Histogram { return cloneAll(s.histograms) }

// cloneAll returns copies of histograms. Some are nil.
func cloneAll(of []*Histogram) []*Histogram {
	all := make([]*Histogram, len(of))
	for id, h := range of {
		if h != nil {
			clone := *h
			all[id] = &clone
		}
	}
	return all
}

// Families adds up the latencies of the commands of each family. of has the index of a
// command's family, by the command's ID.
func (s *Stats) Families(of []uint8) []Histogram {
	all := make([]Histogram, slices.Max(of)+1)
	for id, h := range s.histograms {
		if h != nil {
			all[of[id]].Add(h)
		}
	}
	return all
}

// Reset makes SinceReset and Recent count from zero.
func (s *Stats) Reset() {
	s.reset = s.Counters.Clone()
	s.resetHistograms = cloneAll(s.histograms)
}

// SinceReset returns the counters since the last Reset.
func (s *Stats) SinceReset() Counters { return s.Counters.Since(&s.reset) }

// Recent returns the latencies since the last Reset of all wanted commands that were used.
func (s *Stats) Recent(wanted func(id int) bool) map[int]Histogram {
	recent := map[int]Histogram{}
	for id, h := range s.histograms {
		if h == nil || !wanted(id) {
			continue
		}
		since := *h
		if s.resetHistograms != nil && s.resetHistograms[id] != nil {
			since = h.Since(s.resetHistograms[id])
		}
		if since.Count > 0 {
			recent[id] = since
		}
	}
	return recent
}
