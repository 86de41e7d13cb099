package migrate

import (
	"context"
	"errors"
	"time"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/router"
)

// Layout is a routing table, and the account to use on its nodes.
type Layout struct {
	Table              *router.Table
	Username, Password string
	ConnectTimeout     time.Duration
}

// servers are the open nodes of several layouts. A server that is in two layouts is one
// node, whatever its name and address.
type servers struct {
	all  []*move.Node
	byID map[string]*move.Node
}

func newServers() *servers { return &servers{byID: map[string]*move.Node{}} }

// placement says on which open node a layout places a key.
type placement struct {
	table *router.Table
	nodes []*move.Node // by router.NodeID; nil for replicas
}

// open connects to the masters of a layout.
func (s *servers) open(ctx context.Context, l Layout) (*placement, error) {
	p := &placement{table: l.Table, nodes: make([]*move.Node, len(l.Table.Nodes))}
	if len(l.Table.Nodes) == 0 {
		return nil, errors.New("the layout has no nodes")
	}
	for i, n := range l.Table.Nodes {
		if !n.Master {
			continue
		}
		node, err := move.Open(ctx, move.Options{
			Name: n.Name, Addr: n.Addr, Username: l.Username, Password: l.Password, ConnectTimeout: l.ConnectTimeout,
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

// keys returns how many keys the nodes have.
func (s *servers) keys(ctx context.Context) (total int64, err error) {
	for _, n := range s.all {
		dbs, err := n.Databases(ctx)
		if err != nil {
			return 0, err
		}
		for _, db := range dbs {
			total += db.Keys
		}
	}
	return total, nil
}
