package migrate

import (
	"context"
	"errors"
	"iter"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/transfer"
)

// Layout is a routing table, and the accounts to use on its nodes.
type Layout struct {
	Table          *router.Table
	Account        func(router.Node) control.Account
	ConnectTimeout time.Duration
	// Placement is the hash of all in the configuration that decides where keys go.
	Placement string
}

// servers are the open nodes of several layouts. A server that is in two layouts is one
// node, whatever its name and address.
type servers struct {
	all  []*move.Node
	byID map[string]*move.Node
	retry

	pace    *Pace // see paced
	epoch   int64 // see Options
	durable transfer.Durability
}

func newServers(limit time.Duration) *servers {
	return &servers{byID: map[string]*move.Node{}, retry: retry{limit: limit}}
}

// placement says on which open node a layout places a key.
type placement struct {
	table *router.Table
	nodes []*move.Node // by router.NodeID; nil for replicas

	hashOfFile string // Layout.Placement
}

// open connects to the masters of a layout.
func (s *servers) open(ctx context.Context, l Layout) (*placement, error) {
	p := &placement{table: l.Table, nodes: make([]*move.Node, len(l.Table.Nodes)), hashOfFile: l.Placement}
	if len(l.Table.Nodes) == 0 {
		return nil, errors.New("the layout has no nodes")
	}
	for i, n := range l.Table.Nodes {
		if !n.Master {
			continue
		}
		node, err := move.Open(ctx, move.Options{
			Name: n.Name, Addr: n.Addr, Account: l.Account(n), ConnectTimeout: l.ConnectTimeout, Epoch: s.epoch,
			Durable: s.durable,
		})
		if err != nil {
			return nil, err
		}
		if known := s.byID[node.ID]; known != nil {
			node.Close()
			node = known
		} else {
			s.byID[node.ID] = node
			s.all = append(s.all, node)
		}
		p.nodes[i] = node
	}
	return p, nil
}

// openBoth connects to the masters of two layouts.
func (s *servers) openBoth(ctx context.Context, older, newer Layout) (from, to *placement, err error) {
	if from, err = s.open(ctx, older); err == nil {
		to, err = s.open(ctx, newer)
	}
	return from, to, err
}

// secondLook is the time that a keyway that has just been stopped may need to end.
const secondLook = time.Second

// announce makes it visible at all nodes that keys move, and returns an error if they must
// not move now.
func (s *servers) announce(ctx context.Context, a *admission) error {
	for _, n := range s.all {
		err := n.Announce(ctx, a.name, a.admit)
		if serving := new(Serving); errors.As(err, &serving) {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(secondLook):
			}
			err = n.Announce(ctx, a.name, a.admit)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// lookInterval is the time between looks at the clients while keys move.
const lookInterval = 5 * time.Second

// watch returns an error as soon as keys must not move any more beside the nodes' clients,
// or when ctx ends.
func (s *servers) watch(ctx context.Context) error {
	return every(ctx, lookInterval, func() error {
		for _, n := range s.all {
			var failed *move.Error
			if err := n.Look(ctx); err != nil && (!errors.As(err, &failed) || !failed.Temporary) {
				return err
			} // those who move keys report a lost node
		}
		return nil
	})
}

// masters yields the nodes of a placement.
func (p *placement) masters() iter.Seq[*move.Node] {
	return func(yield func(*move.Node) bool) {
		for _, n := range p.nodes {
			if n != nil && !yield(n) {
				return
			}
		}
	}
}

func (s *servers) close() {
	for _, n := range s.all {
		n.Close()
	}
}

// place returns the node of a key, nil if the layout places it on none.
func (p *placement) place(key string) *move.Node {
	_, id := p.table.Place([]byte(key))
	if id == router.None {
		return nil
	}
	return p.nodes[id]
}

// keys returns how many keys each node has.
func (s *servers) keys(ctx context.Context) ([]int64, error) {
	totals := make([]int64, len(s.all))
	for i, n := range s.all {
		dbs, err := n.Databases(ctx)
		if err != nil {
			return nil, err
		}
		for _, db := range dbs {
			totals[i] += db.Keys
		}
	}
	return totals, nil
}
