package resp

import (
	"bytes"
	"fmt"
)

// Bounds on what a node may claim. They cost no memory; they only tell a
// reply from garbage.
const (
	maxReplyBulk  = 1 << 40
	maxReplyItems = 1 << 32
	maxReplyDepth = 1024
	maxReplyLine  = 64 << 10
)

// ReplyError says how a node broke the protocol. The connection it came on is
// of no more use: what follows cannot be framed.
type ReplyError struct{ Reason string }

func (e *ReplyError) Error() string { return "protocol violation by the node: " + e.Reason }

// Scanner finds where replies end. It is fed a stream in pieces cut anywhere
// and holds none of it: every byte it has seen is consumed. The zero value is
// ready. It is iterative, and nesting costs 8 bytes a level.
type Scanner struct {
	kind  byte    // the type of the reply being scanned; 0 between replies
	state scan    // what the next byte is
	typ   byte    // the type of the element being scanned
	num   int64   // its number so far
	neg   bool    //
	line  int     // bytes of the line being scanned
	skip  int64   // bytes of a bulk still to pass, its CRLF not counted
	attr  bool    // the aggregate at the bottom is an attribute: a reply follows
	open  []int64 // elements still to come, for each open aggregate
}

type scan uint8

const (
	atType   scan = iota // a type byte
	atNumber             // digits of a header
	atText               // a simple line
	atLF                 // the '\n' that ends a header
	atTextLF             // the '\n' that ends a simple line
	inBulk               // the payload of a bulk
	atBulkCR             // its '\r'
	atBulkLF             // its '\n'
)

// Kind is the type byte of the reply that is being scanned, or of the one that
// has just ended.
func (s *Scanner) Kind() byte { return s.kind }

// Midway tells whether the stream ends inside a reply.
func (s *Scanner) Midway() bool { return s.state != atType || len(s.open) > 0 || s.attr }

// Scan passes over b up to the end of the current reply. done: it ended after
// n bytes. Otherwise n is len(b) and the reply goes on.
func (s *Scanner) Scan(b []byte) (n int, done bool, err error) {
	if !s.Midway() {
		s.kind = 0
		// The usual replies, whole: "+OK", ":1", "$5..hello".
		if n := whole(b); n > 0 {
			s.kind = b[0]
			return n, true, nil
		}
	}
	for i := 0; i < len(b); {
		switch s.state {
		case atType:
			s.typ, s.num, s.neg, s.line = b[i], 0, false, 0
			if s.kind == 0 {
				s.kind = s.typ
			}
			i++
			switch s.typ {
			case '+', '-', ',', '#', '(', '_':
				s.state = atText
			case '$', '*', ':', '%', '~', '>', '=', '!', '|':
				s.state = atNumber
			default:
				return i, false, &ReplyError{fmt.Sprintf("unknown type byte %q", s.typ)}
			}
		case atNumber:
			c := b[i]
			i++
			switch {
			case c == '\r' && s.line > 0:
				s.state = atLF
			case c >= '0' && c <= '9' && s.num <= (1<<63-10)/10:
				s.num = s.num*10 + int64(c-'0')
				s.line++
			case c == '-' && s.line == 0 && !s.neg:
				s.neg = true
			default:
				return i, false, &ReplyError{fmt.Sprintf("bad number in the header of %q", s.typ)}
			}
		case atText:
			end := bytes.IndexByte(b[i:], '\r')
			if end < 0 {
				end = len(b) - i
			} else {
				s.state = atTextLF
			}
			if s.line += end; s.line > maxReplyLine {
				return i, false, &ReplyError{"line of more than 64 KiB"}
			}
			i += end
			if s.state == atTextLF {
				i++
			}
		case atLF, atTextLF:
			if b[i] != '\n' {
				return i, false, &ReplyError{"line that does not end in CRLF"}
			}
			i++
			text := s.state == atTextLF
			s.state = atType
			ended := text
			if !text {
				if ended, err = s.counted(); err != nil {
					return i, false, err
				}
			}
			if ended && s.element() {
				return i, true, nil
			}
		case inBulk:
			n := min(s.skip, int64(len(b)-i))
			i += int(n)
			if s.skip -= n; s.skip == 0 {
				s.state = atBulkCR
			}
		case atBulkCR:
			if b[i] != '\r' {
				return i, false, &ReplyError{"bulk that does not end in CRLF"}
			}
			i++
			s.state = atBulkLF
		case atBulkLF:
			if b[i] != '\n' {
				return i, false, &ReplyError{"bulk that does not end in CRLF"}
			}
			i++
			s.state = atType
			if s.element() {
				return i, true, nil
			}
		}
	}
	return len(b), false, nil
}

