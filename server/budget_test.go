package server

import (
	"testing"
	"testing/fstest"

	"github.com/keyway-proxy/keyway/proxy"
)

// The thread with the largest client of all closes it, as long as that helps: what
// waits for nodes is not freed by closing clients.
func TestThreadWithTheLargestClientClosesIt(t *testing.T) {
	const mib = 1 << 20
	b := newBudget(128*mib, 2) // 96 MiB for clients
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
		if got := b.over(b.record(step.thread, step.held)); got != step.over {
			t.Errorf("after %+v thread %d should close its largest client, not %d", step, step.over, got)
		}
	}
	if n := b.maxQueued(); n != 6*mib {
		t.Errorf("%d bytes may wait on one connection", n)
	}
	if n := newBudget(0, 1).maxQueued(); n != 64*mib {
		t.Errorf("%d bytes may wait on one connection when no limit is known", n)
	}
}

// The least of the machine's memory and of all control groups that hold the process
// counts, in both versions of control groups.
func TestMachineMemory(t *testing.T) {
	const gib = 1 << 30
	machine := "MemTotal:        8388608 kB\nMemFree:         1 kB\n"
	const root = "sys/fs/cgroup/"
	for name, tc := range map[string]struct {
		cgroup string            // the process's, empty if there are none
		limits map[string]string // by file
		want   int64
	}{
		"no control groups":    {"", nil, 8 * gib},
		"version 2 without":    {"0::/a/b\n", map[string]string{"a/b/memory.max": "max\n"}, 8 * gib},
		"version 2":            {"0::/a/b\n", map[string]string{"a/b/memory.max": "2147483648\n"}, 2 * gib},
		"version 2, container": {"0::/\n", map[string]string{"memory.max": "1073741824\n"}, gib},
		"a parent's": {
			"0::/a/b\n",
			map[string]string{"a/b/memory.max": "2147483648\n", "a/memory.max": "1073741824\n"},
			gib,
		},
		"version 1": {
			"5:cpu:/x\n4:memory:/x/y\n0::/\n",
			map[string]string{"memory/x/y/memory.limit_in_bytes": "1073741824\n"},
			gib,
		},
		"version 1 without": {
			"4:memory:/x\n",
			map[string]string{"memory/x/memory.limit_in_bytes": "9223372036854771712\n"},
			8 * gib,
		},
		"version 1, container": {
			"4:memory:/docker/123\n",
			map[string]string{"memory/memory.limit_in_bytes": "1073741824\n"},
			gib,
		},
	} {
		files := fstest.MapFS{"proc/meminfo": &fstest.MapFile{Data: []byte(machine)}}
		if tc.cgroup != "" {
			files["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(tc.cgroup)}
		}
		for path, text := range tc.limits {
			files[root+path] = &fstest.MapFile{Data: []byte(text)}
		}
		if got := machineMemory(files); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	if got := machineMemory(fstest.MapFS{}); got != 0 {
		t.Errorf("nothing is known: %d, want 0", got)
	}
}
