package daemon

import (
	"sync"
	"sync/atomic"

	"github.com/keyway-proxy/keyway/admin"
	"github.com/keyway-proxy/keyway/config"
	"github.com/keyway-proxy/keyway/mover"
)

// moving has what a pool shows of changes of its layout.
type moving struct {
	state atomic.Pointer[string] // that the keyway has named last; nil: none

	mu    sync.Mutex
	moved uint64 // keys, in all changes
	aside uint64
	seen  *mover.View // nil: there is no change, or nothing was seen of it yet
}

// see remembers what was seen of a change.
func (m *moving) see(v mover.View) {
	m.mu.Lock()
	defer m.mu.Unlock()
	before := mover.Progress{}
	if m.seen != nil {
		before = m.seen.Own.Progress
	}
	m.moved += grown(before.Moved, v.Own.Moved)
	m.aside += grown(int64(before.Aside), int64(v.Own.Aside))
	m.seen = &v
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
	m.seen = nil
}

// forAdmin returns what the admin address shows.
func (m *moving) forAdmin(cfg *config.Config) admin.Switch {
	s := admin.Switch{State: "idle", Left: mover.Unknown}
	if state := m.state.Load(); state != nil {
		s.State = *state
	}
	if config.Older(cfg) != nil {
		s.Epoch = cfg.Epoch()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Moved, s.Conflicts = m.moved, m.aside
	if m.seen == nil || s.Epoch == 0 {
		return s
	}
	s.Moves = m.seen.Own.Moves
	if all := m.seen.Processes; len(all) > 0 && all[0].Moves {
		s.Left, s.Rate, s.Waits = all[0].Left, all[0].Rate, all[0].Waits != ""
	}
	return s
}
