package hotkeys

// A table keeps the keys with the most weight, in sets of eight: a key can only be in the set that its hash
// names. A key that is not in its set replaces the lightest one there with a chance that is the smaller the more
// weight that has (randomized admission, Ben Basat et al., 2017). So keys that come once pass by, and a key that
// has become hot gets in soon. What a key has done is counted from then on: it may be a little more than what is
// shown, and never less, but for the error of the sample.

const (
	inSet   = 8
	clients = 2 // that are counted for each key
)

// entry is a key in a table.
type entry struct {
	Key
	weight uint64 // what it takes to replace the key; 0: there is no key
	counts
	node string // that answered last
	by   [clients]user
}

// counts are what was done to a key since it has been in the table.
type counts struct{ reads, writes, bytes uint64 }

func (c *counts) add(o counts) {
	c.reads, c.writes, c.bytes = c.reads+o.reads, c.writes+o.writes, c.bytes+o.bytes
}

// user is a client that uses a key.
type user struct {
	Client
	weight uint64
	times  uint64
}

// table is the keys with the most weight.
type table struct{ sets [][inSet]entry }

func newTable(sets int) table { return table{make([][inSet]entry, sets)} }

func (t *table) clear() { clear(t.sets) }

// add counts an access that stands for c, and has weight.
func (t *table) add(s *sampler, hash uint64, a *Access, c counts, weight uint64) {
	set := &t.sets[hash%uint64(len(t.sets))]
	lightest := &set[0]
	for i := range set {
		e := &set[i]
		if e.weight > 0 && e.is(hash, a.Key, a.DB) {
			e.weight += weight
			e.count(s, a, c)
			return
		}
		if e.weight < lightest.weight {
			lightest = e
		}
	}
	if all := lightest.weight + weight; s.hits(weight, all) {
		*lightest = entry{weight: all}
		lightest.set(hash, a.Key, a.DB)
		lightest.count(s, a, c)
	}
}

// find returns the entry of a key, nil if there is none.
func (t *table) find(k *Key) *entry {
	set := &t.sets[k.hash%uint64(len(t.sets))]
	for i := range set {
		if e := &set[i]; e.weight > 0 && e.Same(k) {
			return e
		}
	}
	return nil
}

// count counts what an access did, and who did it.
func (e *entry) count(s *sampler, a *Access, c counts) {
	e.counts.add(c)
	e.node = a.Node
	times := c.reads + c.writes
	lightest := &e.by[0]
	for i := range e.by {
		u := &e.by[i]
		if u.weight > 0 && u.ID == a.Client.ID {
			u.weight, u.times = u.weight+times, u.times+times
			u.Name = a.Client.Name
			return
		}
		if u.weight < lightest.weight {
			lightest = u
		}
	}
	if all := lightest.weight + times; s.hits(times, all) {
		*lightest = user{Client: a.Client, weight: all, times: times}
	}
}
