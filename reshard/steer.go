package reshard

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/register"
)

// Adjust returns the pace that follows the one that is in force.
type Adjust func(register.Pace) register.Pace

// Pause keeps all else of a pace.
func Pause(was register.Pace) register.Pace {
	was.Paused = true
	return was
}

// Resume keeps all else of a pace.
func Resume(was register.Pace) register.Pace {
	was.Paused = false
	return was
}

// The rates that are no numbers.
const (
	automatic = "auto"
	unlimited = "unlimited"
)

// ParseRate returns what a rate changes: a number of keys per second, auto or unlimited. latency is what nodes may
// take to answer; nil leaves it to the rate.
func ParseRate(text string, latency *time.Duration) (Adjust, error) {
	to, keepsLatency := register.Pace{}, false
	switch n, err := strconv.Atoi(text); {
	case text == automatic:
		to.Latency = register.DefaultLatency
	case text == unlimited:
	case err != nil || n < 1:
		return nil, fmt.Errorf("rate %q: write a number of keys per second from 1, auto or unlimited", text)
	default:
		to.Rate, keepsLatency = n, true
	}
	if latency != nil {
		to.Latency, keepsLatency = *latency, false
	}
	return func(was register.Pace) register.Pace {
		now := to
		if now.Paused = was.Paused; keepsLatency {
			now.Latency = was.Latency
		}
		return now
	}, nil
}

// paceTime is how long the home of a change may take to answer.
const paceTime = 10 * time.Second

// SetPace says how fast the keys move of the change that is under way, and who says so. It returns what to print. The
// layout of the file may be the old or the new one.
func SetPace(ctx context.Context, c *config.Config, by string, adjust Adjust) (report string, err error) {
	ctx, cancel := context.WithTimeout(ctx, paceTime)
	defer cancel()
	last, err := ReadLastChange(ctx, c)
	if last == nil {
		return "", err
	}
	if last.Epoch == 0 || last.Done {
		return "", errors.New("no keys are on their way to another layout; keyway status says what was")
	}
	work, err := last.Work(ctx)
	if err != nil {
		return "", err
	}
	now, err := work.Home.SetPace(ctx, last.Epoch, func(was register.Pace) register.Pace {
		set := adjust(was)
		set.By = by
		return set
	})
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("epoch %d: %s\n", last.Epoch, PaceText(now)), nil
}

// PaceText says how fast keys move, for people. A limit at the lowest rate or below is never undercut.
func PaceText(p register.Pace) string {
	text := "as fast as it goes"
	switch {
	case p.Rate > migrate.LeastRate && p.Latency > 0:
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

// Cancel cancels the change that is planned, if there is one. It returns what to print. The layout of the file may be
// the old or the new one; before the first change, it must be the old one.
func Cancel(ctx context.Context, c *config.Config) (report string, err error) {
	last, err := ReadLastChange(ctx, c)
	if last == nil {
		return "", err
	} // otherwise some nodes do not answer
	begun := func(epoch int64) error {
		return fmt.Errorf("the change to epoch %d has begun; keyway reverse takes it back", epoch)
	}
	switch {
	case last.Planned > 0:
		cancelled, err := last.Cancel(ctx)
		if err == nil && !cancelled {
			err = begun(last.Planned)
		}
		if err != nil {
			return "", err
		}
		return fmt.Sprintf("cancelled: the change to epoch %d does not take place\n", last.Planned), nil
	case last.Decided > 0:
		return "", begun(last.Decided)
	case last.Epoch > 0 && !last.Done:
		return "", begun(last.Epoch)
	case err != nil:
		return "", err
	}
	return "no change is planned\n", nil
}
