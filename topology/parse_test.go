package topology

import (
	"log/slog"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/keyway-proxy/keyway/slots"
)

func addrs(m *slots.Map) (masters, replicas []string) {
	for _, n := range m.Nodes() {
		if n.Master {
			masters = append(masters, n.Addr)
		} else {
			replicas = append(replicas, n.Addr)
		}
	}
	return masters, replicas
}

// Endpoints as CLUSTER SHARDS and CLUSTER SLOTS give them: IPv6, host names,
// unknown ones, NAT (what is announced is not where we asked).
func TestClusterShardsBecomeAMap(t *testing.T) {
	m, err := fromShards([]redis.ClusterShard{
		{Slots: []redis.SlotRange{{Start: 0, End: 5000}}, Nodes: []redis.Node{
			{ID: "a", Endpoint: "2001:db8::1", IP: "2001:db8::1", Port: 7001, Role: "master", Health: "online"},
			{ID: "d", Endpoint: "10.0.0.4", IP: "10.0.0.4", Port: 7004, Role: "replica", Health: "online"},
		}},
		{Slots: []redis.SlotRange{{Start: 5001, End: 9000}, {Start: 12000, End: 12000}}, Nodes: []redis.Node{
			{ID: "b", Endpoint: "redis-b.example", IP: "10.0.0.2", Hostname: "redis-b.example",
				Port: 7002, Role: "master", Health: "online"},
		}},
		{Slots: []redis.SlotRange{{Start: 9001, End: 11999}}, Nodes: []redis.Node{
			{ID: "c", Endpoint: "?", Port: 7003, Role: "master", Health: "online"},
		}},
		{Slots: []redis.SlotRange{{Start: 13000, End: 14000}}, Nodes: []redis.Node{
			{ID: "e", Endpoint: "10.0.0.5", Port: 7005, Role: "master", Health: "fail"},
		}},
	}, "192.0.2.7:7001", false)
	if err != nil {
		t.Fatal(err)
	}
	for slot, want := range map[uint16]string{
		0: "[2001:db8::1]:7001", 5001: "redis-b.example:7002", 12000: "redis-b.example:7002", 9001: "192.0.2.7:7003",
	} {
		if got := m.Nodes()[m.Owner(slot)].Addr; got != want {
			t.Errorf("slot %d is on %s, want %s", slot, got, want)
		}
	}
	if m.Owner(13000) != slots.Unowned {
		t.Error("a failed master owns slots")
	}
	if _, replicas := addrs(m); len(replicas) != 2 {
		t.Errorf("nodes that own nothing: %v", replicas)
	}
	for _, n := range m.Nodes() {
		if want := map[string]string{"d": "[2001:db8::1]:7001"}[n.ID]; n.Of != want {
			t.Errorf("%s follows %q, want %q", n.ID, n.Of, want)
		}
	}
	for _, n := range m.Nodes() {
		if n.ID == "b" && (len(n.Aliases) != 1 || n.Aliases[0] != "10.0.0.2:7002") {
			t.Errorf("aliases of b: %v", n.Aliases)
		}
	}
}

func TestClusterSlotsBecomeAMap(t *testing.T) {
	m, err := fromSlots([]redis.ClusterSlot{
		{Start: 0, End: 8000, Nodes: []redis.ClusterNode{{ID: "a", Addr: ":7001"}, {ID: "c", Addr: "10.0.0.3:7003"}}},
		{Start: 8001, End: 16383, Nodes: []redis.ClusterNode{{ID: "b", Addr: "[::1]:7002",
			NetworkingMetadata: map[string]string{"hostname": "b.example"}}}},
	}, "192.0.2.7:7001")
	if err != nil {
		t.Fatal(err)
	}
	masters, replicas := addrs(m)
	if len(masters) != 2 || masters[0] != "192.0.2.7:7001" || masters[1] != "[::1]:7002" || len(replicas) != 1 {
		t.Errorf("masters %v, replicas %v", masters, replicas)
	}
	if m.Covered() != slots.Count {
		t.Errorf("covered: %d", m.Covered())
	}
	for _, n := range m.Nodes() {
		if want := map[string]string{"c": "192.0.2.7:7001"}[n.ID]; n.Of != want {
			t.Errorf("%s follows %q, want %q", n.ID, n.Of, want)
		}
	}
}

// A worse view never replaces a better one (cluster specification, "Failure
// detection": a minority cannot raise the epoch).
func TestWorseViewsAreNotBelieved(t *testing.T) {
	seen := func(epoch int64, ok bool, last uint16) *view {
		m, err := slots.NewMap([]slots.Node{{Addr: "a:1", Master: true}}, [][]slots.Range{{{First: 0, Last: last}}})
		if err != nil {
			t.Fatal(err)
		}
		return &view{m: m, ok: ok, epoch: epoch}
	}
	w := New(Options{})
	good := seen(5, true, 16383)
	w.believe(good)
	for name, v := range map[string]*view{
		"older epoch": seen(4, true, 16383), "failing, fewer slots": seen(5, false, 100),
	} {
		if w.believe(v) != good.m {
			t.Errorf("%s was believed", name)
		}
	}
	newer := seen(6, true, 16383)
	if w.believe(newer) != newer.m {
		t.Error("a newer epoch was not believed")
	}
	if !seen(3, true, 100).better(seen(9, false, 16383)) ||
		!seen(4, true, 1).better(seen(3, true, 100)) || !seen(3, true, 100).better(seen(3, true, 99)) {
		t.Error("the worse of two views is preferred")
	}
	made := seen(1, true, 16383)
	for range maxStale {
		w.believe(made)
	}
	if w.believe(made) != made.m {
		t.Error("a cluster that was made anew is never believed")
	}
}

// TestLostSlotsAreLogged: slots that lose their owner are logged once, and once when
// they have one again, though the view that lacks them is not believed.
func TestLostSlotsAreLogged(t *testing.T) {
	seen := func(ok bool, b slots.Range) *view {
		m, err := slots.NewMap([]slots.Node{{Addr: "a:1", Master: true}, {Addr: "b:1", Master: true}},
			[][]slots.Range{{{First: 0, Last: 99}}, {b}})
		if err != nil {
			t.Fatal(err)
		}
		return &view{m: m, ok: ok, epoch: 5}
	}
	whole, lost := seen(true, slots.Range{First: 100, Last: 16383}), seen(false, slots.Range{First: 100, Last: 15999})
	var log strings.Builder
	w := New(Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	for _, v := range []*view{whole, whole, lost, lost, lost, whole, whole} {
		if m := w.believe(v); m.Covered() != slots.Count {
			t.Error("a view that lacks slots was believed")
		}
	}
	for _, line := range []string{
		`level=WARN msg="slots have lost their owner" last_owner=b:1 slots=16000-16383 count=384` + "\n",
		`level=INFO msg="slots have an owner again" node=b:1 slots=16000-16383 count=384` + "\n",
	} {
		if n := strings.Count(log.String(), line); n != 1 {
			t.Errorf("%d times %q in the log:\n%s", n, line, log.String())
		}
	}
}
