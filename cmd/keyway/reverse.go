package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/reshard"
)

func reverseCommand() *cobra.Command {
	s := &switchover{}
	var yes bool
	cmd := &cobra.Command{
		Use:   "reverse",
		Short: "Take the last change of the layout back, while clients and keyways run",
		Long: "reverse changes the layout back to the one before the last keyway switch, also if keys are still on\n" +
			"their way. The file may have either layout: the nodes know both. What has moved goes back. On a\n" +
			"terminal it asks first. A change that has not begun is cancelled by keyway cancel. The exit status\n" +
			"is 0 if all keys are in their places, 2 if the plan is not ready or some are not, and 1 if it did not\n" +
			"come to an end.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadForNodes(cmd.Context(), s.file, s.pool)
			if err != nil {
				return err
			}
			change, err := reshard.Reverse(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			if !yes && !confirmed(cmd, "take "+change.Back()) {
				return exitStatus(1)
			}
			fmt.Fprintf(cmd.OutOrStdout(), "taking %s\n", change.Back())
			return s.carryOut(cmd, change)
		},
	}
	configFlag(cmd, &s.file)
	s.flags(cmd)
	yesFlag(cmd, &yes)
	return cmd
}

func cancelCommand() *cobra.Command {
	s := &switchover{}
	cmd := &cobra.Command{
		Use:   "cancel",
		Short: "Cancel a change of the layout that is planned and has not begun",
		Long: "cancel cancels a keyway switch that waits for keyways. Nothing has changed then. Before the first\n" +
			"change, the file must be that of the old layout. If the change has begun, keyway reverse takes it\n" +
			"back. The exit status is 0 if no change is planned any more, and 1 otherwise.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadForNodes(cmd.Context(), s.file, s.pool)
			if err != nil {
				return err
			}
			report, err := reshard.Cancel(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), report)
			return err
		},
	}
	configFlag(cmd, &s.file)
	poolFlag(cmd, &s.pool)
	return cmd
}

func forgetCommand() *cobra.Command {
	s := &switchover{}
	var yes bool
	cmd := &cobra.Command{
		Use:   "forget EPOCH",
		Short: "Remove what the nodes remember of earlier layouts",
		Long: "forget removes the records of all changes before an epoch from the nodes, and says which nodes may\n" +
			"be shut down. The epoch must be in force, its keys must have moved, and the file of each keyway must\n" +
			"have its layout. The exit status is 0 if it has done that, and 1 otherwise.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			epoch, err := strconv.ParseInt(args[0], 10, 64)
			if err != nil || epoch <= 0 {
				return fmt.Errorf("%s: write the number of the epoch, such as 42", args[0])
			}
			cfg, err := loadForNodes(cmd.Context(), s.file, s.pool)
			if err != nil {
				return err
			}
			if !yes && !confirmed(cmd, fmt.Sprintf("remove the records of all changes before epoch %d", epoch)) {
				return exitStatus(1)
			}
			forgotten, err := reshard.Forget(cmd.Context(), cfg, epoch)
			if err != nil {
				return err
			}
			return printForgotten(cmd.OutOrStdout(), forgotten)
		},
	}
	configFlag(cmd, &s.file)
	poolFlag(cmd, &s.pool)
	yesFlag(cmd, &yes)
	return cmd
}

// printForgotten prints what was removed, and what is left of the old layout.
func printForgotten(w io.Writer, f *reshard.Forgotten) error {
	if _, err := fmt.Fprintf(w, "removed %d records\n", f.Removed); err != nil {
		return err
	}
	for _, n := range f.Left {
		var names []string
		for _, k := range n.Keyways {
			names = append(names, k.Instance)
		}
		text := "may be shut down: 0 keys, no keyway is connected"
		switch {
		case n.Err != nil:
			text = "cannot be asked, as if it were shut down: " + n.Err.Error()
		case n.Keys > 0:
			text = fmt.Sprintf("still has %d keys, which the layout in force does not place there; redis-cli --scan "+
				"shows them", n.Keys)
		case len(names) > 0:
			text = "has 0 keys, and these keyways are still connected: " + strings.Join(names, ", ")
		}
		if _, err := fmt.Fprintf(w, "node %s (%s) %s\n", n.Name, n.Addr, text); err != nil {
			return err
		}
	}
	return nil
}

func yesFlag(cmd *cobra.Command, yes *bool) {
	cmd.Flags().BoolVarP(yes, "yes", "y", false, "do not ask on a terminal")
}

// confirmed asks on a terminal whether to do something. It returns true if the input is no terminal.
func confirmed(cmd *cobra.Command, question string) bool {
	f, ok := cmd.InOrStdin().(*os.File)
	if !ok {
		return true
	}
	in, err := f.Stat()
	if err != nil || in.Mode()&os.ModeCharDevice == 0 {
		return true
	}
	if null, err := os.Stat(os.DevNull); err == nil && os.SameFile(in, null) {
		return true
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "%s? [y/N] ", question)
	answer, _ := bufio.NewReader(f).ReadString('\n')
	return strings.EqualFold(strings.TrimSpace(answer), "y") || strings.EqualFold(strings.TrimSpace(answer), "yes")
}
