package migrate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/transfer"
)

// maxFindings is how many keys a Report names.
const maxFindings = 1000

// Report is what Verify has found.
type Report struct {
	Nodes     []NodeReport `json:"nodes"`
	Keys      int64        `json:"keys"`      // on all nodes, without those that were set aside
	Misplaced int64        `json:"misplaced"` // on another node than the layout says
	Twice     int64        `json:"twice"`     // of these, on another node too
	Unplaced  int64        `json:"unplaced"`  // of these, those that the layout places on no node
	Moving    int64        `json:"moving"`    // on the node from which a change of the layout will move them
	Findings  []Finding    `json:"findings"`  // the first misplaced keys
}

// Clean reports whether every key is where the layout places it.
func (r *Report) Clean() bool { return r.Misplaced == 0 }

// NodeReport counts the keys of one node.
type NodeReport struct {
	Name      string `json:"name"`
	Addr      string `json:"addr"`
	Keys      int64  `json:"keys"`
	Misplaced int64  `json:"misplaced"`
	Twice     int64  `json:"twice"`
	Moving    int64  `json:"moving"`
	Aside     int64  `json:"set_aside"` // values that were set aside, keyway:stray:*
}

// Finding is a key that lies elsewhere than the layout says.
type Finding struct {
	Key     string   `json:"key"`
	DB      int      `json:"db"`
	Node    string   `json:"node"`
	Belongs string   `json:"belongs"` // the node that the layout says; empty: none
	Also    []string `json:"also"`    // other nodes that have the key
}

// verifier looks at all keys of one node.
type verifier struct {
	servers  *servers
	place    *placement
	former   *placement // from which keys are moving; nil: they are not
	node     *move.Node
	count    NodeReport
	unplaced int64
	findings []Finding
}

// Verify scans all nodes of a layout and reports which keys lie elsewhere than the layout
// places them. It changes nothing. Of the options it uses Progress, Retry, and those that say how fast.
func Verify(ctx context.Context, l Layout, o Options) (*Report, error) {
	s := newServers(o.Retry)
	defer s.close()
	p, err := s.open(ctx, l)
	if err != nil {
		return nil, err
	}
	defer s.paced(ctx, o)()
	return s.verify(ctx, p, o.Progress)
}

// VerifyChange is Verify while keys move from where an older layout places them to where a newer one does.
// They may lie in both places.
func VerifyChange(ctx context.Context, older, newer Layout, o Options) (*Report, error) {
	s := newServers(o.Retry)
	defer s.close()
	from, to, err := s.openBoth(ctx, older, newer)
	if err != nil {
		return nil, err
	}
	defer s.paced(ctx, o)()
	return s.verifyBoth(ctx, from, to, o.Progress)
}

func (s *servers) verify(ctx context.Context, p *placement, progress func(Progress)) (*Report, error) {
	return s.verifyBoth(ctx, nil, p, progress)
}

