package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/dryrun"
	"github.com/keyway-proxy/keyway/plan"
)

// watch is a keyway that tries the new layout.
type watch struct {
	keyway plan.Keyway
	pool   string
	trial  admin.Trial // as the keyway has last told it
	err    error       // why it tells no more
}

// askTrial asks a keyway about the layout that it tries.
func askTrial(
	ctx context.Context, a *access, method, addr, pool string, params url.Values, body []byte,
) (t admin.Trial, err error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	status, text, err := a.call(ctx, method, addr, pageOf("/next-layout", pool, params), body)
	switch {
	case err != nil:
		return t, err
	case status == http.StatusNotFound:
		return t, fmt.Errorf("keyway at %s: %w", addr, admin.ErrNoTrial)
	case status != http.StatusOK:
		return t, fmt.Errorf("keyway at %s: %s", addr, text)
	}
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return t, fmt.Errorf("keyway at %s: %w", addr, err)
	}
	return t, nil
}

// known returns what the keyways have counted that try the new layout already, because their
// files name it. It returns nil if none does.
func known(ctx context.Context, a *access, newer *config.Config, asked *plan.Asked, pool string) *plan.Traffic {
	var watches []*watch
	for _, k := range asked.Keyways {
		t, err := askTrial(ctx, a, http.MethodGet, k.Admin, pool, nil, nil)
		if err == nil && t.Placement == newer.PlacementHash() {
			watches = append(watches, &watch{keyway: k, trial: t})
		}
	}
	if len(watches) == 0 {
		return nil
	}
	return traffic(watches)
}

// traffic adds up what keyways have counted.
func traffic(watches []*watch) *plan.Traffic {
	t := &plan.Traffic{Keyways: len(watches)}
	all := make([]dryrun.Findings, len(watches))
	for i, w := range watches {
		all[i] = w.trial.Found
		if t.Since.IsZero() || w.trial.Since.Before(t.Since) {
			t.Since = w.trial.Since
		}
	}
	t.Findings = dryrun.Sum(all...)
	t.Seconds = int64(time.Since(t.Since).Round(time.Second) / time.Second)
	return t
}

// grace is how much longer a keyway counts than plan asks it to. If plan is killed, the
// keyway forgets the layout by itself.
const grace = time.Minute

// watchTraffic makes the keyways try the new layout for a time, and returns what they have
// counted. Keyways that do not answer are added to asked.Silent. If ctx ends, it returns what
// was counted until then.
func watchTraffic(ctx context.Context, a *access, newer *config.Config, asked *plan.Asked, pool string,
	forTime time.Duration, shown *meter,
) (*plan.Traffic, error) {
	var watches []*watch
	var failed []error
	for _, k := range asked.Keyways {
		params := url.Values{"for": {(forTime + grace).String()}}
		t, err := askTrial(ctx, a, http.MethodPost, k.Admin, pool, params, newer.PlacementText())
		if err != nil {
			failed = append(failed, err)
			asked.Silent = append(asked.Silent, plan.Silent{Admin: k.Admin, Reason: err.Error()})
			continue
		}
		watches = append(watches, &watch{keyway: k, pool: pool, trial: t})
	}
	if len(watches) == 0 {
		return nil, errors.Join(failed...)
	}
	began := time.Now()
	follow(ctx, a, watches, began, forTime, shown)
	shown.end()
	rest := context.WithoutCancel(ctx)
	for _, w := range watches {
		w.ask(rest, a)
		if w.err != nil {
			asked.Silent = append(asked.Silent, plan.Silent{Admin: w.keyway.Admin, Reason: w.err.Error()})
			continue
		}
		id := url.Values{"id": {w.trial.ID}}
		_, _ = askTrial(rest, a, http.MethodDelete, w.keyway.Admin, pool, id, nil) // it ends by itself too
	}
	t := traffic(watches)
	t.Seconds = int64(time.Since(began).Round(time.Second) / time.Second)
	t.Interrupted = ctx.Err() != nil
	return t, nil
}

// follow asks the keyways from time to time until the time is over or ctx ends.
func follow(ctx context.Context, a *access, watches []*watch, began time.Time, forTime time.Duration, shown *meter) {
	ticker := time.NewTicker(min(max(forTime/100, 100*time.Millisecond), lineInterval))
	defer ticker.Stop()
	over := time.NewTimer(forTime)
	defer over.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-ticker.C:
		}
		for _, w := range watches {
			w.ask(ctx, a)
		}
		t := traffic(watches)
		shown.printWatch(time.Since(began), forTime, fmt.Sprintf("%s commands, %s would get CROSSSLOT",
			grouped(int64(t.Commands)), grouped(int64(t.Refused()))))
	}
}

// ask asks what the keyway has counted. What it told before stays if it does not answer.
func (w *watch) ask(ctx context.Context, a *access) {
	if w.err != nil && !errors.Is(w.err, context.Canceled) {
		return
	}
	t, err := askTrial(ctx, a, http.MethodGet, w.keyway.Admin, w.pool, nil, nil)
	switch {
	case err == nil && t.ID != w.trial.ID:
		w.err = fmt.Errorf("keyway at %s: another plan has taken the place of this one", w.keyway.Admin)
	case errors.Is(err, admin.ErrNoTrial):
		w.err = fmt.Errorf("keyway at %s has been restarted, or another plan has ended this one", w.keyway.Admin)
	default:
		w.err = err
		if err == nil {
			w.trial = t
		}
	}
}

// shownExamples is how many examples of a command are printed.
const shownExamples = 3

// printTraffic prints what the new layout would refuse.
func printTraffic(w io.Writer, r *plan.Report) {
	t := r.Traffic
	if t == nil {
		if len(r.Keyways) > 0 {
			fmt.Fprintln(w, "traffic  not watched; --watch 1h counts the commands that the new layout would refuse")
		}
		return
	}
	interrupted := ""
	if t.Interrupted {
		interrupted = " (interrupted)"
	}
	fmt.Fprintf(w, "traffic  last %s%s, %s commands, dry run by the new layout: ", time.Duration(t.Seconds)*time.Second,
		interrupted, grouped(int64(t.Commands)))
	if len(t.Parted) == 0 {
		fmt.Fprintln(w, "none would get CROSSSLOT")
	} else {
		fmt.Fprintf(w, "%s would get CROSSSLOT\n", grouped(int64(t.Refused())))
	}
	for _, p := range t.Parted {
		for i, e := range p.Examples[:min(len(p.Examples), shownExamples)] {
			count := ""
			if i == 0 {
				count = grouped(int64(p.Count)) + " " + p.Command
			}
			fmt.Fprintf(w, "  %-24s %s\n", count, exampleText(t, e))
		}
	}
	if t.Keyless > 0 {
		fmt.Fprintf(w, "  %s scripts or functions without KEYS, whose keys nobody can see: %s\n",
			grouped(int64(t.Keyless)), strings.Join(t.Scripts[:min(len(t.Scripts), shownExamples)], ", "))
	}
}

// exampleText describes an example in one line.
func exampleText(t *plan.Traffic, e dryrun.Example) string {
	text := fmt.Sprintf("%q %q", e.Keys[0], e.Keys[1])
	if e.Script != "" {
		text += " (" + e.Script + ")"
	}
	text += " from " + e.Client
	if e.Name != "" {
		text += fmt.Sprintf(" %q", e.Name)
	}
	text += " at " + e.Time.Local().Format(time.TimeOnly)
	if hint := t.Hint(e); hint != "" {
		text += "  <- use " + hint
	}
	return text
}
