package txn

import (
	"strconv"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// selectsFirst makes the connection that watches keys select the client's database, if the client has
// changed that since. What is watched stays watched. It returns true if the command has to wait for that.
func selectsFirst(w *engine.Worker, s *engine.Session, t *txn) bool {
	if t.watch == nil || t.lost || t.watch.DB == int(s.DB) || t.watch.State() != pool.Ready {
		return false
	}
	db := int(s.DB)
	s.Set(engine.Blocked)
	w.Ask(t.watch, w.Deadline(), func(reply []byte, ok bool) {
		if s.HasLeft() {
			return
		}
		if ok && reply[0] != '-' {
			t.watch.DB = db
		} else {
			t.lost = true // EXEC returns null
		}
		s.Clear(engine.Blocked)
		s.Wake()
	}, "SELECT", strconv.Itoa(db))
	return true
}
