package daemon

import (
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/mover"
	"github.com/keyway-proxy/keyway/reshard"
)

// idle is the state of a keyway in no change of the layout.
const idle = "idle"

// moving has what a pool shows of changes of its layout.
type moving struct {
	state atomic.Pointer[string] // that the keyway has named last; nil: none

	mu    sync.Mutex
	moved uint64 // keys, in all changes
	aside uint64
	seen  *mover.View // nil: there is no change, or nothing was seen of it yet
	at    time.Time   // when that was seen, or first asked for
}

// see remembers what was seen of a change.
func (m *moving) see(log *slog.Logger, v mover.View) {
	m.mu.Lock()
	defer m.mu.Unlock()
	logProgress(log, m.seen, &v)
	before := mover.Progress{}
	if m.seen != nil {
		before = m.seen.Own.Progress
	}
	m.moved += grown(before.Moved, v.Own.Moved)
	m.aside += grown(int64(before.Aside), int64(v.Own.Aside))
	m.seen, m.at = &v, time.Now()
}

// logProgress logs what has been said and done between two looks at a change. The process that moves the keys logs
// itself which nodes have sent all.
func logProgress(log *slog.Logger, before, now *mover.View) {
	if before == nil || before.Change.Epoch != now.Change.Epoch {
		before = &mover.View{}
	}
	if before.Change.Paces < now.Change.Paces {
		about := []any{"epoch", now.Change.Epoch, "pace", reshard.PaceText(now.Pace)}
		if now.Pace.By != "" {
			about = append(about, "by", now.Pace.By)
		}
		log.Info("the keys of the change move at another pace", about...)
	}
	for _, node := range now.Change.Drained {
		if !now.Own.Moves && !slices.Contains(before.Change.Drained, node) {
			log.Info("the node has sent all keys that move from it", "epoch", now.Change.Epoch, "node", node)
		}
	}
}

// grown returns how much a count has grown, which may have begun at 0 again.
func grown(before, now int64) uint64 {
	if now < before {
		before = 0
	}
	return uint64(now - before)
}

// end forgets a change that is over.
func (m *moving) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen, m.at = nil, time.Time{}
}

// unseen is how long nothing has been seen of a change, although somebody looks each second, until what was seen
// is out of date.
const unseen = 5 * time.Second

// forAdmin returns what the admin address shows.
func (m *moving) forAdmin(cfg *config.Config) admin.Switch {
	s := admin.Switch{State: idle, Left: mover.Unknown, Rate: mover.Unknown}
	if state := m.state.Load(); state != nil {
		s.State = *state
	}
	if config.Older(cfg) != nil {
		if s.Epoch = cfg.Epoch(); s.State == idle { // it names itself so, too, while the home does not answer
			s.State = "moving"
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Moved, s.Conflicts = m.moved, m.aside
	if s.Epoch == 0 {
		return s
	}
	if m.at.IsZero() {
		m.at = time.Now()
	}
	s.Moves = m.seen != nil && m.seen.Own.Moves
	if m.seen != nil {
		s.Paused, s.Pace, s.PaceBy = m.seen.Pace.Paused, reshard.PaceText(m.seen.Pace), m.seen.Pace.By
	}
	if s.Waits = time.Since(m.at) > unseen; s.Waits || m.seen == nil {
		return s
	}
	if all := m.seen.Processes; len(all) > 0 && all[0].Moves {
		s.Left, s.Rate, s.Waits = all[0].Left, all[0].Rate, all[0].Waits != ""
	}
	return s
}
