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

// Condition is when SET writes a lock.
type Condition uint8

const (
	Always    Condition = iota
	IfMissing           // NX
	IfPresent           // XX
	IfEqual             // IFEQ
)

// LockSet is what SET does to a lock.
type LockSet struct {
	If    Condition
	Value []byte // which IfEqual compares
	Lease int64  // in milliseconds
	At    bool   // the lease is the time at which it ends, as with PXAT
}

// SetOptions reads the options of SET. ok is false if it has no condition or no lease, has one
// of them twice, has other options, or if the lease is no positive number.
func SetOptions(a Args) (o LockSet, ok bool) {
	for i := 3; i < a.Len(); i++ {
		arg := a.Arg(i)
		condition, unit, at := Always, int64(0), false
		switch {
		case EqualFold(arg, "nx"):
			condition = IfMissing
		case EqualFold(arg, "xx"):
			condition = IfPresent
		case EqualFold(arg, "ifeq"):
			condition = IfEqual
		case EqualFold(arg, "px"):
			unit = 1
		case EqualFold(arg, "ex"):
			unit = 1000
		case EqualFold(arg, "pxat"):
			unit, at = 1, true
		case EqualFold(arg, "exat"):
			unit, at = 1000, true
		default:
			return o, false
		}
		if unit > 0 || condition == IfEqual {
			if i++; i == a.Len() {
				return o, false
			}
		}
		if condition != Always {
			if o.If != Always {
				return o, false
			}
			o.If, o.Value = condition, a.Arg(i)
			continue
		}
		n, isInt := resp.ParseInt(a.Arg(i))
		if o.Lease != 0 || !isInt || n <= 0 || n > math.MaxInt64/1000000 {
			return o, false
		}
		o.Lease, o.At = n*unit, at
	}
	return o, o.If != Always && o.Lease > 0
}
