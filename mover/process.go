package mover

import (
	"cmp"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// namePrefix begins the names of the connections by which processes are seen. No connection for
// commands is called so; see guard.ParseConnection.
const namePrefix = "keyway:mover/"

// Process is a process that may move the keys of a change, as the name of its connection to the
// change's home says.
type Process struct {
	ID       int64         // of the connection, as the home counts them
	Instance string        // the name of the keyway, or of the command
	Host     string        // from which it connects
	Idle     time.Duration // since it has last asked the home something, in whole seconds
	Epoch    int64         // of the change
	// Fallback says that the process moves keys only while no keyway does.
	Fallback bool
	Paces    int // the number of the last pace that it has seen, and obeys
	Progress
}

// Progress says how far the process is that moves the keys. It is zero for the others.
type Progress struct {
	Moves   bool  // it moves keys, or tries to
	Stuck   bool  // it has not got on for a while, so another process should try
	Moved   int64 // keys, since it has begun
	Left    int64 // keys that it still has to move, estimated; Unknown at the beginning
	Rate    int   // keys per second, in the last seconds
	Slow    string
	Waits   string // why keys do not move, or only some; empty: they do
	Aside   int    // values that were set aside, since it has begun
	Verify  bool   // all keys have moved, and it looks whether that is true
	Sources []Source
}

// Unknown is the Left of a process that has not looked at any key yet.
const Unknown = -1

// Source says how far a node was scanned for keys that move.
type Source struct {
	Name          string
	Looked, Total int64
	Done          bool
}

// Stuck is how the log, keyway status and the page say that a change waits for something. The reason follows.
const Stuck = "the keys of the change do not move"

// maxWaits bounds the text of Waits in a name.
const maxWaits = 300

// name returns the name of the process's connection.
func (p *Process) name() string {
	v := url.Values{"epoch": {strconv.FormatInt(p.Epoch, 10)}, "by": {p.Instance}}
	number := func(key string, n int64) {
		if n != 0 {
			v.Set(key, strconv.FormatInt(n, 10))
		}
	}
	flag := func(key string, is bool) {
		if is {
			v.Set(key, "1")
		}
	}
	text := func(key, value string) {
		if value != "" {
			v.Set(key, value)
		}
	}
	flag("fallback", p.Fallback)
	flag("moves", p.Moves)
	flag("stuck", p.Stuck)
	flag("verify", p.Verify)
	number("pace", int64(p.Paces))
	number("moved", p.Moved)
	number("left", p.Left)
	number("rate", int64(p.Rate))
	number("aside", int64(p.Aside))
	text("slow", p.Slow)
	text("waits", p.Waits[:min(len(p.Waits), maxWaits)])
	for _, s := range p.Sources {
		state := ""
		if s.Done {
			state = " done"
		}
		v.Add("source", fmt.Sprintf("%d %d%s %s", s.Looked, s.Total, state, s.Name))
	}
	return namePrefix + v.Encode()
}

// parse reads a line of CLIENT LIST. ok is false if the connection is none of a mover.
func parse(line string) (p Process, ok bool) {
	var name string
	for field := range strings.FieldsSeq(line) {
		key, value, _ := strings.Cut(field, "=")
		switch key {
		case "id":
			p.ID, _ = strconv.ParseInt(value, 10, 64)
		case "addr":
			if p.Host, _, _ = net.SplitHostPort(value); p.Host == "" {
				p.Host = value // of a Unix socket
			}
		case "name":
			name = value
		case "idle":
			seconds, _ := strconv.Atoi(value)
			p.Idle = time.Duration(seconds) * time.Second
		}
	}
	query, ok := strings.CutPrefix(name, namePrefix)
	if !ok {
		return p, false
	}
	v, err := url.ParseQuery(query)
	if err != nil {
		return p, false
	}
	number := func(key string) int64 {
		n, _ := strconv.ParseInt(v.Get(key), 10, 64)
		return n
	}
	p.Epoch, p.Instance, p.Fallback, p.Paces = number("epoch"), v.Get("by"), v.Has("fallback"), int(number("pace"))
	p.Moves, p.Stuck, p.Verify = v.Has("moves"), v.Has("stuck"), v.Has("verify")
	p.Moved, p.Left, p.Rate, p.Aside = number("moved"), number("left"), int(number("rate")), int(number("aside"))
	p.Slow, p.Waits = v.Get("slow"), v.Get("waits")
	for _, text := range v["source"] {
		p.Sources = append(p.Sources, parseSource(text))
	}
	return p, p.Epoch > 0
}

func parseSource(text string) (s Source) {
	looked, rest, _ := strings.Cut(text, " ")
	total, rest, _ := strings.Cut(rest, " ")
	s.Looked, _ = strconv.ParseInt(looked, 10, 64)
	s.Total, _ = strconv.ParseInt(total, 10, 64)
	s.Name, s.Done = strings.CutPrefix(rest, "done ")
	return s
}

// Processes returns the processes in a reply to CLIENT LIST that may move the keys of the change to an
// epoch. The first one should.
func Processes(clients string, epoch int64) (all []Process) {
	for line := range strings.Lines(clients) {
		if p, ok := parse(line); ok && p.Epoch == epoch {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, compare)
	return all
}

// frozen is how long a process asks nothing that is not alive any more, as it seems.
const frozen = 5 * time.Second

// compare orders processes: the first one should move keys. One that does goes on, because another
// would begin anew.
func compare(a, b Process) int {
	last := func(a, b bool) int { // those of which it is true come last
		switch {
		case a == b:
			return 0
		case a:
			return 1
		}
		return -1
	}
	return cmp.Or(last(a.Idle > frozen, b.Idle > frozen), last(a.Stuck, b.Stuck), last(!a.Moves, !b.Moves),
		last(a.Fallback, b.Fallback), cmp.Compare(a.ID, b.ID))
}
