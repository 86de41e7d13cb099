package transfer

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/slots"
)

// Without a guard, FLUSHALL could run at the destination between WATCH and EXEC of a copy without
// being noticed: it does not touch the WATCH of a key that is not there. The keys would be back
// after it. So each copy creates a key of its own, watches it, sees that it exists, and only then
// reads the source. Whatever removes all keys of the destination then makes EXEC fail.
//
// FLUSHALL on all nodes, and then on all nodes once more, removes all keys that existed before it:
// a copy whose values were read before the end of the first round had its guard by then. In the
// second round, FLUSHALL comes behind the copy's EXEC and removes the copies, or makes EXEC fail. A
// copy that reads later finds nothing.

const (
	guardPrefix = "keyway:guard:"
	// guardLife is how long a guard is left in milliseconds if its copier dies. EXEC fails if a copy
	// takes longer.
	guardLife = "600000"
	// guardReply is the position of the reply to the creation of the guard, behind those to
	// tryTransaction.
	guardReply = 2
)

// IsGuard reports whether a key is a guard: one that exists at the destination while values are
// copied, so that whoever removes all keys there makes the copies fail that are under way. Guards
// must not be moved.
func IsGuard(key string) bool { return strings.HasPrefix(key, guardPrefix) }

// WithoutGuards returns an encoded array of keys without guards.
func WithoutGuards(keys []byte) []byte {
	if !bytes.Contains(keys, []byte(guardPrefix)) {
		return keys
	}
	n, rest, _ := resp.Elements(keys)
	left, kept := 0, []byte(nil)
	for range n {
		one, next, _ := resp.Split(rest)
		if key, ok := resp.Bulk(one); !ok || !IsGuard(string(key)) {
			left++
			kept = append(kept, one...)
		}
		rest = next
	}
	return append(resp.AppendArray(nil, left), kept...)
}

// guardName returns the name of a guard in the slot of a key.
func guardName(id, key string) string {
	prefix := guardPrefix + id + ":"
	tag := string(slots.Tag([]byte(key), '{', '}'))
	name := prefix + "{" + tag + "}"
	slot := slots.Of([]byte(key))
	for i := 0; slots.Of([]byte(name)) != slot; i++ {
		name = prefix + "{" + strconv.Itoa(i) + "}"
	}
	return name
}

// askForGuard creates the guard.
func askForGuard(b *Batch) {
	if b.guard != "" {
		b.isGuarded, b.noGuard = true, ""
		b.ask("SET", b.guard, "", "PX", guardLife)
	}
}

// takeGuard takes the reply to the creation of the guard, or to the question whether it is there.
func takeGuard(b *Batch, i int, reply []byte) {
	if i == guardReply {
		text, isError := errorText(reply)
		if b.noGuard = text; !isError && !isStatus(reply, "OK") {
			b.bad("creating a guard", reply)
		}
		return
	}
	n, ok := resp.Int(reply)
	if b.isGuarded = ok && n == 1; !ok || n < 0 || n > 1 {
		b.bad("asking for a guard", reply)
	}
}
