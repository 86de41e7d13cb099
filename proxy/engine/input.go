package engine

import (
	"bytes"

	"github.com/keyway-proxy/keyway/buffer"
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/resp"
)

// inputs turns the clients' bytes into commands.
type inputs struct {
	w      *Worker
	Limits resp.Limits
	unauth resp.Limits // for clients that have not authenticated
	parser *resp.Parser
	unused []*resp.Parser
	spare  []*input   // of sessions that do not need them any more
	woken  []*Session // sessions for resume, before the turn ends
}

// maxSpareInputs bounds the inputs that a worker keeps for reuse.
const maxSpareInputs = 1024

// input is what a client has sent and keyway has not dispatched yet. Sessions share noInput while there is nothing.
type input struct {
	In        []byte
	partial   *resp.Parser // the parser of the incomplete command at the start of In, or nil
	partialAt int64        // when that command began
}

// Received handles bytes that the client sent. It copies what it has to keep of b.
func (w *Worker) Received(s *Session, b []byte) {
	w.Stats.BytesIn += uint64(len(b))
	s.BytesIn += uint64(len(b))
	s.ActiveAt = w.Now
	if s.Has(Closing | Dead) {
		return
	}
	if len(b) > 1 && b[0] != '*' && !speaksRedis(s, b) {
		return
	}
	if len(s.In) == 0 {
		n := w.Inputs.consume(s, b)
		w.Inputs.keep(s, b[n:])
		return
	}
	w.Inputs.keep(s, b)
	if s.State&stopped == 0 {
		w.Inputs.consumeKept(s)
	}
}

// consume dispatches the complete commands at the start of b, until the session is stopped,
// and returns their length in bytes.
func (in *inputs) consume(s *Session, b []byte) (n int) {
	w := in.w
	p := in.parser
	if s.partial != nil {
		p, s.partial = s.partial, nil
		defer func() {
			if s.partial != p {
				in.PutParser(p)
			}
		}()
	}
	lim := &in.Limits
	if !s.Has(Authed) {
		lim = &in.unauth
	}
	for n < len(b) && s.State&stopped == 0 {
		if (s.epoch != w.epoch || s.redirecting > 0) && in.mustWait(s) {
			return n
		}
		length, st, err := p.Next(b[n:], lim)
		if err != nil {
			in.refuseInput(s, p, err)
			return len(b)
		}
		switch st {
		case resp.More:
			in.suspend(s, p, n > 0)
			return n
		case resp.Ready:
			share := s.Share
			if share != nil && !share.IsReady() {
				if how := w.Limiter.Admit(s, p); how == Waits {
					return n
				} else if how == Answered {
					break
				}
			}
			watcher := w.Observer
			w.Hidden, w.Whole = false, p
			if !w.journeys.begin(s, p, length) {
				return n
			}
			s.Commands++
			if share != nil {
				share.Spend(length)
			}
			if watcher != nil && in.shown(s) {
				watcher.Show(s, s.LastCmd, w.Whole)
			}
			if s.Has(Tracks) {
				s.OwnConns.AfterCommand(s)
			}
			if s.Has(Authed) {
				lim = &in.Limits
			}
		}
		n += length
	}
	return n
}

// mustWait makes a client wait whose earlier command may still be in flight to the former owner of
// its key: a later command must not overtake it. It returns false if there is no such command.
func (in *inputs) mustWait(s *Session) bool {
	if s.Inflight > 0 {
		in.w.Stats.Waited++
		s.Set(Draining)
		return true
	}
	s.epoch = in.w.epoch
	return false
}

// refuseInput closes a client that breaks the protocol, once it has read the error.
func (in *inputs) refuseInput(s *Session, p *resp.Parser, err error) {
	w := in.w
	w.Stats.ProtocolErrors++
	w.LogRefusal(s, protocolError(err))
	s.Answer(nil, resp.AppendError(w.Scratch[:0], protocolError(err)))
	s.CloseAfter()
	p.Reset()
}

func protocolError(err error) string { return "ERR " + err.Error() }

// shown reports whether the observer sees the command that was just dispatched. It does not
// see a command that keyway refused. It sees a queued command only when EXEC executes it.
func (in *inputs) shown(s *Session) bool {
	switch cmd := s.LastCmd; {
	case in.w.Hidden:
		return false
	case !s.Has(InMulti):
		return true
	default:
		return cmd != nil && cmd.InMulti == command.ActsAtOnce
	}
}

