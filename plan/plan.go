package plan

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/topology"
)

// Side is one of the two configurations.
type Side struct {
	Table    *router.Table     // of a cluster or sentinels: a fetched one
	HashTag  string            // two characters; empty: none
	Accounts topology.Accounts // those of the nodes
	Connect  time.Duration     // the longest time that a connection may take
	Reply    time.Duration     // the longest wait for one reply
	Cluster  string            // the name of the cluster, for people
}

// Options say how to look at the nodes.
type Options struct {
	Count  bool     // look at every key, not at a sample
	Accept []string // checks of Acceptable whose findings do not make the plan unready
	Asked  *Asked   // what running keyways have said; nil: none was asked
	// BigOver is the size from which keys are listed as big: they stall both nodes while they move. 0: 32 MB.
	BigOver int64
	// RefuseBig looks at every key, and makes a plan that would move a big one unready.
	RefuseBig bool
	// Strict makes a plan unready while a node that sends or receives keys has no replica in step.
	Strict bool
}

// Checks whose findings an operator can accept, because no key is lost by them. Problem.Check is
// one of these, or the name of another check.
const (
	checkOthers  = "others"    // clients that bypass keyway
	checkCross   = "crossslot" // commands that the new layout would refuse
	checkWayBack = "way-back"  // nodes whose values other nodes cannot restore
	CheckKeyways = "keyways"   // keyways that do not answer, or were not asked about their clients
	CheckNames   = "names"     // names that mean other servers, which keyway switch refuses, and keyway migrate not
)

// Acceptable returns the checks that Options.Accept may name.
func Acceptable() []string {
	return []string{checkCross, CheckKeyways, CheckNames, checkOthers, checkWayBack}
}

// Report is what a change of the configuration would do.
type Report struct {
	Old      Layout            `json:"old"`
	New      Layout            `json:"new"`
	Space    router.Comparison `json:"key_space"`
	Keys     Keys              `json:"keys"`
	Pairs    []Pair            `json:"pairs"`
	Memory   []Memory          `json:"memory"`
	Big      []BigKey          `json:"big_keys"`
	BigOver  int64             `json:"big_over"` // bytes
	Ways     []Way             `json:"ways"`
	Others   []Other           `json:"others"`
	Keyways  []Keyway          `json:"keyways"` // that were asked
	Traffic  *Traffic          `json:"traffic"` // null: not known
	Estimate Estimate          `json:"estimate"`
	Notes    []string          `json:"notes"`
	Problems []Problem         `json:"problems"`
	Limits   []Limit           `json:"cannot_be_had"` // while clients run
	Ready    bool              `json:"ready"`
	// UnderWay says that keys are moving already, so that there are only Problems.
	UnderWay bool `json:"-"`
}

// Layout is one of the two layouts.
type Layout struct {
	Name  string `json:"layout"`
	Nodes int    `json:"nodes"` // that own keys
	// Cluster is the name of the cluster in the configuration; empty: it has none.
	Cluster string `json:"cluster,omitempty"`
}

// Keys are the numbers of keys and bytes. Those that move are estimates unless Counted.
type Keys struct {
	Total      int64 `json:"total"` // on the nodes of the old layout
	Seen       int64 `json:"seen"`  // keys that were looked at
	Counted    bool  `json:"counted"`
	Moving     int64 `json:"moving"`
	MovingErr  int64 `json:"moving_error"` // half the width of the 95 % confidence interval
	Bytes      int64 `json:"bytes"`        // of the moving keys, by MEMORY USAGE
	BytesErr   int64 `json:"bytes_error"`
	Misplaced  int64 `json:"misplaced"` // seen keys that the old layout places on another node
	InOwnSpace int64 `json:"keyway"`    // seen keys that begin with keyway:, which do not move
}

// Pair is what moves from one node to another.
type Pair struct {
	From  string  `json:"from"`
	To    string  `json:"to"`    // empty: the new layout has no node for the keys
	Space float64 `json:"share"` // of the key space
	Keys  int64   `json:"keys"`
	Bytes int64   `json:"bytes"`
}

