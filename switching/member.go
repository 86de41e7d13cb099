package switching

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/keyway-proxy/keyway/control"
	"github.com/keyway-proxy/keyway/register"
)

// Keyway is what a keyway does to take part in a change. Its methods are called one at a time.
type Keyway interface {
	// Name returns the name of a connection that says that the keyway has reached a state of the
	// change to an epoch; see guard.StateName.
	Name(epoch int64, state string) string
	// Prepare returns an error if the keyway cannot serve by the new layout of a plan.
	Prepare(ctx context.Context, p *register.Plan) error
	// Hold makes all commands wait for this long at most. IsHeld reports whether nothing is in
	// flight. EndHold ends that.
	Hold(atMost time.Duration)
	IsHeld() bool
	EndHold()
	// Keyways returns how many keyways take part, as far as known: many ask the home less often.
	Keyways() int
	// Obey makes the keyway serve by a change that the home has entered.
	Obey(ctx context.Context, of *register.Change) error
}

// HoldTime is how long keyways hold commands at most, for one attempt to change the layout, unless the plan
// says otherwise.
const HoldTime = time.Second

// holdTime returns that of a plan.
func holdTime(p *register.Plan) time.Duration {
	if o, err := p.ReadOptions(); err == nil && o.Hold > 0 {
		return o.Hold
	}
	return HoldTime
}

// The states of members, in their names.
const (
	idle     = "idle" // there is no change
	prepared = "prepared"
	held     = "held"
	moving   = "moving"
)

const (
	lookInterval = time.Second            // while there is no change
	planInterval = 10 * time.Millisecond  // when the keyway is not ready
	holdInterval = 2 * time.Millisecond   // while commands wait, or may have to: keyways should begin at once
	askTimeout   = 500 * time.Millisecond // for one question

	// How many questions the home gets in a second from all keyways: while there is no change, and, in the
	// seconds before it enters an epoch, while commands wait or may have to. The first leaves each keyway
	// enough time to prepare itself within prepareTime, the second to hold commands within HoldTime.
	looksPerSecond = 200
	holdsPerSecond = 5000
)

// member takes part in changes.
type member struct {
	home *Node
	k    Keyway
	log  *slog.Logger

	c     *connection
	close func()
	said  string

	epoch   int64     // of the change that the rest is about
	ready   bool      // it is prepared
	holds   int       // the number of the last hold that it has seen
	holding bool      // commands wait
	until   time.Time // then the hold ends
	refusal string    // why it is not prepared, as logged
	tried   int64     // the last epoch by which the keyway was told to serve
	planned int64     // the epoch of the plan that it has logged; 0: that is decided, or there is none
	decided time.Time // when it has first seen that the change takes place, although the home is not in it
}

// TakePart makes a keyway take part in the changes whose home is this node, until ctx ends. A change
// does not need that: it makes the change free of errors for the keyway's clients.
func (n *Node) TakePart(ctx context.Context, k Keyway, log *slog.Logger) {
	m := &member{home: n, k: k, log: log}
	defer m.hangUp()
	for {
		pause := m.look(ctx)
		select {
		case <-ctx.Done():
			m.endHold()
			return
		case <-time.After(m.spread(pause)):
		}
	}
}

// spread makes a pause longer if many keyways ask the home.
func (m *member) spread(pause time.Duration) time.Duration {
	perSecond := float64(holdsPerSecond)
	if pause >= lookInterval {
		perSecond = looksPerSecond
	}
	return control.Interval(pause, m.k.Keyways(), perSecond)
}

// look looks at the home's register once, and returns when to look again.
func (m *member) look(ctx context.Context) time.Duration {
	if m.holding && !time.Now().Before(m.until) {
		m.endHold()
	}
	ask, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	all, err := m.changes(ctx, ask)
	if err != nil {
		m.log.Debug("cannot look for a change of the layout", "home", m.home.Name, "addr", m.home.Addr, "error", err)
		if !control.IsReply(err) {
			m.hangUp() // a node that knows no functions has answered
		}
		if m.holding {
			return planInterval
		}
		return lookInterval
	}
	m.logCancelled(all)
	last := m.due(all)
	if last == nil {
		m.endHold()
		m.say(ask, idle)
		return lookInterval
	}
	if last.Epoch != m.epoch {
		m.endHold()
		m.epoch, m.ready, m.holds, m.refusal, m.decided = last.Epoch, false, 0, "", time.Time{}
	}
	switch {
	case last.Entered != nil || last.Done:
		return m.obey(ctx, last)
	case last.Decision == register.Go: // the home enters the epoch next
		return m.help(ctx, last)
	case last.Over() || last.Plan == nil:
		m.endHold()
		m.say(ask, idle)
		return lookInterval
	}
	return m.follow(ctx, last)
}

