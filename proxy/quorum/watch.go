package quorum

import (
	"fmt"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/proxy/engine"
)

// The first thread asks all threads what they know of the lock nodes, and logs what has changed: which
// nodes wait before they vote, and whether each rule has a majority and a spare node.

const (
	watchEvery = int64(time.Second)
	// steady is how many looks in a row must find a rule better before the log says so. Otherwise a node
	// that stops for a moment again and again would fill the log.
	steady = 3
	// waitMargin is by how much a node's wait must have become longer to be logged again.
	waitMargin = int64(2 * time.Second)
)

// view is what one thread knows of the lock nodes.
type view struct {
	nodes map[string]nodeView // by address
	rules []ruleView
}

type nodeView struct {
	votes bool
	waits int64 // how long it does not vote because it is new or has restarted; not positive: it does not wait
}

type ruleView struct {
	match    string
	isKnown  bool // each node has answered, or cannot be reached
	of, must int  // how many nodes there are, and how many must vote
	absent   []string
}

func (v *ruleView) votes() int { return v.of - len(v.absent) }

// health says how many nodes a rule can still lose.
type health int

const (
	lost  health = iota // too few nodes vote
	brink               // none
	safe                // at least one
)

func (v *ruleView) health() health { return min(max(lost, brink+health(v.votes()-v.must)), safe) }

// healthText is what the log says.
var healthText = [...]string{
	lost:  "locks have no majority: none can be acquired or renewed until more lock nodes vote",
	brink: "locks have a majority but no spare node: if one more fails, none can be acquired or renewed",
	safe:  "locks have a majority and a spare node",
}

// reported is what the log last said.
type reported struct {
	waits map[string]int64          // when the nodes that wait will vote, by address
	rules map[string]reportedHealth // by pattern
}

type reportedHealth struct {
	health health
	better int // how many looks in a row have found it better
}

// watch looks at the nodes once a second.
func (l *locks) watch() {
	if l.w.Options.Index != 0 || len(l.w.Options.Locks) == 0 || l.w.Now < l.nextWatch {
		return
	}
	l.nextWatch = l.w.Now + watchEvery
	l.w.Siblings.Ask(func(to *engine.Worker) any { return engine.FeatureOf[*locks](to).view() }, l.report)
}

func (l *locks) view() view {
	v := view{nodes: map[string]nodeView{}}
	for addr, m := range l.members {
		v.nodes[addr] = nodeView{votes: m.absence() == "", waits: m.node.VotesAt - l.w.Now}
	}
	for i := range l.w.Options.Locks {
		g := l.groups[i]
		r := ruleView{match: string(g.Match), isKnown: true, of: len(g.members), must: g.Majority()}
		for _, m := range g.members {
			switch reason := m.absence(); reason {
			case "":
			case notConnected, notAnswered:
				r.isKnown = false
			default:
				r.absent = append(r.absent, m.node.Addr+": "+reason)
			}
		}
		v.rules = append(v.rules, r)
	}
	return v
}

// report logs what has changed since the last time.
func (l *locks) report(views []any) {
	before := l.reported
	l.reported = reported{map[string]int64{}, map[string]reportedHealth{}} // without what a reload has removed
	for addr := range l.members {
		l.reportNode(addr, views, before.waits[addr])
	}
	for i := range l.w.Options.Locks {
		match := string(l.w.Options.Locks[i].Match)
		last, ok := before.rules[match]
		if !ok {
			last.health = safe
		}
		l.reported.rules[match] = last
		if worst := worstOf(views, match); worst != nil {
			l.reportRule(worst, last)
		}
	}
}

// reportNode logs that a node waits before it votes, or that it votes now. until is what the log last
// said; 0: it does not wait.
func (l *locks) reportNode(addr string, views []any, until int64) {
	waits, votes := int64(0), true
	for _, v := range views {
		node := v.(view).nodes[addr]
		waits, votes = max(waits, node.waits), votes && node.votes
	}
	switch at := l.w.Now + waits; {
	case waits > 0 && (until == 0 || at-until > waitMargin):
		until = at
		wait := time.Duration(waits)
		l.log(true, "a lock node does not vote yet", "addr", addr, "reason", "it is new or has restarted",
			"votes_in", wait.Round(time.Second).String(), "votes_at", l.w.Wall.Add(wait).UTC().Format(time.RFC3339))
	case votes && until != 0:
		until = 0
		l.log(false, "a lock node votes now", "addr", addr)
	}
	if until != 0 {
		l.reported.waits[addr] = until
	}
}

// worstOf returns what the thread that reaches the fewest nodes of a rule knows. It returns nil while a
// thread does not have the rule yet, or has not reached its nodes for the first time.
func worstOf(views []any, match string) (worst *ruleView) {
	for _, v := range views {
		var found *ruleView
		for _, r := range v.(view).rules {
			if r.match == match {
				found = &r
				break
			}
		}
		if found == nil || !found.isKnown {
			return nil
		}
		if worst == nil || found.votes() < worst.votes() {
			worst = found
		}
	}
	return worst
}

// reportRule logs that a rule can lose fewer nodes than the log last said, or more.
func (l *locks) reportRule(r *ruleView, last reportedHealth) {
	now := r.health()
	if last.better++; now <= last.health {
		last.better = 0
	}
	if now < last.health || last.better == steady {
		last = reportedHealth{health: now}
		fields := []any{"rule", r.match, "votes", fmt.Sprintf("%d of %d", r.votes(), r.of), "must_vote", r.must}
		if len(r.absent) > 0 {
			fields = append(fields, "absent", strings.Join(r.absent, "; "))
		}
		l.log(now != safe, healthText[now], fields...)
	}
	l.reported.rules[r.match] = last
}

func (l *locks) log(isBad bool, text string, fields ...any) {
	l.w.Ready.Events = append(l.w.Ready.Events, engine.Event{IsBad: isBad, Text: text, Fields: fields})
}
