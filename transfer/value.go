package transfer

import (
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/resp"
)

// What PEXPIRETIME and PTTL answer besides a time.
const (
	never  = -1
	noKey  = -2
	noData = -1 // of reading.use: the source does not say
)

// reading is what the source has said about a key besides its value.
type reading struct {
	use    int64 // seconds without use, or the frequency of use; or noData
	expiry int64 // Unix time in milliseconds by the source's clock, or never, or noKey
}

// at returns when the key expires at the destination: a Unix time in milliseconds by its clock, or
// never, or noKey.
func (r *reading) at(c *clock) int64 {
	if r.expiry < 0 {
		return r.expiry
	}
	return c.atDestination(r.expiry)
}

// readMissing watches the keys at the source, if clients may write there, and reads those that
// the destination does not have.
func (b *Batch) readMissing() {
	b.send(readingValues, Source)
	b.copies, b.values, b.reread = resp.AppendCommand(b.copies[:0], "MULTI"), 0, false
	if !b.pair.Fenced {
		b.tryTransaction()
		b.askKeys("WATCH", missing, missing, "")
	}
	for i := range b.keys {
		if b.keys[i].state == missing {
			b.askValue(b.keys[i].Name)
		}
	}
}

// askValue asks the source for a key's value. OBJECT comes first, because DUMP counts as use of
// the key.
func (b *Batch) askValue(key string) {
	kind := "IDLETIME"
	if b.pair.LFU {
		kind = "FREQ"
	}
	b.ask("OBJECT", kind, key)
	if b.pair.noExpireTime {
		b.ask("PTTL", key)
		b.ask("TIME")
	} else {
		b.ask("PEXPIRETIME", key)
	}
	b.ask("DUMP", key)
}

// read takes the replies about the values.
func (b *Batch) read(i int, reply []byte) {
	if i -= b.pair.sourceWatch(); i < 0 {
		b.tookWatch(i+watchReplies, reply)
		return
	}
	if b.reread {
		return
	}
	k := b.next(missing)
	if !b.readPart(i, k, reply) {
		return
	}
	payload, there := b.dumped(k, reply)
	switch {
	case b.failure != nil:
	case !there:
		b.absent(k)
	case b.reading.expiry == noKey:
		k.state = unknown // it was created in between
	default:
		b.addRestore(k, payload)
	}
}

// readPart takes a reply to askValue's i-th command. It reports whether it is that to DUMP.
func (b *Batch) readPart(i int, k *Key, reply []byte) bool {
	commands := 3
	if b.pair.noExpireTime {
		commands = 4
	}
	switch i %= commands; {
	case i == 0:
		b.reading = reading{use: noData}
		if n, ok := resp.Int(reply); ok && n >= 0 {
			b.reading.use = n
		}
	case i == 1:
		n, ok := resp.Int(reply)
		if text, _ := errorText(reply); isUnknownCommand(text) && !b.pair.noExpireTime {
			b.pair.noExpireTime, b.reread = true, true
		} else if b.reading.expiry = n; !ok || n < noKey {
			b.badKey("reading the expiry of", k, reply)
		}
	case i == 2 && commands == 4:
		if b.reading.expiry >= 0 {
			// PTTL rounds down, to 0 in the last millisecond. TIME was read after it.
			b.reading.expiry = max(b.reading.expiry, 1)
		}
		now, ok := timeOf(reply)
		if !ok {
			b.bad("reading the clock", reply)
		} else if b.reading.expiry >= 0 {
			b.reading.expiry += now.Milliseconds()
		}
	default:
		return true
	}
	return false
}

func isUnknownCommand(text string) bool { return strings.Contains(text, "unknown command") }

// addRestore adds a RESTORE to the transaction. Without REPLACE it cannot overwrite anything.
func (b *Batch) addRestore(k *Key, payload []byte) {
	k.state, k.Expires = copied, b.reading.expiry != never
	b.values++
	args, expiry := 5, int64(0) // RESTORE's 0 is never
	if k.Expires {
		expiry = b.reading.at(&b.pair.clock)
	}
	if b.reading.use != noData {
		args = 7
	}
	dst := resp.AppendBulkString(resp.AppendArray(b.copies, args), "RESTORE")
	dst = appendBulkInt(resp.AppendBulkString(dst, k.Name), expiry)
	dst = resp.AppendBulkString(resp.AppendBulk(dst, payload), "ABSTTL")
	switch {
	case b.reading.use == noData:
	case b.pair.LFU:
		dst = appendBulkInt(resp.AppendBulkString(dst, "FREQ"), b.reading.use)
	default:
		dst = appendBulkInt(resp.AppendBulkString(dst, "IDLETIME"), b.reading.use)
	}
	b.copies = dst
}

// appendBulkInt appends a number as an argument.
func appendBulkInt(dst []byte, n int64) []byte {
	var digits [20]byte
	return resp.AppendBulk(dst, strconv.AppendInt(digits[:0], n, 10))
}

func (b *Batch) afterRead(now int64) {
	switch {
	case b.reread:
		b.readMissing()
	case b.values > 0:
		b.restore()
	default:
		b.settle(now)
	}
}