// suspend keeps the parser of an incomplete command for the client's next input. begun says
// that the command has only just begun.
func (in *inputs) suspend(s *Session, p *resp.Parser, begun bool) {
	in.own(s).partial = p
	if p == in.parser {
		in.parser = in.GetParser()
		begun = true
	}
	if begun {
		s.partialAt = in.w.Now
	}
}

// keep appends input that cannot be dispatched yet. An incomplete command takes at most twice
// the memory of its bytes received so far, whatever lengths its headers announce.
func (in *inputs) keep(s *Session, b []byte) {
	w := in.w
	if len(b) == 0 {
		return
	}
	if in.own(s); s.In == nil {
		s.In = w.Buffers.GetInput(len(b))
	}
	if need := len(s.In) + len(b); need > cap(s.In) {
		bigger := make([]byte, len(s.In), roomFor(s, need))
		copy(bigger, s.In)
		w.Buffers.Put(s.In)
		s.In = bigger
	}
	s.In = append(s.In, b...)
	w.GrownBy += len(b)
	in.enlarge(s)
	if len(s.In) >= buffer.Chunk && !s.Reading() {
		s.touch() // the shell stops to read; nothing else may happen to the session for a long time
	}
}

// roomFor returns the size of the buffer for input of which so many bytes are there.
func roomFor(s *Session, need int) int {
	if s.partial != nil {
		if promised := s.partial.Need(); promised >= need && promised < 2*need {
			return promised
		}
	}
	return 2 * need
}

const (
	// largeInput is from which size on the shell copies input to a larger buffer: to copy 128 MB takes 50 ms or more.
	largeInput = 1 << 20
	// nextInput is how much room the next input needs.
	nextInput = 128 << 10
)

// enlarge lets the shell make room for the remainder of a large command, before the next input needs it. The client is
// not read until that is done.
func (in *inputs) enlarge(s *Session) {
	w := in.w
	if w.Enlarge == nil || len(s.In) < largeInput || cap(s.In)-len(s.In) >= nextInput || s.partial == nil ||
		s.partial.Need() <= cap(s.In) || s.Has(enlarging) {
		return
	}
	s.Set(enlarging)
	s.touch()
	old := s.In
	w.Enlarge(old, roomFor(s, len(old)+nextInput), func(bigger []byte) { in.enlarged(s, old, bigger) })
}

// enlarged goes on reading a client whose input was copied from old to bigger.
func (in *inputs) enlarged(s *Session, old, bigger []byte) {
	s.Clear(enlarging)
	// Otherwise the client has left, or more has arrived than old had room for.
	if len(s.In) > 0 && &s.In[0] == &old[0] {
		in.w.Buffers.Put(old)
		s.In = append(bigger, s.In[len(old):]...)
	}
	s.Wake()
}

// consumeKept dispatches the commands in s.In.
func (in *inputs) consumeKept(s *Session) {
	n := in.consume(s, s.In)
	rest := s.In[n:]
	switch {
	case s.Has(handedOver):
		// A connection owns the buffer now, so the remaining input is copied.
		s.Clear(handedOver)
		if s.In = nil; len(rest) == 0 {
			in.drop(s)
		}
		in.keep(s, rest)
	case len(rest) == 0:
		in.drop(s)
	case n > 0:
		s.In = s.In[:copy(s.In, rest)]
	}
}

// resume resumes a stopped session, if the reason for the stop is gone.
func (in *inputs) resume(s *Session) {
	if s.Has(Dead) {
		return
	}
	if s.Has(Draining) && s.Inflight == 0 {
		s.Clear(Draining | Blocked)
	}
	if s.Has(full) && s.line.n <= maxLine/2 && s.Unsent.Size() < softOutput/4 {
		s.Clear(full)
	}
	s.Clear(Stalled)
	if s.State&stopped == 0 && len(s.In) > 0 {
		in.consumeKept(s)
	}
	s.touch()
}

// Resume dispatches what the session has sent, if the reason for its stop is gone.
func Resume(s *Session) { s.Worker.Inputs.resume(s) }

// resumeWoken resumes the sessions that were woken.
func (in *inputs) resumeWoken() {
	for len(in.woken) > 0 {
		s := in.woken[len(in.woken)-1]
		in.woken = in.woken[:len(in.woken)-1]
		s.Clear(resuming)
		in.resume(s)
	}
}

