package transfer

import (
	"bytes"
	"strconv"
	"time"

	"github.com/keyway-proxy/keyway/register"
	"github.com/keyway-proxy/keyway/resp"
)

const (
	// settleTime is how long another copier may take between its EXEC and its UNLINK.
	settleTime  = 100 * time.Millisecond
	settlePause = 10 * time.Millisecond
	// confirmPause is the time between two questions for what replicas have confirmed, and askReplicas
	// how long a node waits for their answers.
	confirmPause = 20 * time.Millisecond
	askReplicas  = 100 * time.Millisecond
)

// settle goes on with the keys that are on both nodes: first it waits until other copiers that
// move them have removed them from the source.
func (b *Batch) settle(now int64) {
	if b.settling || !b.has(both) {
		b.settleNext(now)
		return
	}
	b.deadline = now + int64(settleTime)
	b.await()
}

// await asks which of the keys the source still has.
func (b *Batch) await() {
	b.send(awaiting, Source)
	for i := range b.keys {
		if b.keys[i].state == both {
			b.ask("EXISTS", b.keys[i].Name)
		}
	}
}

func (b *Batch) awaited(reply []byte) {
	k := b.next(both)
	b.at++
	switch n, ok := resp.Int(reply); {
	case ok && n == 0:
		b.absent(k)
	case !ok || n != 1:
		b.badKey("asking for", k, reply)
	}
}

func (b *Batch) afterAwait(now int64) {
	if b.has(both) && now < b.deadline {
		b.phase, b.until = pausing, now+int64(settlePause)
		return
	}
	b.settleNext(now)
}

// settleNext settles one key after another. Then the attempt is over.
func (b *Batch) settleNext(now int64) {
	b.settling = true
	for i := range b.keys {
		if k := &b.keys[i]; k.state == both || k.state == changed {
			b.settlement = &settlement{Batch: b, key: k}
			b.settlement.readHere()
			return
		}
	}
	b.retry(now)
}

// takeWait takes the reply to the WAIT behind EXEC.
func takeWait(b *Batch, reply []byte) {
	switch n, ok := resp.Int(reply); {
	case !ok:
		b.bad(WaitingForReplica, reply)
	case n > 0:
		b.pair.isAlone = false
	default:
		b.unseen = !b.pair.isAlone
	}
}

// confirm waits until a replica has what a node has written so far, by the offsets in INFO. WAIT alone
// would not do: it waits only for what the connection itself has written.
func (b *Batch) confirm(of Side, now int64) {
	b.side, b.deadline, b.offset = of, now+int64(waitTimeout), -1
	b.askOffsets()
}

func (b *Batch) askOffsets() {
	b.send(confirming, b.side)
	b.ask("INFO", "replication")
	// WAIT makes replicas say how far they are, which they do once a second otherwise, if the connection
	// has written something: here what changes nothing. A node may refuse both.
	b.ask("FUNCTION", "RESTORE", register.NoLibraries)
	b.frames = appendWait(b.frames, askReplicas)
	b.left++
	b.ask("INFO", "replication")
}

func (b *Batch) tookOffsets(i int, reply []byte) {
	if i == 1 || i == 2 {
		return
	}
	info, ok := resp.Bulk(reply)
	if !ok {
		b.bad("asking for INFO", reply)
		return
	}
	own, confirmed := offsets(info)
	b.isAlone = !bytes.Contains(info, []byte("\nslave0:"))
	if b.offset < 0 {
		if b.offset = own; own < 0 {
			b.bad("reading master_repl_offset from INFO", reply)
		}
	}
	b.wrote = confirmed >= b.offset
}

func (b *Batch) afterOffsets(now int64) {
	switch {
	case !b.wrote && now >= b.deadline && b.isAlone && b.side == Destination && !b.pair.Strict:
		b.pair.isAlone = true
		b.remove()
	case !b.wrote && now >= b.deadline:
		b.unconfirmed()
	case !b.wrote:
		b.phase, b.until = pausingToConfirm, now+int64(confirmPause)
	case b.side == Destination:
		b.remove()
	default:
		b.stale = false
		b.end()
	}
}

// offsets returns the replication offset of a node, and the highest that a replica has confirmed,
// from INFO replication. Both are -1 if it has none.
func offsets(info []byte) (own, confirmed int64) {
	own, confirmed = -1, -1
	for line := range bytes.Lines(info) {
		name, value, _ := bytes.Cut(bytes.TrimSpace(line), []byte(":"))
		switch {
		case string(name) == "master_repl_offset":
			if n, err := strconv.ParseInt(string(value), 10, 64); err == nil {
				own = n
			}
		case bytes.HasPrefix(name, []byte("slave")) && bytes.Contains(value, []byte("state=online")):
			_, after, _ := bytes.Cut(value, []byte(",offset="))
			text, _, _ := bytes.Cut(after, []byte(","))
			if n, err := strconv.ParseInt(string(text), 10, 64); err == nil {
				confirmed = max(confirmed, n)
			}
		}
	}
	return own, confirmed
}
