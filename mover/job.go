package mover

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/switching"
)

const (
	firstPause = time.Second // after a failure
	maxPause   = 30 * time.Second
	flipTime   = 5 * time.Second  // to make nodes enter the epoch that have stayed behind
	keepTime   = 2 * time.Second  // between two looks at whether all nodes are in the epoch
	retryTime  = 10 * time.Second // for a node that cannot be reached, without asking where the nodes are
	stuckTime  = 20 * time.Second // without getting on
	smoothTime = 3 * time.Second  // over which the rate is smoothed
	stillTime  = 12 * time.Second // longer than between two batches at the rate of one key per second
	// failsAgain is longer than an attempt takes that fails as the one before, such as one to reach a replica.
	failsAgain = 10 * time.Second
)

// job moves the keys of a change, from the beginning to the end.
type job struct {
	find    func(ctx context.Context) (*Work, error)
	epoch   int64
	keyways func(clients string) []migrate.Keyway
	pace    *migrate.Pace
	log     *slog.Logger
	stop    context.CancelFunc
	ended   sync.WaitGroup

	mu      sync.Mutex
	home    *switching.Node
	drained []string  // nodes that need not be scanned
	doing   Progress  // but for what follows
	failure string    // why keys do not move
	failed  time.Time // when that was last so
	logged  string    // the failure that was logged last
	got     time.Time // when it has got on last
	before  int64     // keys that have moved in former attempts
	aside   int

	rate  float64 // keys per second, smoothed
	moved int64   // when that was measured
	at    time.Time
}

// run moves keys until all have moved, or until ctx ends.
func (j *job) run(ctx context.Context) {
	for pause := firstPause; ; pause = min(2*pause, maxPause) {
		began := time.Now()
		err := j.attempt(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		j.fail(err)
		wait := pause
		switch took := time.Since(began); {
		case errors.As(err, new(*unclean)): // to look at all keys again and again would keep the nodes busy
			wait = max(pause, 9*took)
		case took > time.Minute:
			pause, wait = firstPause, firstPause
		}
		// When a change is taken back, the last attempt of its mover fails, which is no fault. Soon the job is stopped.
		if !goesOn(ctx, firstPause) {
			return
		}
		j.warn(err)
		if !goesOn(ctx, wait-firstPause) {
			return
		}
	}
}

// goesOn waits. It returns false if ctx ends meanwhile.
func goesOn(ctx context.Context, after time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(after):
		return true
	}
}

// attempt tries to move all keys, and ends the change.
func (j *job) attempt(ctx context.Context) error {
	w, err := j.find(ctx)
	if err != nil {
		return err
	}
	j.setHome(w.Home)
	if err := j.flip(ctx, w); err != nil {
		return err
	}
	if err := j.resumed(ctx); err != nil {
		return err
	}
	sum, err := migrate.Migrate(ctx, w.From, w.To, migrate.Options{
		Pace: j.pace, Retry: retryTime, Epoch: w.Epoch, WhileServing: true, Keyways: j.keyways, Progress: j.note,
		Durable: w.Durable, Batch: w.Batch, BigOver: w.BigOver,
		Skips: j.skips,
		Drained: func(ctx context.Context, node string) error {
			j.log.Info("the node has sent all keys that move from it", "epoch", j.epoch, "node", node)
			return j.currentHome().Drained(ctx, j.epoch, node)
		},
	})
	j.add(&sum)
	if err != nil {
		return err
	}
	if !sum.After.Clean() {
		j.forget()
		return &unclean{sum.After}
	}
	if err := j.resumed(ctx); err != nil { // a pause is one, also where little is left to do
		return err
	}
	if err := switching.Finish(ctx, j.currentHome(), w.Newer, j.epoch); err != nil {
		return err
	}
	j.log.Info("the change of the layout is done: all keys are in their places", "epoch", j.epoch,
		"moved", j.before, "keys", sum.After.Keys, "set_aside", j.aside)
	return nil
}

// setHome says which node is the home of the change: that of a cluster may be another one later.
func (j *job) setHome(home *switching.Node) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.home = home
}

// currentHome returns the home of the change.
func (j *job) currentHome() *switching.Node {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.home
}

// unclean is the error of keys that have not moved to their places.
type unclean struct{ found *migrate.Report }

func (u *unclean) Error() string {
	first := u.found.Findings[0]
	return fmt.Sprintf("%d keys lie elsewhere than the new layout says, such as %.64q on node %s; see keyway verify",
		u.found.Misplaced, first.Key, first.Node)
}

// flip makes nodes enter the epoch that have stayed behind, such as when the process has died that
// was about to do so.
func (j *job) flip(ctx context.Context, w *Work) error {
	ctx, cancel := context.WithTimeout(ctx, flipTime)
	defer cancel()
	to, err := switching.Entered(ctx, []*switching.Node{w.Home}, j.epoch)
	if err != nil {
		to, err = switching.Entered(ctx, w.Nodes, j.epoch)
	}
	if err != nil {
		return err
	}
	return (&switching.Driver{Home: w.Home, Nodes: w.Nodes}).Flip(ctx, to)
}

