package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/reshard"
	"github.com/keyway-proxy/keyway/router"
)

// notReady is the exit status of a plan that something stands in the way of.
const notReady = 2

func planCommand() *cobra.Command {
	var p planning
	cmd := &cobra.Command{
		Use:   "plan {NEW.yml | -c NEW.yml | OLD.yml NEW.yml}",
		Short: "Print which keys a new configuration would move, and what stands in the way",
		Long: "plan compares the configuration that keyway runs with and a new one, and asks the nodes of both:\n" +
			"how many keys and bytes would move from which node to which, whether the new nodes have the memory,\n" +
			"the version and the rights for them, and who uses the nodes without keyway. It moves nothing; it\n" +
			"creates one small key on each node for a moment. With one file, the old layout is that which the\n" +
			"nodes' registers say is in force, or by which the running keyways serve: the one at the admin\n" +
			"address of the new file, or those of --admin, which it also asks what clients do. The exit status is\n" +
			"0 if the nodes are ready, 2 if something stands in the way, and 1 if the plan failed.",
		Args: func(cmd *cobra.Command, files []string) error {
			if count := len(files); p.file == "" && count != 1 && count != 2 {
				return fmt.Errorf("%s needs the file of the new layout, or both files; write %[1]s NEW.yml, or %[1]s "+
					"OLD.yml NEW.yml", cmd.CommandPath())
			}
			if p.file != "" && len(files) > 0 {
				return fmt.Errorf("%s takes one or two files, or one with -c; leave out %q or -c",
					cmd.CommandPath(), files[0])
			}
			return nil
		},
		RunE: p.run,
	}
	cmd.Flags().StringVarP(&p.file, "config", "c", "", "the new configuration `file`; running keyways tell the old one")
	cmd.Flags().StringSliceVar(&p.admin, "admin", nil,
		"the admin `addresses` of the running keyways, if not the file's")
	cmd.Flags().DurationVar(&p.watch, "watch", 0, "how long the running keyways count what the new layout would refuse")
	cmd.Flags().BoolVar(&p.o.Count, "count", false, "look at every key, not at a sample of each node's")
	cmd.Flags().BoolVar(&p.asJSON, "json", false, "print one JSON object")
	cmd.Flags().StringSliceVar(&p.o.Accept, "accept", nil,
		"count these findings as ready: "+strings.Join(plan.Acceptable(), ", "))
	poolFlag(cmd, &p.pool)
	p.access.flags(cmd)
	_ = cmd.MarkFlagFilename("config", "yml", "yaml") // for shell completion only
	return cmd
}

// planning is one call of keyway plan.
type planning struct {
	o      plan.Options
	file   string   // with -c
	pool   string   // empty: the only one
	admin  []string // of the keyways to ask
	watch  time.Duration
	asJSON bool
	access access

	unasked error // why no keyway was asked; nil: one was, or both files are named
}

func (p *planning) run(cmd *cobra.Command, files []string) error {
	for _, check := range p.o.Accept {
		if !slices.Contains(plan.Acceptable(), check) {
			return fmt.Errorf("--accept %s: write %s", check, strings.Join(plan.Acceptable(), ", "))
		}
	}
	older, newer, err := p.load(cmd.Context(), files)
	if err != nil {
		return err
	}
	ctx := cmd.Context()
	if p.unasked != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "no keyway is asked what its clients do: %v\n", p.unasked)
	}
	if p.o.Asked != nil {
		if err := p.askTraffic(ctx, older, newer, cmd.ErrOrStderr()); err != nil {
			return err
		}
		if ctx.Err() != nil { // what was seen until the signal is printed; a second one ends the process
			ctx = context.WithoutCancel(ctx)
		}
	}
	r, err := reshard.Plan(ctx, older, newer, p.o)
	if err != nil {
		return err
	}
	w := cmd.OutOrStdout()
	if p.asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = printPlan(w, r)
	}
	if err != nil {
		return fmt.Errorf("printing the plan: %w", err)
	}
	if !r.Ready {
		return exitStatus(notReady)
	}
	return nil
}

// askTraffic sets what the running keyways have counted by the new layout, or watches them.
// Before a watch, it prints which keyways are not watched, and fails if the plan would.
func (p *planning) askTraffic(ctx context.Context, older, newer *config.Config, stderr io.Writer) (err error) {
	asked := p.o.Asked
	if p.watch == 0 {
		asked.Traffic = known(ctx, &p.access, newer, asked, p.pool)
		return nil
	}
	asked.Watch = true
	before, err := reshard.Plan(ctx, older, newer, plan.Options{Accept: p.o.Accept, Asked: asked})
	if err != nil {
		return err
	}
	for _, problem := range before.Problems {
		if problem.Check == plan.CheckKeyways {
			fmt.Fprintf(stderr, "%s; %s\n", problem.Text, problem.Remedy)
		}
	}
	asked.Traffic, err = watchTraffic(ctx, &p.access, newer, asked, p.pool, p.watch, newMeter(stderr))
	return err
}

