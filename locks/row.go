package locks

import (
	"cmp"
	"errors"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Row is a lock as operators see it.
type Row struct {
	Key     string `json:"key"`
	State   string `json:"state"` // held, free, or expired: its lease has passed and no release was seen
	Library string `json:"library"`
	Kind    string `json:"kind"`
	Token   string `json:"token"` // of the holder, or of the last one
	Addr    string `json:"client"`
	Name    string `json:"client_name"`
	Node    string `json:"node"`
	Holders int    `json:"holders"` // times that it is held: by readers, or by one client that entered again
	// The times are in milliseconds. Lease is -1 for a lock without a lease.
	Held     int64    `json:"held_ms"`
	Lease    int64    `json:"lease_left_ms"`
	Renewals uint64   `json:"renewals"`
	Pollers  int      `json:"polling"`    // clients that were refused within the last second
	Waiters  int      `json:"subscribed"` // clients that wait for the message that wakes them
	Blocked  int      `json:"blocked"`    // clients that wait in a blocking command, such as BLPOP
	Alarms   []string `json:"alarms"`
}

// Query says which locks to list.
type Query struct {
	Match []byte // a glob; nil: all
	Count int    // of all threads, for [Join]
	// Subscribers and PatternSubscribers return how many clients are subscribed to a channel or
	// to a pattern; may be nil.
	Subscribers, PatternSubscribers func(name string) int
}

// Listable says which options KEYWAY LOCKS takes.
var Listable = command.Listable{Count: 100, Most: MaxLocks, HasMatch: true}

// ErrNotObserved is the answer to who asks for locks if none are observed.
var ErrNotObserved = errors.New("locks are not observed; set locks.observe to true in the configuration")

// Rows lists the locks that are held, waited for, or under an alarm, for [Join].
func (t *Table) Rows(now int64, q Query) (rows []Row) {
	t.now = max(t.now, now)
	for e := t.shown.newest; e != nil; e = e.older {
		if (e.held || e.alarms != 0 || e.polling(t.now) > 0) && (q.Match == nil || command.Glob(q.Match, e.key)) {
			rows = append(rows, t.row(e, q))
		}
	}
	return rows
}

// compareRows compares two rows for the order of [Join].
func compareRows(a, b *Row) int {
	return cmp.Or(cmp.Compare(b.waiting(), a.waiting()), cmp.Compare(b.Held, a.Held), cmp.Compare(a.Key, b.Key))
}

// waiting returns how many clients wait for the lock.
func (r *Row) waiting() int { return r.Pollers + r.Waiters + r.Blocked }

func (t *Table) row(e *entry, q Query) Row {
	r := Row{
		Key: string(e.key), State: "free", Library: e.library, Token: string(e.token), Addr: e.client.Addr,
		Name: e.client.Name, Node: e.node, Renewals: e.renewals, Pollers: e.polling(t.now),
		Alarms: append([]string{}, e.alarms.Names()...),
	}
	if e.how != nil {
		r.Kind = e.how.Kind
	}
	r.Waiters = t.subscribed(e, q)
	switch {
	case e.held && e.until > 0 && t.now >= e.until, e.ranOut:
		r.State = "expired"
	case e.held:
		r.State, r.Holders, r.Held, r.Lease = "held", e.times, ms(t.now-e.since), -1
		if e.until > 0 {
			r.Lease = ms(e.until - t.now)
		}
	}
	return r
}

func ms(ns int64) int64 { return ns / int64(time.Millisecond) }

// polling returns how many clients were refused within the last second.
func (e *entry) polling(now int64) (n int) {
	for _, p := range e.pollers {
		if now-p.last <= pollerAge {
			n++
		}
	}
	return n
}

// AppendRows appends rows as a reply: an array with a map for each.
func AppendRows(dst []byte, v resp.Version, rows []Row) []byte {
	dst = resp.AppendArray(dst, len(rows))
	for _, r := range rows {
		dst = v.AppendMap(dst, 16)
		for _, f := range []struct{ name, value string }{
			{"key", r.Key}, {"state", r.State}, {"library", r.Library}, {"kind", r.Kind}, {"token", r.Token},
			{"client", r.Addr}, {"client-name", r.Name}, {"node", r.Node},
		} {
			dst = resp.AppendBulkString(resp.AppendBulkString(dst, f.name), f.value)
		}
		for _, f := range []struct {
			name  string
			value int64
		}{
			{"holders", int64(r.Holders)}, {"held-ms", r.Held}, {"lease-left-ms", r.Lease},
			{"renewals", int64(r.Renewals)}, {"polling", int64(r.Pollers)},
			{"subscribed", int64(r.Waiters)}, {"blocked", int64(r.Blocked)},
		} {
			dst = resp.AppendInt(resp.AppendBulkString(dst, f.name), f.value)
		}
		dst = resp.AppendArray(resp.AppendBulkString(dst, "alarms"), len(r.Alarms))
		for _, name := range r.Alarms {
			dst = resp.AppendBulkString(dst, name)
		}
	}
	return dst
}
