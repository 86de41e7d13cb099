package move

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/transfer"
)

// Link moves keys of one database from one node to another, over one connection to each.
// It serves one goroutine.
type Link struct {
	from, to *connection
	db       int
	pair     transfer.Pair
	batch    transfer.Batch
	began    time.Time
}

// Result says what became of keys.
type Result struct {
	Moved  int     // copied and removed at the source
	Joined int     // were on both nodes with the same value; removed at the source
	Absent int     // no longer at the source: moved by another process, deleted or expired
	Aside  []Aside // were on both nodes with different values
}

// Aside is a value that was set aside: the key has another value at its destination.
type Aside struct {
	Node string `json:"node"` // where the value is, as it was before
	DB   int    `json:"db"`
	Key  string `json:"key"`
	Name string `json:"name"` // the value's new name
}

// Add adds another result to r.
func (r *Result) Add(o Result) {
	r.Moved += o.Moved
	r.Joined += o.Joined
	r.Absent += o.Absent
	r.Aside = append(r.Aside, o.Aside...)
}

// Connect returns a link for a database. Errors are *Error.
func Connect(ctx context.Context, from, to *Node, db int) (*Link, error) {
	l := &Link{db: db, began: time.Now(), pair: transfer.Pair{
		LFU: from.lfu, Label: from.Name, InCluster: from.cluster,
	}}
	l.pair.SetDurability(to.o.Durable, to.hasReplicas)
	if to.o.Epoch != 0 { // clients are served, and may flush the nodes
		// Nodes in the epoch let no client write keys that move. A full one would refuse the transaction that
		// removes keys if none has written them meanwhile, and so never get rid of any.
		l.pair.Fenced = true
		l.pair.Guard = strconv.FormatUint(rand.Uint64(), 36)
	}
	var err error
	if l.from, err = from.connect(ctx, db); err != nil {
		return nil, err
	}
	if l.to, err = to.connect(ctx, db); err != nil {
		l.from.Close()
		return nil, err
	}
	if l.from.runID == l.to.runID { // such as an address that leads to another server now
		l.Close()
		return nil, fmt.Errorf("%s and %s are the same server: there is nothing to move", from.Addr, to.Addr)
	}
	if err := l.run(ctx, nil); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// Close closes both connections.
func (l *Link) Close() {
	l.from.Close()
	l.to.Close()
}

// Move moves keys by the guarded copy. In a cluster all keys must be in one slot. They are
// copied in one transaction, so the destination executes nothing else meanwhile: pass about
// 100 keys or 256 KB. The result is valid even if there is an error. After an error the
// link must be closed, unless the error is a *Refused.
func (l *Link) Move(ctx context.Context, keys []string) (Result, error) {
	err := l.run(ctx, distinct(keys))
	r, refused := l.result()
	switch {
	case err != nil:
		return r, err
	case refused != nil:
		return r, refused
	}
	return r, nil
}

// SetAside renames keys of a database, so that they hide no others of their names.
func (n *Node) SetAside(ctx context.Context, db int, keys []string) (all []Aside, err error) {
	c, err := n.connect(ctx, db)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	for _, key := range distinct(keys) {
		isRenamed, name := false, ""
		for i := 1; err == nil && !isRenamed; i++ { // until the name is free
			name = transfer.AsideName(n.Name, key, i, n.cluster)
			isRenamed, err = c.RenameNX(ctx, key, name).Result()
		}
		switch {
		case err == nil:
			all = append(all, Aside{Node: n.Name, DB: db, Key: key, Name: name})
		case strings.Contains(err.Error(), "no such key"):
			err = nil // it is gone
		default:
			return all, n.failed("renaming key "+errtext.Key(key), err)
		}
	}
	return all, nil
}

// run moves keys. Without keys, it compares the nodes' clocks.
func (l *Link) run(ctx context.Context, keys []string) error {
	b := &l.batch
	for b.Begin(&l.pair, keys...); ; {
		switch step := b.Next(int64(time.Since(l.began))); {
		case step.To == transfer.Source:
			if err := l.from.exchange(ctx, step, b); err != nil {
				return err
			}
		case step.To == transfer.Destination:
			if err := l.to.exchange(ctx, step, b); err != nil {
				return err
			}
		case step.Until > 0:
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Until(l.began.Add(time.Duration(step.Until)))):
			}
		default:
			return l.failure(b.Failure())
		}
	}
}

// result returns what has become of the keys of the batch, and the first refusal.
func (l *Link) result() (r Result, refused error) {
	all := l.batch.Keys()
	for i := range all {
		switch k := &all[i]; k.Outcome {
		case transfer.Moved:
			r.Moved++
			if !k.Expires {
				l.to.node.remember(l.db, k.Name)
			}
		case transfer.Joined:
			r.Joined++
		case transfer.Absent:
			r.Absent++
		case transfer.Aside:
			r.Aside = append(r.Aside, Aside{Node: l.from.node.Name, DB: l.db, Key: k.Name, Name: k.Text})
		case transfer.Refused:
			if refused == nil {
				refused = &Refused{Err: l.notRestored(k.Name, replyError(k.Text))}
			}
		}
	}
	return r, refused
}

// failure returns the error of a batch that has ended early, or without an outcome for each key.
func (l *Link) failure(f *transfer.Failure) error {
	if f == nil {
		for _, k := range l.batch.Keys() {
			if k.Outcome == transfer.Again {
				return fmt.Errorf("moving key %s from node %s to node %s: others changed it again and again "+
					"meanwhile; stop the clients, and run the command again",
					errtext.Key(k.Name), l.from.node.Name, l.to.node.Name)
			}
		}
		return nil
	}
	n := l.to.node
	if f.To == transfer.Source {
		n = l.from.node
	}
	var err error = replyError(f.Text)
	if !f.IsReply {
		err = errors.New(f.Text)
	}
	switch {
	case f.Unconfirmed:
		remedy := "see its INFO replication, and run the command again"
		if f.To == transfer.Destination {
			remedy += "; nothing was removed from node " + l.from.node.Name
		}
		return &Error{Node: n.Name, Addr: n.Addr, Doing: f.Doing, Err: err, Temporary: true, Remedy: remedy}
	case f.Restoring != "":
		return l.notRestored(f.Restoring, err)
	}
	return n.failed(f.Doing, err)
}

// Refused is the error of single values that the destination does not accept. The other
// keys of the same call have been moved.
type Refused struct{ Err error }

// Error implements error.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns the cause.
func (r *Refused) Unwrap() error { return r.Err }

// distinct returns the keys without repetitions, which SCAN may return.
func distinct(keys []string) []string {
	seen := make(map[string]bool, len(keys))
	var all []string
	for _, k := range keys {
		if !seen[k] {
			seen[k], all = true, append(all, k)
		}
	}
	return all
}
