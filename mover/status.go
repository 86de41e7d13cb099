package mover

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/move"
	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/transfer"
)

// Status is what the nodes say about the last change of their layout.
type Status struct {
	Epoch   int64           `json:"epoch"` // of the change; 0: there was none
	State   switching.State `json:"state"`
	From    string          `json:"from,omitempty"` // the layouts, for people
	To      string          `json:"to,omitempty"`
	Planned *time.Time      `json:"planned,omitempty"` // null: not known
	Home    string          `json:"home,omitempty"`    // the name of the node that has the records
	Pace    *register.Pace  `json:"pace,omitempty"`
	By      *By             `json:"moved_by,omitempty"` // who moves the keys; null: nobody
	Nodes   []Node          `json:"nodes"`              // from which keys move
	Behind  []string        `json:"behind"`             // the nodes that are not in the epoch yet
	Keyways []Keyway        `json:"keyways"`
	// Failed says what could not be asked.
	Failed  []string      `json:"failed"`
	standby int           // processes that would move the keys
	down    []*move.Error // of nodes that could not be asked
	// Problems are what somebody should do something about. Next is what to do, also without a problem.
	Problems []string `json:"problems"`
	Next     []string `json:"next"`
}

// By is the process that moves the keys.
type By struct {
	Instance string  `json:"instance"`
	Host     string  `json:"host"`
	Moved    int64   `json:"moved"` // since it has begun
	Left     *int64  `json:"left"`  // estimated; null: not known yet
	Rate     int     `json:"keys_per_second"`
	Verifies bool    `json:"verifies"`
	Slow     string  `json:"slow_node,omitempty"`
	Waits    string  `json:"waits_for,omitempty"`
	Aside    int     `json:"set_aside"`
	idle     float64 // seconds
}

// Node is a node of the old layout.
type Node struct {
	Name    string `json:"name"`
	Addr    string `json:"addr"`
	Drained bool   `json:"drained"`
	Looked  int64  `json:"looked"` // keys that stay or have moved, as far as is known
	Total   int64  `json:"total"`  // that there were when it began; 0: not known
}

// Keyway is a keyway that serves the nodes.
type Keyway struct {
	Instance string `json:"instance"`
	Host     string `json:"host"`
	State    string `json:"state,omitempty"` // of the change
	Serves   int64  `json:"serves"`          // the epoch by which it serves; -1: it does not say
	File     string `json:"file,omitempty"`  // the placement of its file, if that is not the one by which it serves
}

// Subject is a change to be asked about.
type Subject struct {
	Home     *switching.Node
	Next     *switching.Node   // the home of the next change, where keyways show themselves once they serve by this one
	Nodes    []*switching.Node // of both layouts
	Older    []*switching.Node // of the old layout
	From, To string            // the layouts, for people
}

// Untold is the state if the home does not answer.
const Untold = "unknown"

const (
	abandoned = time.Minute      // how long a change may be planned until its command seems to have died
	starting  = 10 * time.Second // from its plan until a keyway moves keys
)

// ReadStatus asks the nodes. If the home does not answer, the status says only that.
func ReadStatus(ctx context.Context, of Subject) *Status {
	s := &Status{
		From: of.From, To: of.To, Home: of.Home.Name,
		Nodes: []Node{}, Behind: []string{}, Keyways: []Keyway{}, // no null in JSON
		Failed: []string{}, Problems: []string{}, Next: []string{},
	}
	read, cancel := context.WithTimeout(ctx, lookTimeout) // so that there is time for the rest, if a node is down
	defer cancel()
	at, err := switching.Read(read, of.Home, of.Nodes)
	if at.State == "" {
		s.State = Untold
		s.problem("the node that has the records of the change does not answer: "+bare(err),
			fmt.Sprintf("start node %s (%s), or repair its network", of.Home.Name, of.Home.Addr))
		return s
	}
	for _, e := range flat(err) {
		s.fail(e)
	}
	s.Epoch, s.State, s.Behind = at.Epoch, at.State, append(s.Behind, at.Behind...)
	if o, err := at.Plan.ReadOptions(); err == nil && !o.Planned.IsZero() {
		s.Planned = &o.Planned
	}
	s.members(ctx, at.Members, of)
	if at.State == switching.Moving || at.State == switching.Flipping {
		s.move(ctx, &at, of)
	}
	s.advise(&at)
	return s
}

// fail remembers what could not be asked: of each node once.
func (s *Status) fail(err error) {
	var of *move.Error
	if !errors.As(err, &of) {
		s.Failed = append(s.Failed, err.Error())
	} else if !slices.ContainsFunc(s.down, func(e *move.Error) bool { return e.Node == of.Node }) {
		s.down = append(s.down, of)
	}
}

