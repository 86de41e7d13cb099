package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/reshard"
	"github.com/keyway-proxy/keyway/wiring"
)

// nextPools are the pools of a file that a running keyway is about to serve.
type nextPools struct {
	r       *running
	admin   *adminListener
	pools   []*served // all of the next file, in its order
	kept    []*keptPool
	added   []*served
	removed []*served
	count   int // of changes
}

// keptPool is a pool that goes on with the next configuration.
type keptPool struct {
	*served
	old, next *config.Config
	trial     func()
	prepared  *wiring.Prepared
	wish      *wiring.MovesKeys // why the file's layout is not in force; nil: the nodes say so, or it is
}

// prepare prepares all that can fail of serving the pools of a file. If anything fails, nothing
// changes.
func (r *running) prepare(ctx context.Context, next config.Pools, allowMisplaced bool) (*nextPools, error) {
	n := &nextPools{r: r}
	if err := n.prepare(ctx, next, allowMisplaced); err != nil {
		n.discard()
		return nil, err
	}
	return n, nil
}

func (n *nextPools) prepare(ctx context.Context, next config.Pools, allowMisplaced bool) (err error) {
	r, old := n.r, n.r.configs()
	switch {
	case r.ctx.Err() != nil:
		return errors.New("keyway is stopping; nothing was changed")
	case old.Named() != next.Named():
		return errors.New("pools: a reload cannot change whether the file has pools; restart keyway, or take it back")
	}
	if err := refuseAuditFile(next[0]); err != nil {
		return err
	}
	if err := refuseAccessLog(next[0]); err != nil {
		return err
	}
	if n.admin, err = listenAdmin(next[0], r.admin); err != nil {
		return err
	}
	if err := refuseTaken(old, next); err != nil {
		return err
	}
	for _, c := range old.Changes(next) {
		switch {
		case c.Next == nil:
			n.removed = append(n.removed, r.find(c.Name))
		case c.Old == nil:
			p, err := r.newServed(ctx, c.Next)
			if err != nil {
				return err
			}
			n.added, n.pools = append(n.added, p), append(n.pools, p)
		default:
			k, err := r.find(c.Name).prepare(ctx, c.Next, allowMisplaced)
			if err != nil {
				return err
			}
			n.kept, n.pools = append(n.kept, k), append(n.pools, k.served)
		}
	}
	return nil
}

// refuseTaken returns an error if a pool is to listen where another pool listens until the end of
// the reload.
func refuseTaken(old, next config.Pools) error {
	for _, c := range next {
		for i, l := range c.Listen {
			for _, other := range old {
				if other.Pool() != c.Pool() && other.Listen.Find(l.Addr) != nil {
					return c.Errorf(config.ListenPath(c, i), "take it from that pool first, and reload twice",
						"the pool %s listens on %q", other.Pool(), l.Addr)
				}
			}
		}
	}
	return nil
}

// prepare prepares a pool to go on with the next configuration.
func (p *served) prepare(ctx context.Context, next *config.Config, allowMisplaced bool) (*keptPool, error) {
	k := &keptPool{served: p, old: p.cfg.Load()}
	var err error
	if k.trial, err = p.trialOf(next); err != nil {
		return nil, err
	}
	if k.next, err = wiring.InForce(ctx, next, k.old, p.log); err != nil {
		return nil, err
	}
	if err := reshard.RefuseStrict(ctx, k.old, k.next); err != nil {
		return nil, err
	}
	allowed := allowMisplaced || k.next.Epoch() > k.old.Epoch()
	k.prepared, err = wiring.PrepareReload(ctx, p.srv, k.old, k.next, allowed, p.log)
	if errors.As(err, &k.wish) {
		err = k.wishFor(ctx, err)
	}
	return k, err
}

// wishFor prepares to go on with the layout that the pool has, since that of the file would move keys. It
// returns the error of the file if it has the same layout with the nodes' addresses exchanged.
func (k *keptPool) wishFor(ctx context.Context, refusal error) (err error) {
	wishing, err := config.Wishing(k.next, k.old)
	if err != nil {
		return err
	}
	if wishing.Replaced() == nil {
		return refusal
	}
	k.next = wishing
	k.prepared, err = wiring.PrepareReload(ctx, k.srv, k.old, k.next, false, k.log)
	return err
}

// discard changes nothing.
func (n *nextPools) discard() {
	if n.admin != nil {
		n.admin.close()
	}
	for _, k := range n.kept {
		k.prepared.Discard()
	}
	for _, p := range n.added {
		p.srv.Discard()
	}
}

// apply makes keyway serve the pools. It returns the lines of the report, none if nothing has
// changed.
func (n *nextPools) apply(ctx context.Context) (lines []string) {
	r := n.r
	for _, p := range n.added {
		p.start()
	}
	if len(n.added)+len(n.removed) > 0 {
		before := r.configs().Names()
		r.pools.Store(&n.pools)
		lines = append(lines, fmt.Sprintf("  pools: %s -> %s\n",
			strings.Join(before, ", "), strings.Join(r.configs().Names(), ", ")))
		r.log.Info("configuration changed", "key", "pools", "from", strings.Join(before, ", "),
			"to", strings.Join(r.configs().Names(), ", "))
		n.count++
	}
	for i, k := range n.kept {
		lines = append(lines, k.apply(i == 0)...)
		n.count += len(k.prepared.Changes)
		if i == 0 && slices.ContainsFunc(k.prepared.Changes, func(c config.Change) bool {
			return strings.HasPrefix(c.Path, "admin")
		}) {
			r.logAdmin()
		}
	}
	for _, p := range n.removed {
		p.stop()
	}
	_ = r.out.set(r.first().cfg.Load().Log) // package config has checked both
	r.setMemoryLimit()
	r.audit.use(r.first().cfg.Load())
	r.follow.use(r.first().cfg.Load())
	r.serveAdmin(ctx, n.admin)
	r.serveConsole(ctx, r.consoleAddr())
	return lines
}

// apply makes the pool serve by its next configuration. isFirst says that it reports what belongs
// to the process.
func (k *keptPool) apply(isFirst bool) (lines []string) {
	k.prepared.Apply()
	k.trial()
	if config.File(k.old).PlacementHash() != config.File(k.next).PlacementHash() {
		k.wishes.Renewed.Store(k.next.Replaced() != nil)
	}
	wiring.LogInForce(k.next, k.log)
	inForce := inForceReport(k.old, k.next)
	if k.wish != nil {
		inForce = "  " + k.wish.Wish() + "\n"
	}
	if len(k.prepared.Changes) == 0 && inForce == "" {
		k.cfg.Store(k.next)
		return nil
	}
	k.use(k.next, k.prepared.Changes)
	for _, c := range k.prepared.Changes {
		if c.Pool == k.name || isFirst {
			k.of.log.Info("configuration changed", c.LogFields()...)
			lines = append(lines, fmt.Sprintf("  %s\n", c))
		}
	}
	if inForce != "" {
		lines = append(lines, inForce)
	}
	return lines
}
