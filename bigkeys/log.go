package bigkeys

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/resp"
)

const (
	latest  = 64 // keys that a log keeps because they were seen last
	largest = 64 // keys that it keeps besides, because they have the most bytes
)

// Kind says where a large value was seen.
type Kind string

const (
	Value Kind = "value" // a client has written it
	Reply Kind = "reply" // a client has read it
)

// Sighting is a large value that has passed.
type Sighting struct {
	hotkeys.Key
	Kind    Kind
	Bytes   int
	Command *command.Command
	Node    string
	Client  hotkeys.Client
	At      time.Time
}

// Log keeps what was seen of large values, the last sighting for each key: the latest, and the largest besides. The
// zero value is empty, and takes no memory.
type Log struct {
	seen  []logged
	count uint64 // of sightings
}

// logged is the last sighting of a key.
type logged struct {
	Sighting
	nth   uint64 // of all sightings
	times uint64 // that the key was seen
}

// Record adds a sighting.
func (l *Log) Record(s *Sighting) {
	l.count++
	e := logged{Sighting: *s, nth: l.count, times: 1}
	if i := slices.IndexFunc(l.seen, func(o logged) bool { return o.Key.Same(&s.Key) }); i >= 0 {
		e.times += l.seen[i].times
		l.seen[i] = e
		return
	}
	if len(l.seen) < latest+largest {
		l.seen = append(l.seen, e)
		return
	}
	l.seen[l.smallest()] = e
}

// smallest returns the place of the key with the fewest bytes that is not among the latest ones.
func (l *Log) smallest() int {
	slices.SortFunc(l.seen, func(a, b logged) int { return cmp.Compare(b.nth, a.nth) })
	smallest := latest
	for i := latest; i < len(l.seen); i++ {
		if l.seen[i].Bytes < l.seen[smallest].Bytes {
			smallest = i
		}
	}
	return smallest
}

// MaxRows bounds the rows of an answer.
const MaxRows = 1000

// Listable says which options KEYWAY BIGKEYS takes.
var Listable = command.Listable{Count: 100, Most: MaxRows}

// Row is a key with a large value as operators see it.
type Row struct {
	Key     string `json:"key"` // see [resp.Text]
	DB      uint16 `json:"db"`
	Node    string `json:"node"`
	Bytes   int    `json:"bytes"` // when it was seen last
	Kind    Kind   `json:"kind"`
	Command string `json:"command"`
	hotkeys.Client
	Time  time.Time `json:"time"`  // when it was seen last
	Times uint64    `json:"times"` // that it was seen
	key   hotkeys.Key
}

// Rows returns a copy of what the log has.
func (l *Log) Rows() []Row {
	rows := make([]Row, 0, len(l.seen))
	for i := range l.seen {
		e := &l.seen[i]
		rows = append(rows, Row{Key: e.Name(), DB: e.DB(), Node: e.Node, Bytes: e.Bytes, Kind: e.Kind,
			Command: e.Command.Upper(), Client: e.Client, Time: e.At, Times: e.times, key: e.Key})
	}
	return rows
}

// Join returns at most count rows out of those of all threads, the largest first.
func Join(parts [][]Row, count int) []Row {
	var all []Row
	for _, r := range slices.Concat(parts...) {
		i := slices.IndexFunc(all, func(o Row) bool { return o.key.Same(&r.key) })
		if i < 0 {
			all = append(all, r)
			continue
		}
		times := all[i].Times + r.Times
		if r.Time.After(all[i].Time) {
			all[i] = r
		}
		all[i].Times = times
	}
	slices.SortFunc(all, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.Bytes, a.Bytes), b.Time.Compare(a.Time), cmp.Compare(a.Key, b.Key))
	})
	return all[:min(len(all), count)]
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
		dst = v.AppendMap(dst, 11)
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, "key"), r.Key)
		dst = resp.AppendInt(resp.AppendBulkString(dst, "db"), int64(r.DB))
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, "node"), r.Node)
		dst = resp.AppendInt(resp.AppendBulkString(dst, "bytes"), int64(r.Bytes))
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, "kind"), string(r.Kind))
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, "command"), r.Command)
		dst = hotkeys.AppendClient(dst, r.Client)
		dst = resp.AppendInt(resp.AppendBulkString(dst, "unix-time"), r.Time.Unix())
		dst = resp.AppendInt(resp.AppendBulkString(dst, "times"), int64(r.Times))
	}
	return dst
}