// counted acts on a complete numeric header. ended: the element ends with it.
func (s *Scanner) counted() (ended bool, err error) {
	if s.typ == ':' {
		return true, nil
	}
	if s.neg {
		if s.num == 1 && (s.typ == '$' || s.typ == '*') {
			return true, nil // RESP2's nulls
		}
		return false, &ReplyError{"negative length"}
	}
	switch s.typ {
	case '$', '=', '!':
		if s.num > maxReplyBulk {
			return false, &ReplyError{"bulk length out of range"}
		}
		s.skip, s.state = s.num, inBulk
		if s.num == 0 {
			s.state = atBulkCR
		}
		return false, nil
	}
	if s.num > maxReplyItems || len(s.open) >= maxReplyDepth {
		return false, &ReplyError{"aggregate too large or nested too deeply"}
	}
	n := s.num
	if s.typ == '%' || s.typ == '|' {
		n *= 2
	}
	if s.typ == '|' {
		// An attribute comes before the element it speaks of: count it as
		// one more element where it stands.
		if len(s.open) == 0 {
			s.attr = true
			s.kind = 0
		} else {
			s.open[len(s.open)-1]++
		}
	}
	if n == 0 {
		return true, nil
	}
	s.open = append(s.open, n)
	return false, nil
}

// element closes one element and every aggregate that it completes; it tells
// whether the reply ends.
func (s *Scanner) element() bool {
	for len(s.open) > 0 {
		top := len(s.open) - 1
		if s.open[top]--; s.open[top] > 0 {
			return false
		}
		s.open = s.open[:top]
	}
	if s.attr {
		s.attr = false
		s.kind = 0
		return false
	}
	return true
}

// whole returns the length of the simple reply that b starts with, 0 when b
// holds none that is complete or it is not of the simple kinds.
func whole(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	switch b[0] {
	case '$':
		n, i := 0, 1
		for ; i < len(b) && i < 10; i++ {
			c := b[i] - '0'
			if c > 9 {
				break
			}
			n = n*10 + int(c)
		}
		end := i + 2 + n
		if i == 1 || end+2 > len(b) || b[i] != '\r' || b[i+1] != '\n' || b[end] != '\r' || b[end+1] != '\n' {
			return 0
		}
		return end + 2
	case '+', ':':
		for i := 1; i+1 < len(b) && i < 32; i++ {
			c := b[i]
			if c == '\r' {
				if b[i+1] == '\n' && i > 1 && (b[0] == '+' || b[i-1] != '-') {
					return i + 2
				}
				return 0
			}
			if b[0] == ':' && (c < '0' || c > '9') && (c != '-' || i > 1) {
				return 0
			}
		}
	}
	return 0
}

// Split returns the first complete reply of b and what follows it; ok is
// false when b does not start with one.
func Split(b []byte) (reply, rest []byte, ok bool) {
	var s Scanner
	n, done, err := s.Scan(b)
	if err != nil || !done {
		return nil, b, false
	}
	return b[:n], b[n:], true
}

// Elements returns the number of elements of an array, a set, a push message or
// a map, which has two for each pair (RESP2's null array counts as none), and the
// bytes from its first element on.
func Elements(reply []byte) (n int, rest []byte, ok bool) {
	if len(reply) == 0 {
		return 0, nil, false
	}
	v, rest, ok := headerNumber(reply)
	n = max(int(v), 0)
	switch reply[0] {
	case '*', '~', '>':
		return n, rest, ok
	case '%':
		return 2 * n, rest, ok
	}
	return 0, nil, false
}

// IsNull tells whether the reply is a null, of whatever kind.
func IsNull(reply []byte) bool {
	return string(reply) == "$-1\r\n" || string(reply) == "*-1\r\n" || string(reply) == "_\r\n"
}

// Bulk returns the payload of a bulk, simple or verbatim string; ok is false for
// any other reply, null included.
func Bulk(reply []byte) (b []byte, ok bool) {
	if len(reply) == 0 {
		return nil, false
	}
	switch reply[0] {
	case '+':
		return bytes.TrimSuffix(reply[1:], []byte("\r\n")), true
	case '$', '=':
		n, rest, ok := headerNumber(reply)
		if !ok || n < 0 || int64(len(rest)) < n+2 {
			return nil, false
		}
		if reply[0] == '=' {
			return rest[min(n, verbatimType):n], true
		}
		return rest[:n], true
	}
	return nil, false
}

// verbatimType is the length of what says how a verbatim string is written, such
// as "txt:".
const verbatimType = 4

// Int returns the value of an integer reply.
func Int(reply []byte) (n int64, ok bool) {
	if len(reply) == 0 || reply[0] != ':' {
		return 0, false
	}
	n, _, ok = headerNumber(reply)
	return n, ok
}

// ErrorText returns the text of an error reply without its '-' and CRLF.
func ErrorText(reply []byte) (text []byte, ok bool) {
	if len(reply) < 3 || reply[0] != '-' {
		return nil, false
	}
	return bytes.TrimSuffix(reply[1:], []byte("\r\n")), true
}

func headerNumber(b []byte) (n int64, rest []byte, ok bool) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 1 {
		return 0, nil, false
	}
	n, bad := parseInt(b[1:end])
	return n, b[end+2:], !bad
}
