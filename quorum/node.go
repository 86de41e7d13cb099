package quorum

import (
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/lua"
	"github.com/keyway-proxy/keyway/resp"
)

// step is one question to a node, or one order.
type step string

const (
	stepAcquire step = "acquire" // sets the lock if it is free
	stepRaise   step = "raise"   // raises the number of a lock that was just acquired
	stepUndo    step = "undo"    // frees the lock if this very attempt has acquired it
	stepRenew   step = "renew"   // changes the lease of a lock that has the token
	stepAdopt   step = "adopt"   // sets a lock that the node lacks and the majority has
	stepRelease step = "release" // frees a lock that has the token
	stepDelete  step = "delete"  // frees the lock whoever has it
	stepRead    step = "read"    // only reads
	stepWait    step = "wait"    // the node must not vote for one longest lease
)

// The keys that keyway has on the nodes besides the locks.
const (
	aboutPrefix = "keyway:lock:" // a hash: which attempt has acquired the lock, and its number
	RunKey      = "keyway:run"   // the node's run_id when keyway last asked it
	WaitKey     = "keyway:wait"  // while it exists, the node does not vote
)

// IsOwn reports whether a key is one that keyway has on the nodes besides the locks.
func IsOwn(key string) bool {
	return key == RunKey || key == WaitKey || strings.HasPrefix(key, aboutPrefix)
}

// script runs on a node. It is the only thing that keyway sends to the nodes of locks, so
// each question is one atomic step there. A node whose run_id has changed has restarted. What
// it had granted may be lost, so it waits until each lease of before has ended.
//
// KEYS: the lock, its hash, RunKey, WaitKey. ARGV: the step, the longest lease, the token, the
// lease, the attempt, the client's earlier attempt (or "add" to add to the lease; of an adoption, the
// attempt that had set the lock on the others), the number,
// how long the hash outlives the lease, Command.Again, and what the node's clock was when the client
// gave the command, in microseconds. The other times are in milliseconds. The answer: what the node
// says, the value of the lock, its number, its lease, how long the node waits, its clock in
// microseconds, and which attempt had set the lock.
//
// A lock that was set since the client gave the command is not renewed or freed: a command that
// comes late would otherwise concern the lock of the next client, if the token is the same or
// none is compared. A clock that has been set back says nothing about that. If the attempt is that
// of the command, it is the right lock, which the node has set late. A lock that is adopted counts as
// set when the client renewed it. A command that comes late and acquires its client's lock again only prolongs it.
//
// A lock that is freed leaves "freed " and the ID of its attempt, also where it lacked: what comes later over
// another connection, the lock or its adoption, does not set it again.
//
// It must call no other commands than those of docs/locks.md: the nodes' user may run no others.
//
// A lock that is acquired again or renewed has "again " before the ID. So neither the undo of the new
// attempt takes it from its holder, nor one of an earlier attempt that failed and comes late, perhaps of
// another client with the same token: the holder counts on each node that has renewed. So has a lock that is
// adopted. If its attempt is not known, it has an empty ID, which is that of no attempt either: clients
// without an earlier one send it.
const script = `local key, about = KEYS[1], KEYS[2]
local ms, longest = tonumber(ARGV[4]), tonumber(ARGV[2])
local run = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
if ARGV[1] == 'wait' or redis.call('GET', KEYS[3]) ~= run then
  redis.call('SET', KEYS[3], run)
  redis.call('SET', KEYS[4], 1, 'PX', longest)
end
local waits = redis.call('PTTL', KEYS[4])
local held = redis.call('GET', key)
local mine = held == ARGV[3]
local n = redis.call('HGET', about, 'n') or '0'
local by = redis.call('HGET', about, 'id')
local attempt = by and string.match(by, '^again (.*)') or by
local t = redis.call('TIME')
local now = t[1] .. string.format('%06d', t[2])
local says = held and (mine and 'ok' or 'held') or 'none'
local since = tonumber(ARGV[10])
local function was_set_since()
  local at = tonumber(redis.call('HGET', about, 'at') or 0)
  return at > since and at <= tonumber(now)
end
local function newer()
  if ARGV[5] ~= '' and attempt and attempt ~= '' then return attempt ~= ARGV[5] end
  return was_set_since() and (attempt == '' or attempt ~= ARGV[5])
end
local function keep()
  redis.call('PEXPIRE', about, ms + ARGV[8])
end
local function higher()
  if tonumber(ARGV[7]) <= tonumber(n) then return false end
  n = ARGV[7]
  return true
end
local function set(id, from)
  redis.call('SET', key, ARGV[3], 'PX', ms)
  local rises = higher()
  redis.call('HSET', about, 'id', id, 'n', n, 'at', from or now)
  keep()
  return rises and 'ok' or 'low'
end
local function counts()
  if by and by ~= '' then redis.call('HSET', about, 'id', 'again ' .. attempt) end
end
local again = tonumber(ARGV[9])
local function agrees()
  if again <= 0 then return again < 0 and mine end
  return string.sub(held, 1, again) == string.sub(ARGV[3], 1, again)
end
local function free()
  redis.call('DEL', key)
  if by then redis.call('HSET', about, 'id', 'freed ' .. attempt) end
end
if ARGV[1] == 'acquire' and waits <= 0 then
  if by == 'freed ' .. ARGV[5] then
    says = 'held'
  elseif not held or mine and by ~= '' and (by == ARGV[5] or by == ARGV[6]) then
    says = set(ARGV[5])
  elseif agrees() then
    if was_set_since() then
      ms = math.max(ms, redis.call('PTTL', key))
      redis.call('PEXPIRE', key, ms)
      says = higher() and 'ok' or 'low'
      redis.call('HSET', about, 'n', n)
      counts()
      keep()
    else
      says = set('again ' .. ARGV[5])
    end
  else
    says = 'held'
  end
elseif ARGV[1] == 'raise' then
  if mine and (by == ARGV[5] or again ~= 0) then
    higher()
    redis.call('HSET', about, 'n', n)
  else
    says = 'held'
  end
elseif ARGV[1] == 'undo' then
  if mine and by == ARGV[5] then free() end
elseif ARGV[1] == 'renew' and mine then
  if ARGV[6] == 'add' then ms = ms + math.max(0, redis.call('PTTL', key)) end
  if newer() then
    says = 'newer'
  elseif ms > longest then
    says = 'long'
  else
    redis.call('PEXPIRE', key, ms)
    counts()
    keep()
  end
elseif ARGV[1] == 'adopt' and waits <= 0 and not held and by ~= 'freed ' .. ARGV[6] then
  set(ARGV[5], since < tonumber(now) and ARGV[10] or now)
elseif ARGV[1] == 'release' and mine or ARGV[1] == 'delete' and held then
  if newer() then says = 'newer' else free() end
end
local frees = ARGV[1] == 'release' or ARGV[1] == 'delete'
if frees and ARGV[5] ~= '' and ARGV[5] ~= attempt and redis.call('EXISTS', key) == 0 then
  redis.call('HSET', about, 'id', 'freed ' .. ARGV[5])
  if redis.call('PTTL', about) < longest then redis.call('PEXPIRE', about, longest) end
end
return {says, held or '', n, redis.call('PTTL', key), waits, now, attempt or ''}
`

