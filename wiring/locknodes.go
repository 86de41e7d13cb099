package wiring

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/topology"
)

// InspectLocks asks the nodes of each rule of locks.quorum about themselves. The reports are in
// the order of the rules and of their nodes.
func InspectLocks(ctx context.Context, c *config.Config) []topology.LockReport {
	rules := lockRules(c)
	var nodes []topology.LockNode
	for i, r := range c.Locks.Quorum {
		as := lockAccount(c, i)
		for _, addr := range r.Nodes {
			nodes = append(nodes, topology.LockNode{Addr: addr, As: as, Rules: rules})
		}
	}
	return topology.InspectLocks(ctx, nodes, c.Backend.ConnectTimeout)
}

// The levels of a LockRemark.
const (
	Problem = "problem" // the node cannot hold locks
	Warning = "warning"
	Note    = "note"
)

// LockRemark is what an operator should know about the nodes of a rule of locks.quorum.
type LockRemark struct {
	Level string
	Rule  string // its pattern
	Addr  string // of the node; empty: Text is about the rule
	Text  string // what is wrong
	Help  string // what to do about it; may be empty
}

// String returns the remark as one line.
func (r LockRemark) String() string {
	text := r.Text
	if r.Addr != "" {
		text = "lock node " + r.Addr + " " + text
	}
	if r.Help != "" {
		text += "; " + r.Help
	}
	return r.Level + ": " + text
}

// JudgeLocks returns what is to be said about the reports of InspectLocks, and how many nodes
// cannot hold locks. servers are the names of the layout's nodes by their run_id.
func JudgeLocks(
	c *config.Config, reports []topology.LockReport, servers map[string]string,
) (remarks []LockRemark, unfit int) {
	for _, rule := range c.Locks.Quorum {
		seen, votes, waiting := map[string]string{}, 0, false
		for i := range rule.Nodes {
			r := &reports[i]
			remark := func(level, text, help string) {
				remarks = append(remarks, LockRemark{level, rule.Match, r.Addr, text, help})
			}
			problem, remedy := r.Unfit()
			switch same := seen[r.RunID]; {
			case problem != "":
			case same != "":
				problem = "is the same server as " + same
				remedy = "list each server once: two votes of one are no majority"
			case servers[r.RunID] != "":
				problem, remedy = "is also node "+servers[r.RunID]+" of the layout", "use servers that hold only locks"
			}
			if problem != "" {
				unfit++
				remark(Problem, problem, remedy)
			} else if seen[r.RunID] = r.Addr; r.Votes() {
				votes++
			} else {
				waiting = true
			}
			for _, doubt := range r.Doubts() {
				remark(Warning, doubt, "")
			}
		}
		reports = reports[len(rule.Nodes):]
		remarks = append(remarks, judgeVotes(rule, votes, waiting)...)
	}
	return remarks, unfit
}

// judgeVotes says what it means if not all nodes of a rule vote.
func judgeVotes(r config.QuorumRule, votes int, waiting bool) (remarks []LockRemark) {
	n, most := len(r.Nodes), len(r.Nodes)/2+1
	remark := func(level, text, help string) {
		remarks = append(remarks, LockRemark{Level: level, Rule: r.Match, Text: text, Help: help})
	}
	switch {
	case votes < most:
		remark(Warning, fmt.Sprintf("%d of %d nodes of rule %s vote, and %d must: no lock can be acquired",
			votes, n, r.Match, most), "")
	case votes == most && n > most:
		remark(Warning, fmt.Sprintf("only %d of %d nodes of rule %s vote: no other may fail", votes, n, r.Match), "")
	}
	if waiting {
		remark(Note, fmt.Sprintf("a new or restarted node of rule %s votes %s after a keyway has reached it",
			r.Match, r.MaxLease), "if no client can hold a lock there, as on the first day, end that wait: "+
			"keyway locks vote --force ADDRESS...")
	}
	return remarks
}

// SurveyLocks asks the nodes of locks.quorum about themselves once, and logs what `keyway check
// --connect` would say about them. Nodes that cannot hold locks keep nobody from serving. t is
// the layout's table.
func SurveyLocks(ctx context.Context, c *config.Config, t *router.Table, log *slog.Logger) {
	if len(c.Locks.Quorum) == 0 {
		return
	}
	servers := map[string]string{}
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for _, r := range Inspect(ctx, c, t) {
			if r.Err == nil {
				servers[r.RunID] = r.Name
			}
		}
	}()
	reports := InspectLocks(ctx, c)
	<-asked
	if ctx.Err() != nil {
		return // keyway stops, or has another configuration
	}
	remarks, _ := JudgeLocks(c, reports, servers)
	for _, r := range remarks {
		level, message := slog.LevelWarn, "locks need attention"
		switch {
		case r.Level == Problem:
			level, message = slog.LevelError, "a node cannot hold locks"
		case r.Level == Note:
			level = slog.LevelInfo
		case r.Addr != "":
			message = "a lock node needs attention"
		}
		fields := []any{"rule", r.Rule}
		if r.Addr != "" {
			fields = append(fields, "addr", r.Addr)
		}
		fields = append(fields, "reason", r.Text)
		if r.Help != "" {
			fields = append(fields, "help", r.Help)
		}
		log.Log(ctx, level, message, fields...)
	}
}

// LetVote ends the wait of nodes of locks.quorum, and calls done for each. It refuses a node that
// lacks locks which others have, unless force is set. It stops at the first error.
func LetVote(
	ctx context.Context, c *config.Config, addrs []string, force bool, done func(addr string, ended bool),
) error {
	rules := lockRules(c)
	for _, addr := range addrs {
		var node *topology.LockNode
		var others [][]topology.LockNode
		for i, r := range rules {
			if !slices.Contains(r.Nodes, addr) {
				continue
			}
			node = &topology.LockNode{Addr: addr, As: lockAccount(c, i), Rules: rules}
			var ofRule []topology.LockNode
			for _, other := range r.Nodes {
				if other != addr {
					ofRule = append(ofRule, topology.LockNode{Addr: other, As: node.As, Rules: rules})
				}
			}
			others = append(others, ofRule)
		}
		if node == nil {
			return fmt.Errorf("%s is no node of locks.quorum; keyway check --connect lists them", addr)
		}
		ended, err := topology.LetVote(ctx, *node, others, c.Backend.ConnectTimeout, force)
		if err != nil {
			return err
		}
		done(addr, ended)
	}
	return nil
}