// Problem is something that stands in the way.
type Problem struct {
	Check    string `json:"check"`
	Text     string `json:"text"`
	Remedy   string `json:"remedy"`
	Accepted bool   `json:"accepted"`
}

// Estimate is the time that moving the keys takes, and the rates it assumes for each node
// that keys leave.
type Estimate struct {
	Seconds     int64 `json:"seconds"`
	KeysPerSec  int64 `json:"keys_per_second"`
	BytesPerSec int64 `json:"bytes_per_second"`
}

// Measured with Redis 7.0 on a busy machine of two cores: moving a key costs a node 12
// microseconds of processor time in batches of 100, so 7,000 keys a second take a tenth of
// a core; a hash takes 25 ms a megabyte, the slowest of all types.
const (
	keysPerSecond  = 7000
	bytesPerSecond = 40 << 20
)

// Make asks the nodes of both configurations and returns what the change would do. It asks
// nobody if no key can move. A node that cannot be asked is a problem of the report. Make
// returns an error if ctx ends.
func Make(ctx context.Context, older, newer Side, o Options) (*Report, error) {
	if o.BigOver == 0 {
		o.BigOver = bigKey
	}
	p := &planner{older: older, newer: newer, o: o, same: router.SameNodes(older.Table, newer.Table)}
	p.report = &Report{
		Old: layoutOf(older), New: layoutOf(newer), Space: router.Compare(older.Table, newer.Table),
		Pairs: []Pair{}, Memory: []Memory{}, Big: []BigKey{}, Ways: []Way{}, Others: []Other{}, Notes: []string{},
		Problems: []Problem{}, Limits: []Limit{}, Keyways: []Keyway{}, BigOver: o.BigOver,
	}
	p.list()
	p.asked()
	if !p.report.Space.Moves {
		p.report.Keys.Counted = true
		p.ready()
		return p.report, nil
	}
	defer p.close()
	var g errgroup.Group
	for _, n := range p.nodes {
		g.Go(func() error {
			switch n.err = n.inspect(ctx); {
			case n.err != nil:
			case n.source():
				n.err = p.look(ctx, n)
			case !n.replaces:
				n.err = n.lookForOthers(ctx)
			}
			return nil
		})
	}
	_ = g.Wait() // the errors are the nodes'
	p.reachable()
	p.keys()
	p.destinations()
	p.try(ctx)
	p.rights()
	p.equipment()
	p.others()
	p.replicas()
	p.unasked()
	p.judge()
	p.limits()
	p.ready()
	return p.report, ctx.Err()
}

func layoutOf(s Side) Layout {
	return Layout{Name: s.Table.Name, Nodes: len(keyNodes(s.Table)), Cluster: s.Cluster}
}

