package quorum

import (
	"math"
	"slices"

	"github.com/keyway-proxy/keyway/metrics"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/quorum"
)

// Part is locks on a majority of nodes.
var Part = engine.Part{
	New: func(w *engine.Worker) []engine.Feature {
		l := &locks{w: w, members: map[string]*member{}}
		l.Configured()
		return []engine.Feature{l}
	},
}

// locks is a worker's view of the locks: the nodes that hold them, and the commands under way.
type locks struct {
	engine.Inactive
	w       *engine.Worker
	members map[string]*member        // by address
	groups  []*group                  // in the order of the rules; then those of earlier rules
	number  int64                     // the last number that this worker has proposed
	scripts map[string]*quorum.Script // by SHA-1
	turns   int64                     // the turns of the worker so far
	turn    int64                     // w.Now of the last turn
	frame   []byte                    // scratch buffer of members

	nextWatch int64 // when the first thread looks at the nodes for the log
	reported  reported
}

// group is the nodes of a rule.
type group struct {
	quorum.Group
	members []*member
	queue   []*running // oldest first
	late    int        // how many of them are older than the timeout
}

// Configured makes the groups of the rules. Nodes that stay keep their connections.
func (l *locks) Configured() {
	rules := l.w.Options.Locks
	l.scripts = nil // other scripts may be declared
	if l.w.Outside = nil; len(rules) > 0 {
		l.w.Outside = l
	}
	for _, m := range l.members {
		m.timeout = 0
	}
	keep := map[string]*member{}
	var groups []*group
	for i := range rules {
		g := &group{Group: quorum.Group{Rule: &rules[i]}}
		for _, addr := range rules[i].Nodes {
			m := l.members[addr]
			if m == nil {
				node := &quorum.Node{Addr: addr, Absence: notAnswered}
				m = &member{l: l, node: node, conn: l.w.Links.Conn(addr, nil)}
				l.members[addr] = m
			}
			m.logInAs(pool.Account{Username: rules[i].Username, Password: rules[i].Password}, l.w.Now)
			m.timeout = max(m.timeout, rules[i].Timeout)
			m.node.Longest = max(m.node.Longest, rules.LongestLease(addr))
			g.Members, g.members = append(g.Members, m.node), append(g.members, m)
			keep[addr] = m
		}
		groups = append(groups, g)
	}
	for _, g := range l.groups {
		if len(g.queue) > 0 {
			groups = append(groups, g) // until its commands have ended
		}
	}
	for addr, m := range l.members {
		if keep[addr] == nil {
			l.w.LinksToClose = append(l.w.LinksToClose, &m.conn.Link)
		}
	}
	l.members, l.groups = keep, groups
}

// logInAs makes the connection use an account, and opens it if it is new. A connection that is
// open keeps the user with whom it has logged in. A node that refused the former account is
// tried again at once.
func (m *member) logInAs(a pool.Account, now int64) {
	before := m.conn.Account
	m.conn.Account = &a
	switch {
	case before == nil:
		m.conn.Open(now)
	case *before != a && m.conn.State() == pool.Down:
		m.conn.RetryNow(now)
	}
}

// Shut closes the connections to the nodes.
func (l *locks) Shut() {
	for _, m := range l.members {
		m.conn.Close(l.w.Now, "keyway is stopping")
	}
}

// Tick ends the commands whose nodes have had their time.
func (l *locks) Tick() {
	rules := len(l.w.Options.Locks)
	for _, m := range l.members {
		m.conn.Tick(l.w.Now)
		m.lookAtNode()
		m.dropUnwanted()
	}
	for _, g := range l.groups[rules:] {
		for _, m := range g.members {
			m.pump() // what waits for a node that a reload has removed is lost: its connection is closed
		}
	}
	l.expire()
	l.watch()
	l.groups = append(l.groups[:rules:rules], slices.DeleteFunc(l.groups[rules:], isIdle)...)
}

// EndTurn sends what waits for nodes that have just become reachable.
func (l *locks) EndTurn() {
	if l.turn != l.w.Now {
		l.turn, l.turns = l.w.Now, l.turns+1
	}
	for _, m := range l.members {
		if m.conn.State() == pool.Ready && m.dials != m.conn.Stats.Dials {
			m.lookAtNode()
		}
	}
}

// expire ends the wait for nodes that are overdue.
func (l *locks) expire() {
	now := l.w.Now
	for _, m := range l.members {
		m.owes = m.isOverdue()
	}
	for _, g := range l.groups {
		for g.late = 0; g.late < len(g.queue) && g.queue[g.late].op.Began()+int64(g.Timeout) <= now; g.late++ {
			for i, m := range g.members {
				m.owes = m.owes || g.queue[g.late].op.Owes(i, now)
			}
		}
	}
	isSilent := false
	for _, m := range l.members {
		m.judge()
		isSilent = isSilent || m.isSilent
	}
	if !isSilent {
		return
	}
	for _, g := range l.groups {
		for _, r := range g.queue[:g.late] {
			r.op.Expire(now, func(i int) bool { return g.members[i].isSilent })
			r.pass()
		}
	}
}

// Count adds what is known about the nodes.
func (l *locks) Count(to *metrics.Snapshot) {
	for addr, m := range l.members {
		absence := m.absence()
		to.Locks = append(to.Locks, metrics.LockNode{
			Addr: addr, Reason: absence, Votes: absence == "", Missed: m.node.Missed, Took: m.took,
		})
	}
	for i := range l.w.Options.Locks {
		g := l.groups[i]
		spare := -g.Majority()
		for _, m := range g.members {
			if m.absence() == "" {
				spare++
			}
		}
		to.Rules = append(to.Rules, metrics.LockRule{Match: string(g.Match), Spare: spare})
	}
}

func isIdle(g *group) bool { return len(g.queue) == 0 }

// Due returns when the first command ends, or when a connection needs a tick.
func (l *locks) Due() int64 {
	next := int64(math.MaxInt64)
	for _, m := range l.members {
		if c := m.conn; c.Busy() && (c.State() != pool.Idle || c.Stats.Losses > 0) {
			next = l.w.Now + engine.Tick
		}
		if m.owes && !m.isSilent {
			next = l.w.Now // in the next turn it may be sure
		}
		next = min(next, max(m.look, l.w.Now+engine.Tick))
	}
	for _, g := range l.groups {
		g.queue = slices.DeleteFunc(g.queue, func(r *running) bool { return r.op.Verdict != quorum.Pending })
		if len(g.queue) > 0 {
			next = min(next, l.w.Now+engine.Tick, g.queue[0].op.Deadline())
		}
	}
	return next
}
