package overview

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/resp"
)

// State returns what is known now. It asks no thread, so it also answers while one is stuck.
func (s *Sampler) State() State {
	about := s.o.About()
	events := []Event{}
	if s.o.Events != nil {
		events = withChanges(s.o.Events(2 * MaxEvents))
	}
	t, at := s.o.Table(), s.o.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	state := State{
		Time: at, Pool: about.Pool, Version: about.Version, Instance: about.Instance,
		Layout: t.Name, Cluster: t.Clustered(), Epoch: about.Epoch, Uptime: at.Sub(about.Started).Seconds(),
		Listen: orEmpty(about.Listen), Threads: []Thread{}, Errors: []ErrorClass{}, Commands: []Command{},
		Users: []User{}, Keyways: orEmpty(about.Keyways), Switch: about.Switch, History: s.history.columns(),
		Events: events, Nodes: s.nodesNow(t, about.Nodes),
	}
	state.Now.MemoryLimit = about.MemoryLimit
	if before, now := s.window(); now != nil {
		state.Time = now.at
		d := since(before, now)
		state.Now.fill(now, &d)
		state.Threads = threadsNow(before, now)
		state.Now.Busy = busiest(state.Threads)
		for _, c := range classes {
			state.Errors = append(state.Errors, ErrorClass{
				Class: c.name, PerSecond: d.rate(c.count(&d.counters)), Total: c.count(&now.counters),
			})
		}
		state.Commands = s.commands(before, now, &d)
		state.Users = usersNow(before, now, &d)
	}
	for i := range state.Nodes {
		n := &state.Nodes[i]
		if state.Now.InFlight += n.InFlight; about.Zone != nil {
			n.Zone = about.Zone(n.Addr)
		}
	}
	state.Problems = s.problems(&state, about.Problems, at)
	return state
}

// orEmpty makes nil an empty list in JSON.
func orEmpty[T any](list []T) []T { return append([]T{}, list...) }

func (f *Figures) fill(now *sample, d *difference) {
	f.Clients, f.Memory = now.gauges.Clients, now.memory
	f.Commands, f.Errors = d.rate(d.counters.Answered()), d.rate(sum(d.counters.Errors))
	f.P50, f.P99, f.P999 = d.latency.Quantile(0.5), d.latency.Quantile(0.99), d.latency.Quantile(0.999)
	f.NearHits, f.NearMisses = d.rate(d.counters.NearHits), d.rate(d.counters.NearMisses)
	f.BytesIn, f.BytesOut = d.rate(d.counters.BytesIn), d.rate(d.counters.BytesOut)
}

// classes are the classes of errors.
var classes = []struct {
	name  string
	count func(*metrics.Counters) uint64
}{
	{"not_executed", func(c *metrics.Counters) uint64 { return c.NotExecuted }},
	{"unknown", func(c *metrics.Counters) uint64 { return c.UnknownOutcome }},
	{"denied", func(c *metrics.Counters) uint64 { return c.Denied }},
	{"auth", func(c *metrics.Counters) uint64 { return c.AuthFailures }},
	{"unknown_command", func(c *metrics.Counters) uint64 { return c.Unknown }},
	{"large_command", func(c *metrics.Counters) uint64 { return c.RefusedLarge }},
}

// commands returns the commands that were used recently, most calls first.
func (s *Sampler) commands(before, now *sample, d *difference) []Command {
	all, callers := []Command{}, map[int]*metrics.Caller{}
	for i := range now.callers {
		callers[now.callers[i].Command] = &now.callers[i]
	}
	for id, last := range s.used {
		if last.IsZero() || now.at.Sub(last) > recently {
			continue
		}
		latency := latencyOf(id, before, now)
		of := Command{
			Name: command.NameOf(id), Calls: d.rate(d.counters.Calls[id]), Errors: d.rate(d.counters.Errors[id]),
			P50: latency.Quantile(0.5), P99: latency.Quantile(0.99),
			Total: now.counters.Calls[id], Failed: now.counters.Errors[id],
		}
		if c := callers[id]; c != nil {
			of.Client, of.ClientID, of.ClientName = c.Addr, c.ID, resp.Text([]byte(c.Name))
		}
		all = append(all, of)
	}
	slices.SortStableFunc(all, func(a, b Command) int {
		return cmp.Or(cmp.Compare(b.Calls, a.Calls), cmp.Compare(b.Total, a.Total))
	})
	return all
}

