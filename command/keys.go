package command

import (
	"bytes"

	"github.com/keyway-proxy/keyway/resp"
)

// KeySpec is one key specification of COMMAND: a rule for the positions of keys
// (https://redis.io/docs/latest/develop/reference/key-specs/).
type KeySpec struct {
	Begin   Begin
	Pos     int    // AtIndex: the first argument that may be a key
	Keyword string // AtKeyword: the argument before the keys, in lower case; it matches any case
	From    int    // AtKeyword: the position at which the search starts; negative: from the end, backwards

	Find    Find
	LastKey int // InRange: relative to the first key; -1 is the last argument
	Step    int
	Limit   int // InRange with LastKey -1: only the first 1/Limit of the remaining arguments contain keys

	KeyNumIdx, FirstKey int // ByNumber: relative to the position that Begin finds

	Use Use // what the command does with the keys

	NotKey     bool // the arguments route the command, but are not keys; for example channels
	Incomplete bool // the rule may miss some keys
}

// Begin says where the search for keys begins.
type Begin uint8

const (
	AtUnknown Begin = iota
	AtIndex
	AtKeyword
)

// Find says which arguments from that position on are keys.
type Find uint8

const (
	Unfindable Find = iota
	InRange
	ByNumber
)

// single returns the position of the command's only key if the position is fixed and the
// arity guarantees an argument there, else 0. The arity of most module commands does not.
func (c *Command) single() int {
	if len(c.Specs) != 1 || c.finder != nil {
		return 0
	}
	s := c.Specs[0]
	if s.Begin == AtIndex && s.Find == InRange && s.LastKey == 0 && !s.NotKey && !s.Incomplete &&
		max(c.Arity, -c.Arity) > s.Pos {
		return s.Pos
	}
	return 0
}

// OneKey reports whether the command uses the key at Single, and no other key of any database.
func (c *Command) OneKey() bool { return c.Single > 0 && c.elsewhere == nil && !c.Is(RunsCode) }

// Keyed reports whether the command can have keys at all.
func (c *Command) Keyed() bool {
	for _, s := range c.Specs {
		if !s.NotKey {
			return true
		}
	}
	return false
}

// Keys appends the positions of the command's keys to dst. It finds no keys if the number
// of keys is malformed: a node produces the error.
func (c *Command) Keys(args Args, dst []int) []int {
	if c.Single > 0 {
		if c.Single < args.Len() {
			dst = append(dst, c.Single)
		}
		return dst
	}
	if c.finder != nil {
		return c.finder(args, dst)
	}
	for i := range c.Specs {
		if s := &c.Specs[i]; !s.NotKey {
			dst = s.Keys(args, dst)
		}
	}
	return dst
}

// Keys appends the positions that the specification finds to dst.
func (s *KeySpec) Keys(args Args, dst []int) []int {
	n := args.Len()
	first := s.begin(args)
	if first < 1 || first >= n {
		return dst
	}
	switch s.Find {
	case InRange:
		last := first + s.LastKey
		if s.LastKey < 0 {
			last = n + s.LastKey
			if s.Limit > 1 {
				last = first + (n-first)/s.Limit + s.LastKey
			}
		}
		for i := first; i <= last && i < n; i += s.Step {
			dst = append(dst, i)
		}
	case ByNumber:
		at := first + s.KeyNumIdx
		if at < 1 || at >= n {
			return dst
		}
		num, ok := resp.ParseInt(args.Arg(at))
		i := first + s.FirstKey
		if !ok || num < 1 || num > int64(n) || i < 1 || i+(int(num)-1)*s.Step >= n {
			return dst
		}
		for ; num > 0; num-- {
			dst = append(dst, i)
			i += s.Step
		}
	}
	return dst
}

// begin returns the position at which the search for keys begins, or 0 if there is none.
func (s *KeySpec) begin(args Args) int {
	switch s.Begin {
	case AtIndex:
		return s.Pos
	case AtKeyword:
		n := args.Len()
		i, end, step := s.From, n-1, 1
		if s.From < 0 {
			i, end, step = n+s.From, 0, -1
		}
		for ; i > 0 && i < n && i != end; i += step {
			if EqualFold(args.Arg(i), s.Keyword) {
				return i + 1
			}
		}
	}
	return 0
}

