package main

import (
	"context"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/topology"
	"github.com/keyway-proxy/keyway/wiring"
)

// printLockNodes asks the nodes of locks.quorum and prints their answers. servers are the names
// of the layout's nodes by their run_id. It returns an error if a node cannot hold locks.
func printLockNodes(ctx context.Context, w io.Writer, cfg *config.Config, servers map[string]string) error {
	if len(cfg.Locks.Quorum) == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nLOCK NODE\tRULE\tROLE\tMODE\tVERSION\tMAXMEMORY-POLICY\tVOTES")
	reports := wiring.InspectLocks(ctx, cfg)
	var remarks []string
	unfit, of := 0, len(reports)
	for _, rule := range cfg.Locks.Quorum {
		seen, votes, waiting := map[string]string{}, 0, false
		for i := range rule.Nodes {
			r := &reports[i]
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.Addr, rule.Match, dash(r.Role), dash(r.Mode),
				dash(r.Version), dash(r.Policy), voteText(r))
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
				remarks = append(remarks, fmt.Sprintf("problem: lock node %s %s; %s", r.Addr, problem, remedy))
			} else if seen[r.RunID] = r.Addr; r.Votes() {
				votes++
			} else {
				waiting = true
			}
			for _, doubt := range r.Doubts() {
				remarks = append(remarks, fmt.Sprintf("warning: lock node %s %s", r.Addr, doubt))
			}
		}
		reports = reports[len(rule.Nodes):]
		remarks = append(remarks, votesRemark(rule, votes, waiting)...)
	}
	if err := printRemarks(w, tw, remarks); err != nil {
		return err
	}
	if unfit > 0 {
		return fmt.Errorf("%d of %d lock nodes cannot hold locks", unfit, of)
	}
	return nil
}

// printRemarks ends a table, and prints what there is to say about it.
func printRemarks(w io.Writer, table *tabwriter.Writer, remarks []string) error {
	if err := table.Flush(); err != nil {
		return err
	}
	if len(remarks) > 0 {
		fmt.Fprintln(w)
	}
	for _, remark := range remarks {
		fmt.Fprintln(w, remark)
	}
	return nil
}

// voteText says whether a node votes.
func voteText(r *topology.LockReport) string {
	switch {
	case r.Err != nil:
		return "-"
	case r.Waits > 0:
		return "in " + (r.Waits + time.Second - 1).Truncate(time.Second).String()
	case !r.Asked:
		return "not yet"
	}
	return "yes"
}

// votesRemark says what it means if not all nodes of a rule vote.
func votesRemark(r config.QuorumRule, votes int, waiting bool) (remarks []string) {
	n, most := len(r.Nodes), len(r.Nodes)/2+1
	switch {
	case votes < most:
		remarks = append(remarks, fmt.Sprintf("warning: %d of %d nodes of rule %s vote, and %d must: "+
			"no lock can be acquired", votes, n, r.Match, most))
	case votes == most && n > most:
		remarks = append(remarks, fmt.Sprintf("warning: only %d of %d nodes of rule %s vote: no other may fail",
			votes, n, r.Match))
	}
	if waiting {
		remarks = append(remarks, fmt.Sprintf("note: a new or restarted node of rule %s votes %s after a keyway has "+
			"reached it; if no client can hold a lock there, as on the first day, end that wait on each: "+
			"redis-cli -h HOST -p PORT DEL keyway:wait", r.Match, r.MaxLease))
	}
	return remarks
}
