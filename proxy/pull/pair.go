package pull

import (
	"bytes"
	"container/list"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/transfer"
)

const (
	// maxBatch is how many keys move together: the destination executes nothing else meanwhile.
	maxBatch = 100
	// batchBytes is how much memory the keys of a batch may take for which nobody waits.
	batchBytes = 256 << 10
	// stepTimeout is the longest wait for a node's replies to a step. A value of a gigabyte takes
	// tens of seconds.
	stepTimeout = int64(2 * time.Minute)
	// pause is the time until moves are tried again that have failed.
	pause = int64(20 * time.Millisecond)
	// surely bounds pair.present. A key that the source has adds one, and one that it lacks takes goneWeighs.
	surely, goneWeighs = 16, 4
)

// route is the way of keys of one database between two nodes.
type route struct {
	from, to *engine.Node
	db       uint16
}

// pair moves keys along a route, in one batch after another. The keys that are wanted meanwhile
// wait in two queues. Those of commands that clients have sent behind the one that waits go along with the
// others, or when there are no others.
type pair struct {
	p *puller
	route
	source, destination *pool.Conn

	nodes  transfer.Pair
	wants  map[string]*want
	waited queue // keys that clients wait for
	ahead  queue // keys that they will wait for soon
	batch  []*want
	moves  transfer.Batch
	isDue  bool // it is pumped when the turn ends

	isAlone bool // the destination was too full for a batch, so the keys that wait move one at a time

	asking  int    // keys of the batch that the source has to say more of before they move
	present int    // how sure it is that the source has a key, up to surely; see presumes
	owed    int    // replies to a step of moves that are due
	until   int64  // no batch goes on before; 0: it may at once
	failure string // why the last batch has failed
	attempt uint64 // grows when a batch ends: later replies to it do not matter
	former  former // the source, as long as reads may stay there
	watched uint64 // the number of the socket over which the destination has answered; 0: none yet

	seeker seeker
}

// want is a key that somebody waits for, or will wait for soon.
type want struct {
	pair    *pair
	name    []byte
	waiters []*waiter
	isThere bool          // the source has it
	isDue   bool          // the source's reply about it is due
	bytes   int64         // that it takes there, if that was asked for; otherwise 0
	group   uint16        // see queue: its slot, if its new owner is in a cluster
	in      *queue        // nil: it is in the batch
	at      *list.Element // of in
}

// pairOf returns the pair that moves keys along a route. It is pumped when the turn ends.
func (p *puller) pairOf(r route) *pair {
	pr := p.pairs[r]
	if pr == nil {
		pr = p.open(r)
	}
	if !pr.isDue {
		pr.isDue, p.due = true, append(p.due, pr)
	}
	return pr
}

// open begins to move keys along a route.
func (p *puller) open(r route) *pair {
	pr := &pair{p: p, route: r, wants: map[string]*want{}}
	pr.nodes = transfer.Pair{
		Fenced: true, Label: strconv.FormatInt(p.w.Options.Backend.Epoch, 10),
		InCluster: p.w.Table.Clustered(), Guard: strconv.FormatUint(p.w.Links.Rand.Uint64(), 36),
	}
	pr.source, pr.destination = r.from.NewConn(), r.to.NewConn()
	pr.source.DB, pr.destination.DB = int(r.db), int(r.db)
	if p.pairs == nil {
		p.pairs = map[route]*pair{}
	}
	p.pairs[r], p.order = pr, append(p.order, pr)
	return pr
}

func (pr *pair) close() {
	w := pr.p.w
	pr.attempt++
	w.LinksToClose = append(w.LinksToClose, &pr.source.Link, &pr.destination.Link)
}

// isBusy reports whether keys are wanted.
func (pr *pair) isBusy() bool {
	return len(pr.wants)+len(pr.seeker.tags) > 0 || pr.source.Busy() || pr.destination.Busy()
}

// reason returns why keys do not come, for an error.
func (pr *pair) reason() string {
	for _, c := range []*pool.Conn{pr.source, pr.destination} {
		if why := c.Reason(); why != "" && c.State() != pool.Ready {
			return " (node " + engine.NodeName(&c.Link) + ": " + why + ")"
		}
	}
	if pr.failure != "" {
		return " (" + pr.failure + ")"
	}
	return ""
}

// want makes a waiter wait for a key.
func (pr *pair) want(key []byte, who *waiter) {
	k := pr.wants[string(key)]
	switch {
	case k == nil:
		k = pr.newWant(key)
		pr.waited.add(k)
		pr.askEarly(k)
	case k.in == &pr.ahead:
		pr.ahead.remove(k)
		pr.waited.add(k)
		pr.askEarly(k)
	}
	k.waiters = append(k.waiters, who)
	who.missing++
	who.last = k
}

