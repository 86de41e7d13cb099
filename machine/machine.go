package machine

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"os"
	"path"
	"runtime"
	"strconv"
	"strings"
	"sync"
)

// Memory returns how much memory this process can use, in bytes: the machine's memory, or the
// limit of one of its control groups if that is lower. It returns 0 if neither is known. root
// is the root of the file system.
func Memory(root fs.FS) int64 {
	least := int64(math.MaxInt64)
	lower := func(text []byte, unit int64) {
		n, err := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
		if err == nil && n > 0 && n <= math.MaxInt64/unit { // not "max" or version 1's value for no limit
			least = min(least, n*unit)
		}
	}
	info, _ := fs.ReadFile(root, "proc/meminfo")
	if _, rest, ok := bytes.Cut(info, []byte("MemTotal:")); ok {
		kib, _, _ := bytes.Cut(rest, []byte("kB"))
		lower(kib, 1<<10)
	}
	eachGroup(root, "memory", func(group string, version int) {
		file := "memory.max"
		if version == 1 {
			file = "memory.limit_in_bytes"
		}
		text, _ := fs.ReadFile(root, path.Join(group, file))
		lower(text, 1)
	})
	if least == math.MaxInt64 {
		return 0
	}
	return least
}

// Resident returns how much memory of the machine this process uses, in bytes, or 0 if that is not known. root is
// the root of the file system.
func Resident(root fs.FS) int64 {
	text, _ := fs.ReadFile(root, "proc/self/statm") // "size resident shared ...", in pages
	fields := bytes.Fields(text)
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(string(fields[1]), 10, 64)
	return pages * int64(os.Getpagesize())
}

// Processors returns how many processors keep this process busy at most: available, or the CPU
// time that one of its control groups may use if that is lower. Part of a processor counts as
// one. available is what the process may use without them;
// root is the root of the file system.
func Processors(root fs.FS, available int) int {
	least := float64(available)
	eachGroup(root, "cpu", func(group string, version int) {
		var quota, period []byte
		if version == 2 {
			text, _ := fs.ReadFile(root, path.Join(group, "cpu.max")) // "200000 100000", "max 100000"
			quota, period, _ = bytes.Cut(bytes.TrimSpace(text), []byte(" "))
		} else {
			quota, _ = fs.ReadFile(root, path.Join(group, "cpu.cfs_quota_us")) // -1: no limit
			period, _ = fs.ReadFile(root, path.Join(group, "cpu.cfs_period_us"))
		}
		microseconds := func(text []byte) float64 {
			n, _ := strconv.ParseInt(string(bytes.TrimSpace(text)), 10, 64)
			return float64(n)
		}
		if q, p := microseconds(quota), microseconds(period); q > 0 && p > 0 {
			least = min(least, q/p)
		}
	})
	return max(int(math.Ceil(least)), 1)
}

// Available returns the number of processors of Processors for this process. It stays the same for
// as long as the process runs. GOMAXPROCS alone does not serve: Go does not lower it below 2 for a
// control group.
var Available = sync.OnceValue(func() int { return Processors(os.DirFS("/"), runtime.GOMAXPROCS(0)) })

// eachGroup calls visit with the directory of each control group that holds the process and has
// this controller, and of the group's parents, because their limits apply too. version is 1 or 2.
func eachGroup(root fs.FS, controller string, visit func(group string, version int)) {
	groups, _ := fs.ReadFile(root, "proc/self/cgroup")
	for lines := bufio.NewScanner(bytes.NewReader(groups)); lines.Scan(); {
		// "0::/path" of version 2, "9:cpu,cpuacct:/path" of version 1.
		parts := strings.SplitN(lines.Text(), ":", 3)
		if len(parts) < 3 {
			continue
		}
		dir, version := "sys/fs/cgroup", 2
		if parts[1] != "" {
			if !strings.Contains(","+parts[1]+",", ","+controller+",") {
				continue
			}
			dir, version = path.Join(dir, controller), 1
		}
		// In a container the path may be the host's, while the group itself is mounted at the
		// root.
		for p := path.Clean("/" + parts[2]); ; p = path.Dir(p) {
			visit(path.Join(dir, p), version)
			if p == "/" {
				break
			}
		}
	}
}
