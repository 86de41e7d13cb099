package metrics

import (
	"reflect"
	"testing"
)

// TestEveryCounterIsExported: each counter of a thread and of a node has a metric, and
// each metric a help text and no sample twice. No help text is without a metric.
func TestEveryCounterIsExported(t *testing.T) {
	for _, table := range []struct {
		of   reflect.Type
		rows []row
	}{{reflect.TypeFor[Snapshot](), threadRows}, {reflect.TypeFor[Node](), nodeRows},
		{reflect.TypeFor[LockNode](), lockRows}, {reflect.TypeFor[LockRule](), ruleRows},
		{reflect.TypeFor[Thread](), loopRows}} {
		samples := map[string]bool{}
		exported := map[string]bool{"Epoch": true} // counts nothing
		for _, r := range table.rows {
			if r.metric == nil {
				continue
			}
			if key := r.metric.Name + " " + r.value; r.metric.Help == "" || samples[key] {
				t.Errorf("%s has no help text, or twice the same labels", key)
			}
			samples[r.metric.Name+" "+r.value] = true
			exported[table.of.FieldByIndex(r.index).Name] = true
		}
		for _, f := range reflect.VisibleFields(table.of) {
			if isCounter(f.Type) && !exported[f.Name] {
				t.Errorf("%s.%s is counted and not shown", table.of.Name(), f.Name)
			}
		}
	}
	for name := range help {
		if byName[name] == nil {
			t.Errorf("a help text for %s, which is no metric", name)
		}
	}
}

// TestSum: counters add up, a node is up if it is for every thread, a replica is as old
// as for the thread that knows least, and the threads' own copies stay as they are.
func TestSum(t *testing.T) {
	counts := func(calls, others uint64) (c Counters) {
		c.Calls, c.Errors = []uint64{calls, others}, []uint64{0, calls}
		c.Accepted, c.FeedLosses = calls, calls
		return c
	}
	thread := func(calls uint64, up bool, reason string) Snapshot {
		s := Snapshot{Covered: up}
		s.Counters = counts(calls, 1)
		s.Families = []Histogram{{Count: calls}}
		s.Commands = []*Histogram{{Count: calls}, nil}
		s.Nodes = []Node{{Name: "a", Up: up, Reason: reason, Lag: 5, InFlight: 2}}
		s.Nodes[0].Dials = calls
		return s
	}
	a, b := thread(3, true, ""), thread(4, false, "refused")
	b.Nodes = append(b.Nodes, Node{Name: "new"})
	a.Locks, a.Rules = []LockNode{{Addr: "l", Votes: true}}, []LockRule{{Match: "lock:*", Spare: 1}}
	b.Locks, b.Rules = []LockNode{{Addr: "l", Reason: "slow", Missed: 2}}, []LockRule{{Match: "lock:*", Spare: -1}}
	a.Locks[0].Took.Observe(3000)
	b.Locks[0].Took.Observe(3000)
	b.Commands[1] = &Histogram{Count: 5}
	all := Sum([]Snapshot{a, b})
	want := thread(7, false, "refused")
	want.Locks, want.Rules = []LockNode{{Addr: "l", Reason: "slow", Missed: 2}}, b.Rules
	want.Locks[0].Took.Observe(3000)
	want.Locks[0].Took.Observe(3000)
	want.Commands[1] = &Histogram{Count: 5}
	want.Calls[1], want.Nodes[0].InFlight = 2, 4
	want.Nodes = append(want.Nodes, Node{Name: "new"})
	if !reflect.DeepEqual(all, want) {
		t.Errorf("sum:  %+v\nwant: %+v", all, want)
	}
	own := thread(3, true, "")
	own.Locks, own.Rules = []LockNode{{Addr: "l", Votes: true}}, []LockRule{{Match: "lock:*", Spare: 1}}
	own.Locks[0].Took.Observe(3000)
	if !reflect.DeepEqual(a, own) {
		t.Errorf("a thread's copy was changed: %+v", a)
	}
	since := all.Counters.Since(&a.Counters)
	if !reflect.DeepEqual(since, counts(4, 1)) {
		t.Errorf("since: %+v", since)
	}
}
