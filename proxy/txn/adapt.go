package txn

import (
	"strconv"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
)

// adaptsFirst gives the connection that watches keys the client's database, protocol and CLIENT NO-TOUCH, if
// the client has changed one of them since. What is watched stays watched. It returns true if the command has
// to wait for that.
func adaptsFirst(w *engine.Worker, s *engine.Session, t *txn) bool {
	c := t.watch
	if c == nil || t.lost || c.State() != pool.Ready {
		return false
	}
	want, args := c.Setup, []string(nil)
	switch db, resp3, noTouch := int(s.DB), s.Has(engine.RESP3), s.Has(engine.NoTouch); {
	case db != c.DB:
		want.DB, args = db, []string{"SELECT", strconv.Itoa(db)}
	case resp3 != c.RESP3:
		want.RESP3, args = resp3, []string{"HELLO", strconv.Itoa(int(s.Protocol()))}
	case noTouch != c.NoTouch:
		want.NoTouch, args = noTouch, []string{"CLIENT", "NO-TOUCH", "OFF"}
		if noTouch {
			args[2] = "ON"
		}
	default:
		return false
	}
	s.Set(engine.Blocked)
	w.Ask(c, w.Deadline(), func(reply []byte, ok bool) {
		if s.HasLeft() {
			return
		}
		if ok && reply[0] != '-' {
			c.Setup = want
		} else {
			t.lost = true // EXEC returns null
		}
		s.Clear(engine.Blocked)
		s.Wake()
	}, args...)
	return true
}
