package command

import (
	"math"

	"github.com/keyway-proxy/keyway/resp"
)

// LockRole says how clients use a command for locks that they keep in Redis.
type LockRole uint8

const (
	NoLock      LockRole = iota
	SetLock              // SET, with NX
	SetNXLock            // SETNX: it sets a lock without a lease
	ExpireLock           // EXPIRE: the second argument is in seconds
	PExpireLock          // PEXPIRE: in milliseconds
	DeleteLock           // DEL, UNLINK
	CompareLock          // deletes a key that has a certain value
	ScriptLock           // EVAL, EVALSHA: the script may work on a lock
	// The others change no lock.
	GetLock    // GET
	ExistsLock // EXISTS
	TTLLock    // TTL
	PTTLLock   // PTTL
	WatchLock  // WATCH
)

// Changes reports whether commands with this role can change a lock.
func (r LockRole) Changes() bool { return r > NoLock && r < GetLock }

// SetLease returns the lease of SET key value NX with PX or EX, in milliseconds. ok is false if
// SET has other options, lacks one of these, or if the lease is no positive number.
func SetLease(a Args) (ms int64, ok bool) {
	nx := false
	for i := 3; i < a.Len(); i++ {
		unit := int64(1000)
		switch arg := a.Arg(i); {
		case EqualFold(arg, "nx"):
			nx = true
			continue
		case EqualFold(arg, "px"):
			unit = 1
		case !EqualFold(arg, "ex"):
			return 0, false
		}
		n, isInt := int64(0), false
		if i++; i < a.Len() {
			n, isInt = resp.ParseInt(a.Arg(i))
		}
		if ms != 0 || !isInt || n <= 0 || n > math.MaxInt64/1000000 {
			return 0, false
		}
		ms = n * unit
	}
	return ms, nx && ms > 0
}
