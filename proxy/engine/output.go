package engine

import (
	"math"
	"slices"
	"time"

	"github.com/keyway-proxy/keyway/pool"
)

// output appends b to the session's output.
func (s *Session) output(b []byte) {
	s.Unsent.Append(&s.Worker.Buffers, b)
	s.Worker.GrownBy += len(b)
	s.touch()
	if s.Unsent.Size() > softOutput {
		s.Set(full)
	}
	s.bound()
}

// bound closes a client whose unread replies exceed its limit.
func (s *Session) bound() {
	limit := s.Worker.Options.ClientOutput
	if !s.Has(Authed) {
		limit = min(limit, maxUnauthOutput)
	}
	if s.Has(Subscribed) {
		limit = min(limit, maxSubscriber)
	}
	if s.Unsent.Size()+s.Parked > limit && !s.Has(Dead) {
		s.closeSlow()
	}
}

func (s *Session) closeSlow() {
	s.Worker.Stats.ClosedSlow++
	s.Worker.LogRefusal(s, "does not read its replies")
	s.Kill()
}

// Output returns the bytes to write to the client now, empty if there are none. The shell
// then calls Wrote.
func (s *Session) Output() []byte { return s.Unsent.Next() }

// Expecting reports whether more replies will follow and little output waits. If so, the
// shell may delay writing while it has other work.
func (s *Session) Expecting() bool {
	return s.line.head != nil && s.Unsent.Size() < 4<<10 && s.State&(Closing|Dead|full|eof) == 0
}

// Pending returns the number of bytes that are not written to the client yet.
func (s *Session) Pending() int { return s.Unsent.Size() }

// Wrote tells the session that the socket has accepted n bytes of Output.
func (s *Session) Wrote(n int) {
	s.Worker.Stats.BytesOut += uint64(n)
	s.BytesOut += uint64(n)
	if s.Share != nil && !s.Has(Subscribed|Monitoring) { // messages are the work of others
		s.Share.SpendBytes(n)
	}
	s.Unsent.Wrote(&s.Worker.Buffers, n)
	s.ActiveAt = s.Worker.Now // a client that reads its replies is not idle (networking.c, _writeToClient)
	if s.pausedConn != nil {
		if s.bytesSinceProgress += n; s.bytesSinceProgress >= keepsUp {
			s.lastProgress, s.bytesSinceProgress = s.Worker.Now, 0
		}
		if s.Unsent.Size() < s.resumeAt {
			s.Worker.slowReaders.resume(s)
		}
	}
	if s.Unsent.Size() == 0 {
		s.Clear(slow)
	}
	if s.Has(full) && s.Unsent.Size() < softOutput/4 {
		s.Wake()
	}
}

const (
	// While a client lags with a large reply, keyway does not read from the connection
	// that carries the reply. If no other client waits behind the reply, the client must
	// read keepsUp bytes within each request timeout.
	//
	// If other clients wait, it must read keepsUp bytes in every stallTime, and all its
	// pauses together may delay the others by maxDelay. After that, the remaining reply
	// is buffered. When the buffer is nearly full, a shared connection continues, so that
	// the client reaches its limit. A retired connection, which gets no new requests, is
	// paused once more, for up to the request timeout, as long as the client reads
	// keepsUp bytes in every maxDelay.
	stallTime = int64(15 * time.Millisecond)
	keepsUp   = 64 << 10
	maxDelay  = int64(time.Second)
)

// slowReaders are the clients that do not read a large reply fast enough.
type slowReaders struct {
	w        *Worker
	sessions []*Session
}

// pause pauses the connection of a large reply until the client has caught up.
func (sr *slowReaders) pause(c *Call, conn *pool.Conn) {
	w := sr.w
	s := c.Request.Session
	if s.pausedConn != nil || s.Has(Dead) || conn.Paused() {
		return
	}
	if s.delayed > 0 && s.delayedBy != c.Request.seq {
		s.delayed = 0
	}
	resumeAt := softOutput / 4
	nearlyFull := false
	if s.Has(slow) || s.delayed > maxDelay {
		limit := w.Options.ClientOutput - w.Options.ClientOutput/16
		if nearlyFull = s.Unsent.Size() >= limit && slices.Contains(c.Node.Shared.Retired, conn); !nearlyFull {
			return
		}
		resumeAt = max(resumeAt, limit-softOutput)
	}
	t := s.AllocRareState()
	t.pausedConn, t.delayedAt, t.lastProgress, t.bytesSinceProgress = conn, w.Now, w.Now, 0
	t.resumeAt, t.nearlyFull, t.delayedBy = resumeAt, nearlyFull, c.Request.seq
	conn.PauseReading()
	sr.sessions = append(sr.sessions, s)
}

// delays reports whether other clients wait for the session to read. If so, it adds the
// time since its last call to the session's delayed.
func delays(s *Session, now int64) bool {
	others := othersWait(s, s.pausedConn)
	if others {
		s.delayed += now - s.delayedAt
	}
	s.delayedAt = now
	return others
}

// othersWait reports whether another client waits on the connection, behind the reply
// that is arriving.
func othersWait(s *Session, conn *pool.Conn) bool {
	for _, to := range conn.Unanswered() {
		var other *Session
		switch to := to.(type) {
		case *Call:
			other = to.Request.Session
		case execReply:
			other = to.Request.Session
		case *Probe:
			return true
		default: // on a connection of the session's own, or followed by the EXEC or the call
		}
		if other != nil && other != s {
			return true
		}
	}
	return false
}

// resume resumes the connection that is paused for the session.
func (sr *slowReaders) resume(s *Session) {
	delays(s, sr.w.Now)
	s.pausedConn.ResumeReading()
	s.pausedConn = nil
	for i, other := range sr.sessions {
		if other == s {
			sr.sessions = append(sr.sessions[:i], sr.sessions[i+1:]...)
			break
		}
	}
}

// tick resumes the connections of clients that do not catch up, so that the rest
// of their replies is buffered. It closes the clients whose buffer is nearly full.
func (sr *slowReaders) tick() {
	w := sr.w
	timeout := int64(w.Options.Backend.RequestTimeout)
	for i := len(sr.sessions) - 1; i >= 0; i-- {
		s := sr.sessions[i]
		stall, delay := timeout, int64(math.MaxInt64)
		switch others := delays(s, w.Now); {
		case others && s.nearlyFull:
			stall, delay = maxDelay, maxDelay+timeout
		case others:
			stall, delay = stallTime, maxDelay
		}
		if w.Now-s.lastProgress <= stall && s.delayed <= delay {
			continue
		}
		if s.nearlyFull && !s.Has(Dead) {
			s.closeSlow()
		}
		s.Set(slow)
		sr.resume(s)
	}
}

// ShouldClose reports whether the socket should be closed now.
func (s *Session) ShouldClose() bool {
	if s.Has(Dead) {
		return true
	}
	if s.line.head != nil || s.Unsent.Size() > 0 {
		return false
	}
	return s.Has(Closing) || s.Has(eof) && s.State&(Draining|Stalled|full|resuming|Blocked|Limited) == 0
}

// Dead reports whether the socket should be closed at once, with output left unwritten.
func (s *Session) Dead() bool { return s.Has(Dead) }