// newWant makes a key wanted. The caller adds it to a queue.
func (pr *pair) newWant(key []byte) *want {
	k := &want{pair: pr, name: bytes.Clone(key)}
	if pr.nodes.InCluster {
		k.group = slots.Of(key)
	}
	pr.wants[string(k.name)] = k
	return k
}

// pump goes on with the batch, or begins the next one, as long as no reply is due.
func (pr *pair) pump() {
	pr.seek()
	for pr.asking == 0 && pr.owed == 0 && pr.p.w.Now >= pr.until && pr.p.pairs[pr.route] == pr {
		pr.until = 0
		if len(pr.batch)+len(pr.seeker.confirming) == 0 {
			switch {
			case pr.confirm():
			case pr.waited.size+pr.ahead.size == 0:
				return
			default:
				pr.begin()
				continue
			}
		}
		step := pr.moves.Next(pr.p.w.Now)
		switch {
		case step.To != transfer.None:
			pr.send(step)
		case step.Until != 0:
			pr.until = step.Until
		default:
			pr.end()
		}
	}
}

// begin takes the next batch, and asks the source which of its keys are there, unless it has said so. The others
// are proven to have left. Of keys for which nobody waits, it asks how large they are.
func (pr *pair) begin() {
	first, most := &pr.waited, maxBatch
	if pr.isAlone {
		most = 1
	}
	if first.size == 0 {
		first = &pr.ahead
	}
	id := first.next()
	pr.batch = pr.waited.take(id, pr.batch, most)
	waited := len(pr.batch)
	pr.takeAhead(id, most)
	if why := pr.source.ConnectError(); why != "" {
		pr.fail(why)
		return
	}
	for _, k := range pr.batch[:waited] {
		k.isThere, k.bytes = k.isThere || pr.isStrict(), 0
	}
	pr.asking = 0
	asks := func(i int) bool { return i >= waited || !pr.batch[i].isThere }
	for i := range pr.batch {
		if asks(i) {
			pr.asking++
		}
	}
	if pr.asking == 0 {
		pr.move()
		return
	}
	presumed := pr.presumes() && waited == len(pr.batch)
	for i, k := range pr.batch {
		switch {
		case !asks(i) || k.isDue:
		case i < waited:
			pr.ask(k, pr.exists, "EXISTS", string(k.name))
		default:
			pr.ask(k, pr.sized, "MEMORY", "USAGE", string(k.name))
		}
	}
	if presumed && pr.asking > 0 {
		pr.asking = 0
		pr.move()
	}
}

// isStrict reports whether a replica of the source must have lost a key, too. Then what the source says is no proof.
func (pr *pair) isStrict() bool { return pr.p.w.Options.Durable == transfer.DurableStrict }

// presumes reports whether the source has nearly all the keys that it was asked for. Then a batch begins at once, and
// the source's reply only tells sooner if there is nothing to move.
func (pr *pair) presumes() bool { return pr.present >= surely/2 }

// askEarly asks the source for a key while a batch is under way that the key has to wait for. If the source does not
// have it, the wait is over.
func (pr *pair) askEarly(k *want) {
	if len(pr.batch) > 0 && !k.isDue && !pr.isStrict() && pr.source.State() == pool.Ready {
		pr.ask(k, pr.exists, "EXISTS", string(k.name))
	}
}

// takeAhead adds keys to the batch for which nobody waits, but not more than it may have by what is known of them.
func (pr *pair) takeAhead(id uint16, most int) {
	for room := int64(batchBytes); len(pr.batch) < most; {
		before := len(pr.batch)
		if pr.batch = pr.ahead.take(id, pr.batch, before+1); len(pr.batch) == before {
			return
		}
		k := pr.batch[before]
		if room -= k.bytes; room < 0 {
			pr.batch = pr.batch[:before]
			pr.ahead.putBack(k)
			return
		}
	}
}

// ask asks the source something about a key. take takes the reply, and returns false if it makes no sense.
func (pr *pair) ask(k *want, take func(k *want, reply []byte) bool, args ...string) {
	w, attempt := pr.p.w, pr.attempt
	k.isDue = true
	w.Ask(pr.source, w.Now+stepTimeout, func(reply []byte, ok bool) {
		k.isDue = false
		matters := pr.attempt == attempt || pr.asking > 0
		switch {
		case pr.p.pairs[pr.route] != pr || !pr.wanted(k):
		case !ok && matters:
			pr.lost(pr.source)
		case !ok:
		case take(k, reply):
			pr.told(k)
		case matters:
			pr.fail(text(reply))
		}
	}, args...)
}

