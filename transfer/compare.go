package transfer

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/keyway-proxy/keyway/errtext"
	"github.com/keyway-proxy/keyway/resp"
)

// sameExpiry is how far the times of expiry of one value's two copies may be apart. The clocks
// of both nodes are compared to the length of a round trip.
const sameExpiry = time.Second

// noType is the type of a key that is not there.
const noType = "none"

// settlement is the comparison of a key that is on both nodes. Here is the source, there the
// destination.
type settlement struct {
	*Batch
	key   *Key
	names int // how many names for the value here have been tried

	same          bool   // what has been compared so far
	kind          string // the type here
	dump          []byte // here
	expires       int64  // of the key here, by the clock there; or never, or noKey
	ttl           int64  // there
	clock         time.Duration
	value, parts  contents // here; and of the node that is answering
	fields, times []byte   // when the fields of a hash expire: here, and of the node that is answering
}

// readHere watches the key at the source, if clients may write there, and reads it.
func (s *settlement) readHere() {
	s.send(readingHere, Source)
	s.reread = false
	if !s.pair.Fenced {
		s.tryTransaction()
		s.ask("WATCH", s.key.Name)
	}
	s.ask("TYPE", s.key.Name)
	s.askValue(s.key.Name)
}

func (s *settlement) readThere() {
	s.send(readingThere, Destination)
	s.ask("TYPE", s.key.Name)
	s.ask("PTTL", s.key.Name)
	s.ask("TIME")
	s.ask("DUMP", s.key.Name)
}

// took takes a reply.
func (s *settlement) took(i int, reply []byte) {
	switch s.phase {
	case readingHere:
		s.tookHere(i-s.pair.sourceWatch(), reply)
	case readingThere:
		s.tookThere(i, reply)
	case askingHere, askingThere:
		s.tookContents(i, reply)
	case fieldsHere, fieldsThere:
		s.tookFields(i, reply)
	case settingAside:
		s.tookAside(reply)
	}
}

// advance starts the phase that follows the one that is complete: DUMP may show equal values
// differently.
func (s *settlement) advance(now int64) {
	switch {
	case s.key.state == done || s.key.state == unknown:
		s.settleNext(now)
	case s.phase == readingHere && s.reread:
		s.readHere()
	case s.phase == readingHere:
		s.readThere()
	case s.key.state == equal && s.pair.Durable && !s.pair.isAlone:
		// The copier that has made the copy may not have waited for a replica.
		s.confirm(Destination, now)
	case s.key.state == equal:
		s.remove()
	case !s.same || s.phase == settingAside:
		s.setAside()
	case s.phase == readingThere:
		s.askContents(askingHere, Source)
	case s.phase == askingHere:
		s.askContents(askingThere, Destination)
	case s.phase == askingThere:
		s.askFields(fieldsHere, Source)
	default:
		s.askFields(fieldsThere, Destination)
	}
}

func (s *settlement) tookHere(i int, reply []byte) {
	switch {
	case i < 0:
		s.tookWatch(i+watchReplies, reply)
	case i == 0:
		s.kind = s.typeOf(reply)
	case s.reread || !s.readPart(i-1, s.key, reply):
	default:
		dump, ok := s.dumped(s.key, reply)
		switch {
		case s.failure != nil:
		case !ok:
			s.absent(s.key)
		case s.kind == noType || s.reading.expiry == noKey:
			s.key.state = unknown // it was created in between
		default:
			s.dump, s.expires = bytes.Clone(dump), s.reading.at(&s.pair.clock)
		}
	}
}

func (s *settlement) typeOf(reply []byte) string {
	kind, ok := resp.Bulk(reply)
	if !ok {
		s.badKey("asking for the type of", s.key, reply)
	}
	return string(kind)
}

func (s *settlement) tookThere(i int, reply []byte) {
	var ok bool
	switch i {
	case 0:
		kind := s.typeOf(reply)
		if s.same = kind == s.kind; kind == noType {
			s.key.state = unknown
		}
	case 1:
		if s.ttl, ok = resp.Int(reply); !ok || s.ttl < noKey {
			s.badKey("reading the expiry of", s.key, reply)
		}
	case 2:
		if s.clock, ok = timeOf(reply); !ok {
			s.bad("reading the clock", reply)
		}
	case 3:
		dump, there := s.dumped(s.key, reply)
		switch {
		case s.failure != nil || s.key.state == unknown:
		case !there || s.ttl == noKey:
			s.key.state = unknown
		case !s.same || !s.sameExpiry():
			s.same = false
		case bytes.Equal(dump, s.dump):
			s.key.state = equal
		}
		s.dump = nil
	}
}

// sameExpiry reports whether both values expire at about the same time, or never.
func (s *settlement) sameExpiry() bool {
	if s.ttl == never || s.expires == never {
		return s.ttl == s.expires
	}
	there := s.clock + time.Duration(s.ttl)*time.Millisecond
	return (there - time.Duration(s.expires)*time.Millisecond).Abs() <= sameExpiry
}

// setAside renames the key at the source, where its value loses against the destination's.
func (s *settlement) setAside() {
	s.names++
	s.send(settingAside, Source)
	s.ask("RENAMENX", s.key.Name, s.asideName())
}

func (s *settlement) asideName() string {
	return AsideName(s.pair.Label, s.key.Name, s.names, s.pair.InCluster)
}

func (s *settlement) tookAside(reply []byte) {
	n, ok := resp.Int(reply)
	text, isError := errorText(reply)
	switch {
	case ok && n == 1:
		s.finish(s.key, Aside, s.asideName())
		s.stale = s.stale || s.pair.Strict
	case ok && n == 0: // the name is taken
	case isError && strings.Contains(text, "no such key"):
		s.absent(s.key)
	default:
		s.bad(fmt.Sprintf("renaming key %s to %s", errtext.Key(s.key.Name), errtext.Key(s.asideName())), reply)
	}
}