// dropFirst removes the first command from the client's input. The caller answers it at once.
func (in *inputs) dropFirst(s *Session) {
	p := in.GetParser()
	defer in.PutParser(p)
	if n, st, err := p.Next(s.In, &in.Limits); err == nil && st == resp.Ready {
		in.w.journeys.beginDropped(s, p, n)
		s.In = s.In[:copy(s.In, s.In[n:])]
	}
}

// EachBehind calls f for the commands that a stopped client has sent behind the first one, in order. It ends when
// f returns false, and at a command that is incomplete or unknown, or that keyway would refuse. a is valid only
// during the call of f.
func EachBehind(s *Session, f func(cmd *command.Command, a command.Args) bool) {
	w := s.Worker
	p := w.Inputs.GetParser()
	defer w.Inputs.PutParser(p)
	for in, isFirst := s.In, true; len(in) > 0; isFirst = false {
		n, st, err := p.Next(in, &w.Inputs.Limits)
		if err != nil || st != resp.Ready {
			return
		}
		in = in[n:]
		if isFirst {
			continue
		}
		a, refusal := command.Args(p), ""
		cmd := w.Learned.CommandOf(a)
		if cmd == nil || !mayBegin(w, s, cmd, a) {
			return
		}
		if s.User.Prefix != nil {
			a, refusal = s.User.Prefix.Command(&w.Names, cmd, a)
		}
		if refusal != "" || !f(cmd, a) {
			return
		}
	}
}

// GetParser returns an unused parser; PutParser takes it back.
func (in *inputs) GetParser() *resp.Parser {
	if n := len(in.unused); n > 0 {
		p := in.unused[n-1]
		in.unused = in.unused[:n-1]
		return p
	}
	return new(resp.Parser)
}

func (in *inputs) PutParser(p *resp.Parser) {
	p.Reset()
	if len(in.unused) < 64 {
		in.unused = append(in.unused, p)
	}
}

// own returns the session's own input, and allocates it if necessary.
func (in *inputs) own(s *Session) *input {
	if s.input != noInput {
		return s.input
	}
	if n := len(in.spare); n > 0 {
		s.input, in.spare[n-1] = in.spare[n-1], nil
		in.spare = in.spare[:n-1]
	} else {
		s.input = new(input)
	}
	return s.input
}

// drop drops what the client has sent.
func (in *inputs) drop(s *Session) {
	of := s.input
	if of == noInput {
		return
	}
	s.input = noInput
	in.w.Buffers.Put(of.In)
	if of.partial != nil {
		in.PutParser(of.partial)
	}
	*of = input{}
	if len(in.spare) < maxSpareInputs {
		in.spare = append(in.spare, of)
	}
}

// tlsHandshake is the first byte that a TLS client sends (RFC 8446, section 5.1). No Redis
// command begins with it.
const tlsHandshake = 0x16

// The beginnings of the header of the PROXY protocol, versions 1 and 2.
var proxyHeaders = [][]byte{
	[]byte("PROXY TCP"), []byte("PROXY UNKNOWN"), []byte("\r\n\r\n\x00\r\nQUIT\n"),
}

// speaksRedis reports whether b, which has at least two bytes, may be commands. If it is the
// first input of a connection and begins another protocol, speaksRedis refuses the client.
func speaksRedis(s *Session, b []byte) bool {
	w := s.Worker
	switch {
	case s.LastCmd != nil || s.partial != nil || s.line.head != nil || len(s.In) > 0 || s.Commands > 0:
	case b[0] == tlsHandshake && b[1] == 3: // a major version of TLS
		w.Stats.ClosedTLS++
		refuse(s, "speaks TLS, and this port does not", "ERR keyway: this port does not speak TLS")
		return false
	case b[0] == 'P' || b[0] == '\r':
		for _, h := range proxyHeaders {
			if bytes.HasPrefix(b, h) {
				w.Stats.ClosedHeader++
				refuse(s, "sends a PROXY protocol header, and this port does not expect one",
					"ERR keyway: this port does not expect the PROXY protocol; see proxy_protocol under listen")
				return false
			}
		}
	}
	return true
}

// refuse closes a client once it has read the error.
func refuse(s *Session, reason, text string) {
	s.Worker.LogRefusal(s, reason)
	s.AnswerError(nil, text)
	s.CloseAfter()
}
