package page

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/slowlog"
)

// maxRows is how many rows the lists have whose length clients decide.
const maxRows = 100

// view is what the templates show.
type view struct {
	*overview.State
	Pools    []string // to choose from; empty: there are no others
	Tiles    []Tile
	Nodes    *Sheet
	Lists    []*Sheet // by the order of the page
	Picture  *Picture
	Where    *Where
	Progress *Progress
	orders   *Orders
}

// Tile is a figure of the whole pool.
type Tile struct {
	Name, Value string
	Details     []string
	Bars        []Bar
	Spark       *Spark // nil: there is none
	SparkOf     string
}

// Bar is a part of a tile that is a share of something.
type Bar struct {
	Name, Text string
	Percent    int
}

// maxThreads is how many threads have a bar.
const maxThreads = 16

// busyTile says how busy the threads are.
func busyTile(s *overview.State) Tile {
	of := sparkOf(s.History.Busy, percent)
	tile := Tile{Name: "Busiest thread", Value: percent(s.Now.Busy), Spark: &of, SparkOf: "busy share"}
	for _, t := range s.Threads[:min(len(s.Threads), maxThreads)] {
		tile.Bars = append(tile.Bars, Bar{fmt.Sprintf("thread %d", t.Index), percent(t.Busy), int(100*t.Busy + 0.5)})
	}
	if more := len(s.Threads) - maxThreads; more > 0 {
		tile.Details = []string{fmt.Sprintf("and %d more", more)}
	}
	return tile
}

// Progress is a change of the layout that is under way.
type Progress struct {
	From, To, State string
	Epoch           int64
	Facts           []string
	Waits           bool
	IsPlanned       bool // it has not begun
	Commands        []Order
}

// figures returns what the page shows that costs nothing to ask for.
func (s *Source) figures() *view {
	state := s.State()
	return &view{State: &state, Tiles: tilesOf(&state), Nodes: nodesSheet(&state), orders: s.Orders,
		Progress: progressOf(state.Switch, s.Orders != nil)}
}

// lists asks the threads for what the page lists besides.
func (s *Source) lists(ctx context.Context, state *overview.State) (all []*Sheet) {
	ctx, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	now := state.Time
	for _, sheet := range []*Sheet{
		list(ctx, s.HotKeys, hotSheet),
		list(ctx, s.BigKeys, func(all []bigkeys.Row) *Sheet { return bigSheet(all, now) }),
		list(ctx, s.Slow, func(all []slowlog.Row) *Sheet { return slowSheet(all, now) }),
		s.clientsSheet(ctx, state, clients.Query{Sort: "commands"}),
		usersSheet(state),
		list(ctx, s.Subscriptions, subscriptionsSheet),
		list(ctx, s.Locks, locksSheet),
		commandsSheet(state),
		keywaysSheet(state),
	} {
		if sheet != nil {
			all = append(all, sheet)
		}
	}
	return all
}

// list asks for the rows of a sheet. It returns nil if there is nobody to ask.
func list[R any](ctx context.Context, ask func(context.Context, int) ([]R, error), sheetOf func([]R) *Sheet) *Sheet {
	if ask == nil {
		return nil
	}
	rows, err := ask(ctx, maxRows+1)
	sheet := sheetOf(rows[:min(len(rows), maxRows)])
	sheet.IsCut = len(rows) > maxRows
	if err != nil {
		sheet.Empty = "This cannot be read: " + shown(err.Error())
	}
	return sheet
}

// clientsSheet returns the first clients, as q says. It returns nil if there is nobody to ask.
func (s *Source) clientsSheet(ctx context.Context, state *overview.State, q clients.Query) *Sheet {
	if s.Clients == nil {
		return nil
	}
	ask := func(ctx context.Context, count int) ([]clients.Row, error) {
		q.Count = count
		return s.Clients(ctx, q)
	}
	return list(ctx, ask, func(all []clients.Row) *Sheet {
		sheet := clientsSheet(all, state.Now.Clients, s.Orders != nil)
		sheet.From = strings.TrimPrefix(ClientsPath, "/") // relative, as keyway may be behind a proxy
		if state.Pool != "" {
			sheet.From += "?pool=" + url.QueryEscape(state.Pool)
		}
		return sheet
	})
}