// wanted reports whether somebody still waits for a key, or will.
func (pr *pair) wanted(k *want) bool { return pr.wants[string(k.name)] == k }

// told goes on after the source has said something about a key.
func (pr *pair) told(k *want) {
	switch {
	case k.in == nil && pr.asking > 0:
		if pr.asking--; pr.asking == 0 {
			pr.asked()
		}
	case !k.isThere && !pr.isStrict():
		pr.arrived(k) // if it is in the batch, that finds nothing to move
		pr.p.release()
	}
}

// exists takes the source's reply to EXISTS.
func (pr *pair) exists(k *want, reply []byte) bool {
	n, isInt := resp.Int(reply)
	k.isThere = n == 1
	if k.isThere {
		pr.present = min(pr.present+1, surely)
	} else {
		pr.present = max(pr.present-goneWeighs, 0)
	}
	return isInt && n >= 0 && n <= 1
}

// sized takes the source's reply to MEMORY USAGE. A key whose size it does not say counts as too large.
func (pr *pair) sized(k *want, reply []byte) bool {
	n, isInt := resp.Int(reply)
	k.isThere, k.bytes = !resp.IsNull(reply), n
	if !isInt {
		k.bytes = math.MaxInt64
	}
	return true
}

// asked begins to move those keys of the batch that are there.
func (pr *pair) asked() {
	there, room := pr.batch[:0], int64(batchBytes)
	var later []*want
	for _, k := range pr.batch {
		switch {
		case k.isThere && k.bytes <= room:
			there, room = append(there, k), room-k.bytes
		case k.isThere && k.bytes <= batchBytes && len(k.waiters) == 0:
			later = append(later, k)
		case k.isThere || pr.isStrict():
			pr.putOff(k)
		default:
			pr.arrived(k)
		}
	}
	for _, k := range slices.Backward(later) {
		pr.ahead.putBack(k)
	}
	clear(pr.batch[len(there):])
	if pr.batch = there; len(there) > 0 {
		pr.move()
	}
	pr.pump()
	pr.p.release()
}

// putOff takes a key out of the batch that does not move unless somebody waits for it.
func (pr *pair) putOff(k *want) {
	if len(k.waiters) > 0 {
		pr.waited.add(k)
	} else {
		delete(pr.wants, string(k.name))
	}
}

// move begins to move the keys of the batch.
func (pr *pair) move() {
	names := make([]string, len(pr.batch))
	for i, k := range pr.batch {
		names[i] = string(k.name)
	}
	pr.watched = 0
	pr.nodes.SetDurability(pr.p.w.Options.Durable, pr.to.HasReplicas())
	pr.moves.Begin(&pr.nodes, names...)
}

// text returns a reply as the reason of a failure.
func text(reply []byte) string {
	if why, isError := resp.ErrorText(reply); isError {
		return string(why)
	}
	return "a reply makes no sense: " + resp.Printable(reply[:min(len(reply), 40)])
}

// send sends what the batch has for a node.
func (pr *pair) send(step transfer.Step) {
	conn, w := pr.source, pr.p.w
	if step.To == transfer.Destination {
		conn = pr.destination
	}
	if why := conn.ConnectError(); why != "" {
		pr.fail(why)
		return
	}
	// A new socket watches nothing. Nobody is told that the old one has ended if no reply was due.
	if conn == pr.destination && pr.watched != 0 &&
		(conn.State() != pool.Ready || conn.Stats.Dials != pr.watched) {
		pr.fail("the connection that watched the keys has ended")
		return
	}
	pr.owed = step.Replies
	attempt := pr.attempt
	engine.AskBlock(w, conn, step.Frames, step.Replies, w.Now+stepTimeout, func(reply []byte, ok bool) {
		switch {
		case pr.attempt != attempt:
		case !ok:
			pr.lost(conn)
		default:
			if conn == pr.destination {
				pr.watched = conn.Stats.Dials
			}
			pr.answered(reply)
		}
	})
}

// answered takes a reply to the current step of the batch.
func (pr *pair) answered(reply []byte) {
	pr.moves.Reply(reply)
	if pr.owed--; pr.owed == 0 {
		pr.pump()
		pr.p.release()
	}
}

// lost gives the batch up, since a connection has ended, or a reply has not come in time.
func (pr *pair) lost(c *pool.Conn) {
	why := c.Reason()
	if why == "" {
		why = "no reply in time"
	}
	pr.fail(why)
}

