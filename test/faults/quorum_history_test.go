package faults

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// lockEvent is one command of a client on a lock. Times are nanoseconds since the test began,
// by the one clock of the test.
type lockEvent struct {
	client  int
	key     string
	kind    string // acquire, renew or release
	token   string
	call    int64
	end     int64  // when the reply came
	until   int64  // the lease that the command asks for lasts until then at least
	outcome string // yes, no or unknown
	number  int64  // the number of fencing, if the client is sure that it is its own; 0: unknown
	text    string // the reply
}

func (e *lockEvent) String() string {
	number := ""
	if e.number > 0 {
		number = fmt.Sprintf(", number %d", e.number)
	}
	lease := ""
	if e.until > 0 {
		lease = fmt.Sprintf(" until %s", stamp(e.until))
	}
	return fmt.Sprintf("%s to %s  client %d %s %s as %s%s: %s%s (%.200s)",
		stamp(e.call), stamp(e.end), e.client, e.kind, e.key, e.token, lease, e.outcome, number, e.text)
}

// refused reports whether the client did not get the lock. That is never wrong, since clients
// that compete may split the nodes.
func (e *lockEvent) refused() bool { return e.kind == "acquire" && e.outcome == "no" }

func stamp(ns int64) string {
	if ns == math.MaxInt64 {
		return "     later   "
	}
	return fmt.Sprintf("%9.3f ms", float64(ns)/1e6)
}

// lockHistory is what all clients did, and which faults there were.
type lockHistory struct {
	began  time.Time
	mu     sync.Mutex
	events []*lockEvent
	faults []faultNote
}

type faultNote struct {
	at   int64
	text string
}

func (h *lockHistory) now() int64 { return int64(time.Since(h.began)) }

func (h *lockHistory) add(e *lockEvent) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e)
}

// fault records a fault.
func (h *lockHistory) fault(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.faults = append(h.faults, faultNote{h.now(), fmt.Sprintf(format, args...)})
}

// acquired counts the acquisitions.
func (h *lockHistory) acquired() (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, e := range h.events {
		if e.kind == "acquire" && e.outcome == "yes" {
			n++
		}
	}
	return n
}

// lockState is the state of one lock, as a single Redis would have it. Nodes end a lease by
// their clocks, so the lock can be free from until on, and may stay longer.
type lockState struct {
	token  string // the holder's; empty: the lock is free
	until  int64
	number int64 // the highest number so far
	now    int64 // it is at least so late
}

// freed is the state in which the lease of an earlier holder has ended.
func (s lockState) freed() lockState {
	if s.token != "" {
		s.now = max(s.now, s.until)
	}
	s.token, s.until = "", 0
	return s
}

// after returns the states that a command may leave behind, none if the reply was wrong.
func (s lockState) after(e *lockEvent) []any {
	s.now = max(s.now, e.call)
	mine := s.token == e.token
	taken := s
	if !mine {
		taken = s.freed()
	}
	taken.token, taken.until, taken.number = e.token, max(e.until, s.until*btoi(mine)), max(s.number, e.number)
	released := s
	released.token, released.until = "", 0
	var next []any
	may := func(is bool, states ...lockState) {
		for _, state := range states {
			if is && state.now <= e.end {
				next = append(next, state)
			}
		}
	}
	switch e.kind + " " + e.outcome {
	case "acquire yes":
		may(e.number == 0 || e.number > s.number, taken)
	case "acquire unknown":
		may(true, s, taken)
	case "renew yes":
		s.until = max(s.until, e.until)
		may(mine, s)
	case "renew unknown":
		may(true, s) // it may be longer, but nothing may rely on that
	case "release yes":
		may(mine, released)
	case "release unknown":
		may(true, s)
		may(mine, released)
	case "renew no", "release no":
		may(!mine, s)
		may(mine, s.freed())
	}
	return next
}

