package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/plan"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/reshard"
)

// switchover is one call of keyway switch.
type switchover struct {
	pace   register.Pace
	accept []string // findings of the plan
	file   string   // with -c
	pool   string
	admin  []string // of a keyway to ask for the old layout
	strict bool
	wait   bool
	access access
}

func switchCommand() *cobra.Command {
	s := &switchover{}
	cmd := &cobra.Command{
		Use:   "switch {NEW.yml | -c NEW.yml | OLD.yml NEW.yml}",
		Short: "Change the layout while clients and keyways run",
		Long: "switch changes the layout from the one that is in force to that of the new configuration. It finds\n" +
			"that in the nodes' registers, or asks the keyway at the new file's admin address. All keyways hold\n" +
			"their commands for some milliseconds and then serve by the new layout. A key that a client uses is\n" +
			"brought at once, and a keyway moves the others. switch returns when it does; with --wait, or if no\n" +
			"keyway serves the nodes, it stays until all keys have moved. It may be interrupted at any time.\n" +
			"keyway status says how far it is, and keyway reverse takes the change back. At the end, write the new\n" +
			"layout into the file of each keyway, and reload them. The exit status is 0 if the change has begun, or\n" +
			"with --wait if all keys are in their new places; 2 if the plan is not ready or some keys are not; and\n" +
			"1 if something has failed.",
		Args: s.files,
		RunE: s.run,
	}
	cmd.Flags().StringVarP(&s.file, "config", "c", "", "the new configuration `file`")
	_ = cmd.MarkFlagFilename("config", "yml", "yaml") // for shell completion only
	cmd.Flags().StringSliceVar(&s.admin, "admin", nil,
		"the admin `address` of a running keyway, if not the file's, to ask for the old layout")
	s.flags(cmd)
	s.access.tlsFlags(cmd)
	return cmd
}

// flags adds the flags of a command that changes the layout.
func (s *switchover) flags(cmd *cobra.Command) {
	rateFlag(cmd, &s.pace.Rate)
	latencyFlag(cmd, &s.pace.Latency)
	poolFlag(cmd, &s.pool)
	cmd.Flags().StringSliceVar(&s.accept, "accept", nil,
		"count these findings as ready: "+strings.Join(plan.Acceptable(), ", "))
	cmd.Flags().BoolVar(&s.strict, "strict", false, "cancel if commands of a keyway stay in flight")
	cmd.Flags().BoolVar(&s.wait, "wait", false, "stay until all keys have moved, and show how far that is")
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
	fmt.Fprintf(cmd.OutOrStdout(), "changing the layout %s\n", change.Says())
	return s.carryOut(cmd, change)
}

// load returns the change between two files, or to the only one.
func (s *switchover) load(ctx context.Context, files []string) (*reshard.Switch, error) {
	if len(files) == 2 {
		older, newer, err := loadBoth(files, s.pool)
		if err == nil {
			err = logIn(ctx, older, newer)
		}
		if err != nil {
			return nil, err
		}
		return reshard.NewSwitch(ctx, older, newer)
	}
	newer, err := loadForNodes(ctx, files[0], s.pool)
	if err != nil {
		return nil, err
	}
	change, err := reshard.SwitchTo(ctx, newer)
	if err != nil || change != nil {
		return change, err
	}
	older, err := s.askOlder(ctx, files[0], newer)
	if err != nil {
		return nil, fmt.Errorf("%s: its nodes do not say which layout is in force, as before the first change, nor "+
			"does a keyway: %w; name both files: keyway switch OLD.yml %[1]s", files[0], err)
	}
	older.UseAccounts(newer)
	return reshard.NewSwitch(ctx, older, newer)
}

// askOlder asks the keyway at the admin address of the new file by which layout it serves.
func (s *switchover) askOlder(ctx context.Context, file string, newer *config.Config) (*config.Config, error) {
	s.access.of = newer
	addrs, err := adminAddresses(s.admin, file, newer)
	if err != nil {
		return nil, err
	}
	older, _, err := askKeyways(ctx, &s.access, addrs, s.pool)
	return older, err
}

