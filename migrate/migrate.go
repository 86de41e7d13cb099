package migrate

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/transfer"
)

// Options configure Repair and Migrate.
type Options struct {
	Rate     int            // keys per second that move at most; 0: no limit
	Latency  time.Duration  // that nodes may take for PING while keys move; 0: any
	Progress func(Progress) // called some times a second; may be nil
	// Retry is how long to try again after a node could not be reached; 0: not at all.
	Retry time.Duration
	// Epoch is the epoch of the layout in which keys move; 0: there is no register.
	Epoch int64
	// WhileServing lets keys move although keyways serve the nodes by another layout.
	WhileServing bool
	// Pace, if not nil, bounds how fast keys move, instead of Rate and Latency.
	Pace *Pace
	// Durable says which replicas must have followed before a key has moved.
	Durable transfer.Durability
	// Batch is how many keys move in one transaction at most; 0: 100.
	Batch int
	// BigOver makes keys move after all others that take more bytes of memory; 0: none.
	BigOver int64
	// Skips reports whether a node of the older layout has no keys any more that move. nil: none.
	Skips func(node string) bool
	// Drained is called when that is true of a node. It may be nil.
	Drained func(ctx context.Context, node string) error
	// Keyways returns the keyways in a reply to CLIENT LIST. nil: there are none.
	Keyways func(clients string) []Keyway
}

// Progress says how far a scan is.
type Progress struct {
	Doing         string // moving or verifying
	Looked, Total int64  // keys that stay or have moved, as far as is known, and keys that there were at first
	Moved         int64
	Slow          string // the name of the node whose latency holds the rate down
	Waiting       string // why some of the work waits: a node that cannot be reached
	Took          time.Duration
	Rate          float64        // keys per second that may move now; of others, fifty times as many are looked at
	Nodes         []NodeProgress // that are scanned, by name
}

// NodeProgress says how far the scan of a node is.
type NodeProgress struct {
	Name          string
	Looked, Total int64 // see Progress
	Waiting       int64 // keys that are known to move, and have not yet
	Moves         int64 // keys that are known to move, with those that have
	Done          bool
}

// Summary is what Migrate has done.
type Summary struct {
	move.Result
	Loaded []Loaded      // libraries of functions
	Took   time.Duration // for moving, without the verification
	After  *Report       // of all nodes of both layouts, against the newer one
}

// Migrate moves all keys from where the older layout places them to where the newer does,
// and verifies. No client must be served by the newer layout before it has ended without an
// error. It may be interrupted and called again. The summary is valid after an error, too.
func Migrate(ctx context.Context, older, newer Layout, o Options) (Summary, error) {
	var sum Summary
	s := newServers(o.Retry)
	s.epoch, s.durable = o.Epoch, o.Durable
	defer s.close()
	from, to, err := s.openBoth(ctx, older, newer)
	if err != nil {
		return sum, err
	}
	if err := s.announce(ctx, newAdmission(migrates, to, o)); err != nil {
		return sum, err
	}
	defer s.paced(ctx, o)()
	if sum.Loaded, err = equip(ctx, from, to); err != nil {
		return sum, err
	}
	began := time.Now()
	p := &passes{from: from, to: to}
	sum.Result, err = s.move(ctx, o, pass{p.first, from})
	if err == nil && p.strays.Load() {
		var more move.Result
		more, err = s.move(ctx, o, pass{p.second, nil})
		sum.Add(more)
	}
	sum.Took = time.Since(began)
	if err != nil {
		return sum, err
	}
	sum.After, err = s.verify(ctx, to, o.Progress)
	return sum, err
}

// passes are the two scans of Migrate. A key that lies on a node where the older layout does
// not place it was never seen by clients. Such a stray moves in the second pass, so that it
// loses against the key that they saw.
type passes struct {
	from, to *placement
	strays   atomic.Bool // the first pass has seen some
}

// first returns where a key that lies on the node at belongs, nil for strays. It is called
// from several goroutines.
func (p *passes) first(key string, at *move.Node) *move.Node {
	if p.from.place(key) == at {
		return p.to.place(key)
	}
	if p.to.place(key) != at {
		p.strays.Store(true)
	}
	return nil
}

// second returns where a key belongs.
func (p *passes) second(key string, _ *move.Node) *move.Node { return p.to.place(key) }

// pass is one scan of all nodes.
type pass struct {
	// target returns where a key belongs; nil: it stays.
	target func(key string, at *move.Node) *move.Node
	// drains is the placement whose nodes have no keys any more that move, after the pass; nil: none.
	drains *placement
}

// isOf reports whether a placement has the node.
func (p *placement) isOf(n *move.Node) bool { return p != nil && slices.Contains(p.nodes, n) }

