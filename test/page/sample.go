package page

import (
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/bigkeys"
	"github.com/keyway-proxy/keyway/clients"
	"github.com/keyway-proxy/keyway/hotkeys"
	"github.com/keyway-proxy/keyway/locks"
	"github.com/keyway-proxy/keyway/overview"
	"github.com/keyway-proxy/keyway/page"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slowlog"
)

// Hostile are texts that a page must show and not obey: as keys, names of clients and arguments.
var Hostile = []string{
	`</script><script>document.title='owned'</script>`, `'"><img src=x onerror="document.title='owned'">`,
	"\x00\x1b[31mred\x07\r\n", "\xff\xfe not UTF-8 \xc3", "right\u202eto left", "{{.}}${x}`",
	"a key that is long: " + string(make([]byte, 4096)),
}

// Sample is a pool that nobody runs. Its figures change when Change is called.
type Sample struct {
	mu    sync.Mutex
	state overview.State
	table *router.Table
}

// NewSample returns a pool of count nodes, each of which has a part of the slots.
func NewSample(count int, table *router.Table) *Sample {
	now := time.Date(2026, 11, 28, 14, 30, 0, 0, time.UTC)
	s := &Sample{table: table, state: overview.State{Time: now, Version: "1.4.0", Instance: "kw-1", Layout: table.Name,
		Epoch: 3, Uptime: 266_000, Listen: []string{"10.0.0.4:6380"},
		Now: overview.Figures{Clients: 1284, Commands: 48_210, Errors: 0.4, P50: 0.00031, P99: 0.0019, P999: 0.0112,
			BytesIn: 6.4e6, BytesOut: 31e6, Memory: 412 << 20, MemoryLimit: 2 << 30, InFlight: 57, Busy: 0.435},
		Errors: []overview.ErrorClass{{Class: "not_executed", PerSecond: 0.2, Total: 312}, {Class: "unknown",
			Total: 4}},
		Keyways: []overview.Keyway{{Instance: "kw-1", Version: "1.4.0", Host: "10.0.0.4", Self: true, Agrees: true},
			{Instance: "kw-2", Version: "1.4.0", Host: "10.0.0.5", Agrees: true}},
		Commands: []overview.Command{
			{Name: "get", Calls: 39_100, P50: 0.00028, P99: 0.0017, Total: 7_812_334_120},
			{Name: "set", Calls: 8_904, Errors: 0.2, P50: 0.00033, P99: 0.0021, Total: 1_733_218_002, Failed: 316},
			{Name: "hgetall", Calls: 201, P50: 0.0006, P99: 0.0044, Total: 40_331_909},
			{Name: "keys", Calls: 0.2, P50: 0.18, P99: 0.21, Total: 41, Client: "10.0.2.31:60110", ClientID: 105,
				ClientName: "report"}},
		Users: []overview.User{
			{Name: "checkout", Clients: 1204, Waiting: 3, Commands: 41_200, Errors: 0.1, P50: 0.0003, P99: 0.0018,
				Total: 8_120_334_120, Failed: 92},
			{Name: "report", Clients: 63, Commands: 6_998, Errors: 0.3, P50: 0.00035, P99: 0.0024, Total: 1_465_550_070,
				Failed: 228},
			{Name: "other users", Clients: 17, Commands: 12, P50: 0.0003, P99: 0.0019, Total: 41_009}},
		Threads: []overview.Thread{{Index: 0, Busy: 0.41, Clients: 640, Commands: 24_010},
			{Index: 1, Busy: 0.435, Clients: 644, Commands: 24_200}},
		Events: []overview.Event{
			{Time: now.Add(-5 * time.Minute), Kind: "config", Text: "the configuration was reloaded",
				Fields: []string{"timeouts.request: 2s -> 1s", "limits.value: 8mb -> 16mb"}},
			{Time: now.Add(-26 * time.Hour), Kind: "node", Text: "node-1 cannot be reached", Bad: true,
				Fields: []string{"reason=connect: connection refused"}},
		}}}
	shares := table.Shares()
	for i := range count {
		n := overview.Node{Name: fmt.Sprintf("node-%d", i), Addr: fmt.Sprintf("10.0.1.%d:%d", i%250+1, 6379+i/250),
			Role: overview.Master, State: overview.Ready, Since: now.Add(-time.Hour * time.Duration(40+i)),
			InFlight: i % 7, Commands: 16_000 + float64(i*37), P50: 0.00021, P99: 0.0014 + float64(i%5)*0.0001}
		n.Version, n.Memory = "7.4.2", int64(i+4)<<28
		if i < len(shares) {
			n.Share = shares[i]
		}
		s.state.Nodes = append(s.state.Nodes, n)
	}
	s.history()
	return s
}

