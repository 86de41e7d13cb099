package acl

import (
	"slices"
	"time"
)

// Entry is one line of ACL LOG: what a user was denied.
type Entry struct {
	Count   int
	Why     Denial
	InMulti bool
	Object  string // the command, key or channel; for a failed authentication the command or the certificate
	User    string
	Client  string // as CLIENT LIST shows it
	At      time.Time
}

// Reason is the entry's reason as ACL LOG shows it.
func (e *Entry) Reason() string {
	switch e.Why {
	case DeniedKey:
		return "key"
	case DeniedChannel:
		return "channel"
	case DeniedAuth:
		return "auth"
	case DeniedCertificate:
		return "tls-cert" // as in Valkey 9
	}
	return "command"
}

// Context is where the command was sent, as ACL LOG shows it.
func (e *Entry) Context() string {
	if e.InMulti {
		return "multi"
	}
	return "toplevel"
}

const (
	maxEntries  = 128         // acllog-max-len
	sameWithin  = time.Minute // entries that differ only in their time are one, if they are this close
	maxCompared = 10          // entries that a new one is compared with
	maxObject   = 256         // bytes of an object or user name that the log keeps
)

// Log has the latest denials, the newest first. The zero value is empty.
type Log struct{ entries []Entry }

// Add adds an entry, or counts it with an earlier one (acl.c, addACLLogEntry).
func (l *Log) Add(e Entry) {
	e.Object, e.User = e.Object[:min(len(e.Object), maxObject)], e.User[:min(len(e.User), maxObject)]
	for i := range l.entries[:min(len(l.entries), maxCompared)] {
		if old := l.entries[i]; old.isLike(&e) {
			e.Count += old.Count
			copy(l.entries[1:i+1], l.entries[:i])
			l.entries[0] = e
			return
		}
	}
	if len(l.entries) < maxEntries {
		l.entries = append(l.entries, Entry{})
	}
	copy(l.entries[1:], l.entries)
	l.entries[0] = e
}

func (e *Entry) isLike(o *Entry) bool {
	return e.Why == o.Why && e.InMulti == o.InMulti && e.Object == o.Object && e.User == o.User &&
		o.At.Sub(e.At).Abs() <= sameWithin
}

// Entries returns a copy of the entries.
func (l *Log) Entries() []Entry { return append([]Entry(nil), l.entries...) }

// Reset removes all entries.
func (l *Log) Reset() { l.entries = nil }

// Merge returns the entries of several logs as one log has them.
func Merge(entries []Entry) []Entry {
	slices.SortStableFunc(entries, func(a, b Entry) int { return a.At.Compare(b.At) })
	var l Log
	for _, e := range entries {
		l.Add(e)
	}
	return l.entries
}