// fail gives the batch up. Those of its keys for which clients wait are tried again soon.
func (pr *pair) fail(why string) {
	pr.attempt++
	pr.failure, pr.asking, pr.owed, pr.until = why, 0, 0, pr.p.w.Now+pause
	for _, k := range slices.Backward(pr.batch) {
		if pr.wanted(k) {
			pr.waited.putBack(k)
		}
	}
	clear(pr.batch)
	pr.batch = pr.batch[:0]
	sk := &pr.seeker
	for _, t := range sk.confirming {
		if t != nil {
			sk.passed = append(sk.passed, t)
		}
	}
	sk.confirming = nil
	if w := pr.p.w; w.Table.Changes() || w.Table.FromCluster() {
		w.Ready.Refresh = true // the keys' slot may have another owner, or the node another master
	}
	pr.reroute()
}

// reroute gives up the keys that the table does not place on this route any more: their slot has
// moved. What waits for them is looked at anew. It also gives up those for which nobody waits.
func (pr *pair) reroute() {
	for _, k := range pr.batch {
		k.waiters = dropOver(k.waiters)
	}
	for _, k := range append(pr.waited.all(), pr.ahead.all()...) {
		k.waiters = dropOver(k.waiters)
		if len(k.waiters) > 0 && pr.isOnRoute(k.name) {
			continue
		}
		k.in.remove(k)
		delete(pr.wants, string(k.name))
		for _, who := range k.waiters {
			pr.p.setReady(who, "")
		}
	}
}

func (pr *pair) isOnRoute(key []byte) bool {
	w := pr.p.w
	_, to, from := w.Table.PlaceMoving(key)
	if from == router.None || from == router.Unknown {
		return false
	}
	return to != router.None && w.Nodes[from] == pr.from && w.Nodes[to] == pr.to
}

// end takes the outcome of a batch.
func (pr *pair) end() {
	w := pr.p.w
	failure := pr.moves.Failure()
	if failure != nil && !failure.IsReply && !failure.Unconfirmed {
		pool.Renew(&pr.source.Link, w.Now, failure.Text)
		pool.Renew(&pr.destination.Link, w.Now, failure.Text)
	}
	if len(pr.batch) == 0 {
		pr.confirmed(failure)
		return
	}
	full := isFull(failure)
	if full {
		pr.present = 0 // a key that the source lacks needs no room
	}
	if full && len(pr.batch) > 1 { // perhaps some of them fit
		pr.isAlone, full = true, false
		pr.dropAhead()
	}
	left := pr.batch[:0]
	for i, k := range pr.moves.Keys() {
		switch {
		case !pr.wanted(pr.batch[i]): // the source has said in the meantime that it does not have it
		case k.Outcome.IsGone():
			if k.Outcome == transfer.Moved {
				w.Stats.Switch.Pulled++
				pr.isAlone = pr.isAlone && pr.waited.size > 0
			}
			if k.Outcome == transfer.Aside {
				w.Stats.Switch.Conflicts++
				w.Ready.Notes = append(w.Ready.Notes, "key "+errtext.Key(string(pr.batch[i].name))+
					" had two values; that of node "+pr.from.Label()+" has the name "+k.Text+" there now")
			}
			pr.arrived(pr.batch[i])
		case full && pr.batch[i].isDue:
			left = append(left, pr.batch[i])
		case k.Outcome == transfer.Refused || full:
			why := k.Text
			if k.Outcome != transfer.Refused {
				why = failure.Text
			}
			pr.refused(pr.batch[i], why)
		default:
			left = append(left, pr.batch[i])
		}
	}
	clear(pr.batch[len(left):])
	if pr.batch = left; len(left) == 0 {
		pr.attempt++
		return
	}
	why := "others change it"
	if failure != nil {
		why = failure.Doing + ": " + failure.Text
	}
	pr.fail(why)
}

// isFull reports whether the destination has no memory left, so that nothing can come until
// somebody does something about it.
func isFull(f *transfer.Failure) bool {
	return f != nil && f.To == transfer.Destination && f.IsReply && strings.HasPrefix(f.Text, "OOM ")
}

// arrived records that the source does not have a key any more.
func (pr *pair) arrived(k *want) {
	pr.p.gone.add(fingerprintOf(pr.db, k.name), pr.p.w.Options.Remember)
	if k.in != nil {
		k.in.remove(k)
	}
	delete(pr.wants, string(k.name))
	for _, who := range k.waiters {
		pr.p.got(who)
	}
	k.waiters = nil
}

// refused ends the wait for a key that the destination does not accept.
func (pr *pair) refused(k *want, why string) {
	delete(pr.wants, string(k.name))
	kind := "ERR"
	if strings.HasPrefix(why, "OOM ") {
		kind = "OOM"
	}
	for _, who := range k.waiters {
		pr.p.setReady(who, kind+" keyway: key "+errtext.Key(string(k.name))+" cannot be moved from node "+
			pr.from.Label()+" to node "+pr.to.Label()+" ("+why+"); the command was not executed")
	}
}
