package transcripts

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// This file converts between RESP and the form of it that transcripts show.

// items splits a line at " | ", except inside quotes.
func items(line string) []string {
	var all []string
	quoted, from := false, 0
	for i := 0; i < len(line); i++ {
		switch {
		case quoted && line[i] == '\\':
			i++
		case line[i] == '"':
			quoted = !quoted
		case !quoted && strings.HasPrefix(line[i:], " | "):
			all = append(all, line[from:i])
			from = i + len(" | ")
		}
	}
	return append(all, line[from:])
}

var repeated = regexp.MustCompile(`<(.)\*(\d+)>`)

// expand replaces <x*3> by xxx.
func expand(s string) string {
	return repeated.ReplaceAllStringFunc(s, func(m string) string {
		f := repeated.FindStringSubmatch(m)
		n, _ := strconv.Atoi(f[2])
		return strings.Repeat(f[1], n)
	})
}

// shorten is the inverse of expand, for runs of at least 32 equal bytes.
func shorten(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); {
		n := 1
		for i+n < len(s) && s[i+n] == s[i] {
			n++
		}
		if n >= 32 {
			fmt.Fprintf(&b, "<%c*%d>", s[i], n)
		} else {
			b.WriteString(s[i : i+n])
		}
		i += n
	}
	return b.String()
}

var plain = regexp.MustCompile(`^[A-Za-z0-9_{}.,/?@=&;!'<>*$:#~^+-]+$`)

// word returns s as it is, or in quotes where it could be mistaken for something else.
func word(s, specialFirst string) string {
	if nonce.MatchString(s) {
		return "(nonce)"
	}
	s = shorten(s)
	if !plain.MatchString(s) || strings.ContainsAny(s[:1], specialFirst) || s == "nil" || s == "nil-array" || s == "_" {
		return strconv.Quote(s)
	}
	return s
}

// lexeme cuts the first word or quoted string from s.
func lexeme(s string) (text, rest string, quoted bool, err error) {
	if strings.HasPrefix(s, `"`) {
		q, err := strconv.QuotedPrefix(s)
		if err != nil {
			return "", "", false, fmt.Errorf("a string without an end: %s", s)
		}
		text, err = strconv.Unquote(q)
		return expand(text), s[len(q):], true, err
	}
	n := strings.IndexAny(s, " ]")
	if n < 0 {
		n = len(s)
	}
	if n == 0 {
		return "", "", false, fmt.Errorf("a word is missing before %q", s)
	}
	return expand(s[:n]), s[n:], false, nil
}

var times = regexp.MustCompile(` \((\d+) times\)$`)

// repeats splits an item from the number at its end, as in "PING (3 times)".
func repeats(item string) (string, int) {
	if m := times.FindStringSubmatch(item); m != nil {
		n, _ := strconv.Atoi(m[1])
		return strings.TrimSuffix(item, m[0]), n
	}
	return item, 1
}

// raw returns the bytes of raw "...".
func raw(item string) (b []byte, ok bool, err error) {
	rest, ok := strings.CutPrefix(item, "raw ")
	if !ok {
		return nil, false, nil
	}
	text, rest, quoted, err := lexeme(rest)
	if err == nil && (!quoted || rest != "") {
		err = errors.New("raw needs one quoted string")
	}
	return []byte(text), true, err
}

// commands encodes a line of commands.
func commands(line string) (b []byte, err error) {
	for _, item := range items(line) {
		item, n := repeats(item)
		if bytes, ok, err := raw(item); err != nil {
			return nil, err
		} else if ok {
			b = append(b, bytes...)
			continue
		}
		var args []string
		for rest := item; rest != ""; rest = strings.TrimLeft(rest, " ") {
			end := strings.IndexByte(rest, ' ')
			if rest[0] != '"' { // unlike in replies, a word may have brackets
				if end < 0 {
					end = len(rest)
				}
				args, rest = append(args, expand(rest[:end])), rest[end:]
				continue
			}
			arg, after, _, err := lexeme(rest)
			if err != nil {
				return nil, err
			}
			args, rest = append(args, arg), after
		}
		for range n {
			b = fmt.Appendf(b, "*%d\r\n", len(args))
			for _, arg := range args {
				b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(arg), arg)
			}
		}
	}
	return b, nil
}

// replies encodes a line of replies. Each reply is one element of the result.
func replies(line string) (all [][]byte, err error) {
	for _, item := range items(line) {
		item, n := repeats(item)
		b, ok, err := raw(item)
		switch {
		case ok || err != nil:
		case strings.HasPrefix(item, "+") || strings.HasPrefix(item, "-"):
			b = []byte(item + "\r\n")
		default:
			var rest string
			if b, rest, err = reply(nil, item); err == nil && rest != "" {
				err = fmt.Errorf("unexpected %q behind a reply; \" | \" separates replies", rest)
			}
		}
		if err != nil {
			return nil, err
		}
		for range n {
			all = append(all, b)
		}
	}
	return all, nil
}

