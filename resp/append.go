package resp

import (
	"bytes"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tidwall/redcon"
)

// AppendArray appends the header of an array (or of a command) of n elements.
func AppendArray(dst []byte, n int) []byte {
	if n >= 0 && n < 10 {
		return append(dst, '*', '0'+byte(n), '\r', '\n')
	}
	return redcon.AppendArray(dst, n)
}

// AppendBulk appends a bulk string.
func AppendBulk(dst, b []byte) []byte {
	switch n := len(b); {
	case n < 10:
		dst = append(dst, '$', '0'+byte(n), '\r', '\n')
	case n < 100:
		dst = append(dst, '$', '0'+byte(n/10), '0'+byte(n%10), '\r', '\n')
	default:
		dst = strconv.AppendInt(append(dst, '$'), int64(n), 10)
		dst = append(dst, '\r', '\n')
	}
	dst = append(dst, b...)
	return append(dst, '\r', '\n')
}

// AppendBulkString appends a bulk string.
func AppendBulkString(dst []byte, s string) []byte { return redcon.AppendBulkString(dst, s) }

// AppendInt appends an integer reply.
func AppendInt(dst []byte, n int64) []byte { return redcon.AppendInt(dst, n) }

// AppendNull appends RESP2's null bulk string.
func AppendNull(dst []byte) []byte { return redcon.AppendNull(dst) }

// AppendOK appends the status OK.
func AppendOK(dst []byte) []byte { return redcon.AppendOK(dst) }

// AppendSimple appends a status reply; line breaks in s become spaces.
func AppendSimple(dst []byte, s string) []byte { return redcon.AppendString(dst, s) }

// AppendError appends an error reply. text begins with its code ("ERR ...");
// line breaks in it become spaces.
func AppendError(dst []byte, text string) []byte { return redcon.AppendError(dst, text) }

// AppendHelp appends the reply to a HELP subcommand of a command (networking.c,
// addReplyHelp).
func AppendHelp(dst []byte, command string, lines ...string) []byte {
	dst = AppendArray(dst, len(lines)+3)
	dst = AppendSimple(dst, command+" <subcommand> [<arg> [value] [opt] ...]. Subcommands are:")
	for _, l := range lines {
		dst = AppendSimple(dst, l)
	}
	dst = AppendSimple(dst, "HELP")
	return AppendSimple(dst, "    Prints this help.")
}

// AppendCommand appends a command of the given arguments.
func AppendCommand(dst []byte, args ...string) []byte {
	dst = AppendArray(dst, len(args))
	for _, a := range args {
		dst = AppendBulkString(dst, a)
	}
	return dst
}

// AppendVerbatim appends RESP3's string that is meant for people.
func AppendVerbatim(dst, text []byte) []byte {
	dst = append(dst, '=')
	dst = strconv.AppendInt(dst, int64(verbatimType+len(text)), 10)
	dst = append(dst, "\r\ntxt:"...)
	dst = append(dst, text...)
	return append(dst, '\r', '\n')
}

// AppendHeader appends the header of an aggregate: its type byte and a number.
func AppendHeader(dst []byte, kind byte, n int) []byte {
	dst = append(dst, kind)
	dst = strconv.AppendInt(dst, int64(n), 10)
	return append(dst, '\r', '\n')
}

// Printable replaces control characters, which an error must not contain, by spaces.
func Printable(b []byte) string {
	for _, c := range b {
		if c < ' ' || c == 0x7f {
			return strings.Map(func(r rune) rune {
				if r < ' ' || r == 0x7f {
					return ' '
				}
				return r
			}, string(b))
		}
	}
	return string(b)
}

// AppendQuoted appends b in quotes and with escapes, as Redis does (sds.c, sdscatrepr).
func AppendQuoted(dst, b []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for _, c := range b {
		if i := bytes.IndexByte([]byte("\\\"\n\r\t\a\b"), c); i >= 0 {
			dst = append(dst, '\\', "\\\"nrtab"[i])
		} else if c < ' ' || c > '~' {
			dst = append(dst, '\\', 'x', digits[c>>4], digits[c&15])
		} else {
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// Text returns b for people and for JSON: as it is if it is UTF-8 that can be printed, and otherwise
// as AppendQuoted. A text that begins with a quote is therefore always a quoted one.
func Text(b []byte) string {
	isHidden := func(r rune) bool { return !unicode.IsPrint(r) }
	if len(b) > 0 && b[0] == '"' || !utf8.Valid(b) || bytes.ContainsFunc(b, isHidden) {
		return string(AppendQuoted(nil, b))
	}
	return string(b)
}