// tilesOf returns the figures of the whole pool.
func tilesOf(s *overview.State) []Tile {
	now, past := s.Now, s.History
	spark := func(of Spark) *Spark { return &of }
	memory := Tile{Name: "Memory", Value: size(float64(now.Memory)), SparkOf: "memory",
		Spark: spark(sparkOf(past.Memory, size))}
	if now.MemoryLimit > 0 {
		memory.Details = []string{fmt.Sprintf("%s of %s",
			percent(float64(now.Memory)/float64(now.MemoryLimit)), size(float64(now.MemoryLimit)))}
	}
	commands := Tile{Name: "Commands/s", Value: number(now.Commands), SparkOf: "commands per second",
		Details: []string{size(now.BytesIn) + "/s in", size(now.BytesOut) + "/s out"},
		Spark:   spark(sparkOf(past.Commands, number))}
	if hot := now.NearHits + now.NearMisses; hot > 0 {
		commands.Details = append(commands.Details, fmt.Sprintf("%s/s by near_cache, %s of the GETs of hot keys",
			number(now.NearHits), percent(now.NearHits/hot)))
	}
	tiles := []Tile{
		commands,
		{Name: "Latency, p99", Value: latency(now.P99), SparkOf: "latency",
			Details: []string{"p50 " + latency(now.P50), "p99.9 " + latency(now.P999)},
			Spark:   spark(sparkOf(past.P99, latency))},
		{Name: "Errors/s", Value: number(now.Errors), SparkOf: "errors per second",
			Details: errorWords(s.Errors), Spark: spark(sparkOf(past.Errors, number))},
		{Name: "Clients", Value: number(float64(now.Clients)), SparkOf: "clients",
			Details: []string{counted(now.InFlight, "request") + " in flight"},
			Spark:   spark(sparkOf(past.Clients, number))},
		memory, busyTile(s),
	}
	return tiles
}

// errorWords says how often which class of error occurred.
func errorWords(classes []overview.ErrorClass) (words []string) {
	for _, c := range classes {
		if c.Total > 0 {
			words = append(words, fmt.Sprintf("%s: %s/s, %s in all",
				shown(strings.ReplaceAll(c.Class, "_", " ")), number(c.PerSecond), number(float64(c.Total))))
		}
	}
	return words
}

// progressOf describes a change of the layout. acts says whether the page can steer it.
func progressOf(s *overview.Switch, acts bool) *Progress {
	if s == nil {
		return nil
	}
	p := &Progress{From: shown(s.From), To: shown(s.To), State: shown(s.State), Epoch: s.Epoch, Waits: s.Waits,
		IsPlanned: s.IsPlanned, Commands: steering(s, acts)}
	if s.IsPlanned {
		p.Facts = []string{"it begins when all keyways are prepared"}
		return p
	}
	left := "it is not known how many keys are left"
	if s.Left != nil {
		if left = "about " + number(float64(*s.Left)) + " keys left"; s.Rate != nil && *s.Rate > 0 {
			left += fmt.Sprintf(", %s keys in a second: %s more", number(float64(*s.Rate)),
				span(time.Duration(*s.Left/int64(*s.Rate))*time.Second))
		}
	}
	p.Facts = append(p.Facts, left)
	if s.Pace != "" {
		pace := "pace: " + sentence(s.Pace)
		if s.PaceBy != "" {
			pace += ", said by " + shown(s.PaceBy)
		}
		p.Facts = append(p.Facts, pace)
	}
	if s.Moved > 0 {
		p.Facts = append(p.Facts, "this keyway has moved "+number(float64(s.Moved)))
	}
	if s.Conflicts > 0 {
		p.Facts = append(p.Facts, counted(int(s.Conflicts), "key")+" with different values on two nodes")
	}
	return p
}

// Facts are what the page says about the pool at its top.
func (v *view) Facts() []string {
	layout := v.Layout
	if v.Cluster {
		layout = "Redis Cluster"
	} else if layout != "" {
		layout += " layout"
	}
	facts := []string{shown(layout), counted(len(v.State.Nodes), "node")}
	if v.Epoch > 0 {
		facts = append(facts, fmt.Sprintf("epoch %d", v.Epoch))
	}
	if len(v.Listen) > 0 {
		facts = append(facts, "listens on "+sentence(strings.Join(v.Listen, ", ")))
	}
	return append(facts, "up "+span(time.Duration(v.Uptime*float64(time.Second))),
		"keyway "+shown(cmp.Or(v.Version, "of unknown version")), shown(v.Instance))
}

// AsOf is the time of the figures.
func (v *view) AsOf() string { return v.Time.Format("15:04:05 MST") }

// Severe counts the problems from which clients get errors.
func (v *view) Severe() (n int) {
	for _, p := range v.Problems {
		if p.Severity == overview.Bad {
			n++
		}
	}
	return n
}

// Groups are the problems, those of one kind together.
func (v *view) Groups() []overview.Group { return overview.Groups(v.Problems) }

// Happening is an event as the page shows it.
type Happening struct {
	At, Full   string
	Kind, Text string
	Details    []string
	Bad        bool
	Ago        string
}

// Happenings are the last events.
func (v *view) Happenings() (all []Happening) {
	for _, e := range v.Events {
		h := Happening{At: clock(e.Time, v.Time), Full: e.Time.Format(time.RFC3339), Kind: shown(e.Kind),
			Text: sentence(e.Text), Bad: e.Bad, Ago: ago(e.Time, v.Time)}
		for _, f := range e.Fields {
			h.Details = append(h.Details, sentence(f))
		}
		all = append(all, h)
	}
	return all
}
