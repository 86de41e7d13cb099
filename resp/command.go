package resp

import "bytes"

// span is an argument's place in the parser's frame. 32 bits are enough, because config
// keeps max_request below 4 GiB. They also keep a span as small as an empty argument on
// the wire, of which a command may have a million.
type span struct{ off, len uint32 }

// Parser frames commands, one after another, in buffers that its caller owns. It keeps its
// position between calls, so it reads every byte once, even of a command that arrives in
// a thousand pieces. The zero value is ready to use.
//
//	caller's buffer   | *2\r\n$3\r\nGET\r\n$5\r\nhe      (cut: needs more)
//	parser            |  args: GET; pos here -----^ ; need: 22 bytes
//
// Between calls a Parser holds offsets, and no bytes of the caller.
type Parser struct {
	frame     []byte // of the last command: in the caller's buffer or in enc
	args      []span
	pos       int  // bytes of the current command parsed so far
	scanned   int  // bytes of the current line already searched for its end
	left      int  // arguments still to come; -1: no header read yet
	bulk      int  // length of the argument being read; -1: its header is next
	canonical bool // every header is as Redis itself writes it
	started   bool
	enc       []byte // a command re-encoded: inline, or not canonical
}

// Status is the result of Next.
type Status uint8

const (
	More    Status = iota // the buffer ends inside a command
	Ready                 // one command is framed
	Skipped               // bytes that Redis skips: "*0", "*-1", a blank line
)

// Next frames the command that buf starts with. After More, the next buf must start with
// the same bytes, and may be another slice. After Ready and Skipped, n is the number of
// bytes that were consumed.
//
// After Ready, Len, Arg and Frame return this command. They are valid until Next is called
// or buf changes.
//
// It is long because it is one state machine, which may stop at any byte and goes on
// there.
func (p *Parser) Next(buf []byte, lim *Limits) (n int, st Status, err error) {
	if !p.started {
		p.reset()
	}
	if len(buf) == 0 {
		return 0, More, nil
	}
	if buf[0] != '*' {
		return p.inline(buf, lim)
	}
	if p.left < 0 {
		v, next, ok, err := p.header(buf, lim, errMbulkTooBig)
		if err != nil || !ok {
			return 0, More, err
		}
		switch {
		case v.bad || v.n > int64(maxInt32):
			return 0, More, errMultibulkLength
		case v.n > int64(lim.MaxArgs):
			if lim.Unauthenticated {
				return 0, More, errUnauthMultibulk
			}
			return 0, More, errMultibulkLength
		case v.n <= 0:
			p.started = false
			return next, Skipped, nil
		}
		p.left, p.pos = int(v.n), next
	}
	for p.left > 0 {
		if p.bulk < 0 {
			if p.pos >= len(buf) {
				return 0, More, nil
			}
			if ok, err := p.bulkHeader(buf, lim); !ok {
				return 0, More, err
			}
		}
		end := p.pos + p.bulk
		if end+2 > len(buf) {
			return 0, More, nil
		}
		if buf[end] != '\r' || buf[end+1] != '\n' {
			p.canonical = false // Redis skips these two bytes without a check
		}
		p.args = append(p.args, span{uint32(p.pos), uint32(p.bulk)})
		p.pos, p.bulk = end+2, -1
		p.scanned = p.pos
		p.left--
	}
	p.started = false
	p.frame = buf[:p.pos]
	if !p.canonical {
		p.reencode()
	}
	return p.pos, Ready, nil
}

// bulkHeader reads the header of a bulk at p.pos. ok is false if that has not arrived, or there is an error.
func (p *Parser) bulkHeader(buf []byte, lim *Limits) (ok bool, err error) {
	if n, size := shortBulk(buf[p.pos:]); size > 0 && n <= lim.MaxBulk && p.pos+size+n+2 <= lim.MaxRequest {
		p.bulk, p.pos = n, p.pos+size
		return true, nil
	}
	v, next, ok, err := p.header(buf, lim, errBulkTooBig)
	if err != nil || !ok {
		return false, err
	}
	if c := buf[p.pos]; c != '$' {
		return false, ProtocolError("Protocol error: expected '$', got '" + string([]byte{c}) + "'")
	}
	switch {
	case v.bad || v.n < 0:
		return false, errBulkLength
	case v.n > int64(lim.MaxBulk):
		if lim.Unauthenticated {
			return false, errUnauthBulk
		}
		return false, errBulkLength
	case next+int(v.n)+2 > lim.MaxRequest:
		return false, errRequestTooBig
	}
	p.bulk, p.pos = int(v.n), next
	return true, nil
}

// shortBulk returns the length of a bulk whose canonical header of one or two digits b begins with, and the size of
// the header. That is 0 if b begins with anything else.
func shortBulk(b []byte) (n, size int) {
	if len(b) < 5 || b[0] != '$' {
		return 0, 0
	}
	first, second := b[1]-'0', b[2]-'0'
	switch {
	case first > 9:
	case b[2] == '\r' && b[3] == '\n':
		return int(first), 4
	case first > 0 && second <= 9 && b[3] == '\r' && b[4] == '\n':
		return int(first)*10 + int(second), 5
	}
	return 0, 0
}

const maxInt32 = 1<<31 - 1

