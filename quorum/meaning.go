package quorum

import (
	"bytes"
	"fmt"
	"math"
	"time"

	"github.com/keyway-proxy/keyway/resp"
)

// Script is what a client's script does with a lock.
type Script struct {
	Kind     Kind // Acquire, Renew, Release or Read: whether the token has the lock
	Library  string
	AllKeys  bool // each of its KEYS is a lock
	Token    int  // the number of the ARGV with the token
	Lease    int  // the number of the ARGV with the lease; 0: none
	Seconds  bool // the lease is in seconds
	Again    bool // a client that has the lock acquires it again
	Length   int  // with Again, the number of the ARGV with how many bytes must agree; 0: all
	Adds     int  // the number of the ARGV that is "0" if the lease is added to what is left; 0: none
	Database int  // the number of the ARGV with the database that it selects; 0: none
	Returns  Returns
}

// Returns are a script's replies.
type Returns struct {
	Done  Value
	Other Value // the lock has another token
	None  Value // there is no such lock
}

func (r Returns) String() string {
	return fmt.Sprintf("%s (other: %s, none: %s)", r.Done, r.Other, r.None)
}

// Value is a reply of a script: ":1" or "+OK" as on the wire, or one of these.
type Value string

// The values that depend on the protocol or the lock.
const (
	Null      Value = "_"
	LeaseLeft Value = "lease" // the milliseconds that are left of the lease
)

// Is reports whether a reply is this value. It is false for LeaseLeft.
func (v Value) Is(reply []byte) bool {
	switch {
	case v == Null:
		return resp.IsNull(reply)
	case v == "+OK" && string(reply) == "$2\r\nOK\r\n": // a script's own text
		return true
	}
	text, ok := bytes.CutSuffix(reply, []byte("\r\n"))
	return ok && string(text) == string(v)
}

// String returns the value as the configuration has it.
func (v Value) String() string {
	switch v {
	case Null:
		return "nil"
	case LeaseLeft:
		return string(v)
	}
	return string(v[1:])
}

// Append appends the reply, with what is left of the lock's lease in milliseconds.
func (v Value) Append(dst []byte, version resp.Version, lease int64) []byte {
	switch v {
	case LeaseLeft:
		return resp.AppendInt(dst, lease)
	case Null:
		return version.AppendNull(dst)
	}
	return append(append(dst, v...), "\r\n"...)
}

// unfit are the reasons for which a majority of nodes cannot do what the scripts of a library do.
var unfit = map[string]string{
	"Redisson": "Redisson counts in hashes and sends messages, which belong to one node; give its locks names " +
		"that no rule matches",
	"python-redis-lock": "python-redis-lock wakes waiting clients by a list, which belongs to one node; give " +
		"its locks names that no rule matches",
	"rueidislock": "rueidislock waits for the messages of client tracking, and a majority of nodes sends none; " +
		"give its locks names that no rule matches",
}

// Unfit returns why the script cannot run on a majority of nodes, or "".
func (s *Script) Unfit(keys int) string {
	switch reason := unfit[s.Library]; {
	case reason != "":
		return reason
	case keys > 1 && s.Library == "RedisLockRegistry":
		return "the script sends a message, which belongs to one node; with RedisLockRegistry use the type " +
			"SPIN_LOCK, or give its locks names that no rule matches"
	}
	return ""
}

// Reads reports whether the script changes no lock.
func (s *Script) Reads() bool { return s.Kind == Read }

// Command returns what the script does to the lock key. argv returns an ARGV by its number, or
// nil. refusal says why it cannot be done; it is "" otherwise.
func (s *Script) Command(key string, argv func(int) []byte, maxLease time.Duration) (c Command, refusal string) {
	for _, n := range [...]int{s.Token, s.Lease, s.Length, s.Database} {
		if n > 0 && argv(n) == nil {
			return c, fmt.Sprintf("the script needs ARGV[%d]", n)
		}
	}
	if db := argv(s.Database); db != nil && string(db) != "0" {
		return c, fmt.Sprintf("the script selects database %.20q, and the locks are in database 0", db)
	}
	c = Command{Kind: s.Kind, Key: key, Token: string(argv(s.Token))}
	if s.Again {
		c.Again = wholeToken
	}
	if length := argv(s.Length); length != nil {
		n, ok := resp.ParseInt(length)
		if !ok || n < 1 || n > math.MaxInt32 {
			return c, fmt.Sprintf("ARGV[%d] must be the length of the token, at least 1", s.Length)
		}
		c.Again = int(n)
	}
	if s.Lease == 0 {
		return c, ""
	}
	n, ok := resp.ParseInt(argv(s.Lease))
	unit, name := time.Millisecond, "milliseconds"
	if s.Seconds {
		unit, name = time.Second, "seconds"
	}
	if !ok || n <= 0 || n > int64(maxLease/unit) {
		return c, fmt.Sprintf("the lease must be a number of %s from 1 to max_lease, %s", name, maxLease)
	}
	c.Lease = n * unit.Milliseconds()
	c.Add = string(argv(s.Adds)) == "0"
	return c, ""
}

// Reply appends what the script returns now that its command has ended without an error.
func (s *Script) Reply(o *Op, dst []byte, v resp.Version) []byte {
	verdict := o.Verdict
	if s.Reads() && verdict == Yes && o.Value != o.cmd.Token {
		verdict = Other
	}
	switch verdict {
	case Yes:
		return s.Returns.Done.Append(dst, v, o.Lease)
	case Other:
		return s.Returns.Other.Append(dst, v, 0)
	}
	return s.Returns.None.Append(dst, v, 0)
}