func (s *servers) verifyBoth(ctx context.Context, from, p *placement, progress func(Progress)) (*Report, error) {
	meter, err := s.meter(ctx, "verifying", nil, progress)
	if err != nil {
		return nil, err
	}
	s.pace.restart()
	defer meter.stop()
	all := make([]*verifier, len(s.all))
	g, ctx := errgroup.WithContext(ctx)
	for i, n := range s.all {
		g.Go(func() error {
			return s.retry.run(ctx, func() (_ bool, err error) {
				v := &verifier{
					servers: s, place: p, former: from, node: n, count: NodeReport{Name: n.Name, Addr: n.Addr},
				}
				all[i] = v
				return false, v.scan(ctx, &meter.looked)
			})
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	out := &Report{Findings: []Finding{}}
	for _, v := range all {
		out.Nodes = append(out.Nodes, v.count)
		out.Keys += v.count.Keys
		out.Misplaced += v.count.Misplaced
		out.Twice += v.count.Twice
		out.Moving += v.count.Moving
		out.Unplaced += v.unplaced
		out.Findings = append(out.Findings, v.findings...)
	}
	out.Findings = out.Findings[:min(len(out.Findings), maxFindings)]
	return out, nil
}

// scan looks at all keys of the node, and adds their number to looked.
func (v *verifier) scan(ctx context.Context, looked *atomic.Int64) (err error) {
	seen := int64(0)
	defer func() {
		if err != nil {
			looked.Add(-seen) // the next scan looks at them again
		}
	}()
	dbs, err := v.node.Databases(ctx)
	if err != nil {
		return err
	}
	for _, db := range dbs {
		err := v.node.Scan(ctx, db.Number, func(keys []string) error {
			seen += int64(len(keys))
			looked.Add(int64(len(keys)))
			if err := v.servers.pace.page(ctx, len(v.servers.all)); err != nil {
				return err
			}
			return v.look(ctx, db.Number, keys)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// look counts some keys of the node, and asks the other nodes for those that are misplaced.
func (v *verifier) look(ctx context.Context, db int, keys []string) error {
	var misplaced []string
	for _, k := range keys {
		switch {
		case transfer.IsAside(k):
			v.count.Aside++
			continue
		case transfer.IsGuard(k): // of a copy that is under way
			continue
		case v.place.place(k) != v.node && v.former != nil && v.former.place(k) == v.node:
			v.count.Moving++
		case v.place.place(k) != v.node:
			misplaced = append(misplaced, k)
		}
		v.count.Keys++
	}
	if len(misplaced) == 0 {
		return nil
	}
	also := make([][]string, len(misplaced))
	for i := range also {
		also[i] = []string{} // not null in JSON
	}
	for _, other := range v.servers.all {
		if other == v.node || db > 0 && other.InCluster() {
			continue
		}
		exist, err := other.Exist(ctx, db, misplaced)
		if err != nil {
			return err
		}
		for i, there := range exist {
			if there {
				also[i] = append(also[i], other.Name)
			}
		}
	}
	v.count.Misplaced += int64(len(misplaced))
	for i, k := range misplaced {
		f := Finding{Key: k, DB: db, Node: v.node.Name, Also: also[i]}
		if to := v.place.place(k); to != nil {
			f.Belongs = to.Name
		} else {
			v.unplaced++
		}
		if len(also[i]) > 0 {
			v.count.Twice++
		}
		if len(v.findings) < maxFindings {
			v.findings = append(v.findings, f)
		}
	}
	return nil
}

// Repaired is what Repair has done.
type Repaired struct {
	Before *Report      `json:"before,omitempty"`
	Moved  int          `json:"moved"`
	Joined int          `json:"joined"` // removed, because the same value was at their node
	Aside  []move.Aside `json:"set_aside"`
	After  *Report      `json:"after"` // null if the repair has failed

	// InChange says that keys move meanwhile, so that those were set aside which lie where neither layout
	// places them.
	InChange bool `json:"in_change"`
}

// Repair verifies, moves misplaced keys to where the layout places them, and verifies
// again. A key that is also there with another value is set aside.
func Repair(ctx context.Context, l Layout, o Options) (*Repaired, error) {
	if l.Table.Clustered() {
		return nil, errors.New("a Redis Cluster moves its keys itself: repair it with redis-cli --cluster fix")
	}
	s := newServers(o.Retry)
	defer s.close()
	p, err := s.open(ctx, l)
	if err != nil {
		return nil, err
	}
	a := newAdmission(repairs, p, o)
	a.serves = l.Placement
	if err := s.announce(ctx, a); err != nil {
		return nil, err
	}
	defer s.paced(ctx, o)()
	r := Repaired{Aside: []move.Aside{}}
	if r.Before, err = s.verify(ctx, p, o.Progress); err != nil || r.Before.Clean() {
		r.After = r.Before
		return &r, err
	}
	done, err := s.move(ctx, o, pass{target: func(key string, _ *move.Node) *move.Node { return p.place(key) }})
	r.Moved, r.Joined, r.Aside = done.Moved, done.Joined, append(r.Aside, done.Aside...)
	if err != nil {
		return &r, fmt.Errorf("repairing: %w", err)
	}
	r.After, err = s.verify(ctx, p, o.Progress)
	return &r, err
}

// RepairChange is Repair while keys move, and keyways serve, from where an older layout places them to where
// a newer one does, in the epoch of o. What lies where neither places it was never seen by clients, and at its
// node it could hide what they see. So it is set aside.
func RepairChange(ctx context.Context, older, newer Layout, o Options) (*Repaired, error) {
	s := newServers(o.Retry)
	s.epoch, o.WhileServing = o.Epoch, true
	defer s.close()
	from, to, err := s.openBoth(ctx, older, newer)
	if err != nil {
		return nil, err
	}
	if err := s.announce(ctx, newAdmission(repairs, to, o)); err != nil {
		return nil, err
	}
	defer s.paced(ctx, o)()
	r := Repaired{Aside: []move.Aside{}, InChange: true}
	if r.Before, err = s.verifyBoth(ctx, from, to, o.Progress); err != nil || r.Before.Clean() {
		r.After = r.Before
		return &r, err
	}
	aside := make([][]move.Aside, len(s.all))
	g, working := errgroup.WithContext(ctx)
	for i, n := range s.all {
		g.Go(func() error {
			return s.retry.run(working, func() (advanced bool, err error) {
				before := len(aside[i])
				err = setAside(working, n, from, to, &aside[i])
				return len(aside[i]) > before, err
			})
		})
	}
	err = g.Wait()
	for _, of := range aside {
		r.Aside = append(r.Aside, of...)
	}
	if err != nil {
		return &r, fmt.Errorf("repairing: %w", err)
	}
	r.After, err = s.verifyBoth(ctx, from, to, o.Progress)
	return &r, err
}

// setAside sets the keys of a node aside that neither placement places there.
func setAside(ctx context.Context, n *move.Node, from, to *placement, all *[]move.Aside) error {
	dbs, err := n.Databases(ctx)
	if err != nil {
		return err
	}
	for _, db := range dbs {
		err := n.Scan(ctx, db.Number, func(keys []string) error {
			strays := slices.DeleteFunc(keys, func(k string) bool {
				return transfer.IsAside(k) || transfer.IsGuard(k) || from.place(k) == n || to.place(k) == n
			})
			if len(strays) == 0 {
				return nil
			}
			aside, err := n.SetAside(ctx, db.Number, strays)
			*all = append(*all, aside...)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
