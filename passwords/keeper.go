package passwords

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// Command is a command that prints a password.
type Command struct {
	Words   []string      // the program and its arguments
	Refresh time.Duration // it runs again after so long; 0: only if a server refuses the password
}

// key returns what equal commands have in common.
func (c Command) key() string { return fmt.Sprintf("%q %s", c.Words, c.Refresh) }

// Password is what a command has printed last. Its methods may be called from any goroutine.
type Password struct {
	keeper  *Keeper
	command Command

	// keeper.mu protects these.
	text       string
	at         time.Time // when the command printed it
	isRefused  bool      // a server has refused it since then
	next       time.Time // when the command runs again; zero: when a server refuses the password
	notBefore  time.Time // when it may run again
	unchanged  int       // how often in a row it has printed what a server had refused
	failed     int       // how often in a row it has failed
	runs, lost uint64    // how often it has run, and failed
}

// Figures are about the command of a password.
type Figures struct {
	Runs, Failures uint64
	Printed        time.Time // when it last printed the password
}

// Keeper runs commands, and keeps what they have printed.
type Keeper struct {
	log  *slog.Logger
	wake chan struct{} // something has changed for Run

	mu sync.Mutex
	of map[string]*Password // by Command.key
}

// NewKeeper returns a keeper without passwords. log may be nil.
func NewKeeper(log *slog.Logger) *Keeper {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Keeper{log: log, wake: make(chan struct{}, 1), of: map[string]*Password{}}
}

// Get returns the password that a command prints. It runs the command if it does not keep that
// password yet.
func (k *Keeper) Get(ctx context.Context, c Command) (*Password, error) {
	k.mu.Lock()
	p := k.of[c.key()]
	k.mu.Unlock()
	if p != nil {
		return p, nil
	}
	text, err := run(ctx, c.Words)
	if err != nil {
		return nil, err
	}
	p = &Password{keeper: k, command: c}
	k.mu.Lock()
	p.printed(text, time.Now())
	k.of[c.key()] = p
	k.mu.Unlock()
	k.poke()
	return p, nil
}

// Retain forgets all passwords but these.
func (k *Keeper) Retain(used []*Password) {
	k.mu.Lock()
	defer k.mu.Unlock()
	clear(k.of)
	for _, p := range used {
		k.of[p.command.key()] = p
	}
}

// poke makes Run look again.
func (k *Keeper) poke() {
	select {
	case k.wake <- struct{}{}:
	default: // it will
	}
}

// Run runs commands again when their time has come, and when servers refuse what they have
// printed, until ctx ends. It calls changed when passwords have changed. If a command fails, its
// last password stays.
func (k *Keeper) Run(ctx context.Context, changed func()) {
	for {
		timer := time.NewTimer(k.pause())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-k.wake:
		case <-timer.C:
		}
		timer.Stop()
		if k.runDue(ctx) {
			changed()
		}
	}
}

// pause returns the time until a command has to run.
func (k *Keeper) pause() time.Duration {
	k.mu.Lock()
	defer k.mu.Unlock()
	first := time.Now().Add(time.Hour)
	for _, p := range k.of {
		if due := p.due(); !due.IsZero() && due.Before(first) {
			first = due
		}
	}
	return time.Until(first)
}

// runDue runs the commands whose time has come, and reports whether a password has changed.
func (k *Keeper) runDue(ctx context.Context) (changed bool) {
	k.mu.Lock()
	var all []*Password
	for _, p := range k.of {
		if due := p.due(); !due.IsZero() && !time.Now().Before(due) {
			all = append(all, p)
		}
	}
	k.mu.Unlock()
	var running sync.WaitGroup
	results := make([]bool, len(all))
	for i, p := range all {
		running.Go(func() { results[i] = p.renew(ctx) })
	}
	running.Wait()
	for _, result := range results {
		changed = changed || result
	}
	return changed
}

// renew runs the command again, and reports whether it has printed another password.
func (p *Password) renew(ctx context.Context) (changed bool) {
	text, err := run(ctx, p.command.Words)
	if ctx.Err() != nil {
		return false
	}
	k := p.keeper
	k.mu.Lock()
	failures := p.failed
	if err == nil {
		changed = p.printed(text, time.Now())
	} else {
		p.hasFailed(time.Now())
	}
	wait := time.Until(p.next)
	k.mu.Unlock()
	switch {
	case err != nil:
		k.log.Error("cannot get a new password; keyway keeps the last one",
			"error", err, "failures", failures+1, "retry_in", wait.Round(time.Second))
	case failures > 0:
		k.log.Info("the command for a password works again", "program", p.command.Words[0], "failures", failures)
	}
	return changed
}

// due returns when the command has to run; zero: not until a server refuses the password.
func (p *Password) due() time.Time {
	if p.isRefused && (p.next.IsZero() || p.notBefore.Before(p.next)) {
		return p.notBefore
	}
	return p.next
}

// maxWait is the longest time between two runs after failures or refusals.
const maxWait = 15 * time.Second

// after returns the time to wait after so many vain runs: 1 s, then twice as long each time.
func after(vain int) time.Duration {
	return min(time.Second<<min(vain, 10), maxWait)
}

// printed records what the command has printed, and reports whether that is another password.
func (p *Password) printed(text string, now time.Time) (changed bool) {
	changed = text != p.text
	if changed || !p.isRefused {
		p.unchanged = 0
	} else {
		p.unchanged++
	}
	p.runs++
	p.text, p.at, p.isRefused, p.failed = text, now, false, 0
	p.notBefore, p.next = now.Add(after(max(0, p.unchanged-1))), time.Time{}
	if p.command.Refresh > 0 {
		p.next = now.Add(p.command.Refresh)
	}
	return changed
}

// hasFailed records that the command has failed.
func (p *Password) hasFailed(now time.Time) {
	p.runs++
	p.lost++
	p.notBefore = now.Add(after(p.failed))
	p.next = p.notBefore
	p.failed++
}

// Text returns the password.
func (p *Password) Text() string {
	p.keeper.mu.Lock()
	defer p.keeper.mu.Unlock()
	return p.text
}

// Refused makes the command run again soon, because a server has refused the password.
func (p *Password) Refused() {
	p.keeper.mu.Lock()
	p.isRefused = true
	p.keeper.mu.Unlock()
	p.keeper.poke()
}

// Figures returns what was counted.
func (p *Password) Figures() Figures {
	p.keeper.mu.Lock()
	defer p.keeper.mu.Unlock()
	return Figures{p.runs, p.lost, p.at}
}