// bare returns the text of an error without what to do.
func bare(err error) string {
	var of *move.Error
	if errors.As(err, &of) {
		without := *of
		without.Remedy = ""
		return without.Error()
	}
	return err.Error()
}

// flat returns the errors of which an error consists.
func flat(err error) []error {
	var many interface{ Unwrap() []error }
	switch {
	case err == nil:
		return nil
	case errors.As(err, &many):
		return many.Unwrap()
	}
	return []error{err}
}

func (s *Status) problem(what, next string) {
	s.Problems, s.Next = append(s.Problems, what), append(s.Next, next)
}

// members lists the keyways, by what they say at both homes.
func (s *Status) members(ctx context.Context, all []switching.Member, of Subject) {
	if of.Next != nil && of.Next.Addr != of.Home.Addr {
		ask, cancel := context.WithTimeout(ctx, lookTimeout)
		defer cancel()
		more, err := of.Next.Members(ask)
		if err != nil {
			s.fail(err)
		}
		for _, m := range more {
			i := slices.IndexFunc(all, func(o switching.Member) bool {
				return o.Instance == m.Instance && o.Host == m.Host && (o.State == "" || o.Epoch < m.Epoch)
			})
			switch {
			case i < 0:
				all = append(all, m)
			case m.State != "":
				m.Serves = max(m.Serves, all[i].Serves)
				all[i] = m
			}
		}
	}
	for _, m := range all {
		s.Keyways = append(s.Keyways, Keyway{
			Instance: m.Instance, Host: m.Host, State: m.State, Serves: m.Serves, File: m.Wish,
		})
	}
	slices.SortFunc(s.Keyways, func(a, b Keyway) int {
		return cmp.Or(cmp.Compare(a.Instance, b.Instance), cmp.Compare(a.Host, b.Host))
	})
}

// move says how far the keys have moved.
func (s *Status) move(ctx context.Context, at *switching.Status, of Subject) {
	if pace, err := switching.PaceOf(&at.Change); err == nil {
		s.Pace = &pace
	}
	for _, n := range of.Older {
		s.Nodes = append(s.Nodes, Node{Name: n.Name, Addr: n.Addr, Drained: slices.Contains(at.Drained, n.Name)})
	}
	w := of.Home.Watch()
	defer w.Close()
	seen, err := w.Look(ctx, "keyway:status")
	if err != nil {
		s.fail(err)
		return
	}
	all := Processes(seen.Clients, at.Epoch)
	if s.standby = len(all); len(all) == 0 || !all[0].Moves {
		return
	}
	p := all[0]
	s.By = &By{
		Instance: p.Instance, Host: p.Host, Moved: p.Moved, Rate: p.Rate, Verifies: p.Verify, Slow: p.Slow,
		Waits: p.Waits, Aside: p.Aside, idle: p.Idle.Seconds(),
	}
	if p.Left != Unknown {
		s.By.Left = &p.Left
	}
	for i := range s.Nodes {
		n := &s.Nodes[i]
		for _, from := range p.Sources {
			if from.Name == n.Name {
				n.Looked, n.Total = from.Looked, from.Total
			}
		}
	}
}

// advise says what is wrong, and what to do next.
func (s *Status) advise(at *switching.Status) {
	s.adviseBehind()
	switch at.State {
	case switching.Planned, switching.Prepared, switching.Holding:
		s.advisePlanned(at)
	case switching.Flipping, switching.Moving:
		s.adviseMoving()
	case switching.Done:
		s.adviseDone(at.Record())
	default:
		if !s.adviseWish("") {
			s.Next = append(s.Next, "to change the layout: keyway plan, then keyway switch")
		}
	}
}

// adviseBehind tells of the nodes that keep the change from going on, and of others that could not be asked.
func (s *Status) adviseBehind() {
	const next = "the keyways make it enter the epoch, and go on"
	for _, b := range s.Behind {
		i := slices.IndexFunc(s.down, func(e *move.Error) bool { return e.Node == b })
		if i < 0 {
			s.problem(fmt.Sprintf("node %s is not in epoch %d yet; commands for its keys wait or fail", b, s.Epoch),
				"wait until node "+b+" is; "+next+", or say in their logs what is wrong")
			continue
		}
		why := s.down[i]
		text := "node %s cannot be asked (%s: %v); commands for its keys wait or fail"
		s.problem(fmt.Sprintf(text, b, why.Doing, why.Err),
			"start node "+b+", or repair its network; "+next)
	}
	for _, e := range s.down {
		if !slices.Contains(s.Behind, e.Node) {
			s.Failed = append(s.Failed, e.Error())
		}
	}
}

