package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/transfer"
)

const (
	batchKeys  = 100                   // of a batch, unless Options.Batch says otherwise
	keyBytes   = 256 << 10 / batchKeys // of a key of common size
	batchLinks = 2                     // that move the batches of a node
	// slotWindow is how many keys are collected to be sorted by slot, if a transaction may
	// only have keys of one slot. slotLinks are the links that move their small batches.
	slotWindow = 10_000
	slotLinks  = 16
	// maxRefused is how many values may be refused by their destinations before a mover
	// gives up.
	maxRefused = 100
)

// mover moves the keys of several nodes at once.
type mover struct {
	pace    *Pace
	batch   int                     // the most keys of a batch
	bigOver int64                   // see Options
	links   int                     // to work with, for each node
	scans   map[*move.Node]*scanned // of all nodes; never changed
	moved   atomic.Int64
	mu      sync.Mutex
	result  move.Result
	refused []refused
}

// scanned says how far a node was scanned.
type scanned struct {
	looked atomic.Int64 // keys that were looked at
	moves  atomic.Int64 // those of them that move
	sent   atomic.Int64 // those of these that wait for that no more
	done   atomic.Bool
	big    []batch // keys that move after all others; used by one goroutine at a time
}

// refused is the error of a value that its destination does not accept.
type refused struct {
	from *move.Node
	err  error
}

func newMover(o Options, s *servers) *mover {
	m := &mover{
		pace: s.pace, batch: o.Batch, bigOver: o.BigOver, links: s.links(), scans: map[*move.Node]*scanned{},
	}
	if m.batch == 0 {
		m.batch = batchKeys
	}
	for _, n := range s.all {
		m.scans[n] = new(scanned)
	}
	return m
}

// sized is a key with the bytes that it takes.
type sized struct {
	key   string
	bytes int64
}

// batch are keys to move in one transaction.
type batch struct {
	to   *move.Node
	db   int
	keys []string
	cost int // in keys of common size
}

// drain moves the keys of a node to their targets, apart from big ones, which it puts into scanned.big. A
// key with no target, or whose target is the node itself, stays. drain reports whether any key has moved.
// It may be called again after an error.
func (m *mover) drain(
	ctx context.Context, from *move.Node, target func(key string) *move.Node,
) (advanced bool, err error) {
	dbs, err := from.Databases(ctx)
	if err != nil {
		return false, err
	}
	var moved atomic.Int64
	scan := m.scans[from]
	scan.looked.Store(0) // a call after an error looks at all of them again
	scan.moves.Store(0)
	scan.sent.Store(0)
	scan.big = nil
	batches := make(chan batch)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(batches)
		for _, db := range dbs {
			c := &collector{
				mover: m, ctx: ctx, from: from, db: db.Number, batches: batches, waiting: map[*move.Node][]sized{},
			}
			err := from.Scan(ctx, db.Number, func(keys []string) error {
				scan.looked.Add(int64(len(keys)))
				if err := m.pace.page(ctx, len(m.scans)); err != nil {
					return err
				}
				return c.collect(keys, target)
			})
			if err != nil {
				return err
			}
			if err := c.flush(); err != nil {
				return err
			}
		}
		return nil
	})
	for range m.links {
		g.Go(func() error { return m.work(ctx, from, batches, &moved) })
	}
	err = g.Wait()
	return moved.Load() > 0, err
}

// moveBig moves the big keys of a node, one after another. It reports whether any has moved. It may be
// called again after an error.
func (m *mover) moveBig(ctx context.Context, from *move.Node) (advanced bool, err error) {
	batches := make(chan batch, len(m.scans[from].big))
	for _, b := range m.scans[from].big {
		batches <- b
	}
	close(batches)
	var moved atomic.Int64
	err = m.work(ctx, from, batches, &moved)
	return moved.Load() > 0, err
}

// collector makes batches of the keys that move from a database of a node.
type collector struct {
	*mover
	ctx     context.Context
	from    *move.Node
	db      int
	batches chan<- batch
	waiting map[*move.Node][]sized
}

