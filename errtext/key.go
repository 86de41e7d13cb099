package errtext

import (
	"strconv"
	"unicode/utf8"
)

// maxKey is how many bytes of a key people see.
const maxKey = 64

// Key returns a key as texts for people show it: in quotes, with escapes for what cannot be
// printed, and cut after 64 bytes.
func Key(key string) string {
	if len(key) <= maxKey {
		return strconv.Quote(key)
	}
	n := maxKey
	for n > maxKey-utf8.UTFMax && !utf8.RuneStart(key[n]) {
		n-- // not in the middle of a character
	}
	return strconv.Quote(key[:n]) + "..."
}
