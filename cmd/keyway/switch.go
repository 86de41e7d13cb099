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
	file   string   // with -c
	pool   string
	strict bool
	cancel bool
}

func switchCommand() *cobra.Command {
	s := &switchover{}
	cmd := &cobra.Command{
		Use:   "switch {NEW.yml | -c NEW.yml | OLD.yml NEW.yml}",
		Short: "Change the layout while clients and keyways run",
		Long: "switch changes the layout from the one that is in force to that of the new configuration. The first\n" +
			"change needs both files; later ones find the old layout in the nodes' registers. All keyways hold\n" +
			"their commands for some milliseconds and then serve by the new layout. A key that a client uses is\n" +
			"brought at once, and switch moves the others. It may be interrupted at any time: clients go on. The\n" +
			"same command goes on later, and keyway reverse takes the change back. When it has ended, write the new\n" +
			"layout into the file of each keyway, and reload them. The exit status is 0 if all keys are in their\n" +
			"new places, 2 if the plan is not ready or some keys are not, and 1 if it did not come to an end.",
		Args: s.files,
		RunE: s.run,
	}
	cmd.Flags().StringVarP(&s.file, "config", "c", "", "the new configuration `file`")
	_ = cmd.MarkFlagFilename("config", "yml", "yaml") // for shell completion only
	s.flags(cmd)
	cmd.Flags().BoolVar(&s.cancel, "cancel", false, "cancel a change that is planned and has not begun")
	return cmd
}

// flags adds the flags of a command that changes the layout.
func (s *switchover) flags(cmd *cobra.Command) {
	movingFlags(cmd, &s.o)
	poolFlag(cmd, &s.pool)
	cmd.Flags().StringSliceVar(&s.accept, "accept", nil,
		"count these findings as ready: "+strings.Join(plan.Acceptable(), ", "))
	cmd.Flags().BoolVar(&s.strict, "strict", false, "cancel if commands of a keyway stay in flight")
}

// files requires one or two files, or one with -c.
func (s *switchover) files(cmd *cobra.Command, files []string) error {
	if count := len(files); s.file == "" && count != 1 && count != 2 || s.file != "" && count > 0 {
		return fmt.Errorf("%s needs the file of the new layout, or both files; write %[1]s NEW.yml, or %[1]s "+
			"OLD.yml NEW.yml", cmd.CommandPath())
	}
	return nil
}

func (s *switchover) run(cmd *cobra.Command, files []string) error {
	if s.file != "" {
		files = []string{s.file}
	}
	change, err := s.load(cmd.Context(), files)
	if err != nil {
		return err
	}
	if s.cancel {
		return cancelChange(cmd.Context(), cmd.OutOrStdout(), change)
	}
	return s.carryOut(cmd, change)
}

// load returns the change between two files, or to the only one.
func (s *switchover) load(ctx context.Context, files []string) (*wiring.Switch, error) {
	if len(files) == 2 {
		older, newer, err := loadBoth(files, s.pool)
		if err == nil {
			err = logIn(ctx, older, newer)
		}
		if err != nil {
			return nil, err
		}
		return wiring.NewSwitch(ctx, older, newer)
	}
	newer, err := load(files[0], s.pool)
	if err == nil {
		err = logIn(ctx, newer)
	}
	if err != nil {
		return nil, err
	}
	change, err := wiring.SwitchTo(ctx, newer)
	if err == nil && change == nil {
		err = fmt.Errorf("%s: its nodes do not say which layout is in force, as before the first change; "+
			"name both files: keyway switch OLD.yml %[1]s", files[0])
	}
	return change, err
}

// carryOut carries a change out, and prints how.
func (s *switchover) carryOut(cmd *cobra.Command, change *wiring.Switch) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
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