// history makes fifteen minutes of figures that look like those of a working day.
func (s *Sample) history() {
	h := &s.state.History
	h.Time, h.Step = s.state.Time, 1
	for i := range 900 {
		wave := math.Sin(float64(i)/140) + 0.3*math.Sin(float64(i)/17) + 0.12*math.Sin(float64(i*i%977))
		h.Commands = append(h.Commands, float32(46_000+4_000*wave))
		h.P50 = append(h.P50, float32(0.0003+0.00002*wave))
		h.P99 = append(h.P99, float32(0.0018+0.0003*wave*wave))
		h.Clients = append(h.Clients, int32(1270+12*wave))
		h.Memory = append(h.Memory, int64(400+8*wave)<<20)
		h.Errors = append(h.Errors, 0)
		h.Busy = append(h.Busy, float32(0.43+0.03*wave))
	}
	for i := 610; i < 640; i++ {
		h.Errors[i], h.P99[i] = float32(i%7), 0.006
	}
}

// Change changes the figures.
func (s *Sample) Change(how func(*overview.State)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	how(&s.state)
}

// Replace puts another layout in force.
func (s *Sample) Replace(t *router.Table) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.table = t
}

// Source returns what a page asks.
func (s *Sample) Source() page.Source {
	at := s.state.Time
	return page.Source{
		State: func() overview.State {
			s.mu.Lock()
			defer s.mu.Unlock()
			state := s.state
			state.Nodes = slices.Clone(state.Nodes)
			return state
		},
		Table: func() *router.Table {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.table
		},
		HotKeys: func(context.Context, int) ([]hotkeys.Row, error) {
			keys := []hotkeys.Row{{Key: "cart:{42}", Node: "node-1", Reads: 8120, Writes: 1400, Bytes: 9.1e6,
				Share:  0.197,
				Client: hotkeys.Client{Addr: "10.0.2.17:51022", Name: "checkout"}},
				{Key: "flags", Node: "node-0", Reads: 2410, Bytes: 7.7e5, Share: 0.05}}
			for _, text := range Hostile {
				keys = append(keys, hotkeys.Row{Key: text, Node: "node-2", Reads: 510, Bytes: 1e4, Share: 0.0106,
					Client: hotkeys.Client{Addr: text, Name: text}})
			}
			return keys, nil
		},
		BigKeys: func(context.Context, int) ([]bigkeys.Row, error) {
			return []bigkeys.Row{{Key: "export:2026-11", Kind: "reply", Command: "hgetall",
				Client: hotkeys.Client{Addr: "10.0.2.9:40112"}, Bytes: 38 << 20, Time: at.Add(-90 * time.Second)}}, nil
		},
		Slow: func(context.Context, int) ([]slowlog.Row, error) {
			return []slowlog.Row{{Time: at.Add(-12 * time.Second), Duration: 212_000, Queue: 90,
				Node: "node-1", Args: []string{"KEYS", "session:*"}, Client: "10.0.2.31:60110", Name: "report"}}, nil
		},
		Clients: s.clients,
		Orders: &page.Orders{
			HasToken: func() bool { return true }, HasUsers: func() bool { return false },
			Level: func() string { return "info" },
		},
		Subscriptions: func(context.Context, int) ([]clients.Topic, error) {
			return []clients.Topic{{Name: "news", Kind: "channel", Clients: 31}, {Name: "a*", Kind: "pattern",
				Clients: 1}}, nil
		},
		Locks: func(context.Context, int) ([]locks.Row, error) {
			return []locks.Row{{Key: "lock:invoice", State: "held", Library: "redlock-py", Addr: "10.0.2.8:40001",
				Name: "worker-3", Node: "node-2", Held: 1800, Lease: 8200, Pollers: 2}}, nil
		},
	}
}

// clients lists some clients, one of which runs KEYS.
func (s *Sample) clients(context.Context, clients.Query) (all []clients.Row, err error) {
	for i := range 12 {
		c := clients.Row{ID: uint64(100 + i), Addr: fmt.Sprintf("10.0.2.%d:%d", 8+i, 40_000+i*7), User: "default",
			Name: fmt.Sprintf("worker-%d", i), Lib: "go-redis 9.23.0", Age: float64(3600 * (i + 1)),
			Idle: float64(i), LastCommand: "get", Commands: uint64(1_000_000 / (i + 1)),
			BytesIn: uint64(64 << (20 - i)), BytesOut: uint64(256 << (20 - i)), Memory: 21_000 + i*100}
		if i == 5 {
			c.Name, c.LastCommand, c.Lib = "report", "keys", "redis-py 6.1"
		}
		all = append(all, c)
	}
	for _, text := range Hostile {
		all = append(all, clients.Row{Addr: text, Name: text, User: text, Lib: text, LastCommand: text,
			Flags: text})
	}
	return all, nil
}

// Tame is Source without what is there to attack the page.
func (s *Sample) Tame() page.Source {
	of := s.Source()
	hot, connected := of.HotKeys, of.Clients
	of.HotKeys = func(ctx context.Context, count int) ([]hotkeys.Row, error) {
		all, err := hot(ctx, count)
		return all[:len(all)-len(Hostile)], err
	}
	of.Clients = func(ctx context.Context, q clients.Query) ([]clients.Row, error) {
		all, err := connected(ctx, q)
		return all[:len(all)-len(Hostile)], err
	}
	return of
}
