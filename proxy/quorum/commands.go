package quorum

import (
	"fmt"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/quorum"
	"github.com/keyway-proxy/keyway/resp"
)

// attempt is a client's last attempt to acquire a lock, if that has failed. The client's next
// attempt with the same token continues it.
type attempt struct{ key, token, id string }

var failedAttempt = engine.NewPerClient[attempt]()

// Take handles commands on locks, and refuses those that a majority of nodes cannot answer as
// one Redis would.
func (l *locks) Take(s *engine.Session, cmd *command.Command, a command.Args) (isTaken, done bool) {
	if s.Has(engine.Subscribed) && !s.Has(engine.RESP3) || !cmd.Keyed() {
		return false, false
	}
	w := l.w
	w.Keys = cmd.Keys(a, w.Keys[:0])
	rule, isNumber, key := -1, false, []byte(nil)
	for _, k := range w.Keys {
		if rule, isNumber = w.Options.Locks.Find(a.Arg(k)); rule >= 0 {
			key = a.Arg(k)
			break
		}
	}
	if rule < 0 {
		return false, false
	}
	g := l.groups[rule]
	refuse := func(reason string) (bool, bool) {
		text := fmt.Sprintf("ERR keyway: %.100q is a lock on %d nodes (locks.quorum %s): %s; nothing was executed",
			key, len(g.Nodes), g.Match, reason)
		if s.Has(engine.InMulti) {
			return true, s.Reject(cmd, text)
		}
		return true, s.AnswerError(cmd, text)
	}
	switch {
	case cmd.Lock == command.WatchLock:
		return refuse("WATCH sees only one node; release the lock with a script that compares the token and then " +
			"deletes the key")
	case s.Has(engine.InMulti):
		return refuse("a transaction runs on one node; send the command without MULTI")
	case len(w.Keys) > 1:
		return refuse("a command on a lock can have no other key; send one command for each")
	case s.DB != 0:
		return refuse("the locks are in database 0; SELECT 0 first")
	case isNumber && cmd.Lock != command.GetLock:
		return refuse("the key shows the lock's number; only GET can read it")
	}
	if isNumber {
		lock, _ := quorum.LockOf(key)
		l.start(g, s, cmd, a, quorum.Command{Kind: quorum.ReadNumber, Key: string(lock)}, number)
		return true, true
	}
	if reason := l.begin(g, s, cmd, a, string(key)); reason != "" {
		return refuse(reason)
	}
	return true, true
}

// begin starts a command on a lock, or returns why it is refused.
func (l *locks) begin(g *group, s *engine.Session, cmd *command.Command, a command.Args, key string) (reason string) {
	c := quorum.Command{Key: key}
	switch cmd.Lock {
	case command.SetLock:
		lease, ok := command.SetLease(a)
		if !ok {
			return "SET needs NX and a lease, and no other option: SET key token NX PX milliseconds"
		}
		c.Kind, c.Token, c.Lease = quorum.Acquire, string(a.Arg(2)), lease
		return l.acquire(g, s, cmd, a, c)
	case command.SetNXLock:
		return "SETNX sets no lease, so nothing would end the lock of a client that has died; use SET key token NX " +
			"PX milliseconds"
	case command.DeleteLock:
		c.Kind = quorum.Delete
		l.start(g, s, cmd, a, c, oneIfYes)
	case command.GetLock:
		c.Kind = quorum.Read
		l.start(g, s, cmd, a, c, value)
	case command.ExistsLock:
		c.Kind = quorum.Read
		l.start(g, s, cmd, a, c, oneIfYes)
	case command.TTLLock, command.PTTLLock:
		c.Kind = quorum.Read
		l.start(g, s, cmd, a, c, leaseIn(cmd.Lock))
	default:
		if cmd.Is(command.TakesScript | command.TakesSHA) {
			return l.script(g, s, cmd, a, c)
		}
		return cmd.Upper() + " cannot be done on a majority of nodes; locks can be used with SET key token NX PX, " +
			"with scripts that compare the token and then delete the key or change its lease, and with GET, EXISTS, " +
			"TTL, PTTL and DEL"
	}
	return ""
}

