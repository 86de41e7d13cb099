package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/reshard"
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
			sum, err := reshard.Migrate(cmd.Context(), older, newer, o)
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
	for _, l := range sum.Loaded {
		fmt.Fprintf(w, "node %s has got functions: %s\n", l.Node, strings.Join(l.Libraries, ", "))
	}
	rate := float64(sum.Moved) / max(sum.Took.Seconds(), 0.001)
	took := sum.Took.Round(100 * time.Millisecond)
	fmt.Fprintf(w, "%s, in %s (%.0f keys/s)\n", movedText(sum.Moved, sum.Joined), took, rate)
	printAside(w, sum.Aside, otherValue)
	fmt.Fprintln(w)
}

const (
	moving       = "moving" // what a migrate.Progress says that moves keys
	barWidth     = 30
	lineInterval = 5 * time.Second // between lines, if the output is no terminal
)

// meter shows how far a long command is: a bar on a terminal, otherwise a line now and
// then.
type meter struct {
	w        io.Writer
	terminal bool
	last     time.Duration // when the last line was printed, since the beginning
	doing    string
	width    int // of what stands on the terminal's line
}

func newMeter(w io.Writer) *meter {
	m := &meter{w: w}
	if f, ok := w.(*os.File); ok {
		info, err := f.Stat()
		m.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return m
}

// print shows the progress of this process.
func (m *meter) print(p migrate.Progress) {
	text := ""
	if p.Waiting != "" {
		text = "trying again: " + p.Waiting
	}
	left := time.Duration(0)
	if share := shareOf(p); share > 0 && share < 1 {
		left = time.Duration(float64(p.Took) * (1 - share) / share)
	}
	m.show(p, float64(p.Moved)/p.Took.Seconds(), left, text)
}

// shareOf returns which part of the keys was looked at.
func shareOf(p migrate.Progress) float64 {
	if p.Total == 0 {
		return 0
	}
	return min(1, float64(p.Looked)/float64(p.Total))
}

// show shows a progress, with a text. rate is how many keys move in a second, and left how long that takes; 0: not
// known.
func (m *meter) show(p migrate.Progress, rate float64, left time.Duration, text string) {
	if p.Doing != m.doing {
		m.end()
		m.doing, m.last = p.Doing, 0
	}
	var says []string
	share := shareOf(p)
	switch of := fmt.Sprintf("%3.0f %% of %d keys", 100*share, p.Total); {
	case p.Total > 0 && p.Doing == moving:
		says = append(says, fmt.Sprintf("%s, %d moved, %.0f keys/s", of, p.Moved, rate))
	case p.Total > 0:
		says = append(says, of)
	case p.Doing == moving:
		says = append(says, "no key was looked at yet")
	}
	if left > 0 && len(says) > 0 {
		says[0] += fmt.Sprintf(", about %s left", left.Round(time.Second))
	}
	if text != "" {
		says = append(says, text)
	}
	if p.Slow != "" {
		says = append(says, "slower for the sake of node "+p.Slow)
	}
	line := strings.Join(says, "; ")
	switch {
	case m.terminal:
		done := int(share * barWidth)
		bar := strings.Repeat("#", done) + strings.Repeat("-", barWidth-done)
		line = fmt.Sprintf("%s [%s] %s", p.Doing, bar, line)
		fmt.Fprintf(m.w, "\r%-*s", m.width, line)
		m.width = len(line)
	case p.Took-m.last >= lineInterval:
		m.last = p.Took
		fmt.Fprintf(m.w, "%s: %s\n", p.Doing, strings.TrimSpace(line))
	}
}

// end clears the terminal's line.
func (m *meter) end() {
	if m.width > 0 {
		fmt.Fprintf(m.w, "\r%*s\r", m.width, "")
		m.width = 0
	}
}

// interrupted returns the error of a command that moves keys and can be called again.
func interrupted(cmd *cobra.Command, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("%s was interrupted; nothing is lost, and the same command goes on", cmd.CommandPath())
	}
	return err
}

// printWatch shows how far a watch is that takes a fixed time.
func (m *meter) printWatch(took, whole time.Duration, text string) {
	if m.terminal {
		line := fmt.Sprintf("watching %s of %s: %s", took.Round(time.Second), whole, text)
		fmt.Fprintf(m.w, "\r%-*s", m.width, line)
		m.width = len(line)
	} else if took-m.last >= max(lineInterval, whole/60) {
		m.last = took
		fmt.Fprintf(m.w, "watching %s of %s: %s\n", took.Round(time.Second), whole, text)
	}
}
