package pull

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/keyway-proxy/keyway/command"
	"github.com/keyway-proxy/keyway/pool"
	"github.com/keyway-proxy/keyway/proxy/engine"
	"github.com/keyway-proxy/keyway/resp"
	"github.com/keyway-proxy/keyway/router"
	"github.com/keyway-proxy/keyway/slots"
	"github.com/keyway-proxy/keyway/transfer"
)

// maxPage is how many keys a source looks at for one SCAN: it executes nothing else meanwhile.
const maxPage = 1000

// tagged is a hash tag whose keys are all wanted: a script may use them without declaring them.
type tagged struct {
	pair    *pair
	name    string
	keys    *waiter   // waits for the pass that looks for the keys, and for each key that it finds
	waiters []*waiter // wait for all of them
	want    *want     // stands for the keys in errors
}

// seeker looks for the keys of hash tags at the source of a pair. A pass is one SCAN over all keys. Nobody
// creates such keys there in the epoch, so a tag of which a whole pass has found no key, or whose keys have
// all left since, has none there any more.
type seeker struct {
	tags   map[string]*tagged
	next   []*tagged          // for the next pass
	pass   map[string]*tagged // the pass is under way for these; empty: there is none
	cursor string             // where it goes on
	dials  uint64             // the number of the socket over which it began: other nodes have other cursors
	asking bool
	until  int64 // it does not go on before

	// Where a replica of the source must have lost the keys, too, the tags wait for that after a pass: first
	// in passed, and while the replica is asked in confirming.
	passed, confirming []*tagged
}

// lookForTagged adds the hash tags of a script's keys to p.wanted, unless it surely uses only its KEYS.
// p.keys must contain the keys' positions.
func (p *puller) lookForTagged(s *engine.Session, cmd *command.Command, a command.Args) {
	isLookedAt := false
	for _, at := range p.keys {
		key := a.Arg(at)
		tag := slots.Tag(key, '{', '}')
		if len(tag) == len(key) {
			continue
		}
		_, to, from := p.w.Table.PlaceMoving(key)
		if from < 0 || to == router.None || p.swept.has(fingerprintOf(s.DB, tag)) {
			continue
		}
		if !isLookedAt {
			if cmd.Is(command.TakesScript) {
				p.w.Scripts.Learn(a.Arg(1))
			}
			if p.w.Scripts.Cache.UsesOnlyKeys(cmd, a) {
				return
			}
			isLookedAt = true
		}
		p.wanted = append(p.wanted, wanted{route{p.w.Nodes[from], p.w.Nodes[to], s.DB}, tag, true})
	}
}

// wantTag makes a waiter wait for all keys of a hash tag.
func (pr *pair) wantTag(tag []byte, who *waiter) {
	sk := &pr.seeker
	t := sk.tags[string(tag)]
	if t == nil {
		t = &tagged{pair: pr, name: string(tag)}
		t.want = &want{pair: pr, name: []byte("{" + t.name + "}")}
		t.keys = &waiter{tag: t, epoch: pr.p.epoch, missing: 1} // the pass
		if sk.tags == nil {
			sk.tags = map[string]*tagged{}
		}
		sk.tags[t.name], sk.next = t, append(sk.next, t)
	}
	t.waiters = append(t.waiters, who)
	who.missing++
	who.last = t.want
}

