package clients

import (
	"maps"
	"slices"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// Row is a client as operators see it. Texts are as in [resp.Text].
type Row struct {
	ID            uint64  `json:"id"`
	Addr          string  `json:"addr"`
	Name          string  `json:"name"`
	User          string  `json:"user"`
	Lib           string  `json:"lib"` // and its version
	Age           float64 `json:"age_seconds"`
	Idle          float64 `json:"idle_seconds"`
	DB            int     `json:"db"`
	Flags         string  `json:"flags"` // as in CLIENT LIST
	LastCommand   string  `json:"last_command"`
	Commands      uint64  `json:"commands"`
	BytesIn       uint64  `json:"bytes_in"`
	BytesOut      uint64  `json:"bytes_out"`
	Memory        int     `json:"memory_bytes"`
	Subscriptions int     `json:"subscriptions"`
	Blocked       bool    `json:"blocked"` // inside a blocking command or WAIT

	key Key
}

// Row returns the client's row for a query. isBlocked says that it is inside a blocking command or WAIT.
func (c *Client) Row(q Query, isBlocked bool) Row {
	lib := c.LibName
	if c.LibVersion != "" {
		lib += " " + c.LibVersion
	}
	return Row{
		ID: c.ID, Addr: c.Addr, Name: resp.Text([]byte(c.Name)), User: resp.Text([]byte(c.User)), Lib: lib,
		Age: c.Age.Seconds(), Idle: c.Idle.Seconds(), DB: int(c.DB), Flags: c.Flags, LastCommand: c.Command,
		Commands: c.Commands, BytesIn: c.BytesIn, BytesOut: c.BytesOut, Memory: c.Memory,
		Subscriptions: c.Channels + c.Patterns + c.ShardChannels, Blocked: isBlocked,
		key: q.Key(c),
	}
}

// columns have where a client comes by a column.
var columns = map[string]func(c *Client) Key{
	"id":            func(c *Client) Key { return Key{Number: float64(c.ID)} },
	"addr":          func(c *Client) Key { return Key{Text: c.Addr} },
	"name":          func(c *Client) Key { return Key{Text: c.Name} },
	"user":          func(c *Client) Key { return Key{Text: c.User} },
	"lib":           func(c *Client) Key { return Key{Text: c.LibName} },
	"age":           func(c *Client) Key { return Key{Number: float64(c.Age)} },
	"idle":          func(c *Client) Key { return Key{Number: float64(c.Idle)} },
	"db":            func(c *Client) Key { return Key{Number: float64(c.DB)} },
	"flags":         func(c *Client) Key { return Key{Text: c.Flags} },
	"last_command":  func(c *Client) Key { return Key{Text: c.Command} },
	"commands":      func(c *Client) Key { return Key{Number: float64(c.Commands)} },
	"bytes_in":      func(c *Client) Key { return Key{Number: float64(c.BytesIn)} },
	"bytes_out":     func(c *Client) Key { return Key{Number: float64(c.BytesOut)} },
	"memory":        func(c *Client) Key { return Key{Number: float64(c.Memory)} },
	"subscriptions": func(c *Client) Key { return Key{Number: float64(c.Channels + c.Patterns + c.ShardChannels)} },
}

// Columns returns the names by which rows can be sorted.
func Columns() []string { return slices.Sorted(maps.Keys(columns)) }

// MaxRows bounds the rows of an answer to KEYWAY CLIENTS.
const MaxRows = 10_000

// Listable says which options KEYWAY CLIENTS takes. BY names a column.
var Listable = command.Listable{Count: 100, Most: MaxRows, By: names()}

// names returns the columns as KEYWAY writes names, that of the usual order first.
func names() []string {
	all := []string{"commands"}
	for _, column := range Columns() {
		if column != all[0] {
			all = append(all, strings.ReplaceAll(column, "_", "-"))
		}
	}
	return all
}

// QueryOf returns what the options of KEYWAY CLIENTS select.
func QueryOf(l command.Listing) Query {
	return Query{Sort: strings.ReplaceAll(l.By, "-", "_"), Count: l.Count}
}

// Query selects rows.
type Query struct {
	Sort  string // one of Columns
	Count int    // rows at most, above 0
	// IsReversed puts small numbers, and texts from the end of the alphabet, first.
	IsReversed bool
}

// Key returns where a client comes.
func (q Query) Key(c *Client) Key {
	k := columns[q.Sort](c)
	k.ID, k.IsReversed = c.ID, q.IsReversed
	return k
}

// JoinRows joins the rows of several threads.
func JoinRows(threads [][]Row, count int) []Row {
	top := NewTop[Row](count)
	for _, rows := range threads {
		for _, r := range rows {
			top.Add(r.key, r)
		}
	}
	return top.First()
}
