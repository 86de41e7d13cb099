package near

import (
	"bytes"
	"hash/maphash"
	"math"
	"time"

	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
)

// entry is a hot key.
type entry struct {
	of    *cache
	key   []byte
	hash  uint64
	isHot bool

	asked  int   // GETs that went to the node since the last sweep
	isUsed bool  // there are GETs, so other commands that use the key bar their clients
	born   int64 // when that began: commands that began by then have barred nobody

	isSet    bool
	reply    []byte        // to GET
	tracking *trackingConn // over which it was read
	until    int64         // valid before
	renewAt  int64         // when keyway should ask for it again
	hits     int           // since it was read

	fill        *fill // that is under way; nil: none
	pausedUntil int64 // no fill before
	pause       int64 // the last one; 0: the value was of use
	seen        uint64
	isTorn      bool
}

const (
	// worth is how many hits make a value worth its fill, which costs the node two commands.
	worth = 8
	// minPause and maxPause bound the time until a value is read again that was not worth it.
	minPause = 20 * time.Millisecond
	maxPause = time.Second
)

func (e *entry) isValid(now int64) bool { return e.isSet && now < e.until }

// drop forgets the value of a key, and makes the fill useless that is under way.
func (of *cache) drop(e *entry) {
	if !e.isSet && e.fill == nil {
		return
	}
	if e.isSet {
		e.isSet = false
		of.bytes -= len(e.reply)
	}
	e.fill = nil
	if e.hits >= worth {
		e.pause = 0
	} else {
		e.pause = min(max(2*e.pause, int64(minPause)), int64(maxPause))
	}
	e.hits = 0
	e.pausedUntil = of.w.Now + e.pause
}

// postpone is drop for a key whose value cannot be kept.
func (of *cache) postpone(e *entry) {
	of.drop(e)
	e.pausedUntil = of.w.Now + int64(maxPause)
}

// Replied implements engine.WitnessedReply: a node has answered a GET of a client.
func (e *entry) Replied(reply []byte) {
	if e.fill != nil {
		hash := maphash.Bytes(engine.HashSeed, reply)
		e.isTorn = e.isTorn || e.fill.hasSeen && e.seen != hash
		e.fill.hasSeen, e.seen = true, hash
	}
	if e.isSet && !bytes.Equal(e.reply, reply) {
		e.of.drop(e)
	}
}

// Drop implements engine.WitnessedReply.
func (e *entry) Drop() {}

// fill is a read of a value, and of when it expires.
type fill struct {
	e        *entry
	tracking *trackingConn
	stamp    uint64
	at       int64 // when it was sent
	hasSeen  bool  // e.seen is the hash of what a node has told a client meanwhile
	value    []byte
	isValue  bool // value is complete: the reply to GET; part is that to PTTL
	part     []byte
	isLarge  bool
}

// fill begins to read the value of a key.
func (of *cache) fill(e *entry) {
	w := of.w
	_, id := w.Table.Place(e.key)
	if id == router.None {
		return
	}
	if of.refuses(w.Nodes[id]) {
		return
	}
	c := of.connOf(w.Nodes[id])
	if c == nil {
		return
	}
	if c.conn.State() != pool.Ready {
		c.conn.Open(w.Now)
		return
	}
	f := &fill{e: e, tracking: c, stamp: of.nextStamp(c), at: w.Now}
	e.fill, e.isTorn = f, false
	key := string(e.key)
	block := resp.AppendCommand(nil, "GET", key)
	ends := []int{len(block), 0}
	block = resp.AppendCommand(block, "PTTL", key)
	ends[1] = len(block)
	w.Stats.NearFills++
	c.conn.SendBlock(f, f, block, ends, w.Now, w.Deadline())
}

// Reply implements pool.Receiver.
func (f *fill) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if len(f.part)+len(p.Bytes) <= f.e.of.options.MaxValue+maxHeader {
		f.part = append(f.part, p.Bytes...)
	} else {
		f.isLarge = true
	}
	switch {
	case !p.Last:
	case !f.isValue:
		f.value, f.part, f.isValue = f.part, nil, true
	default:
		f.tracking.proven = max(f.tracking.proven, f.stamp)
		if f.e.fill == f {
			f.e.of.filled(f)
		}
	}
}

// maxHeader is what a reply has besides its value.
const maxHeader = len("$1234567890\r\n\r\n")

// Failed implements pool.Receiver.
func (f *fill) Failed(*pool.Conn, []byte, pool.Failure) {
	if f.e.fill == f {
		f.e.fill = nil
	}
}

// filled keeps the value that was read, if it can be kept.
func (of *cache) filled(f *fill) {
	e, w := f.e, of.w
	until, ok := f.expires()
	if !ok {
		of.refuse(f.tracking.node, f.part)
	}
	value, isText := resp.Bulk(f.value)
	room := of.options.Memory - of.bytes
	if e.isSet {
		room += len(e.reply)
	}
	switch {
	case f.isLarge, !ok, !isText, len(value) > of.options.MaxValue, len(f.value) > room:
		of.postpone(e)
		return
	case e.isTorn || f.hasSeen && e.seen != maphash.Bytes(engine.HashSeed, f.value):
		of.drop(e) // a client has seen another value, which may be newer
		return
	}
	if e.isSet {
		of.bytes -= len(e.reply)
	}
	e.fill, e.isSet, e.reply, e.tracking, e.hits = nil, true, f.value, f.tracking, 0
	of.bytes += len(f.value)
	e.until = min(f.at+int64(of.options.Lease), until)
	e.renewAt = f.at + int64(of.options.Lease)/2
	if w.Now >= e.until {
		of.drop(e)
	}
}

// expires returns when the value that was read expires. ok is false if it may have expired.
func (f *fill) expires() (at int64, ok bool) {
	if len(f.part) < 4 || f.part[0] != ':' {
		return 0, false
	}
	const never = -1
	ttl, ok := resp.ParseInt(f.part[1 : len(f.part)-2])
	switch {
	case !ok || ttl < never || ttl == 0:
		return 0, false
	case ttl == never || ttl > int64(time.Hour/time.Millisecond):
		return math.MaxInt64, true
	}
	return f.at + ttl*int64(time.Millisecond), true
}
