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

// spot is a hot key.
type spot struct {
	of    *cache
	key   []byte
	hash  uint64
	isHot bool

	asked  int   // GETs that went to the node since the last sweep
	isUsed bool  // there are GETs, so other commands that use the key bar their clients
	born   int64 // when that began: commands that began by then have barred nobody

	isSet   bool
	reply   []byte // to GET
	watch   *watch // over which it was read
	until   int64  // valid before
	renewAt int64  // when keyway should ask for it again
	hits    int    // since it was read

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

func (sp *spot) isValid(now int64) bool { return sp.isSet && now < sp.until }

// drop forgets the value of a key, and makes the fill useless that is under way.
func (of *cache) drop(sp *spot) {
	if !sp.isSet && sp.fill == nil {
		return
	}
	if sp.isSet {
		sp.isSet = false
		of.bytes -= len(sp.reply)
	}
	sp.fill = nil
	if sp.hits >= worth {
		sp.pause = 0
	} else {
		sp.pause = min(max(2*sp.pause, int64(minPause)), int64(maxPause))
	}
	sp.hits = 0
	sp.pausedUntil = of.w.Now + sp.pause
}

// postpone is drop for a key whose value cannot be kept.
func (of *cache) postpone(sp *spot) {
	of.drop(sp)
	sp.pausedUntil = of.w.Now + int64(maxPause)
}

// Replied implements engine.WitnessedReply: a node has answered a GET of a client.
func (sp *spot) Replied(reply []byte) {
	if sp.fill != nil {
		hash := maphash.Bytes(engine.HashSeed, reply)
		sp.isTorn = sp.isTorn || sp.fill.hasSeen && sp.seen != hash
		sp.fill.hasSeen, sp.seen = true, hash
	}
	if sp.isSet && !bytes.Equal(sp.reply, reply) {
		sp.of.drop(sp)
	}
}

// Drop implements engine.WitnessedReply.
func (sp *spot) Drop() {}

// fill is a read of a value, and of when it expires.
type fill struct {
	sp      *spot
	watch   *watch
	stamp   uint64
	at      int64 // when it was sent
	hasSeen bool  // sp.seen is the hash of what a node has told a client meanwhile
	value   []byte
	isValue bool // value has the whole reply to GET; part is that to PTTL
	part    []byte
	isLarge bool
}

// fill begins to read the value of a key.
func (of *cache) fill(sp *spot) {
	w := of.w
	_, id := w.Table.Place(sp.key)
	if id == router.None {
		return
	}
	c := of.watchOf(w.Nodes[id])
	if c == nil {
		return
	}
	if c.conn.State() != pool.Ready {
		c.conn.Open(w.Now)
		return
	}
	f := &fill{sp: sp, watch: c, stamp: of.nextStamp(c), at: w.Now}
	sp.fill, sp.isTorn = f, false
	key := string(sp.key)
	block := resp.AppendCommand(nil, "GET", key)
	ends := []int{len(block), 0}
	block = resp.AppendCommand(block, "PTTL", key)
	ends[1] = len(block)
	w.Stats.NearFills++
	c.conn.SendBlock(f, f, block, ends, w.Now, w.Deadline())
}

// Reply implements pool.Receiver.
func (f *fill) Reply(_ *pool.Conn, _ []byte, p pool.Piece) {
	if len(f.part)+len(p.Bytes) <= f.sp.of.options.MaxValue+maxHeader {
		f.part = append(f.part, p.Bytes...)
	} else {
		f.isLarge = true
	}
	switch {
	case !p.Last:
	case !f.isValue:
		f.value, f.part, f.isValue = f.part, nil, true
	default:
		f.watch.proven = max(f.watch.proven, f.stamp)
		if f.sp.fill == f {
			f.sp.of.filled(f)
		}
	}
}

// maxHeader is what a reply has besides its value.
const maxHeader = len("$1234567890\r\n\r\n")

// Failed implements pool.Receiver.
func (f *fill) Failed(*pool.Conn, []byte, pool.Failure) {
	if f.sp.fill == f {
		f.sp.fill = nil
	}
}

// filled keeps the value that was read, if it can be kept.
func (of *cache) filled(f *fill) {
	sp, w := f.sp, of.w
	until, ok := f.expires()
	value, isText := resp.Bulk(f.value)
	room := of.options.Memory - of.bytes
	if sp.isSet {
		room += len(sp.reply)
	}
	switch {
	case f.isLarge, !ok, !isText, len(value) > of.options.MaxValue, len(f.value) > room:
		of.postpone(sp)
		return
	case sp.isTorn || f.hasSeen && sp.seen != maphash.Bytes(engine.HashSeed, f.value):
		of.drop(sp) // a client has seen another value, which may be newer
		return
	}
	if sp.isSet {
		of.bytes -= len(sp.reply)
	}
	sp.fill, sp.isSet, sp.reply, sp.watch, sp.hits = nil, true, f.value, f.watch, 0
	of.bytes += len(f.value)
	sp.until = min(f.at+int64(of.options.Lease), until)
	sp.renewAt = f.at + int64(of.options.Lease)/2
	if w.Now >= sp.until {
		of.drop(sp)
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