// logPlan logs who has planned a change.
func (m *member) logPlan(of *register.Change) {
	if m.planned == of.Epoch {
		return
	}
	m.planned = of.Epoch
	about := []any{"epoch", of.Epoch}
	if o, err := of.Plan.ReadOptions(); err == nil && o.By != "" {
		about = append(about, "by", o.By)
	}
	m.log.Info("a change of the layout is planned", about...)
}

// logCancelled logs that the change does not take place whose plan was logged.
func (m *member) logCancelled(all []register.Change) {
	for i := range all {
		if all[i].Epoch != m.planned || all[i].Decision == register.Undecided {
			continue
		}
		if all[i].Decision == register.Cancelled {
			m.log.Info("a change of the layout is cancelled", "epoch", m.planned)
		}
		m.planned = 0
		return
	}
}

// due returns the change that the member follows: the last one that is decided, until the keyway has been told
// to serve by it, also if the way back is planned by then. If commands went on for that, they would be in
// flight when nodes enter the epoch that is decided.
func (m *member) due(all []register.Change) *register.Change {
	for i := len(all) - 1; i >= 0; i-- {
		if c := &all[i]; c.Decision == register.Go {
			if c.Epoch > m.tried && !c.Done {
				return c
			}
			break
		}
	}
	return current(all)
}

// follow does what a plan asks for.
func (m *member) follow(ctx context.Context, of *register.Change) time.Duration {
	m.logPlan(of)
	if !m.ready {
		if err := m.k.Prepare(ctx, of.Plan); err != nil {
			if err.Error() != m.refusal {
				m.refusal = err.Error()
				m.log.Error("cannot take part in a change of the layout", "epoch", of.Epoch, "error", err)
			}
			return lookInterval
		}
		m.ready = true
		m.log.Info("this keyway is prepared for a change of the layout", "epoch", of.Epoch)
	}
	if of.Holds > m.holds {
		m.holds = of.Holds
		m.hold(holdTime(of.Plan))
		m.log.Info("clients wait for the layout to change", "epoch", of.Epoch, "attempt", of.Holds,
			"at_most", holdTime(of.Plan))
	}
	state := prepared
	if m.holding && m.k.IsHeld() {
		state = held
	}
	m.say(ctx, state)
	return holdInterval
}

// helpAfter is how long keyways wait for those who have decided to make the home enter the epoch.
const helpAfter = 200 * time.Millisecond

// help makes the home enter an epoch that is decided, if nobody else does: who has decided may have died. If
// commands wait, they go on to do so, since the nodes cut off what is in flight when they enter it.
func (m *member) help(ctx context.Context, of *register.Change) time.Duration {
	if m.decided.IsZero() {
		m.decided = time.Now()
		if m.holding {
			m.hold(holdTime(of.Plan))
		}
	}
	if time.Since(m.decided) < helpAfter {
		return holdInterval
	}
	ctx, cancel := context.WithTimeout(ctx, HoldTime)
	defer cancel()
	to, err := m.home.Decide(ctx, of.Epoch, register.Go)
	if err == nil && to != nil {
		err = m.home.Flip(ctx, to, Fence{})
	}
	if err != nil {
		m.log.Warn("a change of the layout is decided, but its home cannot enter the epoch",
			"epoch", of.Epoch, "error", err)
		return lookInterval
	}
	return planInterval
}

// obey makes the keyway serve by the epoch that the home has entered.
func (m *member) obey(ctx context.Context, of *register.Change) time.Duration {
	m.tried = of.Epoch
	if err := m.k.Obey(ctx, of); err != nil {
		m.log.Error("cannot serve by the layout in force", "epoch", of.Epoch, "error", err)
		return planInterval
	}
	m.endHold() // the keyway may have served by it before, such as after the home came back empty
	if of.Done {
		m.say(ctx, idle)
	} else {
		m.say(ctx, moving)
	}
	return lookInterval
}

func (m *member) hold(atMost time.Duration) {
	m.holding, m.until = true, time.Now().Add(atMost)
	m.k.Hold(atMost)
}

func (m *member) endHold() {
	if m.holding {
		m.holding = false
		m.k.EndHold()
	}
}

// changes asks the home, over a connection that stays open.
func (m *member) changes(ctx, ask context.Context) ([]register.Change, error) {
	if m.c == nil {
		m.c, m.close = m.home.connect(ctx, m.home.Addr)
		m.said = ""
		m.say(ask, idle) // it is seen from the beginning
	}
	if m.c == nil {
		return nil, errors.New("it could not be told who this is")
	}
	return m.c.changes(ask)
}

func (m *member) hangUp() {
	if m.c != nil {
		m.close()
		m.c = nil
	}
}

// say names the connection.
func (m *member) say(ctx context.Context, state string) {
	name := m.k.Name(m.epoch, state)
	if name == m.said || m.c == nil {
		return
	}
	if err := m.c.ClientSetName(ctx, name).Err(); err != nil {
		m.log.Debug("cannot say how far the change is", "state", state, "error", err)
		m.hangUp()
		return
	}
	m.said = name
}