// literally makes a text a pattern that matches only the text.
var literally = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`)

// seek goes on with the pass, or begins the next one.
func (pr *pair) seek() {
	sk, w := &pr.seeker, pr.p.w
	if sk.asking || w.Now < sk.until || pr.p.pairs[pr.route] != pr {
		return
	}
	if len(sk.pass) == 0 {
		if len(sk.next) == 0 {
			return
		}
		sk.pass, sk.cursor = map[string]*tagged{}, "0"
		for _, t := range sk.next {
			sk.pass[t.name] = t
		}
		sk.next = nil
	}
	if why := pr.source.ConnectError(); why != "" {
		pr.beginAgain(why)
		return
	}
	if sk.cursor != "0" && (pr.source.State() != pool.Ready || pr.source.Stats.Dials != sk.dials) {
		sk.cursor = "0"
	}
	args := []string{"SCAN", sk.cursor, "COUNT", strconv.Itoa(maxPage)}
	if len(sk.pass) == 1 {
		for name := range sk.pass {
			args = append(args, "MATCH", "*{"+literally.Replace(name)+"}*")
		}
	}
	sk.asking = true
	w.Ask(pr.source, w.Now+stepTimeout, func(reply []byte, ok bool) {
		if pr.p.pairs[pr.route] != pr {
			return
		}
		sk.asking = false
		if !ok {
			pr.beginAgain(pr.source.Reason())
			return
		}
		pr.page(reply)
		pr.seek()
		pr.p.release()
	}, args...)
}

// beginAgain begins the pass anew, soon.
func (pr *pair) beginAgain(why string) {
	sk := &pr.seeker
	sk.cursor, sk.until, pr.failure = "0", pr.p.w.Now+pause, why
}

// page takes the source's reply to SCAN. The keys that it has found are brought like those that
// commands name.
func (pr *pair) page(reply []byte) {
	sk, p := &pr.seeker, pr.p
	n, rest, ok := resp.Elements(reply)
	if !ok || n != 2 {
		pr.beginAgain(text(reply))
		return
	}
	first, rest, _ := resp.Split(rest)
	cursor, _ := resp.Bulk(first)
	isFirst := sk.cursor == "0"
	if sk.cursor = string(cursor); isFirst {
		sk.dials = pr.source.Stats.Dials
	}
	found := map[*tagged][]wanted{}
	for n, rest, _ = resp.Elements(rest); n > 0; n-- {
		var one []byte
		one, rest, _ = resp.Split(rest)
		key, _ := resp.Bulk(one)
		tag := slots.Tag(key, '{', '}')
		if t := sk.pass[string(tag)]; t != nil && len(tag) < len(key) {
			p.wanted = p.wanted[:0]
			p.lookFor(pr.db, key)
			found[t] = append(found[t], p.wanted...)
		}
	}
	all := sk.inOrder(sk.pass)
	for _, t := range all {
		p.wanted = append(p.wanted[:0], found[t]...)
		p.await(t.keys)
	}
	switch {
	case sk.cursor != "0":
	case p.w.Table.FromCluster():
		pr.checkSlots(all)
	default:
		pr.endPass()
	}
}

// endPass ends a pass that has found all keys.
func (pr *pair) endPass() {
	sk, p := &pr.seeker, pr.p
	all := sk.inOrder(sk.pass)
	if sk.pass = nil; p.w.Options.Durable == transfer.DurableStrict {
		sk.passed = append(sk.passed, all...)
		pr.pump()
		return
	}
	for _, t := range all {
		p.got(t.keys)
	}
}

// slotPause is the time between two passes while a slot of a cluster is on its way.
const slotPause = 10 * pause

// checkSlots ends a pass if the source still has the slots of all its tags to itself. While a slot is on its way to
// another node of the cluster, keys may be there that the pass has not seen here: then the source redirects
// commands on keys that it lacks, and the pass begins anew, until the slot has an owner.
func (pr *pair) checkSlots(all []*tagged) {
	sk, w := &pr.seeker, pr.p.w
	left, problem := len(all), ""
	for _, t := range all {
		sk.asking = true
		w.Ask(pr.source, w.Now+stepTimeout, func(reply []byte, ok bool) {
			if _, isInt := resp.Int(reply); !ok {
				problem = pr.source.Reason()
			} else if !isInt {
				problem = text(reply)
			}
			if left--; left > 0 || pr.p.pairs[pr.route] != pr {
				return
			}
			sk.asking = false
			switch {
			case len(sk.pass) == 0: // another table has come meanwhile
			case problem == "":
				pr.endPass()
			default:
				w.Ready.Refresh = true
				pr.beginAgain(problem)
				sk.until = w.Now + slotPause
			}
			pr.seek()
			pr.p.release()
		}, "EXISTS", "{"+t.name+"}keyway:lacking")
	}
}

// confirm begins to ask for a replica of the source that has all that was executed before the passes
// ended, if that is wanted.
func (pr *pair) confirm() bool {
	sk := &pr.seeker
	if len(sk.passed) == 0 {
		return false
	}
	sk.confirming, sk.passed, pr.watched = sk.passed, nil, 0
	pr.nodes.SetDurability(transfer.DurableStrict, false)
	transfer.Confirm(&pr.moves, &pr.nodes)
	return true
}

// confirmed takes the end of that.
func (pr *pair) confirmed(why *transfer.Failure) {
	sk := &pr.seeker
	if why != nil {
		pr.fail(why.Doing + ": " + why.Text)
		return
	}
	all := sk.confirming
	sk.confirming = nil
	pr.attempt++
	for _, t := range all {
		if t != nil {
			pr.p.got(t.keys)
		}
	}
}

// inOrder returns hash tags in an order that does not change.
func (sk *seeker) inOrder(of map[string]*tagged) (all []*tagged) {
	for _, name := range slices.Sorted(maps.Keys(of)) {
		all = append(all, of[name])
	}
	return all
}

// forgetTags gives up the search for keys by their tags. What waits for them is looked at anew.
func (pr *pair) forgetTags() {
	sk := &pr.seeker
	for _, t := range sk.inOrder(sk.tags) {
		pr.p.setReady(t.keys, "")
	}
	sk.pass, sk.next, sk.passed = nil, nil, nil
	clear(sk.confirming) // it goes on, for nobody
}

// sweepTags gives up the search for keys by tags for which nobody waits any more.
func (pr *pair) sweepTags() {
	sk := &pr.seeker
	for _, t := range sk.inOrder(sk.tags) {
		if t.waiters = dropOver(t.waiters); len(t.waiters) > 0 {
			continue
		}
		delete(sk.pass, t.name)
		pr.p.setReady(t.keys, "")
	}
	isLeft := func(t *tagged) bool { return len(t.waiters) == 0 }
	sk.next, sk.passed = slices.DeleteFunc(sk.next, isLeft), slices.DeleteFunc(sk.passed, isLeft)
	for i, t := range sk.confirming {
		if t != nil && isLeft(t) {
			sk.confirming[i] = nil // it goes on, for nobody
		}
	}
}

// came ends the wait for the keys of a hash tag.
func (t *tagged) came() {
	p := t.pair.p
	delete(t.pair.seeker.tags, t.name)
	isProven := t.keys.missing == 0 && t.keys.refusal == "" && t.keys.epoch == p.epoch
	if isProven {
		p.swept.add(fingerprintOf(t.pair.db, []byte(t.name)), p.w.Options.Remember)
	}
	for _, who := range t.waiters {
		if isProven {
			p.got(who)
		} else {
			p.setReady(who, t.keys.refusal)
		}
	}
}
