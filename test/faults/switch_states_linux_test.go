package faults

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	records "github.com/keyway-proxy/keyway/register"
	changes "github.com/keyway-proxy/keyway/switching"
	"github.com/keyway-proxy/keyway/test/redistest"
)

// The states in which a change of the layout is when something happens, in their order.
const (
	planned  = "planned"  // one keyway is not prepared
	prepared = "prepared" // all are, and the command has not seen it
	holding  = "holding"  // all keyways hold their commands
	decided  = "decided"  // no node has entered the epoch
	flipping = "flipping" // a node of the new layout has not
	moving   = "moving"   // keys move
	drained  = "drained"  // no key is left to move, and the nodes do not say yet that the change is done
)

var changeStates = []string{planned, prepared, holding, decided, flipping, moving, drained}

// happenings are what happens to a change.
var happenings = []struct {
	what string
	do   func(s *shifts, c *change, state string)
}{
	{killed, (*shifts).killCommand},
	{frozen, (*shifts).stopKeyway},
	{joins, (*shifts).joinKeyway},
	{takenBack, (*shifts).takeBack},
	{cancelled, (*shifts).cancel},
}

const (
	killed    = "the command is killed"
	frozen    = "a keyway is stopped"
	joins     = "a keyway joins"
	takenBack = "it is taken back"
	cancelled = "it is cancelled"
)

// inShort has what the short form of TestSwitchInEachState does: what no other test does, and is quick.
var inShort = map[string][]string{
	prepared: {cancelled},
	holding:  {joins},
	decided:  {takenBack},
	flipping: {cancelled},
}

// TestSwitchInEachState: in each state of a change, the command is killed, a keyway is stopped for a while,
// another one joins, and somebody takes the change back or cancels it. Clients get no error, but for what a
// stopped keyway had in flight, and nothing is lost, doubled, stale or foreign. Locks are exclusive.
func TestSwitchInEachState(t *testing.T) {
	redistest.OfAProcess(t)
	t.Parallel()
	s := newShifts(t)
	for _, state := range changeStates {
		for _, h := range happenings {
			if !*long && !slices.Contains(inShort[state], h.what) {
				continue
			}
			t.Run(strings.ReplaceAll(state+": "+h.what, " ", "-"), func(t *testing.T) {
				s.t = t
				began := time.Now()
				h.do(s, s.change(state), state)
				s.settled()
				t.Logf("%.1f s", time.Since(began).Seconds())
			})
		}
	}
	s.t = t
	s.end()
}

// shifts is a layout that changes there and back while clients use it by three keyways. Clients of
// the third one and of the first want locks.
type shifts struct {
	t       *testing.T
	nodes   []*redistest.Node
	layouts [2]string
	files   [2]string
	now     int   // which layout is in force
	epoch   int64 // of the last change
	keyways [3]*redistest.Process
	loads   [2]*load
	locks   *lockers
	unknown bool // a keyway was stopped: what it had in flight is unknown
}

// coldKeys is how many keys no client uses.
const coldKeys = 3000

func newShifts(t *testing.T) *shifts {
	s := &shifts{t: t}
	s.nodes, s.layouts[0], s.layouts[1] = twoLayouts(t)
	for i := range s.layouts {
		s.files[i] = redistest.WriteFile(t, fmt.Sprintf("layout%d.yml", i), s.layouts[i])
	}
	for i := range s.keyways {
		s.keyways[i] = s.join()
		s.keyways[i].Answers()
	}
	c := redistest.Dial(t, s.keyways[0].Addr)
	defer c.Close()
	for i := range coldKeys {
		c.Send("SET", fmt.Sprint("cold:", i), fmt.Sprint(i))
	}
	c.Flush()
	for range coldKeys {
		if r, err := c.Receive(); err != nil || r.Text != "OK" {
			t.Fatal(r, err)
		}
	}
	for i := range s.loads {
		s.loads[i] = (&load{
			addr: s.keyways[i].Addr, clients: 4, keys: 30, pause: 4 * time.Millisecond,
			prefix: fmt.Sprintf("load%d:", i),
		}).start(t)
	}
	s.locks = newLockers(t, s.keyways[0].Addr, s.keyways[2].Addr)
	s.locks.run(t)
	return s
}

// join starts a keyway whose file has the first layout. It may not answer yet.
func (s *shifts) join() *redistest.Process {
	s.t.Helper()
	addr := fmt.Sprintf("127.0.0.1:%d", redistest.FreePort(s.t))
	file := redistest.WriteFile(s.t, "keyway.yml", "listen: "+addr+"\nshutdown: {drain: 0s}\n"+
		"backend: {request_timeout: 20s}\n"+s.layouts[0])
	p := redistest.StartProcess(s.t, "serve", "-c", file)
	p.Addr = addr
	return p
}