// load returns the old configuration, from a file or from running keyways, and the new one.
func (p *planning) load(ctx context.Context, files []string) (older, newer *config.Config, err error) {
	if len(files) == 1 {
		p.file = files[0]
	}
	if p.file == "" {
		if p.watch != 0 {
			return nil, nil, errors.New("--watch asks running keyways, so it goes with -c NEW.yml; leave it out")
		}
		if len(p.admin) > 0 {
			return nil, nil, errors.New("--admin asks running keyways, so it goes with -c NEW.yml; leave it out")
		}
		older, newer, err = loadBoth(files, p.pool)
		if err == nil {
			err = logIn(ctx, older, newer)
		}
		return older, newer, err
	}
	if p.watch < 0 || p.watch > admin.MaxTrial-grace {
		return nil, nil, fmt.Errorf("--watch %s: write a duration such as 1h", p.watch)
	}
	if newer, err = load(p.file, p.pool); err != nil {
		return nil, nil, err
	}
	p.access.of = newer
	if err := logIn(ctx, newer); err != nil {
		return nil, nil, err
	}
	inForce := reshard.InForce(ctx, newer)
	addrs, err := adminAddresses(p.admin, p.file, newer)
	if err == nil {
		older, p.o.Asked, err = askKeyways(ctx, &p.access, addrs, p.pool)
	}
	switch needsKeyways := p.watch != 0 || len(p.admin) > 0; {
	case err != nil && (inForce == nil || needsKeyways):
		return nil, nil, err
	case inForce != nil:
		older, p.unasked = inForce, err
	}
	older.UseAccounts(newer)
	return older, newer, nil
}

func printPlan(w io.Writer, r *plan.Report) error {
	fmt.Fprintf(w, "layout   %s -> %s\n", layoutText(r.Old), layoutText(r.New))
	fmt.Fprintf(w, "space    %s\n", spaceText(r.Space))
	if r.Space.Moves {
		if err := printMoves(w, r); err != nil {
			return err
		}
	}
	for i, k := range r.Keyways {
		lead := "keyways "
		if i > 0 {
			lead = "        "
		}
		fmt.Fprintf(w, "%s %s at %s\n", lead, k.Instance, k.Admin)
	}
	printTraffic(w, r)
	for _, note := range r.Notes {
		fmt.Fprintf(w, "note: %s\n", note)
	}
	printLimits(w, r.Limits)
	return printProblems(w, r)
}

// printProblems prints what stands in the way.
func printProblems(w io.Writer, r *plan.Report) error {
	open := 0
	for _, p := range r.Problems {
		if p.Accepted {
			fmt.Fprintf(w, "accepted: %s: %s\n", p.Check, p.Text)
			continue
		}
		open++
		fmt.Fprintf(w, "not ready: %s: %s; %s\n", p.Check, p.Text, p.Remedy)
	}
	var err error
	switch {
	case open > 0:
		_, err = fmt.Fprintf(w, "NOT READY: %s\n", strings.Join(openChecks(r), ", "))
	case r.Space.Moves:
		_, err = fmt.Fprintln(w, "READY")
	default:
		_, err = fmt.Fprintln(w, "READY: no key moves")
	}
	return err
}

// printLimits prints what cannot be had.
func printLimits(w io.Writer, limits []plan.Limit) {
	if len(limits) > 0 {
		fmt.Fprintln(w, "what cannot be had, if keyway switch changes the layout while clients run:")
	}
	for _, l := range limits {
		on := ""
		if len(l.Nodes) > 0 {
			on = " (" + strings.Join(l.Nodes, ", ") + ")"
		}
		fmt.Fprintf(w, "  %s%s: %s\n", l.Name, on, strings.ReplaceAll(l.Text, "`", ""))
	}
}