// move moves keys of all nodes at once.
func (s *servers) move(ctx context.Context, o Options, p pass) (move.Result, error) {
	m := newMover(o, s)
	meter, err := s.meter(ctx, "moving", m, o.Progress)
	if err != nil {
		return m.result, err
	}
	defer meter.stop()
	beside, stop := context.WithCancelCause(ctx)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer stop(nil)
	watching.Go(func() {
		if err := s.watch(beside); err != nil && beside.Err() == nil {
			stop(err)
		}
	})
	g, moving := errgroup.WithContext(beside)
	for _, n := range s.all {
		if p.drains.isOf(n) && o.Skips != nil && o.Skips(n.Name) {
			m.scans[n].done.Store(true)
			continue
		}
		g.Go(func() error { return s.drain(moving, o, m, p, n) })
	}
	if err = g.Wait(); err == nil {
		err = s.moveBig(beside, o, m, p)
	}
	if err != nil && ctx.Err() == nil && beside.Err() != nil {
		err = context.Cause(beside)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if err == nil {
		err = m.refusal()
	}
	return m.result, err
}

// drain moves the keys of a node, apart from big ones.
func (s *servers) drain(ctx context.Context, o Options, m *mover, p pass, n *move.Node) error {
	err := s.retry.run(ctx, func() (advanced bool, err error) {
		return m.drain(ctx, n, func(key string) *move.Node { return p.target(key, n) })
	})
	if err != nil || len(m.scans[n].big) > 0 {
		return err
	}
	return p.drained(ctx, o, m, n)
}

// moveBig moves the keys that are left, of all nodes at once.
func (s *servers) moveBig(ctx context.Context, o Options, m *mover, p pass) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, n := range s.all {
		if len(m.scans[n].big) == 0 {
			continue
		}
		g.Go(func() error {
			err := s.retry.run(ctx, func() (advanced bool, err error) { return m.moveBig(ctx, n) })
			if err != nil {
				return err
			}
			return p.drained(ctx, o, m, n)
		})
	}
	return g.Wait()
}

// drained reports a node of which all keys have moved that the pass moves.
func (p pass) drained(ctx context.Context, o Options, m *mover, n *move.Node) error {
	m.scans[n].done.Store(true)
	if !p.drains.isOf(n) || o.Drained == nil || m.refusedFrom(n) {
		return nil
	}
	return o.Drained(ctx, n.Name)
}

// links returns how many links move the keys of a node.
func (s *servers) links() int {
	for _, n := range s.all {
		if n.InCluster() {
			return slotLinks
		}
	}
	return batchLinks
}

// meter reports the progress of a scan.
type meter struct {
	looked atomic.Int64
	pace   *Pace
	mover  *mover // nil while verifying
	stop   func()
}

const progressInterval = 200 * time.Millisecond

func (s *servers) meter(ctx context.Context, doing string, mover *mover, report func(Progress)) (*meter, error) {
	m := &meter{mover: mover, pace: s.pace, stop: func() {}}
	if report == nil {
		return m, nil
	}
	var totals []int64
	err := s.retry.run(ctx, func() (_ bool, err error) {
		totals, err = s.keys(ctx)
		return false, err
	})
	if err != nil {
		return nil, err
	}
	began, ended := time.Now(), make(chan struct{})
	var reporting sync.WaitGroup
	m.stop = func() {
		close(ended)
		reporting.Wait()
	}
	reporting.Go(func() {
		ticker := time.NewTicker(progressInterval)
		defer ticker.Stop()
		for {
			select {
			case <-ended:
				return
			case <-ticker.C:
				p := m.progress(s.all, doing, totals, time.Since(began))
				p.Waiting = s.retry.failure()
				report(p)
			}
		}
	})
	return m, nil
}

func (m *meter) progress(nodes []*move.Node, doing string, totals []int64, took time.Duration) Progress {
	p := Progress{Doing: doing, Looked: m.looked.Load(), Took: took}
	for _, n := range totals {
		p.Total += n
	}
	p.Slow, p.Rate = m.pace.now()
	if m.mover == nil {
		return p
	}
	p.Looked, p.Moved = 0, m.mover.moved.Load()
	for i, n := range nodes {
		scan := m.mover.scans[n]
		of := NodeProgress{Name: n.Name, Total: totals[i], Moves: scan.moves.Load(), Done: scan.done.Load()}
		of.Waiting = max(of.Moves-scan.sent.Load(), 0)
		of.Looked = max(scan.looked.Load()-of.Waiting, 0)
		p.Looked += of.Looked
		p.Nodes = append(p.Nodes, of)
	}
	return p
}