// home returns the node with the records of each change: both layouts have it.
func (s *shifts) home() *changes.Node { return &changes.Node{Name: "a", Addr: s.nodes[0].Addr} }

// fresh returns the node that only the layout which is not in force has.
func (s *shifts) fresh() *redistest.Node { return s.nodes[[]int{3, 2}[s.now]] }

// status returns what the home says about the last change that is not cancelled.
func (s *shifts) status() (at changes.Status) {
	at, err := changes.Read(s.t.Context(), s.home(), nil)
	if err != nil {
		s.t.Fatal(err)
	}
	return at
}

// await waits until the home says that a change is in a state.
func (s *shifts) await(state changes.State) {
	s.t.Helper()
	redistest.Eventually(s.t, 60*time.Second, string("the change is "+state), func() bool {
		at := s.status()
		isNew := at.Epoch > s.epoch
		if isNew && at.State == state {
			s.epoch = at.Epoch
		}
		return isNew && at.State == state
	})
}

// The bytes of a command's output after which it stops: the first line is printed at once, the second one when all
// keyways are prepared, and the third one when all hold their commands.
const (
	beforePrepared = len("changing the layout from ring of a, b, c (placement 0123456789ab) " +
		"to slots of a, b, d (placement 0123456789ab)\n")
	beforeHeld = beforePrepared + 60
	never      = 1000
)

// begin starts keyway switch from the layout that is in force to the other one. It stops when it has
// printed so many bytes, until goOn.
func (s *shifts) begin(room int, flags ...string) *change {
	s.t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		s.t.Fatal(err)
	}
	page := os.Getpagesize()
	if _, err := unix.FcntlInt(w.Fd(), unix.F_SETPIPE_SZ, page); err != nil {
		s.t.Fatal(err)
	}
	filled := page - room
	if _, err := w.Write(make([]byte, filled)); err != nil {
		s.t.Fatal(err)
	}
	c := &change{output: w}
	c.goOn = sync.OnceFunc(func() {
		go func() {
			defer r.Close()
			if _, err := io.CopyN(io.Discard, r, int64(filled)); err == nil {
				io.Copy(&c.out, r)
			}
		}()
	})
	c.begin(s.t, s.layouts[s.now], s.layouts[1-s.now], flags...)
	w.Close()
	s.t.Cleanup(c.goOn)
	return c
}

// change begins a change, and stops it in a state; resume makes it go on.
func (s *shifts) change(state string) (c *change) {
	s.t.Helper()
	switch state {
	case planned:
		s.keyways[2].Freeze()
		c = s.begin(beforePrepared)
		s.await(changes.Planned)
	case prepared:
		c = s.begin(beforePrepared)
		s.await(changes.Prepared)
	case holding, decided, flipping:
		c = s.begin(beforeHeld)
		s.awaitHold()
		if state == decided {
			s.decide()
		}
		if state == flipping {
			s.fresh().Freeze()
			c.goOn()
			redistest.Eventually(s.t, 20*time.Second, "the home is in the epoch", func() bool {
				return s.status().Entered != nil
			})
		}
	case moving:
		c = s.begin(never, "--rate", "300", "--latency", "0")
		c.goOn()
		c.moves()
		s.await(changes.Moving)
	case drained:
		c = s.begin(never)
		c.goOn()
		redistest.Eventually(s.t, 60*time.Second, "no key is left to move", func() bool {
			at := s.status()
			return at.Epoch > s.epoch && len(at.Drained) == 3
		})
		s.epoch = s.status().Epoch
	}
	return c
}

// awaitHold waits until all keyways hold their commands.
func (s *shifts) awaitHold() {
	s.t.Helper()
	s.await(changes.Holding)
	redistest.Eventually(s.t, 20*time.Second, "all keyways hold", func() bool {
		for _, m := range s.status().Members {
			if m.State != "held" {
				return false
			}
		}
		return true
	})
}

// decide does what the command would do next.
func (s *shifts) decide() {
	s.t.Helper()
	if to, err := s.home().Decide(s.t.Context(), s.epoch, records.Go); err != nil || to == nil {
		s.t.Fatalf("decided %v, %v", to, err)
	}
}

// resume makes a change go on that change has stopped.
func (s *shifts) resume(c *change, state string) {
	s.t.Helper()
	c.goOn()
	switch state {
	case planned:
		s.keyways[2].Thaw()
	case flipping:
		s.fresh().Thaw()
	case moving:
		s.run(0, "", "rate", "unlimited", "-c", s.files[0])
	}
}

// hasBegun reports whether a change in this state takes place.
func hasBegun(state string) bool {
	return slices.Index(changeStates, state) >= slices.Index(changeStates, decided)
}

// run runs a command of keyway, and requires an exit status and a text.
func (s *shifts) run(status int, want string, args ...string) {
	s.t.Helper()
	cmd := exec.Command(redistest.Build(s.t), args...)
	out, _ := cmd.CombinedOutput()
	if got := cmd.ProcessState.ExitCode(); got != status || !strings.Contains(string(out), want) {
		s.t.Errorf("keyway %s: status %d, want %d and %q:\n%s", args, got, status, want, out)
	}
}