func (c *collector) collect(keys []string, target func(key string) *move.Node) error {
	var moving []string
	var targets []*move.Node
	for _, k := range keys {
		if to := target(k); to != nil && to != c.from && !transfer.IsAside(k) && !transfer.IsGuard(k) {
			moving, targets = append(moving, k), append(targets, to)
		}
	}
	c.scans[c.from].moves.Add(int64(len(moving)))
	sizes, err := c.from.Sizes(c.ctx, c.db, moving)
	if err != nil {
		return err
	}
	for i, to := range targets {
		k := sized{moving[i], sizes[i]}
		if c.bigOver > 0 && k.bytes > c.bigOver {
			big := &c.scans[c.from].big
			*big = append(*big, batch{to: to, db: c.db, keys: []string{k.key}, cost: cost(1, k.bytes)})
			continue
		}
		c.waiting[to] = append(c.waiting[to], k)
		window := c.batch
		if c.bySlot(to) {
			window = max(window, slotWindow)
		}
		if len(c.waiting[to]) >= window {
			if err := c.send(to); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *collector) bySlot(to *move.Node) bool { return c.from.InCluster() || to.InCluster() }

func (c *collector) flush() error {
	for to := range c.waiting {
		if err := c.send(to); err != nil {
			return err
		}
	}
	return nil
}

// send passes the waiting keys of one destination on.
func (c *collector) send(to *move.Node) error {
	keys := c.waiting[to]
	c.waiting[to] = nil
	for _, b := range cut(keys, c.bySlot(to), min(c.batch, c.pace.most())) {
		b.to, b.db = to, c.db
		select {
		case c.batches <- b:
		case <-c.ctx.Done():
			return c.ctx.Err()
		}
	}
	return nil
}

// cost returns how many keys of common size are as much work as these.
func cost(keys int, bytes int64) int { return max(keys, int(bytes/keyBytes)) }

// cut returns the keys in batches of so many keys at most. A key that is larger than a batch is alone.
func cut(keys []sized, bySlot bool, most int) (batches []batch) {
	slotOf := func(k sized) uint16 { return slots.Of([]byte(k.key)) }
	if bySlot {
		slices.SortStableFunc(keys, func(a, b sized) int { return cmp.Compare(slotOf(a), slotOf(b)) })
	}
	var now batch
	var bytes int64
	var slot uint16
	end := func() {
		if len(now.keys) > 0 {
			now.cost = cost(len(now.keys), bytes)
			batches = append(batches, now)
		}
		now, bytes = batch{}, 0
	}
	for _, k := range keys {
		if len(now.keys) == most || bytes+k.bytes > int64(most)*keyBytes || bySlot && slotOf(k) != slot {
			end()
		}
		now.keys, bytes, slot = append(now.keys, k.key), bytes+k.bytes, slotOf(k)
	}
	end()
	return batches
}

// work moves batches from a node until there are no more, and adds up how many keys have moved.
func (m *mover) work(ctx context.Context, from *move.Node, batches <-chan batch, moved *atomic.Int64) error {
	type end struct {
		to *move.Node
		db int
	}
	links := map[end]*move.Link{}
	defer func() {
		for _, l := range links {
			l.Close()
		}
	}()
	for b := range batches {
		l := links[end{b.to, b.db}]
		if l == nil {
			var err error
			if l, err = move.Connect(ctx, from, b.to, b.db); err != nil {
				return err
			}
			links[end{b.to, b.db}] = l
		}
		if err := m.pace.wait(ctx, b.cost); err != nil {
			return err
		}
		r, err := l.Move(ctx, b.keys)
		moved.Add(int64(r.Moved + r.Joined))
		m.scans[from].sent.Add(int64(len(b.keys)))
		if err := m.record(from, r, err); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// record adds the outcome of one batch. It returns the error that ends the mover.
func (m *mover) record(from *move.Node, r move.Result, err error) error {
	m.moved.Add(int64(r.Moved))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.result.Add(r)
	var value *move.Refused
	if !errors.As(err, &value) {
		return err
	}
	if m.refused = append(m.refused, refused{from, err}); len(m.refused) >= maxRefused {
		return m.refusal()
	}
	return nil
}

// refusal returns the error of the values that were refused, nil if there are none.
func (m *mover) refusal() error {
	if len(m.refused) == 0 {
		return nil
	}
	if len(m.refused) == 1 {
		return m.refused[0].err
	}
	return fmt.Errorf("%w (and %d more such errors)", m.refused[0].err, len(m.refused)-1)
}

// refusedFrom reports whether values of a node have been refused.
func (m *mover) refusedFrom(n *move.Node) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.ContainsFunc(m.refused, func(r refused) bool { return r.from == n })
}
