package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/guard"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/reshard"
	"github.com/keyway-proxy/keyway/switching"
)

// problemStatus is the exit status if somebody should do something about a change of the layout.
const problemStatus = 2

func statusCommand() *cobra.Command {
	var l looking
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Print how the running keyway is, and how far the last change of the layout is",
		Long: "status asks the running keyway, if the file has an admin address or --admin names it, how it and its\n" +
			"nodes are. Then it asks the nodes, and prints how far the last change of their layout is (keyway\n" +
			"switch): who moves the keys, how fast, what it waits for, which keyways take part, and what to do\n" +
			"next. The file may be that of any keyway, with the old or the new layout; without one, only the\n" +
			"keyway at --admin is asked. The exit status is 0 if nothing is wrong, also while keys move or a pause\n" +
			"lasts; 2 if there is a problem; and 1 if nodes cannot be asked. A running keyway that does not answer\n" +
			"is not a problem if there is a file: it may be on another machine.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadForNodes(cmd.Context(), l.file, l.pool)
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			if errors.Is(err, fs.ErrNotExist) && l.addr != "" && !cmd.Flags().Changed("config") {
				return l.statusOfRunning(ctx, cmd.OutOrStdout())
			}
			if err != nil {
				return err
			}
			return l.status(ctx, cmd.OutOrStdout(), cfg)
		},
	}
	l.flags(cmd)
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long the nodes may take to answer")
	return cmd
}

// statuses are what status prints as JSON.
type statuses struct {
	*mover.Status                 // nil: there is no file, so the nodes were not asked
	Running       *overview.State `json:"running,omitempty"`
}

// status prints how the running keyway is, if it answers, and how far the last change of the layout is.
func (l *looking) status(ctx context.Context, out io.Writer, cfg *config.Config) error {
	now := l.ask(ctx, cfg)
	if !l.asJSON {
		if err := now.print(out); err != nil {
			return err
		}
	}
	s, err := reshard.Status(ctx, cfg)
	if err != nil {
		return err
	}
	if l.asJSON {
		err = json.NewEncoder(out).Encode(statuses{s, now.State})
	} else {
		err = printStatus(out, s)
	}
	if err == nil && (len(s.Problems) > 0 || now.isBad()) {
		err = exitStatus(problemStatus)
	}
	return err
}

// statusOfRunning prints how the running keyway is.
func (l *looking) statusOfRunning(ctx context.Context, out io.Writer) error {
	now := l.ask(ctx, nil)
	err := now.err
	switch {
	case err != nil:
	case l.asJSON:
		err = json.NewEncoder(out).Encode(statuses{Running: now.State})
	default:
		if err = now.print(out); err == nil {
			_, err = fmt.Fprintln(out, "To ask the nodes for changes of the layout, name a file with --config.")
		}
	}
	if err == nil && now.isBad() {
		err = exitStatus(problemStatus)
	}
	return err
}

// printStatus prints a status on one page.
func printStatus(w io.Writer, s *mover.Status) error {
	var page strings.Builder
	switch {
	case s.State == mover.Untold:
		fmt.Fprintln(&page, "Whether the layout is being changed cannot be told now.")
	case s.Epoch == 0:
		fmt.Fprintf(&page, "No change of the layout is known. It is %s.\n", s.To)
	default:
		fmt.Fprintf(&page, "epoch %d: %s\n", s.Epoch, s.State)
		if s.From != "" {
			fmt.Fprintf(&page, "from      %s\n", s.From)
		}
		if s.To != "" {
			fmt.Fprintf(&page, "to        %s\n", s.To)
		}
		if s.Planned != nil {
			fmt.Fprintf(&page, "planned   %s, %s ago\n", s.Planned.UTC().Format(time.DateTime+" UTC"), ago(*s.Planned))
		}
	}
	printMoving(&page, s)
	printKeyways(&page, s)
	for _, f := range s.Failed {
		fmt.Fprintf(&page, "\nfailed: %s\n", f)
	}
	for _, p := range s.Problems {
		fmt.Fprintf(&page, "\nproblem: %s\n", p)
	}
	for _, n := range s.Next {
		fmt.Fprintf(&page, "\nnext: %s\n", n)
	}
	_, err := io.WriteString(w, page.String())
	return err
}

func ago(t time.Time) time.Duration { return max(time.Since(t), 0).Round(time.Second) }

// printMoving prints how far the keys have moved.
func printMoving(w io.Writer, s *mover.Status) {
	if s.State != switching.Moving && s.State != switching.Flipping {
		return
	}
	if s.Pace != nil {
		fmt.Fprintf(w, "pace      %s\n", reshard.PaceText(*s.Pace))
	}
	if by := s.By; by != nil {
		rate := fmt.Sprintf(", %d keys/s", by.Rate)
		if by.Verifies || s.Pace != nil && s.Pace.Paused {
			rate = ""
		}
		fmt.Fprintf(w, "moved by  %s at %s: %d keys%s%s\n", by.Instance, by.Host, by.Moved, rate, leftText(s))
		if by.Slow != "" {
			fmt.Fprintf(w, "slow      node %s\n", by.Slow)
		}
		if by.Waits != "" && s.Pace != nil && s.Pace.Paused { // otherwise it is a problem
			fmt.Fprintf(w, "waits     %s\n", by.Waits)
		}
		fmt.Fprintf(w, "set aside %d\n", by.Aside)
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nNODE\tADDRESS\tKEYS LOOKED AT")
	for _, n := range s.Nodes {
		text := "not begun"
		switch {
		case n.Drained:
			text = "all have left that move"
		case n.Total > 0:
			text = fmt.Sprintf("%d of %d (%d %%)", n.Looked, n.Total, min(99, 100*n.Looked/n.Total))
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\n", n.Name, n.Addr, text)
	}
	_ = tw.Flush() // w keeps all in memory
}

// leftText says how much is left to move.
func leftText(s *mover.Status) string {
	switch by := s.By; {
	case by.Verifies:
		return "; none is left, and all nodes are looked at once more"
	case by.Left == nil:
		return ""
	case by.Rate == 0 || s.Pace != nil && s.Pace.Paused:
		return fmt.Sprintf("; about %d are left", *by.Left)
	default:
		left := time.Duration(float64(*by.Left) / float64(by.Rate) * float64(time.Second)).Round(time.Second)
		return fmt.Sprintf("; about %d are left, for %s", *by.Left, left)
	}
}

// printKeyways prints the keyways.
func printKeyways(w io.Writer, s *mover.Status) {
	if s.State == mover.Untold {
		return
	}
	if len(s.Keyways) == 0 {
		fmt.Fprintln(w, "\nNo keyway is connected to the nodes.")
		return
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "\nKEYWAY\tHOST\tSTATE\tSERVES BY\tITS FILE")
	for _, k := range s.Keyways {
		serves, file := fmt.Sprintf("epoch %d", k.Serves), "the same layout"
		if k.Serves == guard.Unsaid {
			serves = "-"
		}
		if k.File != "" {
			file = "placement " + k.File
		}
		fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", k.Instance, k.Host, dash(k.State), serves, file)
	}
	_ = tw.Flush() // w keeps all in memory
}
