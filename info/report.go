package info

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/metrics"
)

// Report is what keyway says about itself in INFO.
type Report struct {
	Threads         []Thread
	MaxClients      int
	Process         *Process // nil: INFO describes a node's process
	Now             time.Time
	Version, Layout string
}

// Thread has one thread's counters since CONFIG RESETSTAT.
type Thread struct {
	Index int
	metrics.Snapshot
}

// Process describes keyway's process.
type Process struct {
	RunID      string // 40 random hexadecimal digits
	PID, Port  int    // Port is the first port that clients connect to, 0 if there is none
	Executable string
	ConfigFile string
	Pool       string // whose clients ask; "" if the process has no pools
	Started    time.Time
}

// ownSection is the heading of keyway's own section.
const ownSection = "# Keyway\r\n"

// Text returns the fields of keyway that belong to other sections, and behind them its own
// section.
func (r *Report) Text() (b []byte) {
	threads := make([]metrics.Snapshot, len(r.Threads))
	for i, t := range r.Threads {
		threads[i] = t.Snapshot
	}
	all := metrics.Sum(threads)
	line := func(name string, value uint64) { b = fmt.Appendf(b, "%s:%d\r\n", name, value) }
	all.Info(line)
	line("maxclients", uint64(r.MaxClients))
	b = r.Process.appendFields(b, r.Now)
	b = fmt.Appendf(b, ownSection+"keyway_version:%s\r\ngo_version:%s\r\nlayout:%s\r\nthreads:%d\r\n",
		r.Version, runtime.Version(), r.Layout, len(r.Threads))
	if r.Process != nil && r.Process.Pool != "" {
		b = fmt.Appendf(b, "pool:%s\r\n", r.Process.Pool)
	}
	masters := slices.DeleteFunc(all.Nodes, func(n metrics.Node) bool { return !n.Master })
	up := uint64(0)
	for _, n := range masters {
		if n.Up {
			up++
		}
	}
	line("masters", uint64(len(masters)))
	line("masters_up", up)
	all.Own(line)
	for i, n := range masters {
		b = fmt.Appendf(b, "node%d:name=%s,addr=%s,state=%s,in_flight=%d\r\n",
			i, n.Name, n.Addr, cmp.Or(n.State, "ready"), n.InFlight)
	}
	for _, t := range r.Threads {
		b = fmt.Appendf(b, "thread%d:", t.Index)
		comma := ""
		t.Own(func(name string, value uint64) {
			b = fmt.Appendf(b, "%s%s=%d", comma, name, value)
			comma = ","
		})
		b = append(b, "\r\n"...)
	}
	return b
}

func (p *Process) appendFields(b []byte, now time.Time) []byte {
	if p == nil {
		return b
	}
	up := int(now.Sub(p.Started).Seconds())
	return fmt.Appendf(b, "run_id:%s\r\nprocess_id:%d\r\ntcp_port:%d\r\nuptime_in_seconds:%d\r\nuptime_in_days:%d\r\n"+
		"executable:%s\r\nconfig_file:%s\r\n", p.RunID, p.PID, p.Port, up, up/86400, p.Executable, p.ConfigFile)
}