func btoi(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// lockModel is a lock with leases.
var lockModel = (&porcupine.NondeterministicModel{
	Init:              func() []any { return []any{lockState{}} },
	Step:              func(state, input, _ any) []any { return state.(lockState).after(input.(*lockEvent)) },
	DescribeOperation: func(input, _ any) string { return input.(*lockEvent).String() },
}).ToModel()

// check fails the test if the history of a lock is not that of a lock on one Redis, and prints
// where it goes wrong.
func (h *lockHistory) check(t *testing.T) {
	t.Helper()
	byKey := map[string][]porcupine.Operation{}
	for _, e := range h.events {
		if e.refused() {
			continue
		}
		if e.outcome == "unknown" {
			e.end = math.MaxInt64 // it may still be executed
		}
		byKey[e.key] = append(byKey[e.key],
			porcupine.Operation{ClientId: e.client, Input: e, Call: e.call, Return: e.end})
	}
	wrong := 0
	for key, ops := range byKey {
		result, info := porcupine.CheckOperationsVerbose(lockModel, ops, time.Minute)
		switch result {
		case porcupine.Ok:
			continue
		case porcupine.Unknown:
			t.Errorf("the history of %s, of %d commands, cannot be judged within a minute", key, len(ops))
			continue
		}
		if wrong++; wrong <= 3 {
			t.Errorf("the history of %s is not that of one lock:\n%s", key, h.counterexample(key, info))
		}
	}
}

// counterexample tells the story of a lock up to the first reply that has no explanation.
func (h *lockHistory) counterexample(key string, info porcupine.LinearizationInfo) string {
	explained := map[*lockEvent]bool{}
	most := 0
	for _, parts := range info.PartialLinearizationsOperations() {
		for _, ops := range parts {
			if len(ops) < most {
				continue
			}
			most = len(ops)
			clear(explained)
			for _, op := range ops {
				explained[op.Input.(*lockEvent)] = true
			}
		}
	}
	var first *lockEvent
	for _, e := range h.events {
		if e.key == key && !e.refused() && !explained[e] && (first == nil || e.end < first.end) {
			first = e
		}
	}
	type line struct {
		at   int64
		text string
	}
	var story []line
	for _, e := range h.events {
		if e.key == key && !e.refused() && e.call <= first.end {
			mark := "  "
			if e == first {
				mark = "! "
			}
			story = append(story, line{e.call, mark + e.String()})
		}
	}
	for _, f := range h.faults {
		if len(story) > 0 && f.at <= first.end {
			story = append(story, line{f.at, "  " + stamp(f.at) + "  " + f.text})
		}
	}
	slices.SortFunc(story, func(a, b line) int { return cmp.Compare(a.at, b.at) })
	var b strings.Builder
	for _, l := range story[max(0, len(story)-60):] {
		b.WriteString(l.text + "\n")
	}
	return b.String() + "no order of the commands explains the reply that is marked with !"
}

// TestLocksModel: the model accepts what a lock with leases may do, and nothing else.
func TestLocksModel(t *testing.T) {
	t.Parallel()
	const ms = int64(time.Millisecond)
	ev := func(kind, token, outcome string, call, end, until, number int64) *lockEvent {
		return &lockEvent{key: "k", kind: kind, token: token, outcome: outcome, call: call * ms, end: end * ms,
			until: until * ms, number: number}
	}
	a := ev("acquire", "a", "yes", 0, 1, 100, 7)
	for name, c := range map[string]struct {
		ok     bool
		events []*lockEvent
	}{
		"two holders":               {false, []*lockEvent{a, ev("acquire", "b", "yes", 50, 60, 150, 8)}},
		"the next holder":           {true, []*lockEvent{a, ev("acquire", "b", "yes", 50, 101, 150, 8)}},
		"a number that repeats":     {false, []*lockEvent{a, ev("acquire", "b", "yes", 150, 160, 250, 7)}},
		"a number that is not seen": {true, []*lockEvent{a, ev("acquire", "b", "yes", 150, 160, 250, 0)}},
		"acquired after a release": {true, []*lockEvent{a, ev("release", "a", "yes", 10, 20, 0, 0),
			ev("acquire", "b", "yes", 15, 30, 150, 8)}},
		"acquired after a release that may have been executed": {true, []*lockEvent{a,
			ev("release", "a", "unknown", 10, 20, 0, 0), ev("acquire", "b", "yes", 50, 60, 150, 8)}},
		"renewed after a release": {false, []*lockEvent{a, ev("release", "a", "yes", 10, 20, 0, 0),
			ev("renew", "a", "yes", 30, 40, 150, 0)}},
		"lost before the lease ends": {false, []*lockEvent{a, ev("renew", "a", "no", 10, 20, 150, 0)}},
		"renewed, then another holder too early": {false, []*lockEvent{a, ev("renew", "a", "yes", 50, 60, 200, 0),
			ev("acquire", "b", "yes", 120, 130, 250, 8)}},
		"an acquisition that the client does not know of": {true, []*lockEvent{
			ev("acquire", "a", "unknown", 0, 1, 100, 0), ev("release", "a", "yes", 10, 20, 0, 0)}},
		"an unknown acquisition in the lease of another": {false, []*lockEvent{a,
			ev("acquire", "u", "unknown", -50, 1, 40, 0), ev("acquire", "b", "yes", 50, 60, 150, 8)}},
		"an order of the holders with a gap": {false, []*lockEvent{a, ev("acquire", "b", "yes", 90, 120, 300, 8),
			ev("acquire", "c", "yes", 130, 200, 400, 9)}},
	} {
		h := &lockHistory{events: c.events}
		var ops []porcupine.Operation
		for _, e := range h.events {
			if e.outcome == "unknown" {
				e.end = math.MaxInt64
			}
			ops = append(ops, porcupine.Operation{Input: e, Call: e.call, Return: e.end})
		}
		if got := porcupine.CheckOperations(lockModel, ops); got != c.ok {
			t.Errorf("%s: %t, want %t", name, got, c.ok)
		}
	}
}
