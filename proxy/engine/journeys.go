package engine

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/journey"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/resp"
)

// journeys records the journeys of some commands: of those that a sampler chooses, and of slow ones. A command that
// is sent again is recorded in case it becomes slow.
type journeys struct {
	journey.Sampler
	w    *Worker
	slow journey.Purpose // for which all slow commands are recorded
	// pending is of the command that is being dispatched, and has neither a request nor a reply yet.
	pending   *journey.Journey
	of        *Session                      // its client
	waiting   map[*Session]*journey.Journey // of commands that keyway answers later
	unclaimed int                           // pending and waiting ones
	unused    []*journey.Journey
	inUse     int
	keys      []int // the positions of a command's keys
}

const (
	// maxJourneys bounds the journeys under way, and maxFollowed those that end in one turn. Others are counted
	// as lost.
	maxJourneys = 4096
	maxFollowed = 1024
)

// upperNames has the names of commands as journeys show them, by their ids.
var upperNames = func() []string {
	names := make([]string, command.Count)
	for _, c := range command.ByID {
		names[c.ID] = c.Upper()
	}
	return names
}()

func newJourneys(w *Worker) journeys {
	js := journeys{w: w, Sampler: journey.NewSampler(w.Options.Seed, uint64(w.Options.Index))}
	js.waiting = map[*Session]*journey.Journey{}
	js.use()
	return js
}

// configure makes journeys follow the worker's options, which were others before.
func (js *journeys) configure(before journey.Settings) {
	if js.w.Options.Journeys != before {
		js.use()
	}
}

func (js *journeys) use() {
	js.Configure(&js.w.Options.Journeys)
	js.slow = js.w.Options.Journeys.Slow()
}

// begin dispatches a command, whose bytes it gets the number of. It returns what dispatch returns.
func (js *journeys) begin(s *Session, a command.Args, length int) bool {
	if js.Passes() {
		return js.w.dispatch(s, a)
	}
	return js.beginChosen(s, a, length)
}

// beginChosen is begin for a command that the sampler has chosen.
func (js *journeys) beginChosen(s *Session, a command.Args, length int) bool {
	chosen := js.Choose()
	j := js.open(s, a, length, chosen)
	done := js.w.dispatch(s, a)
	if j == nil || js.pending == nil {
		return done
	}
	if done && s.Has(Blocked) { // such as HELLO 3, for which keyway asks a node
		js.pending, js.of, js.waiting[s] = nil, nil, j
		return true
	}
	js.unpend()
	if !done {
		js.release(j)
		js.Owe(chosen)
		return false
	}
	js.end(j) // it has no reply of its own, as SUBSCRIBE
	return true
}

// beginDropped begins the journey of a command that has waited and is not dispatched again: the caller answers it.
func (js *journeys) beginDropped(s *Session, a command.Args, length int) {
	if !js.Passes() {
		js.open(s, a, length, js.Choose())
	}
}

// open makes a journey pending, until the command has a request or a reply. It returns nil if there are too many.
func (js *journeys) open(s *Session, a command.Args, length int, chosen journey.Purpose) *journey.Journey {
	w, j := js.w, js.new(chosen)
	if j == nil {
		return nil
	}
	cmd := w.Learned.CommandOf(a)
	if cmd != nil && s.User.Prefix != nil && cmd.ArityOK(a.Len()) {
		if whole, refusal := s.User.Prefix.Command(&w.Names, cmd, a); refusal == "" {
			js.describe(j, cmd, whole)
		}
	} else {
		js.describe(j, cmd, a)
	}
	j.Start, j.BytesIn = w.Now, length
	identify(j, s)
	js.pending, js.of = j, s
	js.unclaimed++
	return j
}

// unpend makes no journey pending, and returns the one that was.
func (js *journeys) unpend() *journey.Journey {
	j := js.pending
	js.pending, js.of = nil, nil
	js.unclaimed--
	return j
}

// take returns the open journey of a client, which is no longer open; nil: there is none.
func (js *journeys) take(s *Session) *journey.Journey {
	if s == js.of {
		return js.unpend()
	}
	j := js.waiting[s]
	if j != nil {
		delete(js.waiting, s)
		js.unclaimed--
	}
	return j
}

// describe records which command it is, and its keys. cmd is nil if the command is unknown: its name could be
// anything, such as a password.
func (js *journeys) describe(j *journey.Journey, cmd *command.Command, a command.Args) {
	if cmd == nil {
		return
	}
	if cmd.ID < len(upperNames) && upperNames[cmd.ID] != "" {
		j.Command = upperNames[cmd.ID]
	} else {
		j.Command = cmd.Upper() // a learned one
	}
	if !cmd.ArityOK(a.Len()) {
		return
	}
	js.keys = cmd.Keys(a, js.keys[:0])
	if j.Keys = len(js.keys); j.Keys > 0 {
		j.SetKey(a.Arg(js.keys[0]), &js.w.Options.Journeys)
	}
}

// identify records whose command it is.
func identify(j *journey.Journey, s *Session) {
	j.Client, j.ClientName, j.User, j.Database = s.peer, s.About.Name, s.User.Name, int(s.DB)
}

