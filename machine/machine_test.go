package machine

import (
	"testing"
	"testing/fstest"
)

// groups returns a file system with the control groups of a process. files are below
// /sys/fs/cgroup.
func groups(own string, files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	if own != "" {
		root["proc/self/cgroup"] = &fstest.MapFile{Data: []byte(own)}
	}
	for path, text := range files {
		root["sys/fs/cgroup/"+path] = &fstest.MapFile{Data: []byte(text)}
	}
	return root
}

// TestProcessors: `threads: auto` follows the least of the available processors and the quotas of
// all control groups that hold the process, in both versions of control groups.
func TestProcessors(t *testing.T) {
	for name, tc := range map[string]struct {
		own   string
		files map[string]string
		want  int
	}{
		"no control groups":      {"", nil, 8},
		"version 2 without":      {"0::/a/b\n", map[string]string{"a/b/cpu.max": "max 100000\n"}, 8},
		"version 2":              {"0::/a/b\n", map[string]string{"a/b/cpu.max": "300000 100000\n"}, 3},
		"version 2, container":   {"0::/\n", map[string]string{"cpu.max": "200000 100000\n"}, 2},
		"part of a processor":    {"0::/\n", map[string]string{"cpu.max": "150000 100000\n"}, 2},
		"less than one":          {"0::/\n", map[string]string{"cpu.max": "50000 100000\n"}, 1},
		"another period":         {"0::/\n", map[string]string{"cpu.max": "40000 10000\n"}, 4},
		"more than there are":    {"0::/\n", map[string]string{"cpu.max": "6400000 100000\n"}, 8},
		"not as the kernel does": {"0::/\n", map[string]string{"cpu.max": "many\n"}, 8},
		"a parent's": {
			"0::/a/b\n", map[string]string{"a/b/cpu.max": "max 100000\n", "a/cpu.max": "400000 100000\n"}, 4,
		},
		"version 1": {
			"5:cpu,cpuacct:/x\n4:memory:/y\n0::/\n",
			map[string]string{"cpu/x/cpu.cfs_quota_us": "500000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 5,
		},
		"version 1 without": {
			"5:cpuacct,cpu:/x\n",
			map[string]string{"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 8,
		},
		"version 1, container": {
			"5:cpu:/docker/123\n",
			map[string]string{"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2,
		},
		"version 1, another controller": {
			"5:cpuset:/x\n",
			map[string]string{"cpu/x/cpu.cfs_quota_us": "200000\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, 8,
		},
	} {
		if got := Processors(groups(tc.own, tc.files), 8); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
}

// TestMachineMemory: the least of the machine's memory and of all control groups that hold the process
// counts, in both versions of control groups.
func TestMachineMemory(t *testing.T) {
	const gib = 1 << 30
	machine := "MemTotal:        8388608 kB\nMemFree:         1 kB\n"
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
		files := groups(tc.cgroup, tc.limits)
		files["proc/meminfo"] = &fstest.MapFile{Data: []byte(machine)}
		if got := Memory(files); got != tc.want {
			t.Errorf("%s: %d, want %d", name, got, tc.want)
		}
	}
	if got := Memory(fstest.MapFS{}); got != 0 {
		t.Errorf("nothing is known: %d, want 0", got)
	}
}