// Node is a node that holds locks, as one thread knows it.
type Node struct {
	Addr    string
	Longest int64 // the longest lease that it may hold, in milliseconds; it never shrinks

	// Absence is why its last answer did not count, or why there was none. It is empty while
	// the node votes.
	Absence string
	Missed  uint64 // how many questions it did not answer, or not in time
	VotesAt int64  // when a node that is new or has restarted will vote, by its last answer; 0: it votes

	silent bool  // it has not answered in time, and has sent nothing since
	heard  int64 // when it last answered
	clock  clock
	jumped int64 // when its clock was seen to have jumped; 0 once it waits because of that
}

// answer is a node's answer to a step.
type answer struct {
	says   string
	held   string
	number int64
	lease  int64  // in milliseconds; -2: there is no lock
	waits  int64  // in milliseconds; not positive: the node votes
	clock  int64  // in nanoseconds
	by     string // which attempt had set the lock; empty if that is not known
}

// readAnswer reads a node's reply. It returns false, and what is wrong, for anything else
// than an answer of the script.
func readAnswer(reply []byte) (a answer, wrong string) {
	if text, isErr := resp.ErrorText(reply); isErr {
		return a, "it says " + string(text)
	}
	n, rest, ok := resp.Elements(reply)
	if !ok || n != 7 {
		return a, "its answer is not understood"
	}
	var texts [7]string
	for i := range texts {
		var e []byte
		e, rest, _ = resp.Split(rest)
		if b, ok := resp.Bulk(e); ok {
			texts[i] = string(b)
		} else if v, ok := resp.Int(e); ok {
			texts[i] = strconv.FormatInt(v, 10)
		}
	}
	a.says, a.held, a.by = texts[0], texts[1], texts[6]
	for i, to := range []*int64{&a.number, &a.lease, &a.waits, &a.clock} {
		v, err := strconv.ParseInt(texts[i+2], 10, 64)
		if err != nil {
			return a, "its answer is not understood"
		}
		*to = v
	}
	a.clock *= int64(time.Microsecond)
	return a, ""
}

// clock compares the node's clock with ours. Redis ends leases by the wall clock. If that
// jumps forward, leases end early, so what the node has granted is lost.
type clock struct {
	// When it was last compared, the node's clock was ahead of ours by low to high. Each
	// answer narrows that down; 0.1 % for a difference in speed is added.
	low, high, at int64
	known         bool
	suspicious    bool // the last answer was ahead; the next one proves it
}

// clockMargin is by how much a clock must be ahead to count.
const clockMargin = int64(20 * time.Millisecond)

