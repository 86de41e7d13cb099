package plan

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/router"
)

const (
	sampleSize = 10_000 // keys of a node; a node with no more keys is counted whole
	perDraw    = 100    // RANDOMKEYs in one pipeline
	perPage    = 1000   // keys that one SCAN looks at when all are counted
	bigKey     = 32 << 20
	maxBig     = 100

	// ownPrefix begins the keys that keyway itself makes. They stay where they are.
	ownPrefix = "keyway:"
)

// BigKey is a key that stalls both nodes while it moves.
type BigKey struct {
	Node  string `json:"node"`
	DB    int    `json:"db"`
	Key   string `json:"key"`
	Type  string `json:"type"`
	Bytes int64  `json:"bytes"`
}

// amount is a number of keys and their bytes.
type amount struct{ keys, bytes float64 }

// findings are what is known about the keys of a node.
type findings struct {
	total      int64 // keys, in all databases
	seen       int64
	counted    bool // all keys were seen
	misplaced  int64
	example    string // a misplaced key
	inOwnSpace int64
	moving     map[router.NodeID]amount // by the new layout's node
	varKeys    float64                  // the variances of the sums of moving
	varBytes   float64
	big        []BigKey
	// occupied reports whether a node that only the new layout has has keys, apart from those of keyway itself:
	// a process that has died while it moved keys leaves some for minutes.
	occupied bool
}

// page is a number of keys of one database.
type page struct {
	seen   float64
	moving map[router.NodeID]amount
	bytes2 float64 // the sum of the squares of the moving keys' bytes
}