// waitsForBehind reports whether who moves the keys waits for a node of which a problem tells already.
func (s *Status) waitsForBehind() bool {
	return slices.ContainsFunc(s.Behind, func(b string) bool {
		return strings.Contains(s.By.Waits, "node "+b+" ") || strings.Contains(s.By.Waits, "node "+b+":")
	})
}

func (s *Status) advisePlanned(at *switching.Status) {
	var missing []string
	for _, m := range at.Members {
		if m.State == "" || m.State == "idle" {
			missing = append(missing, m.Instance+" at "+m.Host)
		}
	}
	switch {
	case len(missing) > 0:
		s.problem("not prepared: "+strings.Join(missing, ", "),
			"see the log of that keyway, and mend or end it; or keyway cancel")
	case s.Planned != nil && time.Since(*s.Planned) > abandoned:
		s.problem("the command that has planned the change seems to have died",
			"run keyway switch again, or keyway cancel; clients notice nothing meanwhile")
	default:
		s.Next = append(s.Next, "wait for the command that has planned the change, or keyway cancel")
	}
}

func (s *Status) adviseMoving() {
	switch {
	case s.By == nil && (s.standby > 0 || s.Planned != nil && time.Since(*s.Planned) < starting):
		s.Next = append(s.Next, "wait some seconds: one of the keyways is about to move the keys")
	case s.By == nil:
		s.problem("no process moves keys; those that clients use are brought all the same",
			"start a keyway, or run keyway switch again with --wait")
	case s.Pace != nil && s.Pace.Paused:
		s.Next = append(s.Next, "keyway resume goes on; clients notice nothing of the pause")
	case s.By.idle > frozen.Seconds():
		s.problem(s.By.Instance+" at "+s.By.Host+" moves the keys, and seems to be frozen",
			"start another keyway, which takes its place; or end that one")
	case s.By.Waits != "" && s.waitsForBehind():
	case strings.Contains(s.By.Waits, transfer.WaitingForReplica):
		s.problem(Stuck+" at "+s.By.Instance+": "+s.By.Waits, "connect a replica to that node; or write switch: "+
			"{durable: auto} into the files of the keyways, and reload them")
	case s.By.Waits != "":
		s.problem(Stuck+" at "+s.By.Instance+": "+s.By.Waits, "do what it says; it tries again by itself. keyway "+
			"reverse takes the change back")
	case s.By.Slow != "" && s.By.Verifies:
		s.Next = append(s.Next, "nothing has to be done; node "+s.By.Slow+" is slow, so fewer keys are looked at "+
			"(keyway rate)")
	case s.By.Slow != "":
		s.Next = append(s.Next, "nothing has to be done; node "+s.By.Slow+" is slow, so fewer keys move (keyway rate)")
	default:
		s.Next = append(s.Next, "nothing has to be done; keyway pause and keyway rate steer it, keyway reverse takes "+
			"it back")
	}
	if s.By != nil && s.By.Aside > 0 {
		s.problem(fmt.Sprintf("%d values were set aside, because their keys were on two nodes", s.By.Aside),
			"look at them: redis-cli --scan --pattern 'keyway:stray:*' at the old nodes")
	}
}

func (s *Status) adviseDone(of *register.Record) {
	before := ""
	if of != nil {
		before = of.Old.Hash
	}
	hasWish := s.adviseWish(before)
	if stale := s.files(func(file string) bool { return file == before }); stale != "" {
		s.Next = append(s.Next, "write the new layout into the file of each keyway, and reload: "+stale)
	} else if !hasWish {
		s.Next = append(s.Next, fmt.Sprintf("nothing has to be done; keyway forget %d, if you have not run it, "+
			"removes what the nodes still say of the old layout, and says which nodes may be shut down", s.Epoch))
	}
}

// adviseWish says what to do about files that have a layout which has not been in force. It returns false if
// there are none. before is the placement that was in force, empty if none was.
func (s *Status) adviseWish(before string) bool {
	of := s.files(func(file string) bool { return file != before })
	if of != "" {
		s.Next = append(s.Next, "these files have another layout, which keyway switch -c FILE puts in force, or "+
			"switch.auto if all have it: "+of)
	}
	return of != ""
}

// files returns the keyways whose files have another layout than the one in force that is so.
func (s *Status) files(is func(placement string) bool) string {
	var all []string
	for _, k := range s.Keyways {
		if k.File != "" && is(k.File) {
			all = append(all, k.Instance+" at "+k.Host)
		}
	}
	return strings.Join(all, ", ")
}
