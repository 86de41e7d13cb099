package engine

import (
	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
)

// Merger gathers the replies of a request that has several calls.
type Merger struct {
	Calls       []*Call
	Replies     [][]byte
	PerArgument []int32  // inKeyOrder: the shard of each key; scriptsExist: 1 for each script that keyway has
	unread      [][]byte // what MergeByKey has not read of replies

	unknown bool   // the node may have executed a call that has no reply
	Channel []byte // of PUBLISH
	// Uncounted is how many subscribers of channel its node did not count when the
	// message was sent.
	Uncounted int64
	perKey    *lua.PerKey // for inUnitOrder
	About     any         // a feature's own data, for its ending
	then      func()      // called when all calls but the last have ended; it ends the last
	After     func()      // set by the ending: it appends the rest of the reply to the line

	kept int // its bytes in Worker.mergerBytes while it is unused
}

// mergers are the mergers that are not in use.
type mergers struct {
	w      *Worker
	unused []*Merger
	bytes  int // their memory
}

// Get returns a merger for so many calls. It goes back when its request is freed.
func (ms *mergers) Get(calls int) *Merger {
	var m *Merger
	if n := len(ms.unused); n > 0 {
		m = ms.unused[n-1]
		ms.unused = ms.unused[:n-1]
		ms.bytes -= m.kept
	} else {
		m = new(Merger)
	}
	for len(m.Calls) < calls {
		m.Calls = append(m.Calls, new(Call))
		m.Replies = append(m.Replies, nil)
	}
	m.Replies = m.Replies[:calls]
	return m
}

func (ms *mergers) put(m *Merger) {
	w := ms.w
	for i, p := range m.Replies {
		if m.Replies[i] = p[:0]; cap(p) > bigFrame {
			w.Buffers.Drop(cap(p))
			m.Replies[i] = nil
		}
		*m.Calls[i] = Call{}
	}
	m.PerArgument, m.unknown, m.perKey, m.About = m.PerArgument[:0], false, nil, nil
	m.then, m.After = nil, nil
	m.Channel = w.Buffers.Scratch(m.Channel)
	m.kept = m.memory()
	if len(ms.unused) >= 64 || ms.bytes+m.kept > maxMergers {
		w.Buffers.Drop(m.kept)
		return
	}
	ms.bytes += m.kept
	m.Replies = m.Replies[:len(m.Calls)]
	ms.unused = append(ms.unused, m)
}

// Call resets the i-th of the request's calls and returns it.
func (m *Merger) Call(r *Request, i int) *Call {
	c := m.Calls[i]
	*c = Call{Request: r, index: int32(i)}
	return c
}

func (m *Merger) add(i int, b []byte) { m.Replies[i] = append(m.Replies[i], b...) }

func (m *Merger) size() (n int) {
	for _, p := range m.Replies {
		n += len(p)
	}
	return n
}

// conclude makes one reply out of the replies to a request's calls and delivers it. failed reports
// whether the reply is an error. after, if it is not nil, appends the rest of the reply to
// the line.
func (r *Request) conclude() (failed bool, after func()) {
	w := r.Session.Worker
	r.Session.Parked -= r.Merge.size()
	dst := r.End(w, w.Scratch[:0], r)
	failed = len(dst) > 0 && dst[0] == '-'
	r.deliver(dst)
	w.Scratch = w.Buffers.Scratch(dst)
	return failed, r.Merge.After
}

// Merged is the ending that merges the replies by the command's policy.
func Merged(w *Worker, dst []byte, r *Request) []byte {
	if bad := r.Merge.failedPartly(r.Command); bad != nil {
		return resp.AppendError(dst, errtext.InPart(r.Command, bad))
	}
	return r.Command.Merge(dst, r.Merge.Replies, w.Links.Rand.Uint64())
}

// inKeyOrder is the ending that puts the replies' elements in the order of the keys.
func inKeyOrder(_ *Worker, dst []byte, r *Request) []byte {
	m := r.Merge
	m.unread = append(m.unread[:0], m.Replies...)
	dst = command.MergeByKey(dst, m.unread, m.PerArgument)
	clear(m.unread)
	return dst
}

// failedPartly returns the error of one call if a command that writes has failed in some calls,
// but not, or not certainly, in all. In that case no call's error is true of the whole
// command.
func (m *Merger) failedPartly(cmd *command.Command) (bad []byte) {
	if cmd.Has(readOnly) || cmd.AnySuffices() || cmd.Is(command.OnlyTells) {
		return nil
	}
	done := m.unknown
	for _, p := range m.Replies {
		if len(p) == 0 || p[0] != '-' {
			done = true
		} else if bad == nil {
			bad = p
		}
	}
	if !done {
		return nil
	}
	return bad
}