// printMoves prints what is known about the keys that move.
func printMoves(w io.Writer, r *plan.Report) error {
	fmt.Fprintf(w, "keys     %s\n", keysText(r.Keys))
	if r.Keys.Moving > 0 {
		e := r.Estimate
		fmt.Fprintf(w, "time     about %s, if each node sends %s keys or %s a second\n",
			time.Duration(max(1, e.Seconds))*time.Second, grouped(e.KeysPerSec), plan.Bytes(e.BytesPerSec))
	}
	printBig(w, r)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nFROM\tTO\tOF THE KEY SPACE\tKEYS\tBYTES\tVERSIONS\tAND BACK")
	for i, p := range r.Pairs {
		if i == maxPairs {
			fmt.Fprintf(tw, "(%d more pairs: see --json)\n", len(r.Pairs)-maxPairs)
			break
		}
		space := fmt.Sprintf("%.2f %%", 100*p.Space)
		if r.Space.Basis == router.Unmeasured {
			space = "-"
		}
		can, back := "-", "-"
		for _, way := range r.Ways {
			if way.From == p.From && way.To == p.To {
				can, back = way.Can, way.Back
			}
		}
		to := p.To
		if to == "" {
			to = "(no node)"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n",
			p.From, to, space, grouped(p.Keys), plan.Bytes(p.Bytes), can, back)
	}
	if len(r.Memory) > 0 {
		fmt.Fprintln(tw, "\nNODE\tNEEDS\tSENDS\tUSES\tMAXMEMORY\tPOLICY\tFITS")
	}
	for _, m := range r.Memory {
		limit := "none"
		if m.Max > 0 {
			limit = plan.Bytes(m.Max)
		}
		fits := "yes"
		if !m.Fits {
			fits = "no"
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", m.Node, plan.Bytes(m.In), plan.Bytes(m.Out), plan.Bytes(m.Used),
			limit, dash(m.Policy), fits)
	}
	fmt.Fprintln(tw)
	return tw.Flush()
}

// printBig prints the keys that stall their nodes while they move.
func printBig(w io.Writer, r *plan.Report) {
	limit := strings.Replace(plan.Bytes(r.BigOver), ".0 ", " ", 1) // like the size in the configuration
	switch {
	case len(r.Big) == 0 && r.Keys.Counted:
		fmt.Fprintf(w, "big      no key over %s moves\n", limit)
	case len(r.Big) == 0:
		fmt.Fprintf(w, "big      no key over %s among the sampled ones; --count finds all\n", limit)
	}
	for _, b := range r.Big {
		stall := time.Duration(b.Bytes) * stallPerMB >> 20
		round := time.Millisecond
		if stall > time.Second {
			round = 100 * time.Millisecond
		}
		fmt.Fprintf(w, "big      %s on %s (%s, %s) stalls both nodes for up to %s\n", errtext.Key(b.Key), b.Node,
			b.Type, plan.Bytes(b.Bytes), stall.Round(round))
	}
}

// maxPairs is how many pairs of nodes are printed.
const maxPairs = 100

// stallPerMB is how long DUMP and RESTORE of a hash stall a node for each megabyte.
const stallPerMB = 25 * time.Millisecond

func layoutText(l plan.Layout) string {
	text := fmt.Sprintf("%s of %d nodes", l.Name, l.Nodes)
	if l.Nodes == 1 {
		text = l.Name + " of 1 node"
	}
	if l.Cluster != "" {
		text += " of cluster " + l.Cluster
	}
	return text
}

// spaceText says which share of the key space moves, and how that is known.
func spaceText(c router.Comparison) string {
	share := fmt.Sprintf("%.2f %% of the key space moves", 100*c.Share)
	switch {
	case !c.Moves:
		return "no key moves"
	case c.Basis == router.Sampled:
		return fmt.Sprintf("%s (+-%.1f %%, measured with random keys, because the layouts hash keys differently)",
			share, 100*c.Error)
	case c.Basis == router.Untagged:
		return share + " (exact for keys without a hash tag; keys with a tag move too)"
	case len(c.Rules) > 0:
		var list []string
		for _, r := range c.Rules {
			to := r.To
			if to == "" {
				to = "no node"
			}
			list = append(list, fmt.Sprintf("%s from %s to %s", r.Keys, r.From, to))
		}
		return "these keys move: " + strings.Join(list, ", ")
	case c.Basis == router.Unmeasured:
		return "a range does not say how many keys it has; see the keys on the nodes"
	}
	return share + " (exact)"
}

func keysText(k plan.Keys) string {
	percent := 0.0
	if k.Total > 0 {
		percent = 100 * float64(k.Moving) / float64(k.Total)
	}
	if k.Counted {
		return fmt.Sprintf("%s of %s move (%.1f %%), with %s: all were counted",
			grouped(k.Moving), grouped(k.Total), percent, plan.Bytes(k.Bytes))
	}
	return fmt.Sprintf("about %s of %s move (%.1f %%, +-%s), with %s (+-%s): %s were sampled; --count looks at all",
		grouped(k.Moving), grouped(k.Total), percent, grouped(k.MovingErr), plan.Bytes(k.Bytes), plan.Bytes(k.BytesErr),
		grouped(k.Seen))
}

// openChecks returns the checks that make the plan unready, each once.
func openChecks(r *plan.Report) (names []string) {
	for _, p := range r.Problems {
		if !p.Accepted && !slices.Contains(names, p.Check) {
			names = append(names, p.Check)
		}
	}
	return names
}

// grouped writes a number with commas, such as 12,402,113.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
