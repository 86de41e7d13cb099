package topology

import (
	"cmp"
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
)

const (
	migrationInterval = 2 * time.Second
	// maxMigrationAsked bounds how many masters are asked at once. Each answers with a line for each node.
	maxMigrationAsked = 8
	// wanted is how long the nodes are asked after somebody has looked.
	wanted = 10 * time.Second
)

// Migration is a slot that a cluster is moving from one node to another.
type Migration struct {
	Slot uint16 `json:"slot"`
	From string `json:"from"` // the addresses of the nodes, or their IDs if those are not known
	To   string `json:"to"`
}

// Migrations knows which slots a cluster is moving. Only the two nodes of a migration know of it, so it asks the
// masters, some at a time, while somebody wants to know.
type Migrations struct {
	as      Accounts
	timeout time.Duration
	table   func() *router.Table

	mu     sync.Mutex
	looked time.Time              // when somebody wanted to know last
	found  map[string][]Migration // by the address of the master that has said so
	next   int                    // the place of the master that is asked next
}

// NewMigrations returns Migrations that ask nothing before Run is called. For timeout see Inspect.
func NewMigrations(as Accounts, timeout time.Duration, table func() *router.Table) *Migrations {
	return &Migrations{as: as, timeout: timeout, table: table, found: map[string][]Migration{}}
}

// Slots returns the slots that the masters have said to be on their way, in order. It asks nobody.
func (m *Migrations) Slots() (all []Migration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.looked = time.Now()
	for _, of := range m.found {
		all = append(all, of...)
	}
	slices.SortFunc(all, func(a, b Migration) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), strings.Compare(a.From+a.To, b.From+b.To))
	})
	return slices.Compact(all) // both nodes say the same
}

// Run asks the masters until ctx ends. Those of another layout than a cluster's move no slots.
func (m *Migrations) Run(ctx context.Context) {
	ticker := time.NewTicker(migrationInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			m.look(ctx)
		}
	}
}

// look asks the next masters.
func (m *Migrations) look(ctx context.Context) {
	t := m.table()
	masters := t.Owners()
	m.mu.Lock()
	isWanted := t.Clustered() && len(masters) > 0 && time.Since(m.looked) < wanted
	if !isWanted {
		clear(m.found) // what nobody asks for any more is out of date
		m.mu.Unlock()
		return
	}
	var asked []router.Node
	for range min(maxMigrationAsked, len(masters)) {
		asked = append(asked, t.Nodes[masters[m.next%len(masters)]])
		m.next++
	}
	m.mu.Unlock()
	var all sync.WaitGroup
	for _, n := range asked {
		all.Go(func() {
			of := m.ask(ctx, n)
			for i := range of {
				of[i].From, of[i].To = known(t, of[i].From), known(t, of[i].To)
			}
			m.mu.Lock()
			defer m.mu.Unlock()
			if m.found[n.Addr] = of; len(of) == 0 {
				delete(m.found, n.Addr)
			}
		})
	}
	all.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for addr := range m.found {
		if id, ok := t.ByAddr(addr); !ok || !t.Nodes[id].Master {
			delete(m.found, addr)
		}
	}
}

// known returns the address by which a table knows a node that may have several.
func known(t *router.Table, addr string) string {
	if id, ok := t.ByAddr(addr); ok {
		return t.Nodes[id].Addr
	}
	return addr
}

// ask asks a node. A node that does not answer moves no slots, as far as anybody knows.
func (m *Migrations) ask(ctx context.Context, n router.Node) []Migration {
	ctx, cancel := context.WithTimeout(ctx, questions*max(m.timeout, askTimeout))
	defer cancel()
	c := NewClient(n.Addr, m.as(n), m.timeout)
	defer c.Close()
	list, err := c.ClusterNodes(ctx).Result()
	if err != nil {
		return nil
	}
	return migrationsIn(list, n.Addr)
}

// migrationsIn returns the slots that a node moves, by its reply to CLUSTER NODES. from is its address.
func migrationsIn(list, from string) (all []Migration) {
	addrs, own := map[string]string{}, []string(nil)
	for line := range strings.Lines(list) {
		fields := strings.Fields(line) // ID, address, flags, master, ping, pong, epoch, link, slots
		if len(fields) < 8 {
			continue
		}
		addr, _, _ := strings.Cut(fields[1], ",")
		if addr, _, _ = strings.Cut(addr, "@"); strings.HasPrefix(addr, ":") {
			addr = from
		}
		addrs[fields[0]] = addr
		if slices.Contains(strings.Split(fields[2], ","), "myself") {
			own = fields[8:]
		}
	}
	for _, text := range own {
		text, isBracketed := strings.CutPrefix(text, "[")
		text = strings.TrimSuffix(text, "]")
		slot, peer, isLeaving := strings.Cut(text, "->-")
		if !isLeaving {
			slot, peer, _ = strings.Cut(text, "-<-")
		}
		n, err := strconv.ParseUint(slot, 10, 16)
		if !isBracketed || err != nil || n >= slots.Count || peer == "" {
			continue
		}
		of := Migration{Slot: uint16(n), From: from, To: cmp.Or(addrs[peer], peer)}
		if !isLeaving {
			of.From, of.To = of.To, of.From
		}
		all = append(all, of)
	}
	return all
}