func (p *Parser) reset() {
	p.args = p.args[:0]
	p.pos, p.scanned = 0, 0
	p.left, p.bulk = -1, -1
	p.canonical, p.started = true, true
}

// Reset discards a command that Next has begun, and frees the memory of a very large one.
func (p *Parser) Reset() {
	p.started = false
	p.Trim()
}

// Trim frees the memory of a very large command, unless Next has begun another.
func (p *Parser) Trim() {
	if p.started {
		return
	}
	if cap(p.args) > 1024 {
		p.args = nil
	}
	if cap(p.enc) > 64<<10 {
		p.enc = nil
	}
	p.frame = nil
}

// Need returns the least length of the buffer with which Next can make progress, or 0 if
// that is not known. It never exceeds the limits that Next was given.
func (p *Parser) Need() int {
	if p.started && p.bulk >= 0 {
		return p.pos + p.bulk + 2
	}
	return 0
}

// Len returns the number of arguments, with the command's name.
func (p *Parser) Len() int { return len(p.args) }

// Arg returns argument i. Argument 0 is the command's name.
func (p *Parser) Arg(i int) []byte {
	s := p.args[i]
	return p.frame[s.off : s.off+s.len : s.off+s.len]
}

// Frame returns the whole command in canonical form: the received bytes, if they are
// canonical. Nothing else may be sent to a node.
func (p *Parser) Frame() []byte { return p.frame }

// Tail returns Frame from the header of argument i on.
func (p *Parser) Tail(i int) []byte {
	if i >= len(p.args) {
		return nil
	}
	if i == 0 {
		return p.frame[bytes.IndexByte(p.frame, '\n')+1:]
	}
	return p.frame[p.args[i-1].off+p.args[i-1].len+2:]
}

// number is the value of a header. It is bad if Redis's string2ll would refuse it.
type number struct {
	n   int64
	bad bool
}

// header reads the number in the line at p.pos, and returns where the next line starts. ok
// is false if the line's end has not arrived. As in Redis, the line ends at the first
// '\r', the byte after it is skipped, and a NUL before the '\r' hides it.
func (p *Parser) header(buf []byte, lim *Limits, tooBig ProtocolError) (v number, next int, ok bool, err error) {
	// The usual case: a few digits, then "\r\n".
	i := p.pos + 1
	n := int64(0)
	for ; i < len(buf) && i < p.pos+11; i++ {
		c := buf[i] - '0'
		if c > 9 {
			break
		}
		n = n*10 + int64(c)
	}
	if i+1 < len(buf) && buf[i] == '\r' && buf[i+1] == '\n' && i > p.pos+1 &&
		(buf[p.pos+1] != '0' || i == p.pos+2) && buf[p.pos] != 0 {
		return number{n: n}, i + 2, true, nil
	}
	return p.oddHeader(buf, lim, tooBig)
}

func (p *Parser) oddHeader(buf []byte, lim *Limits, tooBig ProtocolError) (v number, next int, ok bool, err error) {
	from := max(p.scanned, p.pos)
	end := bytes.IndexByte(buf[from:], '\r')
	if end >= 0 {
		if nul := bytes.IndexByte(buf[from:from+end], 0); nul >= 0 {
			// Redis's strchr never gets past the NUL, so stay in front of it.
			p.scanned, end = from+nul, -1
		}
	} else {
		p.scanned = len(buf)
		if nul := bytes.IndexByte(buf[from:], 0); nul >= 0 {
			p.scanned = from + nul
		}
	}
	if end < 0 {
		if len(buf)-p.pos > lim.MaxInline {
			return v, 0, false, tooBig
		}
		return v, 0, false, nil
	}
	end += from
	if end+2 > len(buf) {
		p.scanned = end
		return v, 0, false, nil
	}
	if buf[end+1] != '\n' {
		p.canonical = false
	}
	p.scanned = end + 2
	v.n, v.bad = parseInt(buf[min(p.pos+1, end):end]) // the line may be empty, its type byte missing
	return v, end + 2, true, nil
}

// parseInt parses an integer exactly as Redis's string2ll does: no sign but '-', no leading
// zero, nothing around it, no overflow.
func parseInt(b []byte) (n int64, bad bool) {
	neg := len(b) > 1 && b[0] == '-'
	if neg {
		b = b[1:]
	}
	if len(b) == 0 || len(b) > 19 || b[0] == '0' && (len(b) > 1 || neg) {
		return 0, true
	}
	u := uint64(0)
	for _, c := range b {
		c -= '0'
		if c > 9 {
			return 0, true
		}
		u = u*10 + uint64(c)
	}
	if neg {
		if u > 1<<63 {
			return 0, true
		}
		return -int64(u), false
	}
	if u > 1<<63-1 {
		return 0, true
	}
	return int64(u), false
}

// ParseInt parses an integer as Redis parses its arguments (string2ll).
func ParseInt(b []byte) (n int64, ok bool) {
	n, bad := parseInt(b)
	return n, !bad
}

// reencode writes the framed command into p.enc in canonical form.
func (p *Parser) reencode() {
	src := p.frame
	p.enc = AppendArray(p.enc[:0], len(p.args))
	for i, s := range p.args {
		p.enc = AppendBulk(p.enc, src[s.off:s.off+s.len])
		p.args[i] = span{uint32(len(p.enc)) - 2 - s.len, s.len}
	}
	p.frame = p.enc
}