// usersNow returns what the clients of each user did between two samples, most commands first.
func usersNow(before, now *sample, d *difference) []User {
	earlier := map[string]*metrics.User{}
	for i := range before.users {
		earlier[before.users[i].Name] = &before.users[i]
	}
	all := []User{}
	for i := range now.users {
		u := &now.users[i]
		of := User{Name: u.Name, Clients: u.Clients, Waiting: u.Waiting, Total: u.Commands, Failed: u.Errors}
		was := earlier[u.Name]
		if was == nil || was.Commands > u.Commands { // the user is new, or was made again
			was = new(metrics.User)
		}
		latency := u.Latency.Since(&was.Latency)
		of.Commands, of.Errors = d.rate(u.Commands-was.Commands), d.rate(u.Errors-was.Errors)
		of.P50, of.P99 = latency.Quantile(0.5), latency.Quantile(0.99)
		all = append(all, of)
	}
	slices.SortStableFunc(all, func(a, b User) int {
		return cmp.Or(cmp.Compare(b.Commands, a.Commands), cmp.Compare(b.Total, a.Total))
	})
	return all
}

// problems returns what to look at, the worst first. others come from outside.
func (s *Sampler) problems(state *State, others []Problem, at time.Time) []Problem {
	all := []Problem{}
	if !s.silent.IsZero() {
		all = append(all, Problem{Severity: Bad,
			Text: fmt.Sprintf("a thread has not answered for %d s, so its clients wait and all figures are old",
				int(at.Sub(s.silent).Seconds())),
			Help: "if that goes on, restart keyway; its log may say why"})
	}
	for i := range state.Nodes {
		if p, ok := state.Nodes[i].problem(at); ok {
			all = append(all, p)
		}
	}
	if _, now := s.window(); now != nil {
		if !now.isWhole && len(state.Nodes) > 0 {
			all = append(all, Problem{Severity: Bad, Text: "some slots have no node, so commands for them fail",
				Help: "redis-cli --cluster check NODE says which slots"})
		}
		if left := now.paused - at.Sub(now.at); left > 0 {
			all = append(all, Problem{Severity: Warn,
				Text: fmt.Sprintf("commands of clients wait, since somebody has paused them: %s more",
					left.Round(time.Second)),
				Help: "CLIENT UNPAUSE ends that; /events may say who it was"})
		}
		all = append(all, now.problems...)
	}
	all = append(all, state.Now.problems(state.Threads)...)
	all = append(all, s.losses.problems(at)...)
	all = append(all, others...)
	if of := state.Switch; of != nil && of.Waits {
		all = append(all, Problem{Severity: Warn, Text: "the keys of the change do not move",
			Help: "keyway status says why"})
	}
	slices.SortStableFunc(all, func(a, b Problem) int { return strings.Compare(a.Severity, b.Severity) }) // bad, warn
	return all
}

const (
	// fullyBusy is the busy share from which a thread can hardly do more.
	fullyBusy = 0.95
	// nearLimit is the share of the memory limit from which memory is short.
	nearLimit = 0.9
)

// problems returns what is wrong with the process.
func (f *Figures) problems(threads []Thread) (all []Problem) {
	for _, t := range threads {
		if t.Busy >= fullyBusy {
			all = append(all, Problem{Severity: Warn,
				Text: fmt.Sprintf("thread %d is busy %.0f %% of the time, so its clients wait", t.Index, 100*t.Busy),
				Help: "raise threads, if there are processors left, or start more keyways"})
		}
	}
	if share := float64(f.Memory) / float64(max(f.MemoryLimit, 1)); f.MemoryLimit > 0 && share > nearLimit {
		all = append(all, Problem{Severity: Warn,
			Text: fmt.Sprintf("the process uses %.0f %% of limits.memory", 100*share),
			Help: "raise limits.memory, or look for clients that do not read: /clients?sort=memory"})
	}
	return all
}

// starting is how long a node may be without a connection before that is a problem, if there is no reason.
const starting = 2 * time.Second

// toReach is what to do about a node that is down.
const toReach = "look whether it runs, whether it hangs, and whether keyway can reach it"

// problem returns what is wrong with the node.
func (n *Node) problem(at time.Time) (p Problem, ok bool) {
	name := strings.TrimSpace(n.Name + " " + n.Addr)
	if n.Name == n.Addr {
		name = n.Name
	}
	switch {
	case n.State == Ready || n.State == Unused:
		if !n.Slow {
			return p, false
		}
		return Problem{Severity: Warn, Kind: TooSlow, Node: n.Name, Text: "node " + name + " is slow: " + n.SlowReason,
			Help: "look at its machine, and ask the node itself: INFO, SLOWLOG GET, LATENCY DOCTOR"}, true
	case n.Reason == "" && at.Sub(n.Since) < starting:
		return p, false
	}
	p = Problem{Severity: Bad, Kind: Unreachable, Node: n.Name, Text: "node " + name + " cannot be reached",
		Help: toReach + "; commands for its keys fail until then"}
	if n.Reason != "" {
		p.Text += ": " + n.Reason
	}
	if n.Role == Replica {
		p.Severity, p.Help = Warn, toReach+"; its master answers until then"
	}
	return p, true
}
