package faults

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyway-proxy/keyway/test/redistest"
)

// lockRig is what a fault strikes.
type lockRig struct {
	t       *testing.T
	cluster *redistest.Cluster // or nil
	nodes   []*redistest.Node
	keyway  *redistest.Process
	clients *lockers
}

// lockFault is a fault, and what clients may see of it.
type lockFault struct {
	name     string
	replicas int  // of each master of a cluster; -1: three nodes of a ring
	inShort  bool // it belongs to the short form
	strike   func(*lockRig)
	// sees has the errors that clients may see; see lockers.failed.
	sees string
	// forgets says that a node with acknowledged locks may lose them: a replica that had not
	// received them takes over, or a node returns without data.
	forgets bool
}

var lockFaults = []lockFault{
	{"none", -1, false, func(r *lockRig) {}, "", false},
	{"slots are resharded", 0, false, func(r *lockRig) {
		for i := range scale(1, 4) {
			reshard(r.t, r.cluster, i%2, 1-i%2, 5460)
		}
	}, "", false},
	{"failover on request", 1, false, func(r *lockRig) { r.cluster.Failover(3) }, "", false},
	{"kill -9 of a cluster's master", 1, false, func(r *lockRig) {
		r.nodes[0].Kill()
		redistest.Eventually(r.t, time.Minute, "the replica takes over", func() bool {
			return r.nodes[3].Role() == "master"
		})
	}, "unknown", true},
	{"SIGSTOP of a cluster's master for 6 s", 1, false, func(r *lockRig) { stopped(r.nodes[0], 6) }, "unknown", true},
	{"SIGSTOP of a ring's node for 3 s", -1, true, func(r *lockRig) { stopped(r.nodes[0], 3) },
		"unknown, not executed", false},
	{"kill -9 of a ring's node, back empty", -1, false, func(r *lockRig) {
		r.nodes[0].Kill()
		time.Sleep(time.Second) // the fault itself
		r.nodes[0].Run()
	}, "unknown, not executed", true},
	{"SIGSTOP of keyway for 3 s", -1, false, func(r *lockRig) { stopped(r.keyway, 3) }, "unknown, not executed", false},
	{"kill -9 of keyway, back after 0.5 s", -1, true, func(r *lockRig) {
		r.keyway.Kill()
		time.Sleep(500 * time.Millisecond) // the fault itself
		r.keyway.Restart()
		r.keyway.Answers()
	}, "connection", false},
	{"SIGTERM of keyway, back after 0.5 s", -1, false, func(r *lockRig) {
		r.keyway.End()
		time.Sleep(500 * time.Millisecond) // the fault itself
		r.keyway.Restart()
		r.keyway.Answers()
	}, "connection", false},
}

// stopped freezes a node or keyway.
func stopped(p interface {
	Freeze()
	Thaw()
}, seconds int) {
	p.Freeze()
	time.Sleep(time.Duration(seconds) * time.Second) // the fault itself
	p.Thaw()
}

// TestLocksThroughFaults: no fault lets two clients hold a lock at a time, a lock that is renewed
// stays held, and every lock can be acquired again afterwards. Clients see only the errors
// that docs/locks.md names. The long form logs the rows of that page's table.
func TestLocksThroughFaults(t *testing.T) {
	redistest.OfAProcess(t)
	if !*long { // which measures time
		t.Parallel()
	}
	for _, f := range lockFaults {
		if !f.inShort && !*long {
			continue
		}
		t.Run(strings.ReplaceAll(f.name, " ", "-"), func(t *testing.T) {
			if !*long {
				t.Parallel()
			}
			r := newLockRig(t, f)
			r.clients.run(t)
			f.strike(r)
			r.clients.more(t)
			time.Sleep(time.Duration(scale(0, 12)) * time.Second) // a lease: what a fault has left behind ends
			r.clients.halt()
			r.judge(f)
		})
	}
}

func newLockRig(t *testing.T, f lockFault) *lockRig {
	r := &lockRig{t: t}
	// Where no node is struck, no client may see a timeout, on a busy machine either.
	timeout, yaml := 5, ""
	if strings.Contains(f.sees, "unknown") {
		timeout = 1
	}
	if f.replicas >= 0 {
		r.cluster = redistest.NewCluster(t, 3, f.replicas)
		r.nodes, yaml = r.cluster.Nodes, r.cluster.SeedsYAML()
	} else {
		r.nodes = redistest.Three(t)
		yaml = redistest.Layouts(r.nodes)["ring"]
	}
	r.keyway = redistest.ServeProcess(t, yaml+fmt.Sprintf("\nbackend: {request_timeout: %ds, hold: 8s}\n", timeout))
	r.clients = newLockers(t, r.keyway.Addr)
	homes := r.nodes[0].Keys()
	affected := 0
	for _, lock := range slices.Concat(r.clients.short, r.clients.kept) {
		if lock.affected = slices.Contains(homes, lock.name+":home"); lock.affected {
			affected++
		}
	}
	if affected == 0 || affected == 12 {
		t.Fatalf("%d of 12 locks are on the node with the fault", affected)
	}
	return r
}

// judge checks what came of a fault, and logs its row of the table.
func (r *lockRig) judge(f lockFault) {
	var longest [2]time.Duration // without a lock: of other nodes, of the node with the fault
	acquired, overlaps, lost, mayLose := 0, 0, 0, 0
	for _, lock := range slices.Concat(r.clients.short, r.clients.kept) {
		acquired, overlaps, lost = acquired+lock.acquired, overlaps+lock.overlaps, lost+lock.lost
		if lock.affected && f.forgets {
			mayLose++
		}
	}
	for _, lock := range r.clients.short {
		at := 0
		if lock.affected {
			at = 1
		}
		longest[at] = max(longest[at], lock.longest)
	}
	var saw []string
	for _, class := range slices.Sorted(maps.Keys(r.clients.errors)) {
		saw = append(saw, fmt.Sprintf("%d x %s", r.clients.errors[class], class))
		if !strings.Contains(f.sees, class) || class == "" {
			r.t.Errorf("clients saw %d x %s", r.clients.errors[class], class)
		}
	}
	if overlaps > mayLose || lost > mayLose {
		r.t.Errorf("%d overlaps, %d held locks lost, and %d may be", overlaps, lost, mayLose)
	}
	r.t.Logf("| %s | %s | %.1f s | %.1f s | %d | %d |", f.name, strings.Join(saw, ", "),
		longest[1].Seconds(), longest[0].Seconds(), lost, overlaps)
	if acquired == 0 {
		r.t.Error("no lock was acquired")
	}
}