// reply appends the first reply in s to b, and returns the rest of s.
func reply(b []byte, s string) (_ []byte, rest string, err error) {
	for open, kind := range map[string]byte{"[": '*', ">[": '>', "~[": '~', "%[": '%'} {
		if rest, ok := strings.CutPrefix(s, open); ok {
			return aggregate(b, kind, rest)
		}
	}
	if len(s) > 1 && (s[0] == '+' || s[0] == '-') && s[1] == '"' {
		text, rest, _, err := lexeme(s[1:])
		return append(append(append(b, s[0]), text...), "\r\n"...), rest, err
	}
	text, rest, quoted, err := lexeme(s)
	switch {
	case err != nil || quoted:
	case text == "nil":
		return append(b, "$-1\r\n"...), rest, nil
	case text == "nil-array":
		return append(b, "*-1\r\n"...), rest, nil
	case text == "_" || strings.ContainsAny(text[:1], ":,#(+-"):
		return append(append(b, text...), "\r\n"...), rest, nil
	}
	return fmt.Appendf(b, "$%d\r\n%s\r\n", len(text), text), rest, err
}

// aggregate appends an aggregate, whose elements and closing bracket are next in s.
func aggregate(b []byte, kind byte, s string) (_ []byte, rest string, err error) {
	var elements []byte
	n := 0
	for s = strings.TrimLeft(s, " "); !strings.HasPrefix(s, "]"); s = strings.TrimLeft(s, " ") {
		if s == "" {
			return nil, "", errors.New("a closing bracket is missing")
		}
		if elements, s, err = reply(elements, s); err != nil {
			return nil, "", err
		}
		n++
	}
	if kind == '%' {
		n /= 2
	}
	return append(fmt.Appendf(b, "%c%d\r\n", kind, n), elements...), s[1:], nil
}

// cut cuts the first complete frame of RESP from b and shows it. ok is false if b has none.
// top says that the frame is no element of another.
func cut(b []byte, top bool) (text string, rest []byte, ok bool) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 {
		return "", nil, false
	}
	line, rest := string(b[1:end]), b[end+2:]
	n, _ := strconv.Atoi(line)
	switch kind := b[0]; {
	case kind == '$' && n < 0:
		return "nil", rest, true
	case kind == '*' && n < 0:
		return "nil-array", rest, true
	case kind == '$':
		if len(rest) < n+2 {
			return "", nil, false
		}
		return word(string(rest[:n]), "+-:,#([]>~%"), rest[n+2:], true
	case strings.ContainsRune("*>~%", rune(kind)):
		return cutAggregate(kind, n, rest)
	case strings.ContainsRune("+-", rune(kind)) && !top && !plain.MatchString(line):
		return string(kind) + strconv.Quote(line), rest, true
	case strings.ContainsRune("+-:,#(_", rune(kind)):
		return string(kind) + shorten(line), rest, true
	}
	return "raw " + strconv.Quote(shorten(string(b))), nil, true
}

func cutAggregate(kind byte, n int, rest []byte) (string, []byte, bool) {
	if kind == '%' {
		n *= 2
	}
	var elements []string
	for range n {
		var e string
		ok := false
		if len(rest) > 0 {
			e, rest, ok = cut(rest, false)
		}
		if !ok {
			return "", nil, false
		}
		elements = append(elements, e)
	}
	open := map[byte]string{'*': "[", '>': ">[", '~': "~[", '%': "%["}[kind]
	return open + strings.Join(elements, " ") + "]", rest, true
}

// cutCommand cuts the first complete command from b.
func cutCommand(b []byte) (args []string, rest []byte, ok bool) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 {
		return nil, nil, false
	}
	n, _ := strconv.Atoi(string(b[1:end]))
	for b = b[end+2:]; n > 0; n-- {
		end := bytes.Index(b, []byte("\r\n"))
		if end < 0 {
			return nil, nil, false
		}
		size, _ := strconv.Atoi(string(b[1:end]))
		if b = b[end+2:]; len(b) < size+2 {
			return nil, nil, false
		}
		args, b = append(args, string(b[:size])), b[size+2:]
	}
	return args, b, true
}

// showCommand returns a command as a transcript shows it.
func showCommand(args []string) string {
	words := make([]string, len(args))
	for i, arg := range args {
		words[i] = word(arg, `"`)
	}
	return strings.Join(words, " ")
}
