package hotkeys

import (
	"cmp"
	"slices"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Row is a hot key as operators see it.
type Row struct {
	Key      string  `json:"key"` // see [resp.Text]
	DB       uint16  `json:"db"`
	Node     string  `json:"node"` // that answered last
	Reads    float64 `json:"reads_per_second"`
	Writes   float64 `json:"writes_per_second"`
	Bytes    float64 `json:"bytes_per_second"`
	Share    float64 `json:"share"`           // of all accesses to keys, 0 to 1
	ByBytes  float64 `json:"share_of_bytes"`  // of all bytes of commands with keys
	ByClient float64 `json:"share_of_client"` // of the key's accesses, how much is the client's
	Client           // that uses the key most
}

// By says by what rows are ordered.
type By uint8

// The orders of [Join].
const (
	ByCommands By = iota
	ByReads
	ByWrites
	ByBytes
)

// ParseBy returns the order of that name: commands, reads, writes or bytes.
func ParseBy(name string) (by By, ok bool) {
	i := slices.Index(Listable.By, name)
	return By(max(i, 0)), i >= 0
}

// MaxRows bounds the rows of an answer.
const MaxRows = 1000

// Listable says which options KEYWAY HOTKEYS takes.
var Listable = command.Listable{Count: 10, Most: MaxRows, By: []string{"commands", "reads", "writes", "bytes"}}

// Part is what one thread knows, for [Join].
type Part struct {
	seconds float64 // that it covers
	all     counts
	keys    map[id]*found
}

// id names a key, whichever thread has seen it. Equal hashes of different keys are not expected.
type id struct {
	hash uint64
	db   uint16
	size int
}

// found is a key that stands out, in one window or in several.
type found struct {
	key Key
	counts
	node string
	by   []user
}

// Part returns what the thread knows at the time now. It shares nothing with the tracker.
func (t *Tracker) Part(now int64) Part {
	p := Part{keys: map[id]*found{}}
	if t.now == nil {
		return p
	}
	t.turn(now)
	since := max(t.before.began, t.started)
	p.seconds = max(time.Duration(now-since), time.Second).Seconds()
	for _, w := range []*window{t.before, t.now} { // the node that answered last is the later one's
		p.all.add(w.all)
		for k, f := range w.found() {
			p.take(k, f)
		}
	}
	return p
}

// found returns the keys of a window that stand out.
func (w *window) found() map[id]*found {
	all := map[id]*found{}
	for _, t := range []*table{&w.accesses, &w.bytes} {
		for i := range t.sets {
			for j := range t.sets[i] {
				e := &t.sets[i][j]
				isHot := (e.reads+e.writes)*shownFrom >= w.all.accesses() || e.bytes*shownFrom >= w.all.bytes
				// A key that is in both tables counts as in the one where it has been for longer.
				k := id{e.hash, e.db, e.size}
				if f := all[k]; e.weight > 0 && isHot && (f == nil || f.accesses() < e.accesses()) {
					all[k] = &found{e.Key, e.counts, e.node, slices.Clone(e.by[:])}
				}
			}
		}
	}
	return all
}

func (c *counts) accesses() uint64 { return c.reads + c.writes }

// take adds what another window or thread knows of a key.
func (p *Part) take(k id, o *found) {
	f := p.keys[k]
	if f == nil {
		p.keys[k] = o
		return
	}
	f.add(o.counts)
	f.node = o.node
	for _, u := range o.by {
		if i := slices.IndexFunc(f.by, func(v user) bool { return v.ID == u.ID }); i >= 0 {
			f.by[i].times += u.times
			f.by[i].Client = u.Client
		} else {
			f.by = append(f.by, u)
		}
	}
}

// Join returns at most count keys out of the parts of all threads, the hottest first.
func Join(parts []Part, by By, count int) []Row {
	all := Part{keys: map[id]*found{}}
	for _, p := range parts {
		all.seconds = max(all.seconds, p.seconds)
		all.all.add(p.all)
		for k, f := range p.keys {
			all.take(k, f)
		}
	}
	rows := make([]Row, 0, len(all.keys))
	for _, f := range all.keys {
		if r := all.row(f); r.order(by) > 0 {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.order(by), a.order(by)), cmp.Compare(a.Key, b.Key), cmp.Compare(a.DB, b.DB))
	})
	return rows[:min(len(rows), count)]
}

func (r *Row) order(by By) float64 {
	switch by {
	case ByReads:
		return r.Reads
	case ByWrites:
		return r.Writes
	case ByBytes:
		return r.Bytes
	}
	return r.Reads + r.Writes
}

func (p *Part) row(f *found) Row {
	r := Row{
		Key: f.key.Name(), DB: f.key.db, Node: f.node,
		Reads: float64(f.reads) / p.seconds, Writes: float64(f.writes) / p.seconds, Bytes: float64(f.bytes) / p.seconds,
		Share: float64(f.accesses()) / float64(p.all.accesses()),
	}
	if p.all.bytes > 0 {
		r.ByBytes = float64(f.bytes) / float64(p.all.bytes)
	}
	top := slices.MaxFunc(f.by, func(a, b user) int { return cmp.Compare(a.times, b.times) })
	if top.times > 0 {
		r.Client, r.ByClient = top.Client, float64(top.times)/float64(f.accesses())
	}
	return r
}

// ForJSON returns rows whose keys and names are [resp.Text].
func ForJSON(rows []Row) []Row {
	shown := make([]Row, len(rows))
	for i, r := range rows {
		r.Key, r.Name = resp.Text([]byte(r.Key)), resp.Text([]byte(r.Name))
		shown[i] = r
	}
	return shown
}

// AppendRows appends rows as a reply: an array with a map for each.
func AppendRows(dst []byte, v resp.Version, rows []Row) []byte {
	dst = resp.AppendArray(dst, len(rows))
	for _, r := range rows {
		dst = v.AppendMap(dst, 12)
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, "key"), r.Key)
		dst = resp.AppendInt(resp.AppendBulkString(dst, "db"), int64(r.DB))
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, "node"), r.Node)
		for _, f := range []struct {
			name   string
			value  float64
			digits int
		}{
			{"reads-per-second", r.Reads, 1}, {"writes-per-second", r.Writes, 1}, {"bytes-per-second", r.Bytes, 0},
			{"share", r.Share, 4}, {"share-of-bytes", r.ByBytes, 4}, {"share-of-client", r.ByClient, 4},
		} {
			number := strconv.FormatFloat(f.value, 'f', f.digits, 64)
			dst = v.AppendDouble(resp.AppendBulkString(dst, f.name), number)
		}
		dst = AppendClient(dst, r.Client)
	}
	return dst
}

// AppendClient appends the three fields of a map that describe a client.
func AppendClient(dst []byte, c Client) []byte {
	dst = resp.AppendInt(resp.AppendBulkString(dst, "client-id"), int64(c.ID))
	dst = resp.AppendBulkString(resp.AppendBulkString(dst, "client"), c.Addr)
	return resp.AppendBulkString(resp.AppendBulkString(dst, "client-name"), c.Name)
}
