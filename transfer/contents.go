package transfer

import (
	"bytes"
	"slices"
	"strconv"

	"github.com/keyway-proxy/keyway/resp"
)

// contents is a key's value in a form that, unlike DUMP, does not depend on the server's version
// or on the order of its hash tables.
type contents struct {
	elements [][]byte // of a set or a hash, sorted. A field and its value are one element
	rest     []byte   // of other types
}

// questions returns the commands that ask for a value of a type. There are none for unknown types.
func questions(kind, key string) [][]string {
	switch kind {
	case "string":
		return [][]string{{"GET", key}}
	case "list":
		return [][]string{{"LRANGE", key, "0", "-1"}}
	case "set":
		return [][]string{{"SMEMBERS", key}}
	case "hash":
		return [][]string{{"HGETALL", key}}
	case "zset":
		return [][]string{{"ZRANGE", key, "0", "-1", "WITHSCORES"}}
	case "stream":
		return [][]string{{"XRANGE", key, "-", "+"}, {"XINFO", "STREAM", key, "FULL", "COUNT", "0"}}
	}
	return nil
}

// askContents asks a node for the value.
func (s *settlement) askContents(p phase, of Side) {
	all := questions(s.kind, s.key.Name)
	if all == nil {
		s.setAside()
		return
	}
	s.send(p, of)
	for _, q := range all {
		s.ask(q...)
	}
	s.parts = contents{}
}

// tookContents takes a reply to askContents. With the last one, the destination's value is
// compared with the source's.
func (s *settlement) tookContents(i int, reply []byte) {
	if !s.parts.add(s.kind, i, reply) {
		s.badKey("reading", s.key, reply)
		return
	}
	switch {
	case s.left > 0:
	case s.phase == askingHere:
		s.value, s.parts = s.parts, contents{}
	case isNone(reply): // no type but stream has an empty value, which ends with another question
		s.key.state = unknown
	case !s.value.equals(&s.parts):
		s.same = false
	case s.kind != "hash":
		s.key.state = equal
	}
}

// add adds the reply to the i-th question.
func (c *contents) add(kind string, i int, reply []byte) bool {
	if _, isError := errorText(reply); isError {
		return false
	}
	switch kind {
	case "set", "hash":
		reply = bytes.Clone(reply)
		n, rest, ok := resp.Elements(reply)
		if !ok {
			return false
		}
		each := 1
		if kind == "hash" {
			each = 2
		}
		for range n / each {
			first := rest
			for range each {
				if _, rest, ok = resp.Split(rest); !ok {
					return false
				}
			}
			c.elements = append(c.elements, first[:len(first)-len(rest)])
		}
		slices.SortFunc(c.elements, bytes.Compare)
		return true
	case "stream":
		if i == 1 {
			var ok bool
			const depth = 16
			c.rest, ok = appendStable(c.rest, reply, depth)
			return ok
		}
	}
	c.rest = append(c.rest, reply...)
	return true
}

// isNone reports whether a reply to a question is that for a key that is not there.
func isNone(reply []byte) bool {
	n, _, isList := resp.Elements(reply)
	return resp.IsNull(reply) || isList && n == 0
}

func (c *contents) equals(o *contents) bool {
	return bytes.Equal(c.rest, o.rest) && slices.EqualFunc(c.elements, o.elements, bytes.Equal)
}

// volatile are the fields of XINFO STREAM that do not belong to the stream's value: the server's
// memory, and when consumers were last active.
var volatile = []string{"radix-tree-keys", "radix-tree-nodes", "seen-time", "active-time"}

// appendStable appends a reply to XINFO STREAM without the volatile fields. ok is false if the
// reply is nested too deeply.
func appendStable(dst, reply []byte, depth int) (all []byte, ok bool) {
	n, rest, isList := resp.Elements(reply)
	if !isList {
		return append(dst, reply...), true
	}
	dst = append(dst, '[')
	for i := 0; i < n; i++ {
		var element []byte
		if element, rest, ok = resp.Split(rest); !ok || depth == 0 {
			return dst, false
		}
		name, _ := resp.Bulk(element)
		if i%2 == 0 && slices.Contains(volatile, string(name)) {
			if _, rest, ok = resp.Split(rest); !ok {
				return dst, false
			}
			i++ // the value follows the name
			continue
		}
		if dst, ok = appendStable(dst, element, depth-1); !ok {
			return dst, false
		}
	}
	return append(dst, ']'), true
}

// fieldsAtOnce is for how many fields one command asks.
const fieldsAtOnce = 1000

// askFields asks a node when the fields of the hash expire.
func (s *settlement) askFields(p phase, of Side) {
	s.send(p, of)
	s.times = nil
	for some := range slices.Chunk(s.value.elements, fieldsAtOnce) {
		dst := resp.AppendBulkString(resp.AppendArray(s.frames, 4+len(some)), "HPEXPIRETIME")
		dst = resp.AppendBulkString(resp.AppendBulkString(dst, s.key.Name), "FIELDS")
		dst = appendBulkInt(dst, int64(len(some)))
		for _, element := range some {
			field, _, _ := resp.Split(element)
			dst = append(dst, field...)
		}
		s.frames = dst
		s.left++
	}
}

// tookFields takes the i-th reply to askFields. A server that does not know the command has no fields
// that expire (before Redis 7.4 and Valkey 9).
func (s *settlement) tookFields(i int, reply []byte) {
	if text, _ := errorText(reply); !isUnknownCommand(text) {
		n, rest, ok := resp.Elements(reply)
		if !ok {
			s.badKey("reading the fields of", s.key, reply)
			return
		}
		first := i * fieldsAtOnce
		for i := range n {
			var element []byte
			if element, rest, ok = resp.Split(rest); !ok {
				s.badKey("reading the fields of", s.key, reply)
				return
			}
			if at, _ := resp.Int(element); at > 0 {
				s.times = strconv.AppendInt(append(s.times, ' '), int64(first+i), 10)
				s.times = strconv.AppendInt(append(s.times, ' '), at, 10)
			}
		}
	}
	switch {
	case s.left > 0:
	case s.phase == fieldsHere:
		s.fields = s.times
	default:
		if s.same = bytes.Equal(s.fields, s.times); s.same {
			s.key.state = equal
		}
	}
}
