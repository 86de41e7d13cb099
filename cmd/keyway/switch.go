package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/wiring"
)

// switchover is one call of keyway switch.
type switchover struct {
	o      migrate.Options
	accept []string // findings of the plan
	pool   string
	strict bool
	cancel bool
}

func switchCommand() *cobra.Command {
	s := &switchover{}
	cmd := &cobra.Command{
		Use:   "switch OLD.yml NEW.yml",
		Short: "Change the layout while clients and keyways run",
		Long: "switch changes the layout from that of the old configuration, which is in force, to that of the new\n" +
			"one. All keyways hold their commands for some milliseconds and then serve by the new layout. A key\n" +
			"that a client uses is brought at once, and switch moves the others. It may be interrupted at any time:\n" +
			"clients go on. The same command goes on later, and with the files exchanged it takes the change back.\n" +
			"When it has ended, write the new layout into the file of each keyway, and reload them. The exit status\n" +
			"is 0 if all keys are in their new places, 2 if the plan is not ready or some keys are not, and 1 if it\n" +
			"did not come to an end.",
		Args: twoFiles,
		RunE: s.run,
	}
	movingFlags(cmd, &s.o)
	poolFlag(cmd, &s.pool)
	cmd.Flags().StringSliceVar(&s.accept, "accept", nil,
		"count these findings as ready: "+strings.Join(plan.Acceptable(), ", "))
	cmd.Flags().BoolVar(&s.strict, "strict", false, "cancel if commands of a keyway stay in flight")
	cmd.Flags().BoolVar(&s.cancel, "cancel", false, "cancel a change that is planned and has not begun")
	return cmd
}

func (s *switchover) run(cmd *cobra.Command, files []string) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	older, newer, err := loadBoth(files, s.pool)
	if err == nil {
		err = logIn(ctx, older, newer)
	}
	if err != nil {
		return err
	}
	change, err := wiring.NewSwitch(ctx, older, newer)
	if err != nil {
		return err
	}
	if s.cancel {
		return cancelChange(ctx, w, change)
	}
	switch ready, err := isReady(ctx, w, change, s.accept); {
	case err != nil:
		return err
	case !ready:
		return exitStatus(notReady)
	}
	change.Strict = s.strict
	change.Report = func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	shown := newMeter(cmd.ErrOrStderr())
	s.o.Progress = shown.print
	sum, err := change.Run(ctx, s.o)
	shown.end()
	if sum.Moved > 0 || len(sum.Aside) > 0 {
		printSummary(w, sum)
	}
	if err != nil {
		return interrupted(cmd, err)
	}
	if err := printReport(w, sum.After); err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	if !sum.After.Clean() {
		return exitStatus(misplacedStatus)
	}
	return nil
}

// isReady prints what stands in the way of a change that has not begun.
func isReady(ctx context.Context, w io.Writer, change *wiring.Switch, accept []string) (bool, error) {
	r, err := change.Plan(ctx, accept)
	if err != nil || r == nil || r.Ready {
		return err == nil, err
	}
	if err := printPlan(w, r); err != nil {
		return false, fmt.Errorf("printing the plan: %w", err)
	}
	return false, nil
}

func cancelChange(ctx context.Context, w io.Writer, change *wiring.Switch) error {
	cancelled, err := change.Cancel(ctx)
	if err != nil {
		return err
	}
	text := "there was nothing to cancel"
	if cancelled {
		text = "cancelled"
	}
	_, err = fmt.Fprintln(w, text)
	return err
}
