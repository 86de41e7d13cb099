package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/reshard"
	"github.com/keyway-proxy/keyway/switching"
)

func pauseCommand() *cobra.Command {
	return paceCommand("pause", "Stop moving the keys of a change of the layout that clients do not use",
		"pause makes the keyways stop moving keys, until keyway resume. It may last for days. Keys that clients\n"+
			"use are brought to their new nodes all the same, so clients notice nothing.",
		func(was register.Pace) register.Pace {
			was.Paused = true
			return was
		})
}

func resumeCommand() *cobra.Command {
	return paceCommand("resume", "Go on moving the keys of a change of the layout",
		"resume ends what keyway pause has begun. The keys move as fast as before.",
		func(was register.Pace) register.Pace {
			was.Paused = false
			return was
		})
}

// paceCommand returns a command without arguments that changes the pace.
func paceCommand(use, short, long string, adjust func(register.Pace) register.Pace) *cobra.Command {
	var file, pool string
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long + "\n" + paceStatus, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return setPace(cmd.Context(), cmd.OutOrStdout(), file, pool, adjust)
		},
	}
	configFlag(cmd, &file)
	poolFlag(cmd, &pool)
	return cmd
}

const paceStatus = "The exit status is 0 if that was said, and 1 if there is no change of the layout, or its home\n" +
	"does not answer."

// The arguments of rate that are no numbers.
const (
	automatic = "auto"
	unlimited = "unlimited"
)

func rateCommand() *cobra.Command {
	var file, pool string
	var latency time.Duration
	cmd := &cobra.Command{
		Use:   "rate {KEYS | auto | unlimited}",
		Short: "Say how fast the keys of a change of the layout move",
		Long: "rate says how many keys the keyways move in a second at most, for all nodes together, besides those\n" +
			"that clients use. With auto, they move fewer while a node takes longer than --latency to answer PING,\n" +
			"which is how a change begins. A number leaves that limit as it is, unless --latency is given, too;\n" +
			"unlimited removes it.\n" +
			paceStatus,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("%s needs one argument; write a number of keys per second, auto or unlimited",
					cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			to, keepsLatency := register.Pace{}, false
			switch n, err := strconv.Atoi(args[0]); {
			case args[0] == automatic:
				to.Latency = latency
			case args[0] == unlimited:
			case err != nil || n < 1:
				return fmt.Errorf("rate %q: write a number of keys per second from 1, auto or unlimited", args[0])
			default:
				to.Rate, keepsLatency = n, true
			}
			if cmd.Flags().Changed("latency") {
				to.Latency, keepsLatency = latency, false
			}
			return setPace(cmd.Context(), cmd.OutOrStdout(), file, pool, func(was register.Pace) register.Pace {
				if to.Paused = was.Paused; keepsLatency {
					to.Latency = was.Latency
				}
				return to
			})
		},
	}
	configFlag(cmd, &file)
	poolFlag(cmd, &pool)
	cmd.Flags().DurationVar(&latency, "latency", switching.DefaultLatency,
		"move fewer keys while a node takes longer than this for PING; 0: never")
	return cmd
}

// paceTime is how long the home of a change may take to answer.
const paceTime = 10 * time.Second

// setPace changes how fast the keys of the change that is under way move, and prints it.
func setPace(
	ctx context.Context, w io.Writer, file, pool string, adjust func(register.Pace) register.Pace,
) error {
	cfg, err := loadForNodes(ctx, file, pool)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, paceTime)
	defer cancel()
	last, err := reshard.ReadLastChange(ctx, cfg)
	if last == nil {
		return err
	}
	if last.Epoch == 0 || last.Done {
		return errors.New("no keys are on their way to another layout; keyway status says what was")
	}
	work, err := last.Work(ctx)
	if err != nil {
		return err
	}
	now, err := work.Home.SetPace(ctx, last.Epoch, adjust)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "epoch %d: %s\n", last.Epoch, paceText(now))
	return err
}

// paceText says how fast keys move.
func paceText(p register.Pace) string {
	text := "as fast as it goes"
	switch {
	case p.Rate > 0 && p.Latency > 0:
		text = fmt.Sprintf("at most %d keys/s, and fewer while a node takes longer than %s", p.Rate, p.Latency)
	case p.Rate > 0:
		text = fmt.Sprintf("at most %d keys/s", p.Rate)
	case p.Latency > 0:
		text = fmt.Sprintf("auto: fewer keys while a node takes longer than %s", p.Latency)
	}
	if p.Paused {
		return "paused; keyway resume goes on: " + text
	}
	return text
}
