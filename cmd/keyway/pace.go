package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/reshard"
)

func pauseCommand() *cobra.Command {
	return paceCommand("pause", "Stop moving the keys of a change of the layout that clients do not use",
		"pause makes the keyways stop moving keys, until keyway resume. It may last for days. Keys that clients\n"+
			"use are brought to their new nodes all the same, so clients notice nothing.",
		reshard.Pause)
}

func resumeCommand() *cobra.Command {
	return paceCommand("resume", "Go on moving the keys of a change of the layout",
		"resume ends what keyway pause has begun. The keys move as fast as before.",
		reshard.Resume)
}

// paceCommand returns a command without arguments that changes the pace.
func paceCommand(use, short, long string, adjust reshard.Adjust) *cobra.Command {
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
			var of *time.Duration
			if cmd.Flags().Changed("latency") {
				of = &latency
			}
			adjust, err := reshard.ParseRate(args[0], of)
			if err != nil {
				return err
			}
			return setPace(cmd.Context(), cmd.OutOrStdout(), file, pool, adjust)
		},
	}
	configFlag(cmd, &file)
	poolFlag(cmd, &pool)
	latencyFlag(cmd, &latency)
	return cmd
}

// rateFlag adds the flag --rate, and latencyFlag --latency. Below 0, they would be as good as no limit.
func rateFlag(cmd *cobra.Command, rate *int) {
	cmd.Flags().Var((*keysPerSecond)(rate), "rate", "the most keys to move in a second; 0: no limit")
}

func latencyFlag(cmd *cobra.Command, latency *time.Duration) {
	*latency = register.DefaultLatency
	cmd.Flags().Var((*pingTime)(latency), "latency",
		"move fewer keys while a node takes longer than this for PING; 0: never")
}

// keysPerSecond is the value of the flag --rate.
type keysPerSecond int

func (k *keysPerSecond) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		return errors.New("write a number of keys per second, or 0 for no limit")
	}
	*k = keysPerSecond(n)
	return nil
}

func (k *keysPerSecond) String() string { return strconv.Itoa(int(*k)) }
func (k *keysPerSecond) Type() string   { return "int" }

// pingTime is the value of the flag --latency.
type pingTime time.Duration

func (p *pingTime) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return errors.New("write a duration such as 2ms, or 0 for no limit")
	}
	*p = pingTime(d)
	return nil
}

func (p *pingTime) String() string { return time.Duration(*p).String() }
func (p *pingTime) Type() string   { return "duration" }

// setPace changes how fast the keys of the change that is under way move, and prints it.
func setPace(ctx context.Context, w io.Writer, file, pool string, adjust reshard.Adjust) error {
	cfg, err := loadForNodes(ctx, file, pool)
	if err != nil {
		return err
	}
	report, err := reshard.SetPace(ctx, cfg, thisUser(), adjust)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(w, report)
	return err
}

// thisUser names who runs the command, for the records of a change.
func thisUser() string {
	name, host := "somebody", "an unknown machine"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if of, err := os.Hostname(); err == nil {
		host = of
	}
	return name + " at " + host
}
