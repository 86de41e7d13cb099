package quorum

import (
	"bytes"
	"fmt"
	"strconv"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/quorum"
	"github.com/keyway-proxy/keyway/resp"
)

// attempt is a client's last attempt to acquire a lock. If it has failed, the client's next attempt with
// the same token continues it. Otherwise the client's other commands are about the lock that it has set,
// also if it is still under way.
type attempt struct {
	key, token, id string
	underWay       bool
	failed         bool
	before         *attempt // an earlier one that was under way too
}

// withoutEnded removes from a client's attempts those that have ended, and returns the last of the others.
func (a *attempt) withoutEnded() *attempt {
	for a != nil && !a.underWay {
		a = a.before
	}
	if a != nil {
		a.before = a.before.withoutEnded()
	}
	return a
}

// maxUnfinished is how many commands of one client may be under way when it sends another one
// on a lock. The others wait in the client's input.
const maxUnfinished = 128

var lastAttempt = engine.NewPerClient[attempt]()

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
		if script := l.known(cmd, a); script != nil && script.Unfit(len(w.Keys)) != "" {
			return refuse(script.Unfit(len(w.Keys)))
		}
		return refuse("a command on a lock can have no other key; send one command for each")
	case s.DB != 0:
		return refuse("the locks are in database 0; SELECT 0 first")
	case isNumber && cmd.Lock != command.GetLock:
		return refuse("the key shows the lock's number; only GET can read it")
	case cmd.Has(command.ReadOnly) && s.Has(engine.Tracks) && s.OwnConns.Caches(key):
		return refuse("a majority of nodes sends no invalidations; read the lock over a connection without CLIENT " +
			"TRACKING")
	}
	lock := key
	if isNumber {
		lock, _ = quorum.LockOf(key)
	}
	if s.Inflight >= maxUnfinished || g.Fencing && isAcquiring(s, lock) {
		s.Set(engine.Draining)
		return true, false
	}
	if reason := l.begin(g, s, cmd, a, string(lock), isNumber); reason != "" {
		return refuse(reason)
	}
	return true, true
}

// isAcquiring reports whether an attempt of the client to acquire the lock is under way. With fencing, it may
// have to raise the lock's number in a second step. A command in between would free or renew a lock that is
// not acquired yet, or read the number of the lock's former holder.
func isAcquiring(s *engine.Session, lock []byte) bool {
	for a := lastAttempt.Get(s); a != nil; a = a.before {
		if a.underWay && a.key == string(lock) {
			return true
		}
	}
	return false
}

// begin starts a command on a lock or, if isNumber is true, a GET of its number, or returns why it is refused.
func (l *locks) begin(
	g *group, s *engine.Session, cmd *command.Command, a command.Args, lock string, isNumber bool,
) (reason string) {
	c := quorum.Command{Key: lock}
	if isNumber {
		c.Kind = quorum.ReadNumber
		l.start(g, s, cmd, a, c, number)
		return ""
	}
	switch cmd.Lock {
	case command.SetLock:
		return l.set(g, s, cmd, a, c)
	case command.CompareLock:
		return l.deleteIfEqual(g, s, cmd, a, c)
	case command.SetNXLock:
		return "SETNX sets no lease, so nothing would end the lock of a client that has died; use SET key token NX " +
			"PX milliseconds"
	case command.DeleteLock:
		c.Kind = quorum.Delete
		l.begins(g, s, cmd, a, c, oneIfYes)
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
			"TTL, PTTL, DEL and DELIFEQ"
	}
	return ""
}

// howToSet is the end of the refusal of a SET.
const howToSet = "SET key token NX PX milliseconds acquires a lock, and XX or IFEQ token in place of NX renews it"

// set starts a SET: NX acquires a lock; XX and IFEQ renew it.
func (l *locks) set(
	g *group, s *engine.Session, cmd *command.Command, a command.Args, c quorum.Command,
) (reason string) {
	o, ok := command.SetOptions(a)
	switch {
	case !ok:
		return "SET needs a lease and one of NX, XX and IFEQ, and no other option; " + howToSet
	case o.At:
		return "the lease would end at a time by the client's clock, and the nodes' clocks may differ; " + howToSet
	case o.If == command.IfEqual && !bytes.Equal(o.Value, a.Arg(2)):
		return "SET with IFEQ can only renew a lock, and would change its token; " + howToSet
	case o.Lease > g.MaxLease.Milliseconds():
		return leaseTooLong(g)
	case g.IsTooShort(o.Lease):
		return leaseTooShort(g, o.Lease)
	}
	c.Kind, c.Token, c.Lease = quorum.Acquire, string(a.Arg(2)), o.Lease
	if o.If != command.IfMissing {
		c.Kind = quorum.Renew
	}
	l.begins(g, s, cmd, a, c, okOrNull)
	return ""
}

