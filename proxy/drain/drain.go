package drain

import (
	"math"
	"math/rand/v2"
	"time"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// drain closes the clients of a worker in three steps:
//
//	begin            ordinaryBy        end
//	|-- ordinary ----|-- the others ---|-- what is under way
//
// In the first step each client gets a turn. From then on it is closed as soon as it is between
// two commands, and in the middle of nothing else. In the second step the others get a turn:
// those that wait or listen. At the end keyway reads no more commands, and closes each client
// that has its replies.
type drain struct {
	engine.Inactive
	w                      *engine.Worker
	begin, ordinaryBy, end int64 // 0: keyway does not stop
	turns                  []*engine.Session
	next                   int // the first of turns that has not had its turn
	others                 bool
}

// minSpread is how long a client may take to finish what it is in the middle of, even if the
// clients are to be closed at once.
const minSpread = 100 * time.Millisecond

// Begin begins to close the worker's clients, spread over a time. New sessions may still be
// opened; they are closed with the others. Call it within a turn, and once.
func Begin(w *engine.Worker, spread time.Duration) {
	d := engine.FeatureOf[*drain](w)
	d.begin = w.Now
	d.ordinaryBy = w.Now + int64(spread)/4*3
	d.end = w.Now + int64(max(spread, minSpread))
	d.listTurns()
	d.Tick()
}

// listTurns gives all present clients a turn, in an order of chance: the connections of one
// pool were opened together, and should not be closed together.
func (d *drain) listTurns() {
	w := d.w
	d.turns, d.next = append([]*engine.Session(nil), w.Sessions...), 0
	rng := rand.New(rand.NewPCG(w.Options.Seed, uint64(w.Options.Index)+uint64(d.begin)))
	rng.Shuffle(len(d.turns), func(i, j int) { d.turns[i], d.turns[j] = d.turns[j], d.turns[i] })
}

// Due returns the next tick while keyway stops.
func (d *drain) Due() int64 {
	if d.begin == 0 {
		return math.MaxInt64
	}
	return d.w.Now + engine.Tick
}

// Tick gives clients their turn when it has come.
func (d *drain) Tick() {
	if d.begin == 0 {
		return
	}
	if !d.others && d.giveTurns(d.begin, d.ordinaryBy, engine.Leaving) {
		d.others = true
		d.listTurns()
	}
	if d.others {
		d.giveTurns(d.ordinaryBy, d.end-int64(minSpread), engine.Leaving|engine.LeavingNow)
	}
	for _, s := range d.w.Sessions {
		switch {
		case !s.Has(engine.Leaving):
		case MayLeave(s):
			s.Wake()
		case s.Has(engine.LeavingNow) && engine.ActivityOf(s) == engine.Waiting:
			d.w.Blocked.Release(s)
		}
	}
	if d.w.Now >= d.end {
		for _, s := range d.w.Sessions {
			s.Set(engine.Leaving | engine.LeavingNow) // those that came late had no turn
			s.CloseAfter()
		}
	}
}

// giveTurns gives a turn to the clients whose turn has come, spread from one time to another. It
// reports whether all have had theirs.
func (d *drain) giveTurns(from, to int64, how engine.State) bool {
	due := len(d.turns)
	if now := d.w.Now; now < to {
		due = min(due, 1+int(int64(due)*(now-from)/(to-from)))
	}
	for ; d.next < due; d.next++ {
		d.turns[d.next].Set(how)
		d.turns[d.next] = nil
	}
	return d.w.Now >= to
}

// settled is how long a client is silent before keyway closes it without a reply to go with.
const settled = 200 * time.Millisecond

// MayLeave reports whether the shell should close the client as soon as it has written its
// output, provided that nothing more has arrived from the client.
//
// A client that sends commands is closed together with the reply to one of them. It then learns
// of the end before it sends the next command. The reply to a PING or a HELLO does not do: many
// clients send these to a connection that they are about to use.
func MayLeave(s *engine.Session) bool {
	if !s.Has(engine.Leaving) || !engine.IsBetweenCommands(s) {
		return false
	}
	activity := engine.ActivityOf(s)
	switch {
	case activity == engine.InTransaction:
		return false
	case s.Has(engine.LeavingNow):
		return true
	case activity != engine.Ordinary:
		return false
	}
	return s.Pending() > 0 && usesData(s.LastCmd) || s.Worker.Now-s.ActiveAt >= int64(settled)
}

// usesData reports whether a command is none of those by which clients prepare a connection.
func usesData(cmd *command.Command) bool {
	switch cmd.Group {
	case "connection", "server", "cluster":
		return false
	}
	return true
}

// Left counts how a client left that keyway closes because it stops. isCut says that the client
// has sent more than keyway has read.
func Left(s *engine.Session, isCut bool) {
	count := &s.Worker.Stats.DrainCounters
	switch {
	case s.Has(engine.Released):
		count.Released++
	case engine.ActivityOf(s) == engine.InTransaction:
		count.CutTransaction++
	case !engine.IsAnswered(s):
		count.CutUnanswered++
	case isCut || len(s.In) > 0:
		count.CutUnread++
	default:
		count.Drained++
	}
}
