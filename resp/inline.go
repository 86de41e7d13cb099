package resp

import "bytes"

// inline frames a command typed as a line of words, as Redis's
// processInlineBuffer and sdssplitargs do.
func (p *Parser) inline(buf []byte, lim *Limits) (int, Status, error) {
	end := bytes.IndexByte(buf[p.scanned:], '\n')
	if end >= 0 {
		if nul := bytes.IndexByte(buf[p.scanned:p.scanned+end], 0); nul >= 0 {
			p.scanned, end = p.scanned+nul, -1
		} else {
			end += p.scanned
		}
	} else if nul := bytes.IndexByte(buf[p.scanned:], 0); nul >= 0 {
		p.scanned += nul
	} else {
		p.scanned = len(buf)
	}
	if end < 0 {
		if len(buf) > lim.MaxInline {
			return 0, More, errInlineTooBig
		}
		return 0, More, nil
	}
	line := buf[:end]
	if len(line) > 0 && line[len(line)-1] == '\r' {
		line = line[:len(line)-1]
	}
	p.started = false
	words, ok := p.split(line)
	if !ok {
		return 0, More, errUnbalanced
	}
	if len(p.args) == 0 {
		return end + 1, Skipped, nil
	}
	if len(p.args) > lim.MaxArgs {
		return 0, More, errMultibulkLength
	}
	p.frame = words
	p.reencode()
	return end + 1, Ready, nil
}

// split returns the words of line without their quotes, one after another. It records
// their places in p.args.
func (p *Parser) split(line []byte) (words []byte, ok bool) {
	p.args = p.args[:0]
	for i := 0; ; {
		for i < len(line) && isSpace(line[i]) {
			i++
		}
		if i == len(line) {
			return words, true
		}
		start := len(words)
		var quote byte
	word:
		for {
			if i == len(line) {
				if quote != 0 {
					return nil, false
				}
				break
			}
			c := line[i]
			switch {
			case quote == '"' && c == '\\' && i+3 < len(line) && line[i+1] == 'x' &&
				isHex(line[i+2]) && isHex(line[i+3]):
				words = append(words, unhex(line[i+2])<<4|unhex(line[i+3]))
				i += 4
				continue
			case quote == '"' && c == '\\' && i+1 < len(line):
				words = append(words, unescape(line[i+1]))
				i += 2
				continue
			case quote == '\'' && c == '\\' && i+1 < len(line) && line[i+1] == '\'':
				words = append(words, '\'')
				i += 2
				continue
			case quote != 0 && c == quote:
				if i+1 < len(line) && !isSpace(line[i+1]) {
					return nil, false // a closing quote must end the word
				}
				i++
				break word
			case quote != 0:
				words = append(words, c)
			case isSpace(c):
				break word
			case c == '"' || c == '\'':
				quote = c
			default:
				words = append(words, c)
			}
			i++
		}
		p.args = append(p.args, span{uint32(start), uint32(len(words) - start)})
	}
}

// isSpace is C's isspace, for the bytes that a line can contain.
func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func unhex(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c | 0x20 - 'a' + 10
}

func unescape(c byte) byte {
	switch c {
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'b':
		return '\b'
	case 'a':
		return '\a'
	}
	return c
}
