package command

import (
	"math"

	"github.com/keyway-proxy/keyway/resp"
)

// LockUse is what a command does if its key is a lock. Scripts are not among these.
type LockUse uint8

const (
	NoLockUse   LockUse = iota // it is not for locks
	SetsLock                   // SET
	SetsForever                // SETNX: it sets a lock without a lease
	GetsLock                   // GET
	ExistsLock                 // EXISTS
	LeaseSec                   // TTL
	LeaseMS                    // PTTL
	DeletesLock                // DEL and UNLINK
	WatchesLock                // WATCH
)

var lockUses = map[string]LockUse{
	"set": SetsLock, "setnx": SetsForever, "get": GetsLock, "exists": ExistsLock, "ttl": LeaseSec, "pttl": LeaseMS,
	"del": DeletesLock, "unlink": DeletesLock, "watch": WatchesLock,
}

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
