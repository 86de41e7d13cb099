package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/info"
	"github.com/keyway-proxy/keyway/router"
)

const (
	sampleSize  = 1000 // keys that are drawn from a node; a node with no more keys is counted whole
	batch       = 100  // RANDOMKEYs in one pipeline: some tenths of a millisecond of the node's time
	perDatabase = 10   // keys that are drawn from each database that has any, at least
	maxSampled  = 5000 // keys of a node, however many databases it has
	maxExamples = 3

	// sampleName names the connection over which a sample is taken, so that keyway plan does not take it
	// for a client that bypasses keyway.
	sampleName = "keyway:sample"

	// ownPrefix begins the keys that keyway itself writes. No layout places them.
	ownPrefix = "keyway:"
)

// tolerated is the share of a node's keys that may lie elsewhere at start.
const tolerated = 0.01

// Sample is the result of one look at a node's keys.
type Sample struct {
	Name, Addr string
	Err        error // not nil: the node could not be judged, and the fields below mean nothing

	Keys      int64 // on the node, in all databases
	Whole     bool  // all keys were looked at, not a sample
	Sampled   int   // keys that were looked at
	Elsewhere int   // of these, how many the layout places on another node, or on none
	Examples  []Example

	keys []string // the keys that were looked at
}

// Example is a key that clients do not find.
type Example struct {
	Key     string
	DB      int
	Belongs string // the node that the layout places it on; empty if there is none
}

// Ratio returns the share of misplaced keys, from 0 to 1.
func (s Sample) Ratio() float64 {
	if s.Sampled == 0 {
		return 0
	}
	return float64(s.Elsewhere) / float64(s.Sampled)
}

// Hides reports whether more keys are misplaced than keyway tolerates at start.
func (s Sample) Hides() bool { return s.Err == nil && s.Ratio() > tolerated }

// take looks at the keys of node id.
func take(ctx context.Context, client *redis.Client, t *router.Table, id router.NodeID) Sample {
	s := Sample{Name: t.Nodes[id].Name, Addr: t.Nodes[id].Addr}
	conn := client.Conn() // SELECT needs one connection for all that follows
	defer conn.Close()
	_ = conn.ClientSetName(ctx, sampleName).Err() // a user without that right looks like one who bypasses keyway
	text, err := conn.Info(ctx, "keyspace").Result()
	if err != nil {
		s.Err = fmt.Errorf("asking for INFO keyspace: %w", err)
		return s
	}
	dbs := info.Databases(text)
	for _, db := range dbs {
		s.Keys += db.Keys
	}
	s.Whole = s.Keys <= sampleSize
	for _, db := range dbs {
		var keys []string
		if s.Whole {
			keys, err = all(ctx, conn, db)
		} else {
			keys, err = draw(ctx, conn, db, min(s.quota(db), maxSampled-len(s.keys)))
		}
		if err != nil {
			return Sample{Name: s.Name, Addr: s.Addr, Err: err}
		}
		s.count(t, id, db.Number, keys)
	}
	return s
}

// quota returns how many keys are drawn from a database.
func (s *Sample) quota(db info.Database) int {
	return max(perDatabase, int(float64(sampleSize)*float64(db.Keys)/float64(s.Keys)))
}

// all returns all keys of a small database. SCAN may return a key twice.
func all(ctx context.Context, conn *redis.Conn, db info.Database) ([]string, error) {
	if err := conn.Select(ctx, db.Number).Err(); err != nil {
		return nil, fmt.Errorf("selecting database %d: %w", db.Number, err)
	}
	var keys []string
	for cursor := uint64(0); ; {
		page, next, err := conn.Scan(ctx, cursor, "", sampleSize).Result()
		if err != nil {
			return nil, fmt.Errorf("asking for keys with SCAN: %w", err)
		}
		keys = append(keys, page...)
		if cursor = next; cursor == 0 {
			slices.Sort(keys)
			return slices.Compact(keys), nil
		}
	}
}

// draw returns n random keys of a database.
func draw(ctx context.Context, conn *redis.Conn, db info.Database, n int) (keys []string, err error) {
	for left := n; left > 0; left -= batch {
		p := conn.Pipeline()
		p.Select(ctx, db.Number)
		for range min(left, batch) {
			p.RandomKey(ctx)
		}
		replies, err := p.Exec(ctx)
		if err != nil && !errors.Is(err, redis.Nil) { // Nil: the database is empty by now
			return nil, fmt.Errorf("asking for keys of database %d with RANDOMKEY: %w", db.Number, err)
		}
		for _, r := range replies[1:] {
			if key, err := r.(*redis.StringCmd).Result(); err == nil {
				keys = append(keys, key)
			}
		}
	}
	return keys, nil
}

// count adds keys of a database to the sample of node id.
func (s *Sample) count(t *router.Table, id router.NodeID, db int, keys []string) {
	for _, key := range keys {
		if strings.HasPrefix(key, ownPrefix) {
			continue
		}
		s.Sampled++
		s.keys = append(s.keys, key)
		_, owner := t.Place([]byte(key))
		if owner == id {
			continue
		}
		if s.Elsewhere++; len(s.Examples) < maxExamples {
			e := Example{Key: key, DB: db}
			if owner != router.None {
				e.Belongs = t.Nodes[owner].Name
			}
			s.Examples = append(s.Examples, e)
		}
	}
}
