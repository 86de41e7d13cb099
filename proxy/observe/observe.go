package observe

import (
	"math"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// A lock belongs to one thread, which is found by its key. The others send it what they see of
// the lock, because a pool sends the commands about one lock over several connections:
//
//	thread 1  command, reply -> event --+-- of its own locks --> batch --> table 1
//	                                    +-- of others' --> batch --> thread 2 --> table 2
//
// Batches go ten times a second. A table takes events in the order of their times, a little
// later. With one thread, the table takes each event at once.

const (
	// batchEvery is the time between two batches.
	batchEvery = int64(100 * time.Millisecond)
	// settle is the age from which a table takes an event: by then, the batches of all threads
	// have arrived.
	settle     = int64(250 * time.Millisecond)
	sweepEvery = int64(time.Second)
	// maxAlarms bounds the alarms that one sweep logs.
	maxAlarms = 16
)

// observer watches the locks of one thread.
type observer struct {
	engine.Inactive
	w         *engine.Worker
	watcher   *locks.Watcher
	table     *locks.Table
	queue     locks.Queue    // events for the table
	batches   []*locks.Batch // the next events for each thread, by its index
	nextBatch int64
	nextSweep int64
	started   time.Time // when the process started
	hasOffset bool
	offset    int64 // from Worker.Now to the clock that all threads share
	awaySince int64 // since when a master that was connected is not; 0: there is none
}

func newObserver(w *engine.Worker) *observer {
	o := &observer{w: w}
	o.stop()
	o.Configured()
	return o
}

// Configured implements engine.Feature: it begins or ends to watch, or goes on with other
// patterns.
func (o *observer) Configured() {
	w := o.w
	c := locks.Config{
		Size: locks.MaxLocks / w.Options.Workers, Patterns: w.Options.WatchLocks.Patterns,
		SafeLease: 2 * int64(w.Options.Backend.RequestTimeout),
	}
	switch {
	case !w.Options.WatchLocks.Observe:
		o.stop()
	case o.table != nil:
		o.table.Configure(c)
		o.watcher.Configure(w.Options.WatchLocks.Scripts)
	default:
		if w.Options.Process != nil {
			o.started, o.hasOffset = w.Options.Process.Started, false
		}
		o.nextSweep = 0
		o.table, o.batches = locks.NewTable(c), make([]*locks.Batch, w.Options.Workers)
		for i := range o.batches {
			o.batches[i] = o.queue.Batch()
		}
		o.watcher = locks.NewWatcher(o.table, o, w.Scripts.Cache.Text)
		o.watcher.Configure(w.Options.WatchLocks.Scripts)
		w.Witness = o
	}
}

// stop forgets all locks. Replies to commands that were seen before may still come.
func (o *observer) stop() {
	o.w.Witness, o.table, o.watcher, o.batches = nil, nil, nil, nil
	o.queue = locks.Queue{}
	o.nextBatch, o.nextSweep = math.MaxInt64, math.MaxInt64
}

// Now implements locks.Events: it returns the time on a clock that all threads share.
func (o *observer) Now() int64 {
	if !o.hasOffset {
		o.setOffset()
	}
	return o.w.Now + o.offset
}

func (o *observer) setOffset() {
	if o.hasOffset = true; !o.started.IsZero() {
		o.offset = int64(o.w.Wall.Sub(o.started)) - o.w.Now
	}
}

// Sent implements engine.Witness.
func (o *observer) Sent(s *engine.Session, cmd *command.Command, a command.Args, n *engine.Node) engine.WitnessedReply {
	isOutside := n != nil && n.IsOutside()
	p := o.watcher.Command(cmd, a, o.w.Wall, isOutside)
	if p == nil {
		return nil
	}
	node := ""
	if n != nil {
		node = n.Name()
	}
	if s.Has(engine.InMulti) {
		p.RunsInBlock()
	}
	p.From(locks.Client{ID: s.ID(), Addr: s.Peer(), Name: s.About.Name}, node)
	return p
}

// Crossed implements engine.Witness.
func (o *observer) Crossed(cmd *command.Command, a command.Args) {
	o.watcher.Crossed(cmd, a)
}

// Handle implements locks.Events.
func (o *observer) Handle(e *locks.Event) {
	workers := o.w.Options.Workers
	switch {
	case o.table == nil:
		return
	case workers == 1:
		o.table.Apply(e)
		return
	}
	o.batches[e.Home(workers)].Add(e)
	o.nextBatch = min(o.nextBatch, o.w.Now+batchEvery)
}

// Due implements engine.Feature.
func (o *observer) Due() int64 { return min(o.nextBatch, o.nextSweep) }

// Tick implements engine.Feature.
func (o *observer) Tick() {
	if o.w.Now >= o.nextBatch {
		o.nextBatch = math.MaxInt64
		o.sendBatches()
		if o.queue.Drain(o.Now()-settle, o.table.Apply) {
			o.nextBatch = o.w.Now + batchEvery
		}
	}
	if o.w.Now >= o.nextSweep {
		o.shareFamilies()
		o.nextSweep = o.w.Now + sweepEvery
		o.watchNodes()
		o.table.Sweep(o.Now())
		o.logAlarms()
	}
}

// sendBatches sends each thread its events.
func (o *observer) sendBatches() {
	own, forOthers := o.w.Options.Index, false
	batches := slices.Clone(o.batches)
	for i, b := range batches {
		if b.IsEmpty() {
			batches[i] = nil
			continue
		}
		o.batches[i] = o.queue.Batch()
		if i == own {
			o.queue.Take(b)
		} else {
			forOthers = true
		}
	}
	if !forOthers {
		return
	}
	o.w.Siblings.Tell(func(to *engine.Worker) {
		f, b := engine.FeatureOf[*observer](to), batches[to.Options.Index]
		if f.table != nil && b != nil {
			f.queue.Take(b)
			f.nextBatch = min(f.nextBatch, to.Now+batchEvery)
		}
	})
}

// watchNodes measures how long masters that were connected are away, to a second.
func (o *observer) watchNodes() {
	switch isAway := o.w.HasLostMaster(); {
	case isAway && o.awaySince == 0:
		o.awaySince = o.w.Now
	case !isAway && o.awaySince != 0:
		o.table.NodeAway(o.w.Now - o.awaySince)
		o.awaySince = 0
	}
}

// shareFamilies tells the other threads which keys are locks.
func (o *observer) shareFamilies() {
	news := o.table.TakeNews()
	if len(news) == 0 {
		return
	}
	o.w.Siblings.Tell(func(to *engine.Worker) {
		f := engine.FeatureOf[*observer](to)
		for _, family := range news {
			if f.table != nil {
				f.table.Learn(family)
			}
		}
	})
}

// logAlarms puts new alarms into the log.
func (o *observer) logAlarms() {
	for i, a := range o.table.TakeAlarms() {
		if i < maxAlarms {
			o.w.Ready.Alarms = append(o.w.Ready.Alarms, a)
		}
	}
}
