package resp

import (
	"bytes"
	"fmt"
)

// Bounds of what a node may announce. They reserve no memory, and only detect garbage.
const (
	maxReplyBulk  = 1 << 40
	maxReplyItems = 1 << 32
	maxReplyLine  = 1 << 30 // an error repeats a client's key, and a script's status has any length
)

// ReplyError says how a node broke the protocol. Its connection is unusable, because what
// follows cannot be framed.
type ReplyError struct{ Reason string }

func (e *ReplyError) Error() string { return "protocol violation by the node: " + e.Reason }

// Scanner finds the ends of replies in a stream that may be cut anywhere. It holds none of
// the stream's bytes. The zero value is ready to use.
//
// It needs no stack, so replies may be nested to any depth: a reply ends when no element
// is left, on whatever level.
//
//	        *2   $1 a   *1   :1
//	left  1   2      1    1    0
type Scanner struct {
	kind  byte  // the type of the reply being scanned; 0 until it is known
	state scan  // what the next byte is
	typ   byte  // the type of the element being scanned
	num   int64 // its number so far
	neg   bool  //
	line  int   // bytes of the line being scanned
	skip  int64 // bytes of a bulk that remain, without its CRLF
	left  int64 // elements until the reply ends, on all levels; 0 between replies
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

// Kind returns the type byte of the reply that is being scanned, or has just ended.
func (s *Scanner) Kind() byte { return s.kind }

// Midway reports whether the stream so far ends inside a reply.
func (s *Scanner) Midway() bool { return s.left > 0 }

// Payload returns how many of the next bytes are the inside of a string, without its end.
func (s *Scanner) Payload() int64 {
	if s.state != inBulk {
		return 0
	}
	return s.skip
}

// Skip is Scan for n bytes of Payload that the caller does not have. n must be less than Payload.
func (s *Scanner) Skip(n int) { s.skip -= int64(n) }

// Scan scans b up to the end of the current reply. If done, the reply ended after n bytes.
// Otherwise n is len(b), and the reply continues.
//
// It is long because it is one state machine, which may stop at any byte: in one function
// its state stays in registers.
func (s *Scanner) Scan(b []byte) (n int, done bool, err error) {
	if len(b) > 0 && !s.Midway() {
		if n := simple(b); n > 0 {
			s.kind = b[0]
			return n, true, nil
		}
		s.kind, s.left = 0, 1
	}
	for i := 0; i < len(b); {
		switch s.state {
		case atType:
			if n := s.whole(b[i:]); n > 0 {
				if i += n; s.left == 0 {
					return i, true, nil
				}
				continue
			}
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
				return i, false, &ReplyError{"line of more than 1 GiB"}
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

// counted handles a complete numeric header. It reports whether the element ends with it.
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
	if max(s.num, s.left) > maxReplyItems {
		return false, &ReplyError{"aggregate too large"}
	}
	switch s.typ {
	case '%':
		s.left += 2 * s.num
	case '|':
		// An attribute is not an element: it comes before the element that it describes.
		if s.left += 2 * s.num; s.kind == '|' && s.left == 1 {
			s.kind = 0
		}
		return false, nil
	default:
		s.left += s.num
	}
	return true, nil
}

// element counts an element that has ended, or the header of an aggregate, whose elements
// are counted separately. It reports whether the reply ends.
func (s *Scanner) element() bool {
	s.left--
	if s.left == 1 && s.kind == '|' {
		s.kind = 0 // the attribute has ended; the reply follows
	}
	return s.left == 0
}

// whole returns the length of the complete elements of the usual kinds at the start of b:
// "+OK", ":1", "$5..hello", and headers of arrays. Scan handles all others.
func (s *Scanner) whole(b []byte) (n int) {
	for n < len(b) && s.left > 0 {
		if s.kind != 0 && s.kind != '|' {
			size, count := shortBulks(b[n:], s.left)
			n, s.left = n+size, s.left-count
			if s.left == 0 {
				break
			}
		}
		size, items := simple(b[n:]), int64(0)
		if size == 0 {
			if size, items = arrayHeader(b[n:]); size == 0 || s.left > maxReplyItems {
				break
			}
		}
		if s.kind == 0 {
			s.kind = b[n]
		}
		n += size
		s.left += items
		s.element()
	}
	return n
}

// simple returns the length of the string, number, line or null that b starts with. It
// returns 0 if b starts with anything else, or holds only a piece of it.
func simple(b []byte) int {
	if len(b) < 4 {
		return 0
	}
	switch b[0] {
	case '$':
		if n := int(b[1]-'0')*10 + int(b[2]-'0'); b[3] == '\r' && b[1]-'0' < 10 && b[2]-'0' < 10 { // the usual case
			end := 5 + n
			if end+2 > len(b) || b[4] != '\n' || b[end] != '\r' || b[end+1] != '\n' {
				return 0
			}
			return end + 2
		}
		n, i := digits(b)
		if i == 1 {
			if len(b) >= 5 && string(b[1:5]) == "-1\r\n" {
				return 5
			}
			return 0
		}
		end := i + 2 + n
		if end+2 > len(b) || b[i] != '\r' || b[i+1] != '\n' || b[end] != '\r' || b[end+1] != '\n' {
			return 0
		}
		return end + 2
	case ':':
		for i := 1; i+1 < len(b) && i < 19; i++ {
			switch c := b[i]; {
			case c == '\r':
				if b[i+1] == '\n' && i > 1 && b[i-1] != '-' {
					return i + 2
				}
				return 0
			case (c < '0' || c > '9') && (c != '-' || i > 1):
				return 0
			}
		}
	case '+', '-', '_', ',', '#', '(':
		if i := bytes.IndexByte(b[:min(len(b), 512)], '\r'); i > 0 && i+1 < len(b) && b[i+1] == '\n' {
			return i + 2
		}
	}
	return 0
}

// shortBulks returns the length of the complete bulks of less than 100 bytes that b starts with, and how many these
// are, at most so many. Long lists consist of them.
func shortBulks(b []byte, most int64) (n int, count int64) {
	for count < most {
		rest := b[n:]
		if len(rest) < len("$0\r\n\r\n") || rest[0] != '$' {
			break
		}
		end := int(rest[1] - '0')
		if end > 9 {
			break
		}
		if rest[2] == '\r' && rest[3] == '\n' {
			end += 4
		} else {
			digit := int(rest[2] - '0')
			if digit > 9 || rest[3] != '\r' || rest[4] != '\n' {
				break
			}
			end = 10*end + digit + 5
		}
		if end+2 > len(rest) || rest[end] != '\r' || rest[end+1] != '\n' {
			break
		}
		n += end + 2
		count++
	}
	return n, count
}

// arrayHeader returns the length of the array header that b starts with, and the number of
// the array's elements. The length is 0 if b does not start with a whole header.
func arrayHeader(b []byte) (n int, items int64) {
	if len(b) < 4 || b[0] != '*' {
		return 0, 0
	}
	count, i := digits(b)
	if i == 1 || i+1 >= len(b) || b[i] != '\r' || b[i+1] != '\n' {
		return 0, 0
	}
	return i + 2, int64(count)
}

// digits returns the number, of at most eight digits, after b's first byte, and where it
// ends.
func digits(b []byte) (n, end int) {
	for end = 1; end < len(b) && end < 9; end++ {
		c := b[end] - '0'
		if c > 9 {
			break
		}
		n = n*10 + int(c)
	}
	return n, end
}

// Split returns the first complete reply of b, and the bytes after it. ok is false if b
// does not start with a complete reply.
func Split(b []byte) (reply, rest []byte, ok bool) {
	if n := simple(b); n > 0 {
		return b[:n], b[n:], true
	}
	var s Scanner
	n, done, err := s.Scan(b)
	if err != nil || !done {
		return nil, b, false
	}
	return b[:n], b[n:], true
}

// Elements returns the number of elements of an array, a set, a push message or a map, and
// the bytes from the first element on. A map has two elements for each pair; RESP2's null
// array has none.
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

// IsNull reports whether the reply is a null of any kind.
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

// verbatimType is the length of the format in front of a verbatim string, such as "txt:".
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