// lookForOthers looks for a key that keyway has not made, at a node that only the new layout has.
func (n *node) lookForOthers(ctx context.Context) error {
	for _, db := range n.dbs {
		if err := n.conn.Select(ctx, db.Number).Err(); err != nil {
			return fmt.Errorf("selecting database %d: %w", db.Number, err)
		}
		for cursor := uint64(0); ; {
			keys, next, err := n.conn.Scan(ctx, cursor, "", perPage).Result()
			if err != nil {
				return fmt.Errorf("scanning the keys: %w", err)
			}
			n.found.occupied = slices.ContainsFunc(keys, func(key string) bool {
				return !strings.HasPrefix(key, ownPrefix)
			})
			if n.found.occupied {
				return nil
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return nil
}

// look looks at the keys of a node of the old layout.
func (p *planner) look(ctx context.Context, n *node) error {
	f := &n.found
	f.moving = map[router.NodeID]amount{}
	for _, db := range n.dbs {
		f.total += db.Keys
	}
	f.counted = p.o.Count || p.o.RefuseBig || f.total <= sampleSize
	for _, db := range n.dbs {
		if err := n.conn.Select(ctx, db.Number).Err(); err != nil {
			return fmt.Errorf("selecting database %d: %w", db.Number, err)
		}
		sum := page{moving: map[router.NodeID]amount{}}
		var err error
		if f.counted {
			err = p.countAll(ctx, n, db, &sum)
		} else {
			err = p.draw(ctx, n, db, &sum)
		}
		if err != nil {
			return err
		}
		f.add(&sum, db.Keys)
	}
	return nil
}

// add adds what was seen of a database with that many keys.
func (f *findings) add(s *page, keys int64) {
	if s.seen == 0 {
		return
	}
	scale := 1.0
	if !f.counted {
		scale = float64(keys) / s.seen
	}
	var all amount
	for to, m := range s.moving {
		f.moving[to] = amount{f.moving[to].keys + scale*m.keys, f.moving[to].bytes + scale*m.bytes}
		all.keys, all.bytes = all.keys+m.keys, all.bytes+m.bytes
	}
	if f.counted {
		return
	}
	// The variance of a sum that is estimated from keys that were drawn independently.
	of := func(sum, squares float64) float64 {
		mean := sum / s.seen
		return float64(keys) * scale * max(0, squares/s.seen-mean*mean)
	}
	f.varKeys += of(all.keys, all.keys)
	f.varBytes += of(all.bytes, s.bytes2)
}

// interval returns half the width of the 95 % confidence interval of a sum.
func interval(variance float64) int64 { return int64(math.Ceil(1.96 * math.Sqrt(variance))) }

// countAll looks at every key of the selected database. SCAN can return a key twice while
// its table grows or shrinks; of a small database each counts once.
func (p *planner) countAll(ctx context.Context, n *node, db info.Database, sum *page) error {
	once := map[string]bool{}
	for cursor := uint64(0); ; {
		keys, next, err := n.conn.Scan(ctx, cursor, "", perPage).Result()
		if err != nil {
			return fmt.Errorf("scanning the keys: %w", err)
		}
		if db.Keys <= sampleSize {
			fresh := keys[:0]
			for _, k := range keys {
				if !once[k] {
					once[k] = true
					fresh = append(fresh, k)
				}
			}
			keys = fresh
		}
		if err := p.place(ctx, n, db.Number, keys, sum); err != nil {
			return err
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// draw looks at a sample of the keys of the selected database, by RANDOMKEY. Keys that SCAN
// returns together are no fair sample: in a cluster they are of neighbouring slots, which
// move together, and a slot with many keys would be seen as seldom as one with few.
func (p *planner) draw(ctx context.Context, n *node, db info.Database, sum *page) error {
	quota := int(math.Ceil(sampleSize * float64(db.Keys) / float64(n.found.total)))
	for ; quota > 0; quota -= perDraw {
		draws := make([]*redis.StringCmd, min(quota, perDraw))
		err := n.pipeline(ctx, "drawing keys", func(pipe redis.Pipeliner) {
			for i := range draws {
				draws[i] = pipe.RandomKey(ctx)
			}
		})
		if err != nil {
			return err
		}
		var keys []string
		for _, d := range draws {
			key, err := d.Result()
			if errors.Is(err, redis.Nil) {
				continue // the database is empty now
			}
			if err != nil {
				return fmt.Errorf("drawing keys: %w", err)
			}
			keys = append(keys, key)
		}
		if err := p.place(ctx, n, db.Number, keys, sum); err != nil {
			return err
		}
	}
	return nil
}

// place adds keys of a node to sum.
func (p *planner) place(ctx context.Context, n *node, db int, keys []string, sum *page) error {
	f := &n.found
	var moving []string
	var to []router.NodeID
	for _, key := range keys {
		f.seen++
		sum.seen++
		if strings.HasPrefix(key, ownPrefix) {
			f.inOwnSpace++
			continue
		}
		if _, owner := p.older.Table.Place([]byte(key)); owner != n.older {
			f.misplaced++
			f.example = key
		}
		_, owner := p.newer.Table.Place([]byte(key))
		if id, ok := p.same[owner]; owner == router.None || !ok || id != n.older {
			moving, to = append(moving, key), append(to, owner)
		}
	}
	sizes := make([]*redis.IntCmd, len(moving))
	err := n.pipeline(ctx, "asking for the size of keys", func(pipe redis.Pipeliner) {
		for i, key := range moving {
			sizes[i] = pipe.MemoryUsage(ctx, key)
		}
	})
	if err != nil {
		return err
	}
	for i, key := range moving {
		bytes, err := sizes[i].Result()
		if errors.Is(err, redis.Nil) {
			continue // the key is gone
		} // without the right to ask, which is reported, keys are counted without bytes
		a := sum.moving[to[i]]
		sum.moving[to[i]] = amount{a.keys + 1, a.bytes + float64(bytes)}
		sum.bytes2 += float64(bytes) * float64(bytes)
		if bytes > p.o.BigOver && len(f.big) < maxBig {
			kind, _ := n.conn.Type(ctx, key).Result()
			f.big = append(f.big, BigKey{Node: n.name, DB: db, Key: key, Type: kind, Bytes: bytes})
		}
	}
	return nil
}
