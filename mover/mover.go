package mover

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/migrate"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/transfer"
)

// Work is what a change moves, as the clusters and sentinels of its layouts say now.
type Work struct {
	Epoch int64
	Home  *switching.Node
	Nodes []*switching.Node // of both layouts, with the home
	Newer []*switching.Node // of the new one
	From  migrate.Layout
	To    migrate.Layout

	// See migrate.Options.
	Durable transfer.Durability
	Batch   int
	BigOver int64
}

// Options configure Run.
type Options struct {
	Find     func(ctx context.Context) (*Work, error)
	Instance string // the name of the keyway, or of the command
	Fallback bool   // see Process.Fallback
	Keyways  func(clients string) []migrate.Keyway
	Log      *slog.Logger
	Seen     func(View) // called after each look, if not nil
}

// View is what a process that may move keys sees at the home of the change.
type View struct {
	Change    register.Change
	Pace      register.Pace // that is in force
	Processes []Process     // the first one should move the keys
	Own       Process       // of them, this one, and what it does now
}

const (
	lookInterval = time.Second // between two looks of the process that moves keys, and of the next in line
	// maxInterval is that of those who are far behind in the line; see interval.
	maxInterval  = time.Minute
	nextInLine   = 8
	lookTimeout  = 2 * time.Second
	fallbackTime = 3 * time.Second // that a keyway has to be seen, before a command takes its place
	findInterval = 5 * time.Second // between two questions where the nodes are, while the home does not answer
)

// mover is one call of Run.
type mover struct {
	Options
	work  *Work // nil: not found yet
	found time.Time
	watch *switching.Watch
	asked bool // other nodes have been asked what they know of the change
	own   Process
	began time.Time
	pace  *migrate.Pace
	job   *job // nil: another process moves the keys
	seen  View // last

	failure string // that was logged last
}

// Run moves the keys of a change while this is the process that should, and looks after the one that
// does otherwise. It returns when the change is done, when a later one has begun, or when ctx ends.
func Run(ctx context.Context, o Options) {
	m := &mover{Options: o, began: time.Now(), pace: migrate.NewPace(migrate.Speed{Paused: true})}
	defer func() {
		m.rest()
		if m.watch != nil {
			m.watch.Close()
		}
	}()
	for ctx.Err() == nil && !m.turn(ctx) {
		select {
		case <-ctx.Done():
		case <-time.After(m.interval()):
		}
	}
}

// interval returns the time between two looks. The home lists all its clients for each, so only the processes that
// are next in line look often: thousands of processes together look some thirty times a second.
func (m *mover) interval() time.Duration {
	place := slices.IndexFunc(m.seen.Processes, func(p Process) bool { return p.ID == m.seen.Own.ID })
	if place < nextInLine {
		return lookInterval
	}
	behind := time.Duration(place / nextInLine)
	last := max(maxInterval, time.Duration(len(m.seen.Processes))*lookInterval/nextInLine)
	return min(behind*behind*lookInterval, last)
}

// turn looks once, and does what follows from that.
func (m *mover) turn(ctx context.Context) (isOver bool) {
	if m.work == nil && !m.find(ctx) {
		return false
	}
	if m.job != nil {
		m.own.Progress = m.job.progress()
	}
	ask, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	seen, err := m.watch.Look(ask, m.own.name()) // without a home, who moves keys goes on
	switch {
	case err == nil:
	case errors.Is(err, switching.ErrNotHome) || time.Since(m.found) > findInterval:
		m.failed(err)
		m.find(ctx)
		return false
	default:
		m.failed(err)
		return false
	}
	v := View{Processes: Processes(seen.Clients, m.work.Epoch)}
	for _, c := range seen.Changes {
		switch {
		case c.Epoch == m.work.Epoch:
			v.Change = c
		case c.Epoch > m.work.Epoch && c.Entered != nil:
			isOver = true
		}
	}
	if isOver = isOver || v.Change.Done; isOver {
		m.see(v)
		return true
	}
	if m.restores(ask, &v.Change) || m.inherits(ask, &v.Change) {
		return false
	}
	if v.Pace, err = switching.PaceOf(&v.Change); err != nil {
		m.failed(err)
	} else {
		m.pace.Set(migrate.Speed{Paused: v.Pace.Paused, Rate: v.Pace.Rate, Latency: v.Pace.Latency})
		m.own.Paces = v.Change.Paces
	}
	m.own.ID = seen.ID
	switch should := v.should(seen.ID); {
	case should && m.job == nil && m.Fallback && time.Since(m.began) < fallbackTime:
	case should && m.job == nil:
		m.begin(ctx, v.Change.Drained)
	case !should && m.job != nil && v.Processes[0].Moves:
		m.Log.Info("another process moves the keys", "epoch", m.work.Epoch, "by", v.Processes[0].Instance)
		m.rest()
	}
	m.see(v)
	return false
}

