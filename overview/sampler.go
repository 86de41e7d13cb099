package overview

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/router"
)

const (
	// Interval is the time between two samples.
	Interval = time.Second
	// Window is the time over which rates and latencies are taken.
	Window = 5 * time.Second
	// maxHistory is the number of points in the history.
	maxHistory = 900
	// recently is how long a command is listed after its last use.
	recently = time.Minute
	// shownEvents is how many changes of the topology and the configuration a State has, and how many other events.
	shownEvents = 50

	windowSamples = int(Window / Interval)
)

// Source is where the counters come from. server.Server is one.
type Source interface {
	// Snapshot returns the counters of the threads, always in the same order.
	Snapshot(ctx context.Context) ([]metrics.Snapshot, error)
}

// Options configure a Sampler.
type Options struct {
	Source Source
	Table  func() *router.Table
	About  func() About            // called for each State
	Events func(count int) []Event // the last ones, the newest first; may be nil
	Memory func() int64            // of the process, in bytes; 0: not known; may be nil
	Losses func() []Loss           // always in the same order; may be nil
	Now    func() time.Time        // the clock; nil: that of the system
}

// About is what the counters do not say of a pool.
type About struct {
	Pool, Version, Instance string
	Epoch                   int64
	Started                 time.Time
	Listen                  []string
	MemoryLimit             int64
	Problems                []Problem
	Keyways                 []Keyway
	Nodes                   map[string]Known         // by name
	Zone                    func(addr string) string // of the node at an address; nil, or empty: not known
	Switch                  *Switch                  // nil: no change of the layout is under way
}

// Sampler keeps the figures of a pool. Any goroutine may call its methods.
type Sampler struct {
	o Options

	mu      sync.Mutex
	samples []sample  // the last ones, the oldest first
	silent  time.Time // since when the threads do not answer; zero: they do
	nodes   map[nodeKey]*node
	used    []time.Time // when each command was last used, by its ID
	history history
	losses  losses
	places  places
}

// sample is what all threads together had counted at a time. Its nodes are in Sampler.nodes.
type sample struct {
	at       time.Time
	counters metrics.Counters
	latency  metrics.Histogram    // of all commands
	commands []*metrics.Histogram // of each, by its ID; nil: it was not used
	threads  []threadSample
	users    []metrics.User
	callers  []metrics.Caller
	gauges   metrics.Gauges
	isWhole  bool // every slot has an owner
	layout   string
	paused   time.Duration // how long CLIENT PAUSE goes on
	problems []Problem     // of locks on a majority of nodes
	memory   int64
}

type threadSample struct {
	commands uint64
	clients  int
	busy     time.Duration // since it began
}

// NewSampler returns a sampler that has no sample yet.
func NewSampler(o Options) *Sampler {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sampler{o: o, nodes: map[nodeKey]*node{}, used: make([]time.Time, command.Count)}
}

