package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/reshard"
)

const (
	// misplacedStatus is the exit status if keys lie elsewhere than the layout says, or
	// were set aside.
	misplacedStatus = 2
	// shownKeys is how many keys are printed one by one.
	shownKeys = 20
)

func verifyCommand() *cobra.Command {
	var file, pool string
	var repair, asJSON bool
	o := migrate.Options{}
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Look at every key, and print those that lie on another node than the layout says",
		Long: "verify scans all databases of all nodes and prints the keys that lie on another node than the\n" +
			"layout says, and those that are on two nodes. --repair moves them to their nodes. If a key is there\n" +
			"already, with another value, it stays there, and the other value is renamed to\n" +
			"keyway:stray:NODE:KEY. No value is lost. While the layout changes, the keyways move the keys, and\n" +
			"--repair renames those that lie where neither layout places them. The exit status is 0 if all keys\n" +
			"are in their places, 2 if some are not or were renamed, and 1 if keyway could not look.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadForNodes(cmd.Context(), file, pool)
			if err != nil {
				return err
			}
			r, err := verify(cmd, cfg, repair, o)
			if failed := printVerified(cmd.OutOrStdout(), r, err != nil, asJSON); failed != nil {
				return fmt.Errorf("printing the report: %w", failed)
			}
			if err != nil {
				return interrupted(cmd, err)
			}
			if !r.After.Clean() || len(r.Aside) > 0 {
				return exitStatus(misplacedStatus)
			}
			return nil
		},
	}
	configFlag(cmd, &file)
	poolFlag(cmd, &pool)
	cmd.Flags().BoolVar(&repair, "repair", false, "move keys to the nodes that the layout says")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	movingFlags(cmd, &o)
	return cmd
}

// verify looks at all keys and, if repair is true, moves the misplaced ones. The result is
// nil if it has done nothing, and incomplete after an error.
func verify(cmd *cobra.Command, cfg *config.Config, repair bool, o migrate.Options) (*migrate.Repaired, error) {
	shown := newMeter(cmd.ErrOrStderr())
	defer shown.end()
	o.Progress = shown.print
	if repair {
		return reshard.Repair(cmd.Context(), cfg, o)
	}
	found, err := reshard.Verify(cmd.Context(), cfg, o)
	if err != nil {
		return nil, err
	}
	return &migrate.Repaired{Aside: []move.Aside{}, After: found}, nil
}

// printVerified prints what verify has found and done; after a failure, what it had done
// before.
func printVerified(w io.Writer, r *migrate.Repaired, failed, asJSON bool) error {
	switch {
	case r == nil:
		return nil
	case asJSON:
		return json.NewEncoder(w).Encode(r)
	case !failed:
		return printRepaired(w, r)
	case len(r.Aside) > 0:
		printMoved(w, r)
	}
	return nil
}

// movingFlags are the flags of a command that moves keys.
func movingFlags(cmd *cobra.Command, o *migrate.Options) {
	rateFlag(cmd, &o.Rate)
	latencyFlag(cmd, &o.Latency)
	cmd.Flags().DurationVar(&o.Retry, "retry", time.Minute,
		"how long to try again after a node could not be reached; 0: not at all")
	cmd.Flags().BoolVar(&o.WhileServing, "while-serving", false,
		"move keys although keyways serve the nodes, whose clients do not find keys that have moved")
}

func printRepaired(w io.Writer, r *migrate.Repaired) error {
	if r.Before != nil && !r.Before.Clean() {
		if err := printReport(w, r.Before); err != nil {
			return err
		}
		fmt.Fprintln(w)
		printMoved(w, r)
	}
	if err := printReport(w, r.After); err != nil {
		return err
	}
	if r.Before == nil && !r.After.Clean() {
		does := "moves them to their nodes"
		if r.After.Moving > 0 {
			does = "sets them aside"
		}
		_, err := fmt.Fprintf(w, "keyway verify --repair %s.\n", does)
		return err
	}
	return nil
}

// printMoved prints what a repair has done so far.
func printMoved(w io.Writer, r *migrate.Repaired) {
	if r.InChange {
		fmt.Fprintf(w, "repaired: set %d keys aside that lay where neither layout places them\n\n", len(r.Aside))
		printAside(w, r.Aside, "is where neither layout places it")
		return
	}
	fmt.Fprintf(w, "repaired: %s\n\n", movedText(r.Moved, r.Joined))
	printAside(w, r.Aside, otherValue)
}

func movedText(moved, joined int) string {
	text := fmt.Sprintf("moved %d keys", moved)
	if joined > 0 {
		text += fmt.Sprintf(", and removed %d second copies with the same value", joined)
	}
	return text
}

func printReport(w io.Writer, r *migrate.Report) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "NODE\tADDRESS\tKEYS\tELSEWHERE\tON TWO NODES\tSET ASIDE")
	var aside int64
	for _, n := range r.Nodes {
		fmt.Fprintf(tw, "%s\t%s\t%d\t%d\t%d\t%d\n", n.Name, n.Addr, n.Keys, n.Misplaced, n.Twice, n.Aside)
		aside += n.Aside
	}
	if err := tw.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w)
	for i, f := range r.Findings {
		if i == shownKeys {
			fmt.Fprintf(w, "... and %d more\n", r.Misplaced-shownKeys)
			break
		}
		fmt.Fprintln(w, findingText(f))
	}
	if aside > 0 {
		fmt.Fprintf(w, "note: %d values are set aside; redis-cli --scan --pattern 'keyway:stray:*' shows them\n", aside)
	}
	if r.Clean() && r.Moving > 0 {
		_, err := fmt.Fprintf(w, "All %d keys are where the layouts place them, %d of them at the nodes that they "+
			"leave: keyway status says how far that is.\n", r.Keys, r.Moving)
		return err
	}
	if r.Clean() {
		_, err := fmt.Fprintf(w, "All %d keys are where the layout places them.\n", r.Keys)
		return err
	}
	_, err := fmt.Fprintf(w, "%d of %d keys are on another node than the layout says, %d of them on two nodes.\n",
		r.Misplaced, r.Keys, r.Twice)
	return err
}

func findingText(f migrate.Finding) string {
	text := fmt.Sprintf("%s on %s belongs to %s", errtext.Key(f.Key), f.Node, f.Belongs)
	if f.Belongs == "" {
		text = fmt.Sprintf("%s on %s belongs to no node: the layout does not place it", errtext.Key(f.Key), f.Node)
	}
	if f.DB != 0 {
		text = fmt.Sprintf("%s (database %d)", text, f.DB)
	}
	if len(f.Also) > 0 {
		text += "; it is also on " + strings.Join(f.Also, ", ")
	}
	return text
}

// otherValue is why a value is set aside: it has lost against another.
const otherValue = "has another value at its node"

// printAside prints the values that were set aside.
func printAside(w io.Writer, all []move.Aside, why string) {
	for i, a := range all {
		if i == shownKeys {
			fmt.Fprintf(w, "... and %d more\n", len(all)-shownKeys)
			return
		}
		fmt.Fprintf(w, "set aside: %s on %s (database %d) %s; it is %s on %s now\n",
			errtext.Key(a.Key), a.Node, a.DB, why, errtext.Key(a.Name), a.Node)
	}
}
