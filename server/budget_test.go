package server

import (
	"slices"
	"testing"

	"github.com/keyway-proxy/keyway/proxy"
)

// The thread with the largest client of all closes it, as long as that helps: what
// waits for nodes is not freed by closing clients.
func TestThreadWithTheLargestClientClosesIt(t *testing.T) {
	const mib = 1 << 20
	b := newBudget(128 * mib) // 96 MiB for clients
	threads := []*weight{b.join(nil), b.join(nil)}
	for _, step := range []struct {
		thread int
		held   proxy.Memory
		over   int
	}{
		{0, proxy.Memory{Clients: 40 * mib, Largest: 30 * mib}, -1},
		{1, proxy.Memory{Clients: 50 * mib, Largest: 20 * mib}, -1},
		{1, proxy.Memory{Clients: 60 * mib, Largest: 20 * mib}, 0}, // 100 in all
		{0, proxy.Memory{Clients: 40 * mib, Largest: 10 * mib}, 1},
		{0, proxy.Memory{Clients: 30 * mib, Largest: 10 * mib}, -1},
		{0, proxy.Memory{Clients: 30 * mib, Largest: 10 * mib, Queued: 7 * mib}, 1},
		{1, proxy.Memory{Clients: 10 * mib, Largest: 10 * mib}, -1},
		{1, proxy.Memory{Clients: 10 * mib, Largest: 10 * mib, Queued: 100 * mib}, -1}, // nodes hang
		{1, proxy.Memory{Clients: 90 * mib, Largest: 16 << 10}, 0},
		{0, proxy.Memory{Clients: 30 * mib, Largest: 16 << 10}, -1}, // all are small
	} {
		if got := slices.Index(threads, b.over(b.record(threads[step.thread], step.held))); got != step.over {
			t.Errorf("after %+v thread %d should close its largest client, not %d", step, step.over, got)
		}
	}
	if n := b.maxQueued(); n != 6*mib {
		t.Errorf("%d bytes may wait on one connection", n)
	}
	if n := newBudget(0).maxQueued(); n != 64*mib {
		t.Errorf("%d bytes may wait on one connection when no limit is known", n)
	}
}
