package locks

// Families are the beginnings of keys up to their last colon, by their hash. A key without a
// colon is a family of its own. When one key of a family is a lock, so are the others: SET
// with NX alone would not tell.

// Family is a family of keys that are locks, and the library that uses them.
type Family struct {
	Hash    uint64
	Library string
}

func familyOf(key []byte) uint64 { return hashOf(familyName(key)) }

func familyName(key []byte) []byte {
	for i := len(key) - 1; i > 0; i-- {
		if key[i] == ':' {
			return key[:i+1]
		}
	}
	return key
}

// knows reports whether a key is surely a lock.
func (t *Table) knows(key []byte) bool {
	if len(t.known) > 0 {
		if _, known := t.known[familyOf(key)]; known {
			return true
		}
	}
	return len(t.cfg.Patterns) > 0 && t.cfg.Matches(key)
}

// learn remembers that a key is a lock of a library, and so are the others of its family.
func (t *Table) learn(key []byte, library string) {
	if f := (Family{familyOf(key), library}); t.Learn(f) {
		t.news = append(t.news, f)
	}
}

// Learn remembers a family. It returns false if nothing of that is new.
func (t *Table) Learn(f Family) bool {
	before, known := t.known[f.Hash]
	switch {
	case known && (before == f.Library || isVague(f.Library) || !isVague(before)):
		return false
	case !known && len(t.known) >= maxLearned:
		return false
	}
	t.known[f.Hash] = f.Library
	return true
}

// isVague reports whether a library's name says nothing of the library.
func isVague(library string) bool {
	return library == "" || library == libUnknown || library == libScript
}

// TakeNews returns the families that the table has learned since the last call, for the tables
// of other threads.
func (t *Table) TakeNews() []Family {
	news := t.news
	t.news = nil
	return news
}