// Run takes a sample at once and then every Interval, until ctx ends.
func (s *Sampler) Run(ctx context.Context) {
	ticker := time.NewTicker(Interval)
	defer ticker.Stop()
	for {
		s.Sample(ctx)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// Sample takes a sample. If a thread does not answer within an Interval, it only remembers that.
func (s *Sampler) Sample(ctx context.Context) {
	asked := s.o.Now()
	within, cancel := context.WithTimeout(ctx, Interval)
	defer cancel()
	threads, err := s.o.Source.Snapshot(within)
	memory := int64(0)
	if s.o.Memory != nil {
		memory = s.o.Memory()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case err == nil && len(threads) > 0:
		s.silent = time.Time{}
		s.add(threads, memory)
	case ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded) && s.silent.IsZero():
		s.silent = asked
	}
}

// add keeps a sample. It drops one that follows the last one at once, because that was late: commands of seconds
// would count as those of milliseconds. The next sample includes them. s.mu must be locked.
func (s *Sampler) add(threads []metrics.Snapshot, memory int64) {
	at := s.o.Now()
	if n := len(s.samples); n > 0 && at.Sub(s.samples[n-1].at) < Interval/2 {
		return
	}
	all := metrics.Sum(threads)
	now := sample{
		at: at, counters: all.Counters, gauges: all.Gauges, isWhole: all.Covered, layout: all.Layout,
		problems: LockProblems(&all), memory: memory, commands: all.Commands, paused: all.Paused,
		users: all.Users, callers: all.Callers,
	}
	for i := range all.Families {
		now.latency.Add(&all.Families[i])
	}
	for i := range threads {
		thread := threadSample{commands: threads[i].Answered(), clients: threads[i].Clients}
		if of := threads[i].Threads; len(of) > 0 {
			thread.busy = time.Duration(of[0].Busy)
		}
		now.threads = append(now.threads, thread)
	}
	if len(s.samples) > 0 {
		s.compare(&s.samples[len(s.samples)-1], &now)
	}
	if len(s.samples) > windowSamples {
		copy(s.samples, s.samples[1:])
		s.samples[len(s.samples)-1] = now
	} else {
		s.samples = append(s.samples, now)
	}
	s.sampleNodes(all.Nodes, now.at)
	told := []Loss{refusedClients(&all.Counters)}
	if s.o.Losses != nil {
		told = append(told, s.o.Losses()...)
	}
	s.losses.add(told, at)
}

// compare keeps what has happened between two samples in a row.
func (s *Sampler) compare(before, now *sample) {
	for id, calls := range now.counters.Calls {
		if calls != before.counters.Calls[id] {
			s.used[id] = now.at
		}
	}
	// The difference of all counters would be garbage of 8 KiB, each second.
	d := difference{seconds: now.at.Sub(before.at).Seconds(), latency: now.latency.Since(&before.latency)}
	commands := now.counters.Answered() - before.counters.Answered()
	failed := sum(now.counters.Errors) - sum(before.counters.Errors)
	s.history.add(now.at, before.at, point{
		commands: float32(d.rate(commands)), errors: float32(d.rate(failed)),
		p50: float32(d.latency.Quantile(0.5)), p99: float32(d.latency.Quantile(0.99)),
		clients: int32(now.gauges.Clients), memory: now.memory,
		busy: float32(busiest(threadsNow(before, now))),
	})
}

// difference is what was counted between two samples.
type difference struct {
	seconds  float64
	counters metrics.Counters
	latency  metrics.Histogram
}

func since(before, now *sample) difference {
	return difference{
		seconds: now.at.Sub(before.at).Seconds(), counters: now.counters.Since(&before.counters),
		latency: now.latency.Since(&before.latency),
	}
}

// latencyOf returns the latencies of a command between two samples.
func latencyOf(id int, before, now *sample) (h metrics.Histogram) {
	switch {
	case id >= len(now.commands) || now.commands[id] == nil:
		return h
	case id >= len(before.commands) || before.commands[id] == nil:
		return *now.commands[id]
	}
	return now.commands[id].Since(before.commands[id])
}

// rate returns a count per second.
func (d *difference) rate(n uint64) float64 {
	if d.seconds <= 0 {
		return 0
	}
	return float64(n) / d.seconds
}

// threadsNow returns what the threads did between two samples.
func threadsNow(before, now *sample) []Thread {
	all := []Thread{}
	seconds := now.at.Sub(before.at).Seconds()
	for i, thread := range now.threads {
		of := Thread{Index: i, Clients: thread.clients}
		if i < len(before.threads) && seconds > 0 {
			of.Commands = float64(thread.commands-before.threads[i].commands) / seconds
			of.Busy = min((thread.busy-before.threads[i].busy).Seconds()/seconds, 1)
		}
		all = append(all, of)
	}
	return all
}

// busiest returns the busy share of the busiest thread.
func busiest(threads []Thread) (share float64) {
	for _, t := range threads {
		share = max(share, t.Busy)
	}
	return share
}

func sum(counts []uint64) (n uint64) {
	for _, c := range counts {
		n += c
	}
	return n
}

// window returns the newest sample and the one before it from which rates are taken; nil: there is none.
func (s *Sampler) window() (before, now *sample) {
	if len(s.samples) == 0 {
		return nil, nil
	}
	return &s.samples[0], &s.samples[len(s.samples)-1]
}

// LockProblems returns what is wrong with the nodes of locks.quorum.
func LockProblems(all *metrics.Snapshot) (problems []Problem) {
	for _, n := range all.Locks {
		if !n.Votes {
			problems = append(problems, Problem{Severity: Warn, Node: n.Addr,
				Text: fmt.Sprintf("lock node %s does not vote: %s", n.Addr, n.Reason),
				Help: "keyway check --connect says what it lacks"})
		}
	}
	for _, r := range all.Rules {
		if r.Spare < 0 {
			problems = append(problems, Problem{Severity: Bad,
				Text: fmt.Sprintf("locks of %s cannot be acquired: too few lock nodes vote", r.Match),
				Help: "start the lock nodes that do not vote"})
		}
	}
	return problems
}