// new returns an empty journey. It returns nil, and counts it as lost, if there are too many.
func (js *journeys) new(of journey.Purpose) *journey.Journey {
	if js.inUse >= maxJourneys {
		js.w.Ready.Followed.Lose(of)
		return nil
	}
	js.inUse++
	if n := len(js.unused); n > 0 {
		j := js.unused[n-1]
		js.unused = js.unused[:n-1]
		*j = journey.Journey{For: of}
		return j
	}
	return &journey.Journey{For: of}
}

// maxUnusedJourneys bounds those that are kept for later.
const maxUnusedJourneys = 256

func (js *journeys) release(j *journey.Journey) {
	if js.inUse--; len(js.unused) < maxUnusedJourneys {
		js.unused = append(js.unused, j)
	}
}

// claim gives the open journey to the request of its command.
func (js *journeys) claim(r *Request) {
	r.journey = js.take(r.Session)
}

// answered ends the open journey with a reply of keyway's own.
func (js *journeys) answered(s *Session, reply []byte) {
	j := js.take(s)
	if j == nil {
		return
	}
	j.Replied(reply)
	identify(j, s) // AUTH and SELECT have changed it
	js.end(j)
}

// follow begins to record a command that no sampler has chosen. frame is the call's.
func (js *journeys) follow(c *Call, frame []byte) {
	r := c.Request
	if r.journey != nil || r.Session == nil || r.Command == nil {
		return
	}
	j := js.new(0)
	if j == nil {
		return
	}
	j.Start, j.BytesIn = r.start, c.sent(frame)
	identify(j, r.Session)
	var p resp.Parser
	if _, st, err := p.Next(frame, &resp.DefaultLimits); err == nil && st == resp.Ready {
		js.describe(j, r.Command, &p)
	}
	r.journey = j
}

// refused records that a node has answered a call with an error that the client does not get. reply is the error.
func (js *journeys) refused(c *Call, frame []byte, written int64, reply []byte) {
	if c.Request.journey == nil {
		js.follow(c, frame)
	}
	js.attempt(c, written, journey.Code(reply))
}

// failed records that the connection has failed a call.
func (js *journeys) failed(c *Call, frame []byte, f pool.Failure) {
	if js.slow != 0 && c.Request.journey == nil {
		js.follow(c, frame)
	}
	result, written := journey.Lost, f.WrittenAt
	if f.Timeout {
		result = journey.TimedOut
	}
	if !f.Sent {
		written = 0
	}
	js.attempt(c, written, result)
}

// tried records that a node has answered a call whose journey is recorded. p is the last piece of the reply.
func (js *journeys) tried(c *Call, written int64, p pool.Piece) {
	if j := c.Request.journey; j.BytesOut == 0 && c.Request.Merge == nil {
		j.Replied(p.Bytes) // its recording has begun only now
	}
	js.attempt(c, written, resultOf(p))
}

func resultOf(p pool.Piece) string {
	if p.Kind == '-' {
		return journey.Code(p.Bytes)
	}
	return ""
}

// RecordAttempt records that a node has answered a call, if anything is recorded of its command. The client does not
// get this reply. p is the last piece.
func RecordAttempt(c *Call, conn *pool.Conn, p pool.Piece) {
	if c.Request.journey != nil {
		c.Worker().journeys.attempt(c, conn.WrittenAt(), resultOf(p))
	}
}

func (js *journeys) attempt(c *Call, written int64, result string) {
	if j := c.Request.journey; j != nil {
		j.IsSplit = c.Request.Merge != nil
		j.Tried(journey.Attempt{
			Node: c.Node.name, Addr: c.Node.Addr, Written: written, Ended: js.w.Now, Result: result,
		})
	}
}

// ended ends the journey of a request that has its whole reply.
func (js *journeys) ended(r *Request) {
	j := r.journey
	r.journey = nil
	if js.w.SlowLog.Lists(r.Command, js.w.Now-j.Start) {
		j.IsSlow = true
		j.For |= js.slow
	}
	if j.For == 0 {
		js.release(j)
		return
	}
	identify(j, r.Session)
	js.end(j)
}

// left ends the open journey of a client that has left.
func (js *journeys) left(s *Session) {
	if j := js.take(s); j != nil {
		j.IsCut = true
		js.end(j)
	}
}

// cut ends the journey of a request whose client has left. It is recorded if a sampler has chosen it.
func (js *journeys) cut(r *Request) {
	j := r.journey
	r.journey = nil
	if j.For == 0 {
		js.release(j)
		return
	}
	j.IsCut = true
	js.end(j)
}

// end hands a journey over to the shell.
func (js *journeys) end(j *journey.Journey) {
	j.End, j.At = js.w.Now, js.w.Wall
	if j.For.Has(journey.ForTrace) {
		j.Trace = js.ID()
	}
	if to := &js.w.Ready.Followed; len(to.Journeys) < maxFollowed {
		to.Journeys = append(to.Journeys, *j)
	} else {
		to.Lose(j.For)
	}
	js.release(j)
}
