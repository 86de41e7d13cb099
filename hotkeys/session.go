package hotkeys

import (
	"cmp"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// A session is what HOTKEYS of Redis 8.6 collects, from HOTKEYS START until HOTKEYS STOP. Each thread has one of its
// own for the accesses that it looks at.

// Terms are what HOTKEYS START asks for. keyway does not see the processor time that a key takes at its node, so
// the metric CPU has no figures.
type Terms struct {
	Net      bool
	Count    int           // keys in the answer
	Duration time.Duration // 0: until HOTKEYS STOP
	Ratio    int64         // the figures are those of one access in so many, as with Redis
}

const (
	mostKeys     = 64      // that a session can list, as with Redis
	mostSeconds  = 1000000 // that a session can last, as with Redis
	sessionSets  = 64
	usualKeys    = 10
	mostOfRatios = 1<<31 - 1
	lastSlot     = 16383
)

// The errors of HOTKEYS START. Redis has the words of all but the last two (hotkeys.c).
const (
	errMetrics   = "ERR METRICS parameter is required"
	errNumber    = "ERR METRICS count must be > 0 and <= 2"
	errCPUTwice  = "ERR METRICS CPU defined more than once!"
	errNetTwice  = "ERR METRICS NET defined more than once!"
	errMismatch  = "ERR METRICS count does not match number of metric types provided"
	errCount     = "ERR COUNT must be between 1 and 64"
	errDuration  = "ERR DURATION must be between 1 and 1000000"
	errRatio     = "ERR SAMPLE ratio must be positive"
	errSlots     = "ERR SLOTS parameter cannot be used in non-cluster mode"
	errSyntax    = "ERR syntax error"
	errOnlyCPU   = "ERR keyway: processor time is known to the nodes only; send HOTKEYS START METRICS 1 NET"
	errSomeSlots = "ERR keyway: HOTKEYS tracks the keys of all slots; leave SLOTS out"
)

// ErrActive is the error of HOTKEYS START while keys are tracked, and ErrStopFirst that of HOTKEYS RESET.
const (
	ErrActive    = "ERR hotkey tracking session already in progress"
	ErrStopFirst = "ERR hotkey tracking session in progress, stop tracking first"
)

// ParseTerms reads the arguments of HOTKEYS START. isCluster says that the client sees a cluster. text is an error
// for the client.
func ParseTerms(args [][]byte, isCluster bool) (of Terms, text string) {
	of = Terms{Count: usualKeys, Ratio: 1}
	if len(args) < 2 || !command.EqualFold(args[0], "metrics") {
		return of, errMetrics
	}
	metrics, ok := numberIn(args[1], 2)
	if !ok {
		return of, errNumber
	}
	args = args[2:]
	var hasCPU bool
	if args, hasCPU, text = of.parseMetrics(args, metrics); text != "" {
		return of, text
	}
	for len(args) > 0 {
		name := args[0]
		switch {
		case len(args) == 1:
			return of, errSyntax
		case command.EqualFold(name, "count"):
			n, ok := numberIn(args[1], mostKeys)
			if of.Count = int(n); !ok {
				return of, errCount
			}
		case command.EqualFold(name, "duration"):
			n, ok := numberIn(args[1], mostSeconds)
			if of.Duration = time.Duration(n) * time.Second; !ok {
				return of, errDuration
			}
		case command.EqualFold(name, "sample"):
			if of.Ratio, ok = numberIn(args[1], mostOfRatios); !ok {
				return of, errRatio
			}
		case command.EqualFold(name, "slots") && isCluster:
			return of, errSomeSlots
		case command.EqualFold(name, "slots"):
			return of, errSlots
		default:
			return of, errSyntax
		}
		args = args[2:]
	}
	if hasCPU && !of.Net {
		return of, errOnlyCPU
	}
	return of, ""
}

// parseMetrics reads the names of so many metrics, and returns the arguments behind them.
func (of *Terms) parseMetrics(args [][]byte, n int64) (rest [][]byte, hasCPU bool, text string) {
	for ; n > 0 && len(args) > 0; n-- {
		switch is := command.EqualFold; {
		case is(args[0], "cpu") && hasCPU:
			return nil, false, errCPUTwice
		case is(args[0], "net") && of.Net:
			return nil, false, errNetTwice
		case is(args[0], "cpu"):
			hasCPU = true
		case is(args[0], "net"):
			of.Net = true
		default:
			return nil, false, errSyntax
		}
		args = args[1:]
	}
	if n > 0 {
		return nil, false, errMismatch
	}
	return args, hasCPU, ""
}

func numberIn(arg []byte, most int64) (n int64, ok bool) {
	n, ok = resp.ParseInt(arg)
	return n, ok && n >= 1 && n <= most
}

// session is what one thread has collected.
type session struct {
	of    Terms
	start time.Time
	began int64
	ended int64  // 0: by of.Duration, or not at all
	all   uint64 // bytes of all keys
	bytes table
}

// Start begins a session instead of the one before.
func (t *Tracker) Start(of Terms, now int64, wall time.Time) {
	t.session = &session{of: of, start: wall, began: now, bytes: newTable(sessionSets)}
}

// Stop ends the session if it is active.
func (t *Tracker) Stop(now int64) {
	if t.IsActive(now) {
		t.session.ended = now
	}
}

// Reset forgets the session.
func (t *Tracker) Reset() { t.session = nil }

// IsActive reports whether there is a session that has not ended.
func (t *Tracker) IsActive(now int64) bool { return t.session.isActive(now) }

// end returns when the session ended or will end. ok is false if that is not known.
func (s *session) end() (at int64, ok bool) {
	switch {
	case s.ended > 0:
		return s.ended, true
	case s.of.Duration > 0:
		return s.began + int64(s.of.Duration), true
	}
	return 0, false
}

func (s *session) isActive(now int64) bool {
	if s == nil {
		return false
	}
	at, ends := s.end()
	return !ends || now < at
}

// add counts an access that stands for c.
func (s *session) add(by *sampler, hash uint64, a *Access, c counts) {
	s.all += c.bytes
	if c.bytes > 0 {
		s.bytes.add(by, hash, a, c, c.bytes)
	}
}

// Collected is what one thread's session has collected, for [AppendSession].
type Collected struct {
	of       Terms
	isActive bool
	start    time.Time
	duration time.Duration
	bytes    uint64
	keys     []collectedKey
}

// collectedKey is a key, of whichever database: Redis's HOTKEYS does not distinguish them.
type collectedKey struct {
	name  string
	bytes uint64
}

// Collected returns what the session has collected, or nil if there is none.
func (t *Tracker) Collected(now int64) *Collected {
	s := t.session
	if s == nil {
		return nil
	}
	c := &Collected{of: s.of, isActive: s.isActive(now), start: s.start, bytes: s.all}
	end := now
	if at, ends := s.end(); ends {
		end = min(now, at)
	}
	c.duration = time.Duration(end - s.began)
	for i := range s.bytes.sets {
		for j := range s.bytes.sets[i] {
			if e := &s.bytes.sets[i][j]; e.weight > 0 {
				c.keys = append(c.keys, collectedKey{e.Name(), e.counts.bytes})
			}
		}
	}
	return c
}

// AppendSession appends the reply to HOTKEYS GET, out of what the threads have collected. The first of them is that of
// the thread that was asked. It has the fields of Redis's reply in their order (hotkeys.c), without those about
// processor time.
func AppendSession(dst []byte, v resp.Version, threads []*Collected) []byte {
	c := threads[0]
	if c == nil {
		return v.AppendNull(dst)
	}
	bytes, keys := uint64(0), map[string]uint64{}
	for _, o := range threads {
		if o == nil {
			continue // another client has just sent HOTKEYS RESET
		}
		bytes += o.bytes
		for _, k := range o.keys {
			keys[k.name] += k.bytes
		}
	}
	var rows []collectedKey
	for name, n := range keys {
		rows = append(rows, collectedKey{name, n})
	}
	slices.SortFunc(rows, func(a, b collectedKey) int {
		return cmp.Or(cmp.Compare(b.bytes, a.bytes), cmp.Compare(a.name, b.name))
	})
	rows = rows[:min(len(rows), c.of.Count)]

	isActive := int64(0)
	if c.isActive {
		isActive = 1
	}
	dst = v.AppendMap(resp.AppendArray(dst, 1), 9)
	figure := func(name string, n int64) { dst = resp.AppendInt(resp.AppendBulkString(dst, name), n) }
	figure("tracking-active", isActive)
	figure("sample-ratio", c.of.Ratio)
	dst = resp.AppendArray(resp.AppendArray(resp.AppendBulkString(dst, "selected-slots"), 1), 2)
	dst = resp.AppendInt(resp.AppendInt(dst, 0), lastSlot)
	figure("all-commands-all-slots-us", 0)
	figure("net-bytes-all-commands-all-slots", int64(bytes))
	figure("collection-start-time-unix-ms", c.start.UnixMilli())
	figure("collection-duration-ms", c.duration.Milliseconds())
	figure("total-net-bytes", int64(bytes)/c.of.Ratio)
	dst = resp.AppendArray(resp.AppendBulkString(dst, "by-net-bytes"), 2*len(rows))
	for _, r := range rows {
		dst = resp.AppendInt(resp.AppendBulkString(dst, r.name), int64(r.bytes)/c.of.Ratio)
	}
	return dst
}

// Help is the text of HOTKEYS HELP.
var Help = []string{
	"START METRICS <count> [CPU] NET [COUNT <k>] [DURATION <seconds>] [SAMPLE <ratio>]",
	"    Start to track the keys that clients of this keyway use most, by network bytes. CPU has no figures.",
	"    * COUNT <k>: list so many keys. Default: 10.",
	"    * DURATION <seconds>: stop after so long. Default: HOTKEYS STOP.",
	"    * SAMPLE <ratio>: list the bytes of one access in so many. Default: 1.",
	"STOP", "    Stop tracking. HOTKEYS GET still has the results.",
	"GET", "    Return the results of all threads and nodes.",
	"RESET", "    Forget the results. Tracking must have been stopped.",
}