// keyFinder finds the keys of a command whose key specifications are incomplete. Redis has
// a function for each of these too (db.c: sortGetKeys, migrateGetKeys).
type keyFinder func(args Args, dst []int) []int

func firstArg(_ Args, dst []int) []int { return append(dst, 1) }

// sortOption is an option of SORT that is followed by a key or a pattern.
type sortOption uint8

const (
	sortBy sortOption = iota
	sortGet
	sortStore
)

// eachSortOption calls f for each sortOption with the position of its argument. It skips
// storeArgs arguments after STORE: one, but 0 in the search for keys, as in Redis (db.c,
// sortGetKeys).
func eachSortOption(args Args, storeArgs int, f func(o sortOption, at int)) {
	for i := 2; i+1 < args.Len(); i++ {
		switch a := args.Arg(i); {
		case EqualFold(a, "limit"):
			i += 2
		case EqualFold(a, "by"):
			i++
			f(sortBy, i)
		case EqualFold(a, "get"):
			i++
			f(sortGet, i)
		case EqualFold(a, "store"):
			f(sortStore, i+1)
			i += storeArgs
		}
	}
}

func sortKeys(args Args, dst []int) []int {
	store := 0
	eachSortOption(args, 0, func(o sortOption, at int) {
		if o == sortStore {
			store = at // the last STORE is the one that counts
		}
	})
	dst = append(dst, 1)
	if store > 0 {
		dst = append(dst, store)
	}
	return dst
}

// SortPatterns calls f for each pattern of a SORT. by is true for BY and false for GET.
func SortPatterns(args Args, f func(by bool, pattern []byte)) {
	eachSortOption(args, 1, func(o sortOption, at int) {
		if o != sortStore {
			f(o == sortBy, args.Arg(at))
		}
	})
}

// SortedKey appends the key that a pattern of SORT names for an element. ok is false if the pattern
// names none (sort.c, lookupKeyByPattern).
func SortedKey(dst, pattern, element []byte) (key []byte, ok bool) {
	star := bytes.IndexByte(pattern, '*')
	if star < 0 {
		return dst, false
	}
	end := len(pattern)
	if field := bytes.Index(pattern[star+1:], []byte("->")); field >= 0 && star+1+field+2 < end {
		end = star + 1 + field
	}
	dst = append(append(dst, pattern[:star]...), element...)
	return append(dst, pattern[star+1:end]...), true
}

// Elsewhere returns the positions of a key that the command looks for in another database than
// the selected one, and of the number of that database. Both are 0 if there is none.
func (c *Command) Elsewhere(args Args) (key, db int) {
	if c.elsewhere == nil {
		return 0, 0
	}
	return c.elsewhere(args)
}

func moveElsewhere(Args) (key, db int) { return 1, 2 }

func copyElsewhere(args Args) (key, db int) {
	for i := 3; i+1 < args.Len(); i++ {
		if EqualFold(args.Arg(i), "db") {
			i++
			key, db = 2, i // the last one counts
		}
	}
	return key, db
}

func migrateKeys(args Args, dst []int) []int {
	if args.Len() < 6 {
		return dst
	}
	if len(args.Arg(3)) > 0 {
		return append(dst, 3)
	}
	for i := 6; i < args.Len(); i++ {
		switch a := args.Arg(i); {
		case EqualFold(a, "auth"):
			i++
		case EqualFold(a, "auth2"):
			i += 2
		case EqualFold(a, "keys"):
			for i++; i < args.Len(); i++ {
				dst = append(dst, i)
			}
		}
	}
	return dst
}

// EqualFold reports whether b equals lower, ignoring the case of ASCII letters. lower must
// be in lower case.
func EqualFold(b []byte, lower string) bool {
	if len(b) != len(lower) {
		return false
	}
	for i, c := range b {
		if c-'A' < 26 {
			c |= 0x20
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// keyAt returns a key specification for the keys from pos to lastKey.
func keyAt(pos, lastKey, step int) KeySpec {
	return KeySpec{Begin: AtIndex, Pos: pos, Find: InRange, LastKey: lastKey, Step: step}
}

// countAt returns a key specification for keys whose number is the argument at pos.
func countAt(pos int) KeySpec {
	return KeySpec{Begin: AtIndex, Pos: pos, Find: ByNumber, FirstKey: 1, Step: 1}
}