// acquire starts an attempt to acquire a lock.
func (l *locks) acquire(
	g *group, s *engine.Session, cmd *command.Command, a command.Args, c quorum.Command,
) (reason string) {
	if c.Lease > g.MaxLease.Milliseconds() {
		return fmt.Sprintf("the lease is longer than max_lease, %s", g.MaxLease)
	}
	l.number = max(l.number+1, l.w.Wall.UnixMicro())
	c.Number = l.number
	random := l.w.Links.Rand
	c.ID = strconv.FormatUint(random.Uint64(), 16) + strconv.FormatUint(random.Uint64(), 16)
	if f := failedAttempt.Get(s); f != nil && f.key == c.Key && f.token == c.Token {
		c.Earlier = f.id
	}
	l.start(g, s, cmd, a, c, okOrNull)
	return ""
}

// script starts what a client's script does with a lock.
func (l *locks) script(
	g *group, s *engine.Session, cmd *command.Command, a command.Args, c quorum.Command,
) (reason string) {
	text := a.Arg(1)
	if cmd.Is(command.TakesSHA) {
		if text = l.w.Scripts.Cache.Text(a.Arg(1)); text == nil {
			s.AnswerError(cmd, errtext.NoScript)
			return ""
		}
	} else {
		l.w.Scripts.Record(cmd, a)
	}
	does := l.recognize(text)
	if does == nil || cmd.Has(command.ReadOnly) || a.Len() < 5 {
		return "keyway does not know what this script does with the lock; it knows scripts that compare the token " +
			"and then delete the key or change its lease"
	}
	c.Kind, c.Token = does.Kind, string(a.Arg(4))
	if does.Kind == quorum.Renew {
		if a.Len() < 6 {
			return "the script needs the new lease as its second argument"
		}
		ms, ok := resp.ParseInt(a.Arg(5))
		if c.Lease = ms * does.Unit; !ok || ms <= 0 || ms > g.MaxLease.Milliseconds() ||
			c.Lease > g.MaxLease.Milliseconds() {
			return fmt.Sprintf("the lease must be a number of milliseconds from 1 to max_lease, %s", g.MaxLease)
		}
		c.Add = does.Adds && a.Len() > 6 && string(a.Arg(6)) == "0"
	}
	l.start(g, s, cmd, a, c, func(o *quorum.Op, dst []byte, _ resp.Version) []byte {
		switch o.Verdict {
		case quorum.Yes:
			return resp.AppendInt(dst, 1)
		case quorum.Other:
			return resp.AppendInt(dst, does.Other)
		}
		return resp.AppendInt(dst, does.None)
	})
	return ""
}

// maxScripts is how many texts a worker remembers; recognizing one takes a while.
const maxScripts = 1024

func (l *locks) recognize(text []byte) *quorum.Script {
	if does, ok := l.scripts[string(text)]; ok {
		return does
	}
	if l.scripts == nil || len(l.scripts) >= maxScripts {
		l.scripts = map[string]*quorum.Script{}
	}
	does := quorum.Recognize(text)
	l.scripts[string(text)] = does
	return does
}

// The replies, as one Redis would give them.

func okOrNull(o *quorum.Op, dst []byte, v resp.Version) []byte {
	if o.Verdict == quorum.Yes {
		return resp.AppendOK(dst)
	}
	return v.AppendNull(dst)
}

func oneIfYes(o *quorum.Op, dst []byte, _ resp.Version) []byte {
	if o.Verdict == quorum.Yes {
		return resp.AppendInt(dst, 1)
	}
	return resp.AppendInt(dst, 0)
}

func value(o *quorum.Op, dst []byte, v resp.Version) []byte {
	if o.Verdict == quorum.Yes {
		return resp.AppendBulkString(dst, o.Value)
	}
	return v.AppendNull(dst)
}

func number(o *quorum.Op, dst []byte, v resp.Version) []byte {
	if o.Verdict == quorum.Yes {
		return resp.AppendBulkString(dst, strconv.FormatInt(o.Number, 10))
	}
	return v.AppendNull(dst)
}

// leaseIn returns the reply to TTL or PTTL.
func leaseIn(role command.LockRole) reply {
	return func(o *quorum.Op, dst []byte, _ resp.Version) []byte {
		ms := int64(-2)
		if o.Verdict == quorum.Yes {
			ms = o.Lease
		}
		if role == command.TTLLock && ms > 0 {
			ms = (ms + 500) / 1000
		}
		return resp.AppendInt(dst, ms)
	}
}
