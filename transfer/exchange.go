package transfer

import (
	"time"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/resp"
)

// waitTimeout is how long a replica may take to confirm what has been written.
const waitTimeout = 5 * time.Second

// lookTimeout is how long a copy waits for a replica of a node that had none the last time.
const lookTimeout = time.Millisecond

// Failure says why a batch has ended early. What was proven about single keys still holds.
type Failure struct {
	To    Side   // whose reply it was
	Doing string // what has failed, such as "watching keys"
	Text  string // the node's error, or what is wrong with its reply
	// IsReply says that Text is the node's own error. Otherwise the reply makes no sense, and the
	// connection must not be used any more.
	IsReply bool
	// Unconfirmed says that no replica has confirmed what was written. Nothing has failed besides.
	Unconfirmed bool
	// Restoring is the key whose RESTORE was refused before any command of the transaction ran.
	Restoring string
}

// phase is what has been sent and is being answered.
type phase uint8

const (
	idle phase = iota
	measuring
	looking
	readingValues
	restoring
	removing
	awaiting
	pausing
	readingHere
	readingThere
	askingHere
	askingThere
	fieldsHere
	fieldsThere
	confirming
	pausingToConfirm
	settingAside
	releasing
	over
)

// exchange is what a phase sends to a node, and how far the replies have come.
type exchange struct {
	phase   phase
	side    Side
	left    int    // replies that are to come
	got     int    // replies that have come
	at      int    // the key whose reply is next
	frames  []byte // what is sent, apart from Batch.copies
	failure *Failure
}

// send begins a phase in which commands go to a node. The caller appends them to x.frames.
func (x *exchange) send(p phase, to Side) {
	x.phase, x.side, x.frames, x.got, x.at = p, to, x.frames[:0], 0, 0
}

// ask adds a command to those of this phase.
func (x *exchange) ask(args ...string) {
	x.frames = resp.AppendCommand(x.frames, args...)
	x.left++
}

// watchReplies is how many replies there are to tryTransaction and WATCH.
const watchReplies = 3

// tryTransaction sends an empty transaction. It forgets the keys that an earlier batch has left
// watched. If the node refuses MULTI or EXEC, the batch ends before it sends commands that must not
// run outside of a transaction.
func (x *exchange) tryTransaction() {
	x.ask("MULTI")
	x.ask("EXEC")
}

// tookWatch takes the replies to tryTransaction and WATCH.
func (x *exchange) tookWatch(i int, reply []byte) {
	n, _, isList := resp.Elements(reply)
	isEmpty := isList && n == 0 || resp.IsNull(reply) // null: a key that was watched has changed
	isRight := isStatus(reply, "OK")
	if i == 1 {
		isRight = isEmpty
	}
	if !isRight {
		x.bad("watching keys", reply)
	}
}

// fail ends the batch because a reply makes no sense.
func (x *exchange) fail(doing, text string) {
	if x.failure == nil {
		x.failure = &Failure{To: x.side, Doing: doing, Text: text}
	}
}

// bad ends the batch because of a reply that is an error, or makes no sense.
func (x *exchange) bad(doing string, reply []byte) {
	text, isError := errorText(reply)
	if !isError {
		const most = 64
		text = "its reply makes no sense: " + resp.Printable(reply[:min(len(reply), most)])
	}
	x.fail(doing, text)
	x.failure.IsReply = isError
}

// badKey does the same for a command about one key.
func (x *exchange) badKey(doing string, k *Key, reply []byte) {
	x.bad(doing+" key "+errtext.Key(k.Name), reply)
}

// errorText returns the text of an error, also of RESP3's long ones.
func errorText(reply []byte) (string, bool) {
	if text, ok := resp.ErrorText(reply); ok {
		return string(text), true
	}
	if len(reply) > 0 && reply[0] == '!' {
		if text, ok := resp.Bulk(append([]byte{'$'}, reply[1:]...)); ok {
			return string(text), true
		}
	}
	return "", false
}

// isStatus reports whether a reply is this status.
func isStatus(reply []byte, status string) bool {
	return len(reply) == len(status)+3 && reply[0] == '+' && string(reply[1:len(status)+1]) == status
}

// dumped returns a reply to DUMP. ok is false if there is no such key, or the batch has failed.
func (x *exchange) dumped(k *Key, reply []byte) (payload []byte, ok bool) {
	if resp.IsNull(reply) {
		return nil, false
	}
	if payload, ok = resp.Bulk(reply); !ok || reply[0] != '$' {
		x.badKey("reading", k, reply)
		return nil, false
	}
	return payload, true
}

// waited takes the reply to WAIT.
func (x *exchange) waited(reply []byte) bool {
	n, ok := resp.Int(reply)
	switch {
	case !ok:
		x.bad(WaitingForReplica, reply)
	case n < 1:
		x.unconfirmed()
	}
	return ok && n >= 1
}

// WaitingForReplica is what a copy was doing, in its error, that failed because no replica followed.
const WaitingForReplica = "waiting for a replica"

func (x *exchange) unconfirmed() {
	what := "none has the moved keys"
	if x.side == Source {
		what = "none has removed the moved keys"
	}
	x.fail(WaitingForReplica, what+" after "+waitTimeout.String())
	x.failure.Unconfirmed = true
}

func appendWait(dst []byte, atMost time.Duration) []byte {
	dst = resp.AppendBulkString(resp.AppendBulkString(resp.AppendArray(dst, 3), "WAIT"), "1")
	return appendBulkInt(dst, atMost.Milliseconds())
}