func (m *mover) see(v View) {
	if v.Own, m.seen = m.own, v; m.Seen != nil {
		m.Seen(v)
	}
}

// should reports whether the process with this connection should move the keys.
func (v *View) should(id int64) bool { return len(v.Processes) > 0 && v.Processes[0].ID == id }

// find asks where the nodes are.
func (m *mover) find(ctx context.Context) bool {
	m.found = time.Now()
	w, err := m.Find(ctx)
	if err != nil {
		m.failed(err)
		return false
	}
	if m.watch == nil || m.work.Home.Addr != w.Home.Addr {
		if m.watch != nil {
			m.watch.Close()
		}
		m.watch, m.asked = w.Home.Watch(), false
	}
	m.work = w
	if m.job != nil {
		m.job.setHome(w.Home)
	}
	m.own.Epoch, m.own.Instance, m.own.Fallback = w.Epoch, m.Instance, m.Fallback
	return true
}

// restores gives a home that has lost the records of the change, such as one that has started empty, what it said
// when it was last looked at. Without them, a pause would be over. If a keyway has restored them that had not seen the
// last pace, this adds it. It returns false if the home needs nothing.
func (m *mover) restores(ctx context.Context, of *register.Change) bool {
	last := &m.seen.Change
	if of.Plan != nil && of.Paces >= last.Paces || last.Plan == nil || last.Epoch != m.work.Epoch {
		return false
	}
	if err := m.work.Home.Restore(ctx, last); err != nil {
		m.failed(err)
		return true // so no keys move that should not
	}
	m.Log.Info("the home of the change had lost its records, and has them again", "epoch", m.work.Epoch,
		"node", m.work.Home.Name, "addr", m.work.Home.Addr)
	return true
}

// inherits gives a home that lacks the plan, because it owns slot 0 only since then, what other nodes know of the
// change, such as that its keys should not move now. It returns false if they know nothing.
func (m *mover) inherits(ctx context.Context, of *register.Change) bool {
	if !m.work.Home.OwnsSlot0 || of.Plan != nil || m.asked {
		return false
	}
	has, err := m.work.Home.Inherit(ctx, m.work.Nodes, m.work.Epoch)
	if err != nil {
		m.failed(err)
		return true // so no keys move that should not
	}
	m.asked = true
	if has {
		m.Log.Info("another node is the home of the change", "epoch", m.work.Epoch, "node", m.work.Home.Name,
			"addr", m.work.Home.Addr)
	}
	return has
}

// failed logs an error, unless it is the one that was logged last.
func (m *mover) failed(err error) {
	if text := err.Error(); text != m.failure {
		m.failure = text
		m.Log.Warn("cannot see how far the change of the layout is", "error", err)
	}
}

// begin begins to move keys. The nodes that are drained need not be scanned.
func (m *mover) begin(ctx context.Context, drained []string) {
	m.Log.Info("this process moves the keys of the change that clients do not use", "epoch", m.work.Epoch)
	ctx, stop := context.WithCancel(ctx)
	m.job = &job{
		find: m.Find, epoch: m.work.Epoch, keyways: m.Keyways, pace: m.pace, log: m.Log, drained: drained, stop: stop,
		got: time.Now(), at: time.Now(), doing: Progress{Left: Unknown},
	}
	m.job.ended.Go(func() {
		defer stop() // keep, too
		m.job.run(ctx)
	})
	m.job.ended.Go(func() { m.job.keep(ctx) })
}

// rest ends that. What the job has done since it was last looked at is seen, too.
func (m *mover) rest() {
	if m.job == nil {
		return
	}
	m.job.stop()
	m.job.ended.Wait()
	m.own.Progress = m.job.progress()
	m.see(m.seen)
	isStuck := m.job.isStuck()
	m.job, m.own.Progress = nil, Progress{}
	m.own.Stuck = isStuck // until it has to try again, since all others are, too
}