// keep makes nodes enter the epoch that have started empty, until ctx ends. Keyways do not use them before. An attempt
// does the same only when it begins, and a pause may last for days.
func (j *job) keep(ctx context.Context) {
	failure, logged := "", ""
	for goesOn(ctx, keepTime) {
		w, err := j.find(ctx)
		if err == nil {
			err = j.flip(ctx, w)
		}
		if err == nil {
			failure, logged = "", ""
			continue
		}
		before := failure
		failure = err.Error()
		if failure == before && failure != logged { // one failure alone may be that the change is over
			logged = failure
			j.log.Warn("cannot make all nodes enter the epoch of the change; trying again", "epoch", j.epoch,
				"error", err)
		}
	}
}

// resumed blocks while keys should not move.
func (j *job) resumed(ctx context.Context) error {
	err := j.pace.Resumed(ctx)
	j.mu.Lock()
	defer j.mu.Unlock()
	j.got = time.Now()
	return err
}

// add counts what an attempt has done.
func (j *job) add(sum *migrate.Summary) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.before += int64(sum.Moved)
	j.aside += len(sum.Aside)
	j.doing.Moved = 0
	if sum.Moved > 0 {
		j.got = time.Now()
	}
	for _, a := range sum.Aside {
		j.log.Warn("a key was on two nodes with different values; the older one was set aside",
			"key", a.Key, "node", a.Node, "db", a.DB, "name", a.Name)
	}
}

// skips reports whether a node needs no scan.
func (j *job) skips(node string) bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Contains(j.drained, node)
}

// forget makes the next attempt scan all nodes.
func (j *job) forget() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.drained = nil
}

// fail remembers why an attempt has failed.
func (j *job) fail(err error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failure, j.failed = err.Error(), time.Now()
}

// warn logs why an attempt has failed, unless that was logged last.
func (j *job) warn(err error) {
	if text := err.Error(); text != j.logged {
		j.logged = text
		j.log.Warn(Stuck+"; trying again", "epoch", j.epoch, "error", err)
	}
}

// note remembers how far the attempt is.
func (j *job) note(p migrate.Progress) {
	j.mu.Lock()
	defer j.mu.Unlock()
	now, isVerifying := time.Now(), p.Doing != "moving"
	switch {
	case p.Waiting != "":
		j.failure, j.failed = p.Waiting, now
	case isVerifying || p.Moved > j.doing.Moved || now.Sub(j.failed) > failsAgain:
		j.got, j.failure = now, ""
	}
	moved := p.Moved
	if isVerifying {
		moved = j.doing.Moved
	}
	j.doing = Progress{Moved: moved, Slow: p.Slow, Verify: isVerifying}
	for _, n := range p.Nodes {
		j.doing.Sources = append(j.doing.Sources, Source{Name: n.Name, Looked: n.Looked, Total: n.Total, Done: n.Done})
	}
	if !j.doing.Verify {
		j.doing.Left = left(p.Nodes)
	}
}

// left estimates how many keys are left to move. Some wait for that: up to some thousands for each node, if they
// go to a cluster. Of the keys of a node that were not looked at, as large a part moves as of the others, and of a
// node that was not looked at yet, as of the other nodes' keys: nodes may differ much, as one that only receives
// keys does. It is Unknown if no key was looked at.
func left(nodes []migrate.NodeProgress) int64 {
	var looked, moves int64
	for _, n := range nodes {
		looked, moves = looked+n.Looked+n.Waiting, moves+n.Moves
	}
	if looked == 0 {
		return Unknown
	}
	sum := 0.0
	for _, n := range nodes {
		share, known := float64(moves)/float64(looked), n.Looked+n.Waiting
		if known > 0 {
			share = float64(n.Moves) / float64(known)
		}
		if !n.Done {
			sum += float64(n.Waiting) + float64(max(n.Total-known, 0))*share
		}
	}
	return int64(math.Round(sum))
}

// progress returns how far the job is. It is called about once a second.
func (j *job) progress() Progress {
	j.mu.Lock()
	defer j.mu.Unlock()
	p := j.doing
	p.Moves, p.Stuck, p.Aside = true, j.stuck(), j.aside
	p.Moved += j.before
	p.Waits = j.failure
	if p.Verify { // nothing moves
		j.rate, j.at = 0, time.Time{}
		return p
	}
	j.measure(time.Now(), p.Moved)
	p.Rate = int(math.Round(j.rate))
	return p
}

// measure smooths the rate over some seconds. At a low rate, and after a large key, seconds pass until more keys move:
// they count with those keys, unless there are too many.
func (j *job) measure(now time.Time, moved int64) {
	took := now.Sub(j.at)
	switch speed := max(float64(moved-j.moved), 0) / took.Seconds(); {
	case j.at.IsZero():
	case took < time.Second/2 || moved == j.moved && took < stillTime:
		return
	case j.rate == 0:
		j.rate = speed
	default:
		j.rate += (speed - j.rate) * (1 - math.Exp(-took.Seconds()/smoothTime.Seconds()))
	}
	j.at, j.moved = now, moved
}

// stuck reports whether the job has not got on for long. j.mu must be locked.
func (j *job) stuck() bool { return time.Since(j.got) > stuckTime }

func (j *job) isStuck() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stuck()
}
