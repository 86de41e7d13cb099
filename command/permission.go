package command

import "strings"

// Categories are a set of ACL categories.
type Categories uint32

// The ACL categories, in the order in which ACL CAT lists them. Those behind InScripting are
// of modules: Redis 8 has them.
const (
	InKeyspace Categories = 1 << iota
	InRead
	InWrite
	InSet
	InSortedset
	InList
	InHash
	InString
	InBitmap
	InHyperloglog
	InGeo
	InStream
	InPubsub
	InAdmin
	InFast
	InSlow
	InBlocking
	InDangerous
	InConnection
	InTransaction
	InScripting
	inSearch
	inJSON
	inTimeseries
	inBloom
	inCuckoo
	inCMS
	inTopK
	inTDigest
)

var categoryNames = strings.Fields("keyspace read write set sortedset list hash string bitmap hyperloglog geo stream " +
	"pubsub admin fast slow blocking dangerous connection transaction scripting " +
	"search json timeseries bloom cuckoo cms topk tdigest")

// CategoryNames are the names of the categories of commands that are not a module's, in the
// order of ACL CAT.
var CategoryNames = categoryNames[:21]

// CategoryOf returns the category with this name, in any case, or 0.
func CategoryOf(name string) Categories {
	for i, known := range categoryNames {
		if strings.EqualFold(name, known) {
			return 1 << i
		}
	}
	return 0
}

// modulePrefixes are how the names of a module's commands begin.
var modulePrefixes = []struct {
	prefix   string
	category Categories
}{
	{"ft.", inSearch}, {"json.", inJSON}, {"ts.", inTimeseries}, {"bf.", inBloom}, {"cf.", inCuckoo},
	{"cms.", inCMS}, {"topk.", inTopK}, {"tdigest.", inTDigest},
}

// moduleCategories returns the category of a module's command by its name. Only Redis 8
// reports it by itself.
func moduleCategories(name string) Categories {
	for _, m := range modulePrefixes {
		if strings.HasPrefix(name, m.prefix) {
			return m.category
		}
	}
	return 0
}

// Use is what a command does with a key: neither, like EXISTS, or reads or writes its value.
// The zero value is right only for a command that reports it.
type Use uint8

const (
	Reads  Use = 1 << iota // returns or copies the value
	Writes                 // changes the value
)

// KeyUses appends the positions of the command's keys to at, and what it does with each to
// uses. Unlike Keys, it has no arguments that only route the command.
func (c *Command) KeyUses(a Args, at []int, uses []Use) ([]int, []Use) {
	if c.uses != nil {
		return c.uses(a, at, uses)
	}
	for i := range c.Specs {
		s := &c.Specs[i]
		if s.NotKey {
			continue
		}
		at = s.Keys(a, at)
		for len(uses) < len(at) {
			uses = append(uses, s.Use)
		}
	}
	return at, uses
}

// SingleUse returns what the command does with its only key, whose position is Single. It
// returns false if KeyUses has to tell.
func (c *Command) SingleUse() (Use, bool) {
	if c.Single == 0 || c.uses != nil {
		return 0, false
	}
	return c.Specs[0].Use, true
}

// Channels returns which arguments of a command are channels that it publishes to or
// subscribes to: from the first to the last, both included. first is 0 if there are none.
// patterns reports whether they are patterns.
func (c *Command) Channels(a Args) (first, last int, patterns bool) {
	switch c.Action {
	case DoPublish:
		return 1, 1, false
	case DoSubscribe, DoSSubscribe:
		return 1, a.Len() - 1, false
	case DoPSubscribe:
		return 1, a.Len() - 1, true
	}
	return 0, 0, false
}

// useFinder is like KeyUses, for commands whose options say what they do with their keys.
// Redis has a function for each of these too (db.c: setGetKeys, bitfieldGetKeys).
type useFinder func(a Args, at []int, uses []Use) ([]int, []Use)

func usesNone(_ Args, at []int, uses []Use) ([]int, []Use) { return at, uses }

func readsFirst(_ Args, at []int, uses []Use) ([]int, []Use) {
	return append(at, 1), append(uses, Reads)
}

// setUses: the options with which SET returns the former value, or compares it, read it.
func setUses(a Args, at []int, uses []Use) ([]int, []Use) {
	use := Writes
	for i := 3; i < a.Len(); i++ {
		for _, option := range [...]string{"get", "ifeq", "ifne", "ifdeq", "ifdne"} {
			if EqualFold(a.Arg(i), option) {
				use |= Reads
			}
		}
	}
	return append(at, 1), append(uses, use)
}

// delexUses: DELEX with an option compares the value.
func delexUses(a Args, at []int, uses []Use) ([]int, []Use) {
	use := Writes
	if a.Len() > 2 {
		use |= Reads
	}
	return append(at, 1), append(uses, use)
}

// bitfieldUses: BITFIELD that only has GET reads.
func bitfieldUses(a Args, at []int, uses []Use) ([]int, []Use) {
	use := Reads
	for i := 2; i < a.Len() && use == Reads; i++ {
		switch remaining := a.Len() - 1 - i; {
		case EqualFold(a.Arg(i), "get") && remaining >= 2:
			i += 2
		case EqualFold(a.Arg(i), "overflow") && remaining >= 1:
			i++
		default:
			use |= Writes
		}
	}
	return append(at, 1), append(uses, use)
}

func sortUses(a Args, at []int, uses []Use) ([]int, []Use) {
	at = sortKeys(a, at)
	for len(uses) < len(at) {
		use := Writes // the key of STORE
		if len(uses) == 0 {
			use = Reads
		}
		uses = append(uses, use)
	}
	return at, uses
}

func migrateUses(a Args, at []int, uses []Use) ([]int, []Use) {
	at = migrateKeys(a, at)
	for len(uses) < len(at) {
		uses = append(uses, Reads|Writes)
	}
	return at, uses
}

// usedBy returns the specifications with the use that the command's flags allow at most,
// where they report none.
func usedBy(flags Flags, specs []KeySpec) []KeySpec {
	used := append([]KeySpec(nil), specs...)
	for i := range used {
		switch {
		case used[i].Use != 0:
		case flags&ReadOnly != 0:
			used[i].Use = Reads
		default:
			used[i].Use = Reads | Writes
		}
	}
	return used
}
