package freshness

import "math"

// Writes are a client's recent writes. A client must see its own writes, so it reads a key
// from a replica only if the replica surely has the last one.
type Writes struct {
	keys map[uint64]*written // by the key's hash
	all  written             // writes that keys does not contain
	open []openWrite         // unanswered writes, in the order they were sent
	done int                 // how many at the front of open are answered
	// room is how many keys may be recorded before Trim looks for those that all
	// replicas have.
	room  int
	spare []*written
}

// written is the state of one key's writes.
type written struct {
	open int   // how many are unanswered
	at   int64 // when the last one was answered
}

type openWrite struct {
	to      *written
	request uint64
}

const (
	underWay = math.MaxInt64
	minKeys  = 64
	maxKeys  = 4096 // keys that are recorded one by one
)

// NewWrites returns a client's writes when it has written nothing.
func NewWrites() *Writes { return &Writes{keys: map[uint64]*written{}, room: minKeys} }

func (wr *written) since() int64 {
	switch {
	case wr == nil:
		return 0
	case wr.open > 0:
		return underWay
	}
	return wr.at
}

// Since returns when the client's last write of the key was answered: 0 if there was none, and
// a time that never comes while the write may not have been executed. w may be nil.
func (w *Writes) Since(key uint64) int64 {
	if w == nil {
		return 0
	}
	return max(w.keys[key].since(), w.all.since())
}

// RecordAll records that a request may write any key.
func (w *Writes) RecordAll(request uint64) { w.record(&w.all, request) }

// Record records that a request may write the key.
func (w *Writes) Record(key, request uint64) {
	wr := w.keys[key]
	if wr == nil {
		if n := len(w.spare) - 1; n >= 0 {
			wr, w.spare = w.spare[n], w.spare[:n]
		} else {
			wr = new(written)
		}
		w.keys[key] = wr
	}
	w.record(wr, request)
}

func (w *Writes) record(to *written, request uint64) {
	to.open++
	w.open = append(w.open, openWrite{to, request})
}

// Answered records that all requests before this one have been answered.
func (w *Writes) Answered(before uint64, now int64) {
	for ; w.done < len(w.open) && w.open[w.done].request < before; w.done++ {
		to := w.open[w.done].to
		to.open--
		to.at = now
	}
	if w.done == len(w.open) || w.done > maxKeys {
		w.open = w.open[:copy(w.open, w.open[w.done:])]
		w.done = 0
	}
}

// Trim bounds the keys that are recorded one by one. It drops those whose writes were answered
// before oldest, since every replica has them. If that does not make room, all answered keys
// count as written now.
func (w *Writes) Trim(oldest, now int64) {
	if len(w.keys) <= w.room {
		return
	}
	for k, wr := range w.keys {
		if wr.open == 0 && wr.at < oldest {
			w.drop(k, wr)
		}
	}
	if len(w.keys) > maxKeys/2 {
		for k, wr := range w.keys {
			if wr.open == 0 {
				w.all.at = now
				w.drop(k, wr)
			}
		}
	}
	// A loop over a map takes time in proportion to its largest size ever, so it must be rare.
	w.room = max(2*len(w.keys), w.room/2, minKeys)
}

func (w *Writes) drop(key uint64, wr *written) {
	delete(w.keys, key)
	*wr = written{}
	w.spare = append(w.spare, wr)
}
