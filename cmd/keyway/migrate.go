package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/wiring"
)

func migrateCommand() *cobra.Command {
	var o migrate.Options
	var pool string
	cmd := &cobra.Command{
		Use:   "migrate OLD.yml NEW.yml",
		Short: "Move all keys from where one configuration places them to where another does",
		Long: "migrate moves all keys, of all databases, from the nodes of the old configuration to those of the\n" +
			"new one, and verifies. Stop the clients and keyways first: they would not find keys that have moved.\n" +
			"Start keyway with the new configuration when migrate has ended. It may be interrupted at any time, and\n" +
			"goes on when it is called again. If a key is at its new node already, with another value, it stays\n" +
			"there, and the other value is renamed to keyway:stray:NODE:KEY. The exit status is 0 if all keys are\n" +
			"in their new places, 2 if some are not or were renamed, and 1 if it did not come to an end.",
		Args: twoFiles,
		RunE: func(cmd *cobra.Command, files []string) error {
			older, newer, err := loadBoth(files, pool)
			if err == nil {
				err = logIn(cmd.Context(), older, newer)
			}
			if err != nil {
				return err
			}
			shown := newMeter(cmd.ErrOrStderr())
			o.Progress = shown.print
			sum, err := wiring.Migrate(cmd.Context(), older, newer, o)
			shown.end()
			w := cmd.OutOrStdout()
			if err == nil || sum.Moved > 0 || len(sum.Aside) > 0 {
				printSummary(w, sum)
			}
			if err != nil {
				return interrupted(cmd, err)
			}
			if err := printReport(w, sum.After); err != nil {
				return fmt.Errorf("printing the report: %w", err)
			}
			if !sum.After.Clean() || len(sum.Aside) > 0 {
				return exitStatus(misplacedStatus)
			}
			return nil
		},
	}
	movingFlags(cmd, &o)
	poolFlag(cmd, &pool)
	return cmd
}

func printSummary(w io.Writer, sum migrate.Summary) {
	rate := float64(sum.Moved) / max(sum.Took.Seconds(), 0.001)
	took := sum.Took.Round(100 * time.Millisecond)
	fmt.Fprintf(w, "%s, in %s (%.0f keys/s)\n", movedText(sum.Moved, sum.Joined), took, rate)
	printAside(w, sum.Aside)
	fmt.Fprintln(w)
}