// compare compares the node's clock in an answer. ahead says that it does not fit the earlier
// ones, so the answer must not count. jumped says that the clock has jumped forward for sure.
func (c *clock) compare(theirs, sent, now int64) (ahead, jumped bool) {
	low, high := theirs-now, theirs-sent
	drift := (now - c.at) / 1000
	switch {
	case !c.known:
	case low > c.high+drift+clockMargin:
		if !c.suspicious {
			c.suspicious = true
			return true, false
		}
		*c = clock{low: low, high: high, at: now, known: true}
		return true, true
	case high >= c.low-drift: // the same clock as before
		low, high = max(low, c.low-drift), min(high, c.high+drift)
		low = min(low, high)
	}
	*c = clock{low: low, high: high, at: now, known: true}
	return false, false
}

// latest returns the latest that the node's clock can have been at the time at.
func (c *clock) latest(at int64) int64 {
	if !c.known {
		return math.MaxInt64
	}
	return at + c.high + max(at-c.at, c.at-at)/1000
}

// frame appends the command for a step on the node.
func (o *Op) frame(dst []byte, n *Node, s *Send) []byte {
	c := &o.cmd
	earlier := c.Earlier
	if c.Kind == Renew && c.Add {
		earlier = "add"
	}
	id := c.ID
	switch {
	case s.step == stepAdopt:
		id, earlier = "", s.id
		if s.id != unknown {
			id = "again " + s.id
		}
	case s.id != "":
		id = s.id
	}
	keep := int64(0)
	if o.group.Fencing {
		keep = keepNumber.Milliseconds()
	}
	verb, text := "EVALSHA", scriptSHA
	if s.Whole {
		verb, text = "EVAL", script
	}
	number := func(i int64) string { return strconv.FormatInt(i, 10) }
	return resp.AppendCommand(dst, verb, text, "4", c.Key, aboutPrefix+c.Key, RunKey, WaitKey,
		string(s.step), number(n.Longest), c.Token, number(c.Lease), id, earlier, number(s.number), number(keep),
		strconv.Itoa(c.Again), number(n.clock.latest(o.began)/int64(time.Microsecond)))
}

// scriptSHA is the SHA-1 of script.
var scriptSHA = lua.SHA1([]byte(script))

// LoadScript is the command that makes a node remember the script. It has to come first on each
// connection.
var LoadScript = resp.AppendCommand(nil, "SCRIPT", "LOAD", script)

// LacksScript reports whether a reply says that the node does not know the script, so that it has
// executed nothing.
func LacksScript(reply []byte) bool { return bytes.HasPrefix(reply, []byte("-NOSCRIPT ")) }

// note returns a command for a step that concerns no lock.
func (n *Node) note(s step) []byte {
	o := Op{group: &Group{Rule: &Rule{}}}
	return o.frame(nil, n, &Send{step: s, Whole: true})
}

// Look returns a command that asks the node whether it has restarted, and for its clock. So a
// new node's wait begins when keyway connects, and not with the first lock. Its reply goes to
// Looked.
func (n *Node) Look() []byte { return n.note(stepRead) }

// Looked processes the reply to Look. It returns a command to send, or nil.
func (n *Node) Looked(reply []byte, sent, now int64) []byte {
	a, wrong := readAnswer(reply)
	if wrong != "" {
		n.Absence = wrong
		return nil
	}
	n.RecordAnswer(now)
	if n.judge(&a, sent, now) {
		return n.note(stepWait)
	}
	return nil
}

// judge sets Absence by an answer. mustWait says that the node must be told to wait, because its
// clock has jumped forward for sure. Until it has heard that, its answers do not count: they may
// be to questions that were already on their way.
func (n *Node) judge(a *answer, sent, now int64) (mustWait bool) {
	ahead, jumped := n.clock.compare(a.clock, sent, now)
	later := n.jumped != 0 && sent > n.jumped
	switch {
	case jumped:
		n.jumped, mustWait = now, true
	case later && a.waits > 0:
		n.jumped = 0
	default:
		mustWait = later // what it was told is lost
	}
	n.VotesAt = 0
	if a.waits > 0 {
		n.VotesAt = now + a.waits*int64(time.Millisecond)
	}
	switch {
	case ahead, n.jumped != 0:
		n.Absence = "its clock is ahead of what it was"
	case a.waits > 0:
		n.Absence = fmt.Sprintf("it is new or has restarted, and votes in %s", inSeconds(a.waits))
	default:
		n.Absence = ""
	}
	return mustWait
}

// keepNumber is how long a lock's number outlives its lease.
const keepNumber = time.Hour

// Silence records that the node has sent nothing for a timeout although it had to. It is not asked
// any more until it does, unless a majority needs it.
func (n *Node) Silence(timeout time.Duration) {
	n.silent, n.Absence = true, silentReason(timeout)
}

// RecordAnswer records that the node has answered a command, with whatever reply: it is not silent.
func (n *Node) RecordAnswer(now int64) { n.silent, n.heard = false, now }

// Heard returns when the node last answered.
func (n *Node) Heard() int64 { return n.heard }

// IsSilent reports whether the node has left a command unanswered for too long, and has sent
// nothing since.
func (n *Node) IsSilent() bool { return n.silent }

func silentReason(timeout time.Duration) string { return fmt.Sprintf("no answer within %s", timeout) }