// keyNodes returns the nodes that keys are placed on, in order. A master of a cluster may have no
// slots.
func keyNodes(t *router.Table) []router.NodeID {
	if !t.Slotted() {
		return t.Owners()
	}
	found := map[router.NodeID]bool{}
	for slot := range slots.Count {
		if id := t.SlotOwner(int32(slot)); id != router.None {
			found[id] = true
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// planner makes one report.
type planner struct {
	older, newer Side
	same         map[router.NodeID]router.NodeID // the old layout's node, by the new layout's
	o            Options
	nodes        []*node
	byNew        map[router.NodeID]*node
	report       *Report
}

// list lists the nodes of both layouts that can own keys, each server once.
func (p *planner) list() {
	byOld := map[router.NodeID]*node{}
	for _, id := range keyNodes(p.older.Table) {
		n := p.older.Table.Nodes[id]
		byOld[id] = newNode(n, p.older)
		byOld[id].older = id
		p.nodes = append(p.nodes, byOld[id])
	}
	p.byNew = map[router.NodeID]*node{}
	for _, id := range keyNodes(p.newer.Table) {
		n := p.newer.Table.Nodes[id]
		old, known := p.same[id]
		if before := byOld[old]; known && before != nil {
			at, found := p.older.Table.ByAddr(n.Addr)
			if found && at == old || n.Addr == before.addr {
				before.newer, p.byNew[id] = id, before
				continue
			}
			p.note("node %s has another address, %s instead of %s. The plan takes for granted that the new server "+
				"has its keys, as a replica would", n.Name, n.Addr, before.addr)
		}
		added := newNode(n, p.newer)
		added.newer, added.replaces = id, known
		p.nodes = append(p.nodes, added)
		p.byNew[id] = added
	}
}

func (p *planner) note(format string, args ...any) {
	p.report.Notes = append(p.report.Notes, fmt.Sprintf(format, args...))
}

func (p *planner) problem(check, remedy, format string, args ...any) {
	p.report.Problems = append(p.report.Problems, Problem{
		Check: check, Text: fmt.Sprintf(format, args...), Remedy: remedy, Accepted: slices.Contains(p.o.Accept, check),
	})
}

// Add adds a problem that does not come from the nodes.
func (r *Report) Add(p Problem) {
	r.Problems = append(r.Problems, p)
	r.Ready = r.Ready && p.Accepted
}

// ready sets whether anything stands in the way.
func (p *planner) ready() {
	p.report.Ready = !slices.ContainsFunc(p.report.Problems, func(one Problem) bool { return !one.Accepted })
}

func (p *planner) close() {
	for _, n := range p.nodes {
		n.close()
	}
}

// reachable reports the nodes that cannot be asked, or cannot serve keys.
func (p *planner) reachable() {
	for _, n := range p.nodes {
		if control.IsReply(n.err) {
			remedy := n.as.Remedy("correct backend.username and backend.password, or give the user this right")
			p.problem("nodes", remedy, "node %s (%s) cannot be asked: %v", n.name, n.addr, n.err)
			continue
		}
		t := p.newer.Table
		if n.newer == router.None {
			t = p.older.Table
		}
		r := topology.Report{Master: true, Err: n.err, Role: n.info["role"], Mode: n.mode()}
		if problem, remedy := r.Unfit(t); problem != "" {
			p.problem("nodes", remedy, "node %s (%s) %s", n.name, n.addr, problem)
		}
	}
}

// keys adds up what was found on the nodes of the old layout.
func (p *planner) keys() {
	r := p.report
	pairs := map[[2]string]*Pair{}
	pair := func(from, to string) *Pair {
		k := [2]string{from, to}
		if pairs[k] == nil {
			pairs[k] = &Pair{From: from, To: to}
		}
		return pairs[k]
	}
	for _, m := range r.Space.Pairs {
		pair(m.From, m.To).Space = m.Share
	}
	r.Keys.Counted = true
	var varKeys, varBytes float64
	for _, n := range p.nodes {
		if !n.source() || n.err != nil {
			continue
		}
		s := &n.found
		r.Keys.Total += s.total
		r.Keys.Seen += s.seen
		r.Keys.Misplaced += s.misplaced
		r.Keys.InOwnSpace += s.inOwnSpace
		r.Keys.Counted = r.Keys.Counted && s.counted
		varKeys, varBytes = varKeys+s.varKeys, varBytes+s.varBytes
		for id, m := range s.moving {
			to := ""
			if id != router.None {
				to = p.newer.Table.Nodes[id].Name
			}
			one := pair(n.name, to)
			one.Keys, one.Bytes = int64(m.keys+0.5), int64(m.bytes+0.5)
			r.Keys.Moving += one.Keys
			r.Keys.Bytes += one.Bytes
		}
		r.Big = append(r.Big, s.big...)
	}
	r.Keys.MovingErr, r.Keys.BytesErr = interval(varKeys), interval(varBytes)
	for _, one := range pairs {
		r.Pairs = append(r.Pairs, *one)
	}
	slices.SortFunc(r.Pairs, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To))
	})
	slices.SortFunc(r.Big, func(a, b BigKey) int { return cmp.Compare(b.Bytes, a.Bytes) })
}