// ends waits until the command has ended by itself.
func (s *shifts) ends(c *change) {
	s.t.Helper()
	redistest.Eventually(s.t, 60*time.Second, "the command ends", func() bool { return len(c.ended) > 0 })
}

// goesThrough waits until the change is done.
func (s *shifts) goesThrough(c *change) {
	s.t.Helper()
	c.goesThrough()
	s.now = 1 - s.now
}

// killCommand: what has begun goes on without it, and what has not begins again.
func (s *shifts) killCommand(c *change, state string) {
	c.kill()
	s.resume(c, state)
	if !hasBegun(state) {
		c = s.begin(never)
		c.goOn()
		s.goesThrough(c)
		return
	}
	s.now = 1 - s.now
}

// stopKeyway: the change goes on without it, unless it is not prepared.
func (s *shifts) stopKeyway(c *change, state string) {
	s.unknown = true
	s.keyways[1].Freeze()
	if state == planned {
		time.Sleep(300 * time.Millisecond) // the fault itself
		s.keyways[1].Thaw()
	}
	s.resume(c, state)
	c.moves()
	s.loads[0].more(s.t, 300)
	s.keyways[1].Thaw()
	s.goesThrough(c)
}

// joinKeyway: it serves by the layout that is in force.
func (s *shifts) joinKeyway(c *change, state string) {
	k := s.join()
	defer k.Kill()
	time.Sleep(100 * time.Millisecond) // so that it has looked at the nodes
	s.resume(c, state)
	k.Answers()
	s.finds(k)
	s.goesThrough(c)
	s.finds(k)
}

// takeBack: what has begun is taken back, and the command says so.
func (s *shifts) takeBack(c *change, state string) {
	if !hasBegun(state) {
		s.run(1, "has not begun", "reverse", "--wait", "-c", s.files[s.now])
		s.resume(c, state)
		s.goesThrough(c)
		return
	}
	back := exec.Command(redistest.Build(s.t), "reverse", "--wait", "-c", s.files[0])
	var out redistest.Log
	back.Stdout, back.Stderr = &out, &out
	if err := back.Start(); err != nil {
		s.t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // so that it has looked at the nodes
	s.resume(c, state)
	if err := back.Wait(); err != nil {
		s.t.Errorf("keyway reverse: %v\n%s", err, out.String())
	}
	s.ends(c)
	s.epoch = s.status().Epoch
}

// cancel: what has not begun does not take place.
func (s *shifts) cancel(c *change, state string) {
	if hasBegun(state) {
		if state != drained { // otherwise it may be done by now
			s.run(1, "has begun; keyway reverse takes it back", "cancel", "-c", s.files[s.now])
		}
		s.resume(c, state)
		s.goesThrough(c)
		return
	}
	s.run(0, "cancelled: the change to epoch", "cancel", "-c", s.files[s.now])
	s.resume(c, state)
	s.ends(c)
	if !strings.Contains(c.out.String(), "was cancelled") {
		s.t.Errorf("the command says %s", c.out.String())
	}
}

// settled waits until the layout that should be in force is, and no key is elsewhere. Clients are served.
func (s *shifts) settled() {
	s.t.Helper()
	redistest.Eventually(s.t, 60*time.Second, "the change is over", func() bool {
		at := s.status()
		return at.State == changes.Done || at.State == changes.Steady
	})
	s.run(0, "are where the layout places them", "verify", "-c", s.files[s.now])
	s.run(0, "", "status", "-c", s.files[s.now])
	for i, l := range s.loads {
		l.more(s.t, 300)
		if l.errors() > 0 && (i == 0 || !s.unknown) || l.otherErrors.Load() > 0 {
			s.t.Errorf("clients of keyway %d: %v", i, &l.tally)
		}
	}
	s.finds(s.keyways[2])
}

// finds requires that a keyway finds all keys that no client uses.
func (s *shifts) finds(k *redistest.Process) {
	s.t.Helper()
	c := redistest.Dial(s.t, k.Addr)
	defer c.Close()
	for i := range coldKeys {
		c.Send("GET", fmt.Sprint("cold:", i))
	}
	c.Flush()
	for i := range coldKeys {
		if r, err := c.Receive(); err != nil || r.Text != fmt.Sprint(i) {
			s.t.Fatalf("cold:%d: %s, %v", i, r, err)
		}
	}
}

// end ends the load, and checks what is there.
func (s *shifts) end() {
	s.t.Helper()
	for i, l := range s.loads {
		l.halt()
		l.settle(s.t, s.keyways[1-i].Addr)
	}
	s.locks.halt()
	s.locks.judge(s.t)
	census(s.t, s.keyways[2].Addr, s.nodes)
}