func leaseTooLong(g *group) string {
	return fmt.Sprintf("the lease is longer than max_lease, %s", g.MaxLease)
}

// leaseTooShort is the refusal of a lease that nobody can get. One Redis would say OK, and the lock
// would be free before the client could do anything; a Redlock library would not get it.
func leaseTooShort(g *group, ms int64) string {
	return fmt.Sprintf("a lease of %d ms ends before it is sure that a majority has granted it; ask for at least %d ms",
		ms, g.ShortestLease())
}

// deleteIfEqual starts DELIFEQ key token or DELEX key [IFEQ token].
func (l *locks) deleteIfEqual(
	g *group, s *engine.Session, cmd *command.Command, a command.Args, c quorum.Command,
) (reason string) {
	c.Kind = quorum.Release
	switch {
	case a.Len() == 2:
		c.Kind = quorum.Delete
	case cmd.Arity < 0 && (a.Len() != 4 || !command.EqualFold(a.Arg(2), "ifeq")):
		return cmd.Upper() + " can only compare a lock's token: " + cmd.Upper() + " key IFEQ token"
	default:
		c.Token = string(a.Arg(a.Len() - 1))
	}
	l.begins(g, s, cmd, a, c, oneIfYes)
	return ""
}

// begins starts a command. An acquisition gets an ID and a number; others get the ID of theirs.
func (l *locks) begins(
	g *group, s *engine.Session, cmd *command.Command, a command.Args, c quorum.Command, how reply,
) {
	last := lastAttempt.Get(s)
	if last != nil && (last.key != c.Key || last.token != c.Token && c.Kind != quorum.Delete) {
		last = nil
	}
	switch {
	case c.Kind == quorum.Acquire:
		l.number = max(l.number+1, l.w.Wall.UnixMicro())
		c.Number = l.number
		random := l.w.Links.Rand
		c.ID = strconv.FormatUint(random.Uint64(), 16) + strconv.FormatUint(random.Uint64(), 16)
		if last != nil && last.failed {
			c.Earlier = last.id
		}
	case last != nil && !last.failed:
		c.ID = last.id
	}
	l.start(g, s, cmd, a, c, how)
}

const unknownScript = "keyway does not know what this script does with the lock; it knows the scripts of many " +
	"libraries, others that compare the token and then delete the key or change its lease, and those that " +
	"locks.scripts declares"

// script starts what a client's script does with a lock.
func (l *locks) script(
	g *group, s *engine.Session, cmd *command.Command, a command.Args, c quorum.Command,
) (reason string) {
	script := l.known(cmd, a)
	switch {
	case script != nil && script.Unfit(1) != "":
		return script.Unfit(1)
	case script == nil && cmd.Is(command.TakesSHA) && l.w.Scripts.Cache.Text(a.Arg(1)) == nil:
		s.AnswerError(cmd, errtext.NoScript)
		return ""
	case script == nil:
		return unknownScript
	case cmd.Has(command.ReadOnly) && !script.Reads():
		return cmd.Upper() + " cannot write, and this script does; use EVAL or EVALSHA"
	}
	c, reason = script.Command(c.Key, func(n int) []byte {
		if n == 0 || n+3 >= a.Len() { // the arguments after the lock's key
			return nil
		}
		return a.Arg(n + 3)
	}, g.MaxLease)
	switch {
	case reason != "":
		return reason
	case (c.Kind == quorum.Acquire || c.Kind == quorum.Renew) && g.IsTooShort(c.Lease):
		return leaseTooShort(g, c.Lease)
	}
	l.begins(g, s, cmd, a, c, script.Reply)
	return ""
}

// maxScripts is how many texts a worker remembers; recognizing one takes a while.
const maxScripts = 1024

// known returns what the script of an EVAL or EVALSHA does, or nil. keyway knows the scripts of
// libraries, and those that the configuration declares, by their SHA-1, whether or not a client
// has sent the text.
func (l *locks) known(cmd *command.Command, a command.Args) *quorum.Script {
	text := a.Arg(1)
	switch {
	case cmd.Is(command.TakesSHA):
		if how := l.w.Options.WatchLocks.Scripts.OfSHA(text); how != nil {
			return how.OnMajority()
		}
		if text = l.w.Scripts.Cache.Text(text); text == nil {
			return nil
		}
	case cmd.Is(command.TakesScript):
		l.w.Scripts.Record(cmd, a)
	default:
		return nil
	}
	sha := lua.SHA1(text) // the texts themselves may be long
	if script, ok := l.scripts[sha]; ok {
		return script
	}
	if l.scripts == nil || len(l.scripts) >= maxScripts {
		l.scripts = map[string]*quorum.Script{}
	}
	script := quorum.OfText(text)
	if how := l.w.Options.WatchLocks.Scripts.OfText(text); how != nil {
		script = how.OnMajority()
	}
	l.scripts[sha] = script
	return script
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