// carryOut carries a change out, and prints how.
func (s *switchover) carryOut(cmd *cobra.Command, change *reshard.Switch) error {
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	switch ready, err := isReady(ctx, w, change, s.accept); {
	case err != nil:
		return err
	case !ready:
		return exitStatus(notReady)
	}
	s.useSettings(cmd, change.Settings())
	change.Strict, change.Pace = s.strict, s.pace
	change.Pace.By = thisUser()
	change.Report = func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) }
	shown := newMeter(cmd.ErrOrStderr())
	setPace := cmd.Flags().Changed("rate") || cmd.Flags().Changed("latency")
	served, err := change.Start(ctx, migrate.Options{Progress: shown.print, Retry: time.Minute}, setPace)
	shown.end()
	switch {
	case err != nil:
		return interrupted(cmd, err)
	case served && !s.wait:
		_, err = fmt.Fprintln(w, "the keyways move the keys: see keyway status, keyway pause, keyway rate")
		return err
	case !served:
		fmt.Fprintln(w, "no keyway serves these nodes, so this command moves the keys")
	}
	return s.await(cmd, change)
}

// useSettings uses what the file says for the flags that are not given.
func (s *switchover) useSettings(cmd *cobra.Command, of config.Switch) {
	if !cmd.Flags().Changed("rate") {
		s.pace.Rate = of.Rate
	}
	if !cmd.Flags().Changed("latency") {
		s.pace.Latency = of.Latency
	}
}

// await stays until all keys have moved.
func (s *switchover) await(cmd *cobra.Command, change *reshard.Switch) error {
	w := cmd.OutOrStdout()
	shown := newMeter(cmd.ErrOrStderr())
	began := time.Now()
	report, err := change.Await(cmd.Context(), migrate.Options{Progress: shown.print, Retry: time.Minute},
		func(v mover.View) { shown.printView(&v, time.Since(began)) })
	shown.end()
	if err != nil {
		return interrupted(cmd, err)
	}
	fmt.Fprintf(w, "all keys have moved, in %s\n\n", time.Since(began).Round(100*time.Millisecond))
	if err := printReport(w, report); err != nil {
		return fmt.Errorf("printing the report: %w", err)
	}
	if !report.Clean() {
		return exitStatus(misplacedStatus)
	}
	return nil
}

// printView shows how far the process is that moves keys. It may have begun long before this one.
func (m *meter) printView(v *mover.View, took time.Duration) {
	p := migrate.Progress{Doing: moving, Took: took}
	if len(v.Processes) == 0 {
		m.show(p, 0, 0, "no process moves keys yet")
		return
	}
	at := v.Processes[0]
	for _, s := range at.Sources {
		p.Looked += s.Looked
		p.Total += s.Total
	}
	p.Moved, p.Slow = at.Moved, at.Slow
	text, left := "", time.Duration(0)
	switch {
	case at.Verify: // it does not say how many keys it has looked at
		p.Doing, text = "verifying", "all keys have moved, and all nodes are looked at once more"
	case v.Pace.Paused:
		text = "paused; keyway resume goes on"
	case at.Waits != "":
		text = "trying again: " + at.Waits
	case at.Left > 0 && at.Rate > 0:
		left = time.Duration(float64(at.Left) / float64(at.Rate) * float64(time.Second))
	}
	m.show(p, float64(at.Rate), left, text)
}

// isReady prints what stands in the way of a change that has not begun.
func isReady(ctx context.Context, w io.Writer, change *reshard.Switch, accept []string) (bool, error) {
	r, err := change.Plan(ctx, accept)
	if err != nil || r == nil || r.Ready {
		return err == nil, err
	}
	show := printPlan
	if r.UnderWay {
		show = printProblems
	}
	if err := show(w, r); err != nil {
		return false, fmt.Errorf("printing the plan: %w", err)
	}
	return false, nil
}
